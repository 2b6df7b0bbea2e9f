// Which of its addresses each rank uses for heartbeats. Ranks that share one machine use loopback;
// otherwise a network on which all have an address, so that a container bridge that exists on every
// node, yet joins none, is never chosen. The choice is a pure function of what all ranks gathered,
// so every rank makes the same one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/host/host_identity.hpp"

namespace regroup {

// One IP version 4 address of a machine, as numbers: 10.1.0.0/16 has the mask 0xffff0000.
struct LocalNetwork {
  std::string interface;
  std::uint32_t ip = 0;
  std::uint32_t mask = 0;
  bool loopback = false;

  std::uint32_t prefix() const { return ip & mask; }
  friend bool operator==(const LocalNetwork&, const LocalNetwork&) = default;
};
// Whether it is what a user names: an interface, or a subnet ("10.1.0.0/16"). Empty: any.
bool is_named(const LocalNetwork& network, std::string_view wanted);
// Of the interfaces that are up, in the system's order.
std::vector<LocalNetwork> own_networks();

// What a rank tells the others before any has a socket.
struct RankNetworks {
  HostIdentity host;
  std::uint64_t network_namespace = 0;  // within it, loopback reaches
  std::vector<LocalNetwork> networks;
};

// The address for each rank, by rank. `wanted` narrows the choice to an interface by name, or to a
// subnet ("10.1.0.0/16"); empty takes the first that all share. Without a shared network each rank
// gets its first address, which a routed network reaches. Errors are one line and name the rank.
std::expected<std::vector<std::uint32_t>, std::string> choose_heartbeat_ips(
    const std::vector<RankNetworks>& ranks, std::string_view wanted);

}  // namespace regroup
