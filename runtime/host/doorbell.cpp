#include "runtime/host/doorbell.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

namespace regroup {
namespace {

// Rings taken in at a time: more than the system keeps.
constexpr int kRingsMax = 1024;

struct Address {
  sockaddr_un bytes{};
  socklen_t length = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&bytes); }
};

// A name that begins with a zero byte is of the abstract namespace.
Address address_of(std::uint64_t run, RankId rank) {
  Address address;
  address.bytes.sun_family = AF_UNIX;
  const std::string name = fmt::format("regroup/{:016x}/{}", run, rank.value);
  std::memcpy(address.bytes.sun_path + 1, name.data(), name.size());
  address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return address;
}

}  // namespace

Doorbell::Doorbell(FileDescriptor socket, std::uint64_t run, RankId self,
                   std::span<const std::uint32_t> near)
    : socket_(std::move(socket)), run_(run), self_(self) {
  for (const std::uint32_t rank : near) near_.emplace_back(rank);
}

std::expected<Doorbell, std::string> Doorbell::open(std::uint64_t run, RankId self,
                                                    std::span<const std::uint32_t> near) {
  FileDescriptor socket(FileSystem::real(),
                        ::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket.is_open()) {
    return std::unexpected(fmt::format("cannot make a socket: {}", errno_text(errno)));
  }
  const Address own = address_of(run, self);
  if (::bind(socket.get(), own.get(), own.length) != 0) {
    return std::unexpected(fmt::format("cannot name a socket: {}", errno_text(errno)));
  }
  return Doorbell(std::move(socket), run, self, near);
}

void Doorbell::ring(RankId to) const {
  if (to == self_ || !std::ranges::binary_search(near_, to)) return;
  const Address address = address_of(run_, to);
  (void)::sendto(socket_.get(), nullptr, 0, MSG_NOSIGNAL, address.get(), address.length);
}

bool Doorbell::answer() const {
  bool rung = false;
  char none = 0;
  for (int i = 0; i < kRingsMax && ::recv(socket_.get(), &none, sizeof none, 0) >= 0; ++i) {
    rung = true;
  }
  return rung;
}

}  // namespace regroup
