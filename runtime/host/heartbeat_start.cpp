#include "runtime/host/heartbeat_start.hpp"

#include <utility>

#include <fmt/format.h>

#include "runtime/host/heartbeat_network.hpp"
#include "runtime/protocol/check.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup {
namespace {

constexpr std::size_t kNetworkBytesMin = 13;  // of a network without a name

void put_host(Writer& writer, const HostIdentity& host) {
  writer.put_string(host.boot_id);
  writer.put_string(host.hostname);
  writer.put(host.pid_namespace);
}

HostIdentity get_host(Reader& reader) {
  HostIdentity host;
  host.boot_id = reader.get_string();
  host.hostname = reader.get_string();
  host.pid_namespace = reader.get<std::uint64_t>();
  return host;
}

Buffer encode(const RankNetworks& rank) {
  Buffer bytes;
  Writer writer(bytes);
  put_host(writer, rank.host);
  writer.put(rank.network_namespace);
  writer.put(static_cast<std::uint32_t>(rank.networks.size()));
  for (const LocalNetwork& network : rank.networks) {
    writer.put_string(network.interface);
    writer.put(network.ip);
    writer.put(network.mask);
    writer.put(static_cast<std::uint8_t>(network.loopback));
  }
  return bytes;
}

RankNetworks decode_networks(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  RankNetworks rank;
  rank.host = get_host(reader);
  rank.network_namespace = reader.get<std::uint64_t>();
  for (std::size_t count = reader.get_count(kNetworkBytesMin); count > 0; --count) {
    LocalNetwork network;
    network.interface = reader.get_string();
    network.ip = reader.get<std::uint32_t>();
    network.mask = reader.get<std::uint32_t>();
    network.loopback = reader.get<std::uint8_t>() != 0;
    rank.networks.push_back(std::move(network));
  }
  REGROUP_CHECK(reader.complete(), "ranks of one installation write what each other reads");
  return rank;
}

// Where a rank's socket is, or why it has none, and the memory that it has made for its host's
// death notices, if it has.
struct Opening {
  PeerAddress address;
  std::string error;
  NoticeBoard::Place notices;
};

Buffer encode(const Opening& opening) {
  Buffer bytes;
  Writer writer(bytes);
  put_host(writer, opening.address.host);
  writer.put(opening.address.pid);
  writer.put(opening.address.started);
  writer.put(opening.address.udp.ip);
  writer.put(opening.address.udp.port);
  writer.put_string(opening.error);
  writer.put(opening.notices.fd);
  writer.put(opening.notices.inode);
  return bytes;
}

Opening decode_opening(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  Opening opening;
  opening.address.host = get_host(reader);
  opening.address.pid = reader.get<std::int32_t>();
  opening.address.started = reader.get<std::uint64_t>();
  opening.address.udp.ip = reader.get<std::uint32_t>();
  opening.address.udp.port = reader.get<std::uint16_t>();
  opening.error = reader.get_string();
  opening.notices.fd = reader.get<std::int32_t>();
  opening.notices.inode = reader.get<std::uint64_t>();
  REGROUP_CHECK(reader.complete(), "ranks of one installation write what each other reads");
  return opening;
}

std::vector<RankNetworks> gather_networks(MpiSession& session) {
  const RankNetworks own{
      .host = own_host(), .network_namespace = own_network_namespace(), .networks = own_networks()};
  std::vector<RankNetworks> ranks;
  for (const auto& bytes : session.gather(encode(own).view())) {
    ranks.push_back(decode_networks(bytes));
  }
  return ranks;
}

std::vector<std::uint32_t> ranks_on_host_of(const std::vector<RankNetworks>& ranks,
                                            std::uint32_t self) {
  std::vector<HostIdentity> hosts;
  for (const RankNetworks& rank : ranks) hosts.push_back(rank.host);
  return on_host_of(hosts, self);
}

std::vector<std::uint32_t> numbered_hosts(const std::vector<RankNetworks>& ranks) {
  std::vector<HostIdentity> hosts;
  for (const RankNetworks& rank : ranks) hosts.push_back(rank.host);
  return first_on_host(hosts);
}

std::vector<Opening> gather_openings(MpiSession& session, const Opening& own) {
  std::vector<Opening> openings;
  for (const auto& bytes : session.gather(encode(own).view())) {
    openings.push_back(decode_opening(bytes));
  }
  return openings;
}

std::expected<void, std::string> all_are_open(const std::vector<Opening>& openings) {
  for (std::size_t rank = 0; rank < openings.size(); ++rank) {
    const std::string& error = openings[rank].error;
    if (!error.empty()) return std::unexpected(fmt::format("rank {}: {}", rank, error));
  }
  return {};
}

}  // namespace

// The first rank of each host makes the memory for its death notices, and keeps it open.
std::expected<HeartbeatStart, std::string> start_heartbeats(MpiSession& session,
                                                            std::string_view network) {
  const std::vector<RankNetworks> ranks = gather_networks(session);
  const auto ips = choose_heartbeat_ips(ranks, network);
  if (!ips) return std::unexpected(ips.error());

  auto socket = HeartbeatSocket::open((*ips)[session.rank()]);
  const std::vector<std::uint32_t> here = ranks_on_host_of(ranks, session.rank());
  const auto processes = static_cast<std::uint32_t>(here.size());
  const bool first_here = here.front() == session.rank();
  std::expected<NoticeBoard, std::string> notices;
  if (first_here) notices = NoticeBoard::make(processes);

  Opening own;
  if (socket) {
    own.address = own_address(*socket);
  } else {
    own.error = socket.error();
  }
  if (notices) own.notices = notices->place();
  const std::vector<Opening> openings = gather_openings(session, own);
  if (auto open = all_are_open(openings); !open) return std::unexpected(open.error());
  if (!first_here) {
    const Opening& first = openings[here.front()];
    notices = NoticeBoard::open(first.address.pid, first.notices, processes);
  }

  std::vector<PeerAddress> peers;
  for (const Opening& opening : openings) peers.push_back(opening.address);
  RunSecret secret{};
  if (session.rank() == 0) secret = make_run_secret();
  session.broadcast(secret);
  return HeartbeatStart{std::move(*socket),    std::move(peers), here,
                        numbered_hosts(ranks), secret,           std::move(notices)};
}

}  // namespace regroup
