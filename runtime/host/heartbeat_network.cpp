#include "runtime/host/heartbeat_network.hpp"

#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

constexpr unsigned kAddressBits = 32;

std::uint32_t number_of(const sockaddr* address) {
  return ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr);
}

struct Subnet {
  std::uint32_t prefix = 0;
  std::uint32_t mask = 0;
};

// "10.1.0.0/16"; empty if it is none.
std::optional<Subnet> parse_subnet(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  in_addr address{};
  if (::inet_pton(AF_INET, std::string(text.substr(0, slash)).c_str(), &address) != 1) {
    return std::nullopt;
  }
  unsigned bits = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data() + slash + 1, end, bits);
  if (error != std::errc() || stop != end || bits > kAddressBits) return std::nullopt;
  const std::uint32_t mask = bits == 0 ? 0 : ~std::uint32_t{0} << (kAddressBits - bits);
  return Subnet{ntohl(address.s_addr) & mask, mask};
}

bool share_loopback(const std::vector<RankNetworks>& ranks) {
  return std::ranges::all_of(ranks, [&](const RankNetworks& rank) {
    return rank.host == ranks.front().host &&
           rank.network_namespace == ranks.front().network_namespace;
  });
}

// The networks of a rank that may be used at all.
std::vector<LocalNetwork> usable(const RankNetworks& rank, std::string_view wanted, bool loopback) {
  std::vector<LocalNetwork> found;
  for (const LocalNetwork& network : rank.networks) {
    if (network.loopback && !loopback) continue;
    if (is_named(network, wanted)) found.push_back(network);
  }
  return found;
}

// Each rank's address on one network; empty if a rank has none there, or if two machines have the
// same, which makes it a network of each machine's own.
std::vector<std::uint32_t> ips_on(const LocalNetwork& shared,
                                  const std::vector<RankNetworks>& ranks,
                                  const std::vector<std::vector<LocalNetwork>>& networks) {
  std::vector<std::uint32_t> ips;
  for (const std::vector<LocalNetwork>& candidates : networks) {
    const auto found = std::ranges::find_if(candidates, [&](const LocalNetwork& network) {
      return network.mask == shared.mask && network.prefix() == shared.prefix();
    });
    if (found == candidates.end()) return {};
    ips.push_back(found->ip);
  }
  for (std::size_t rank = 1; rank < ips.size(); ++rank) {
    for (std::size_t other = 0; other < rank; ++other) {
      if (ips[rank] == ips[other] && ranks[rank].host != ranks[other].host) return {};
    }
  }
  return ips;
}

}  // namespace

bool is_named(const LocalNetwork& network, std::string_view wanted) {
  if (wanted.empty()) return true;
  const std::optional<Subnet> subnet = parse_subnet(wanted);
  return subnet ? (network.ip & subnet->mask) == subnet->prefix : network.interface == wanted;
}

std::vector<LocalNetwork> own_networks() {
  ifaddrs* first = nullptr;
  if (::getifaddrs(&first) != 0) return {};
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(first, ::freeifaddrs);
  std::vector<LocalNetwork> networks;
  for (const ifaddrs* entry = first; entry != nullptr; entry = entry->ifa_next) {
    constexpr unsigned kAlive = IFF_UP | IFF_RUNNING;
    if (entry->ifa_addr == nullptr || entry->ifa_netmask == nullptr ||
        entry->ifa_addr->sa_family != AF_INET || (entry->ifa_flags & kAlive) != kAlive) {
      continue;
    }
    networks.push_back({.interface = entry->ifa_name,
                        .ip = number_of(entry->ifa_addr),
                        .mask = number_of(entry->ifa_netmask),
                        .loopback = (entry->ifa_flags & IFF_LOOPBACK) != 0});
  }
  return networks;
}

std::expected<std::vector<std::uint32_t>, std::string> choose_heartbeat_ips(
    const std::vector<RankNetworks>& ranks, std::string_view wanted) {
  REGROUP_CHECK(!ranks.empty(), "a run has a rank");
  const bool loopback = share_loopback(ranks);
  if (loopback && wanted.empty()) {
    return std::vector<std::uint32_t>(ranks.size(), INADDR_LOOPBACK);
  }
  std::vector<std::vector<LocalNetwork>> networks;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    networks.push_back(usable(ranks[rank], wanted, loopback));
    if (!networks.back().empty()) continue;
    return std::unexpected(
        wanted.empty()
            ? fmt::format("rank {} on {} has no network but loopback, and ranks run elsewhere, too",
                          rank, ranks[rank].host.hostname)
            : fmt::format("rank {} on {} has no address on '{}': name an interface that is up on "
                          "every node, or a subnet such as 10.1.0.0/16",
                          rank, ranks[rank].host.hostname, wanted));
  }
  for (const LocalNetwork& candidate : networks.front()) {
    std::vector<std::uint32_t> ips = ips_on(candidate, ranks, networks);
    if (!ips.empty()) return ips;
  }
  std::vector<std::uint32_t> ips;
  for (const std::vector<LocalNetwork>& candidates : networks) ips.push_back(candidates.front().ip);
  return ips;
}

}  // namespace regroup
