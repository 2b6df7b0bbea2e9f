#include "runtime/host/heartbeat_socket.hpp"

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <numeric>
#include <string_view>
#include <tuple>
#include <utility>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sodium.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

constexpr std::uint32_t kMagic = 0x42484752;  // "RGHB"
constexpr std::uint8_t kDatagramVersion = 1;

// The datagram as it lies in memory; every field is at its natural place, so nothing is padded.
struct Layout {
  std::uint32_t magic;
  std::uint8_t version;
  HeartbeatKind kind;
  std::uint16_t reserved;
  std::uint32_t from;
  std::uint32_t to;
  std::uint64_t run;
  std::uint64_t counter;
  std::array<unsigned char, crypto_auth_BYTES> code;
};
constexpr std::size_t kCodedBytes = offsetof(Layout, code);
static_assert(sizeof(Layout) == kHeartbeatBytes && kCodedBytes == 32);
static_assert(std::tuple_size_v<RunSecret> == crypto_auth_KEYBYTES);

void need_sodium() {
  static const int status = sodium_init();
  REGROUP_CHECK(status >= 0, "the cryptographic library starts");
}

const unsigned char* raw(const RunSecret& secret) {
  return reinterpret_cast<const unsigned char*>(secret.data());
}

sockaddr_in socket_address(UdpAddress address) {
  sockaddr_in made{};
  made.sin_family = AF_INET;
  made.sin_port = htons(address.port);
  made.sin_addr.s_addr = htonl(address.ip);
  return made;
}

}  // namespace

RunSecret make_run_secret() {
  RunSecret secret;
  ssize_t count = 0;
  do {  // so few bytes come whole, or not at all
    count = ::getrandom(secret.data(), secret.size(), 0);
  } while (count < 0 && errno == EINTR);
  REGROUP_CHECK(count == static_cast<ssize_t>(secret.size()), "the system has randomness");
  return secret;
}

std::uint64_t run_id(const RunSecret& secret) {
  need_sodium();
  constexpr std::string_view kText = "regroup run";
  std::array<unsigned char, crypto_auth_BYTES> code;
  crypto_auth(code.data(), reinterpret_cast<const unsigned char*>(kText.data()), kText.size(),
              raw(secret));
  std::uint64_t id = 0;
  std::memcpy(&id, code.data(), sizeof id);
  return id;
}

const char* describe(HeartbeatError error) {
  switch (error) {
    case HeartbeatError::kLength:
      return "of another length";
    case HeartbeatError::kForeign:
      return "no heartbeat";
    case HeartbeatError::kDatagramVersion:
      return "of another version";
    case HeartbeatError::kOtherRun:
      return "of another run";
    case HeartbeatError::kForged:
      return "damaged or forged";
    case HeartbeatError::kKind:
      return "of an unknown kind";
    case HeartbeatError::kStranger:
      return "from no other rank of the run, or for another";
    case HeartbeatError::kReplayed:
      return "replayed or late";
  }
  return "unknown";
}

HeartbeatBytes seal_heartbeat(const Heartbeat& heartbeat, const RunSecret& secret) {
  need_sodium();
  Layout layout{.magic = kMagic,
                .version = kDatagramVersion,
                .kind = heartbeat.kind,
                .reserved = 0,
                .from = heartbeat.from.value,
                .to = heartbeat.to.value,
                .run = run_id(secret),
                .counter = heartbeat.counter,
                .code = {}};
  crypto_auth(layout.code.data(), reinterpret_cast<const unsigned char*>(&layout), kCodedBytes,
              raw(secret));
  return std::bit_cast<HeartbeatBytes>(layout);
}

std::expected<Heartbeat, HeartbeatError> open_heartbeat(std::span<const std::byte> bytes,
                                                        const RunSecret& secret) {
  need_sodium();
  if (bytes.size() != kHeartbeatBytes) return std::unexpected(HeartbeatError::kLength);
  Layout layout;
  std::memcpy(&layout, bytes.data(), sizeof layout);
  if (layout.magic != kMagic) return std::unexpected(HeartbeatError::kForeign);
  if (layout.version != kDatagramVersion) return std::unexpected(HeartbeatError::kDatagramVersion);
  if (layout.run != run_id(secret)) return std::unexpected(HeartbeatError::kOtherRun);
  if (crypto_auth_verify(layout.code.data(), reinterpret_cast<const unsigned char*>(bytes.data()),
                         kCodedBytes, raw(secret)) != 0) {
    return std::unexpected(HeartbeatError::kForged);
  }
  if (!is_heartbeat_kind(layout.kind)) return std::unexpected(HeartbeatError::kKind);
  return Heartbeat{RankId{layout.from}, RankId{layout.to}, layout.kind, layout.counter};
}

std::uint64_t HeartbeatTraffic::dropped_total() const {
  return std::accumulate(dropped.begin(), dropped.end(), std::uint64_t{0});
}

std::expected<HeartbeatSocket, std::string> HeartbeatSocket::open(std::uint32_t ip) {
  const auto failed = [ip](const char* what) {
    return std::unexpected(fmt::format("cannot {} a socket for heartbeats on {}.{}.{}.{}: {}", what,
                                       ip >> 24, ip >> 16 & 0xff, ip >> 8 & 0xff, ip & 0xff,
                                       errno_text(errno)));
  };
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return failed("make");
  HeartbeatSocket made(FileDescriptor(FileSystem::real(), fd));
  // When it is refused, the system's own size will do: what does not fit is lost, and repeated.
  ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &kReceiveBytes, sizeof kReceiveBytes);
  sockaddr_in bound = socket_address({ip, 0});
  socklen_t length = sizeof bound;
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&bound), sizeof bound) != 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &length) != 0) {
    return failed("bind");
  }
  made.address_ = {ip, ntohs(bound.sin_port)};
  return made;
}

void HeartbeatSocket::join(RankId self, std::vector<UdpAddress> peers, const RunSecret& secret) {
  REGROUP_CHECK(self.value < peers.size(), "a rank is one of the run's");
  self_ = self;
  newest_.assign(peers.size(), 0);
  peers_ = std::move(peers);
  secret_ = secret;
}

void HeartbeatSocket::send(RankId to, HeartbeatKind kind) {
  REGROUP_CHECK(to.value < peers_.size(), "a heartbeat goes to a rank of the run");
  const HeartbeatBytes bytes =
      seal_heartbeat({.from = self_, .to = to, .kind = kind, .counter = ++counter_}, secret_);
  const sockaddr_in address = socket_address(peers_[to.value]);
  const ssize_t count = ::sendto(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL,
                                 reinterpret_cast<const sockaddr*>(&address), sizeof address);
  ++(count < 0 ? traffic_.unsent : traffic_.sent);
}

std::size_t HeartbeatSocket::receive(const Handler& handler) {
  std::array<std::byte, kHeartbeatBytes + 1> bytes;  // one more tells what is too long
  for (std::size_t count = 0; count < kDatagramsMax; ++count) {
    const ssize_t length = ::recv(fd_.get(), bytes.data(), bytes.size(), 0);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return count;
    const auto heartbeat = judge(std::span(bytes).first(static_cast<std::size_t>(length)));
    if (!heartbeat) {
      ++traffic_.dropped[static_cast<std::size_t>(heartbeat.error())];
      continue;
    }
    ++traffic_.taken;
    handler(heartbeat->from, heartbeat->kind);
  }
  return kDatagramsMax;
}

std::expected<Heartbeat, HeartbeatError> HeartbeatSocket::judge(std::span<const std::byte> bytes) {
  auto heartbeat = open_heartbeat(bytes, secret_);
  if (!heartbeat) return heartbeat;
  const RankId from = heartbeat->from;
  if (from.value >= peers_.size() || from == self_ || heartbeat->to != self_) {
    return std::unexpected(HeartbeatError::kStranger);
  }
  if (heartbeat->counter <= newest_[from.value]) return std::unexpected(HeartbeatError::kReplayed);
  newest_[from.value] = heartbeat->counter;
  return heartbeat;
}

}  // namespace regroup
