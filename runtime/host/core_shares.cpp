#include "runtime/host/core_shares.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

// Which place of one kind (package, memory node, cache) a core is in.
using PlaceOf = std::uint32_t Core::*;

// -- Pieces ----------------------------------------------------------------------------------

std::vector<CoreSet> split_by(const NodeTopology& topology, const CoreSet& cores, PlaceOf place) {
  std::map<std::uint32_t, CoreSet> by_place;
  for (const std::uint32_t core : cores) by_place[topology.cores[core].*place].push_back(core);
  std::vector<CoreSet> parts;
  for (auto& [number, part] : by_place) parts.push_back(std::move(part));
  return parts;
}

// Cores next to each other share as much as they can: sorted by package, memory node and cache.
CoreSet sorted_by_place(const NodeTopology& topology, CoreSet cores) {
  std::stable_sort(cores.begin(), cores.end(), [&](std::uint32_t left, std::uint32_t right) {
    const Core& a = topology.cores[left];
    const Core& b = topology.cores[right];
    return std::tie(a.package, a.numa, a.l3, a.index) < std::tie(b.package, b.numa, b.l3, b.index);
  });
  return cores;
}

// Highest averages in whole cores: ranks go one by one to the part with the most cores a rank, so
// that the smallest share is as large as it can be. Among equals come first parts that would stay
// idle, then the larger fraction of a core, then the group (`group_of` each part) with fewer ranks.
std::vector<std::uint32_t> deal_ranks(const std::vector<CoreSet>& parts,
                                      const std::vector<std::uint32_t>& group_of,
                                      std::uint32_t ranks) {
  std::vector<std::uint32_t> dealt(parts.size(), 0);
  std::map<std::uint32_t, std::uint32_t> dealt_to_group;
  const auto worth = [&](std::size_t part) {
    const std::size_t cores = parts[part].size();
    const std::size_t sharers = dealt[part] + 1;
    return std::tuple(cores / sharers, dealt[part] == 0,
                      static_cast<double>(cores) / static_cast<double>(sharers),
                      -static_cast<std::int64_t>(dealt_to_group[group_of[part]]));
  };
  for (std::uint32_t rank = 0; rank < ranks; ++rank) {
    std::size_t best = 0;
    for (std::size_t part = 1; part < parts.size(); ++part) {
      if (worth(part) > worth(best)) best = part;
    }
    ++dealt[best];
    ++dealt_to_group[group_of[best]];
  }
  return dealt;
}

std::vector<std::uint32_t> deal_ranks(const std::vector<CoreSet>& parts, std::uint32_t ranks) {
  std::vector<std::uint32_t> groups(parts.size());
  std::iota(groups.begin(), groups.end(), 0U);
  return deal_ranks(parts, groups, ranks);
}

// `ranks` runs of neighbouring cores; sizes differ by one at most.
std::vector<CoreSet> split_evenly(const CoreSet& cores, std::uint32_t ranks) {
  std::vector<CoreSet> shares;
  const std::size_t each = cores.size() / ranks;
  const std::size_t larger = cores.size() % ranks;
  auto next = cores.begin();
  for (std::uint32_t rank = 0; rank < ranks; ++rank) {
    const auto count = static_cast<std::ptrdiff_t>(each + (rank < larger ? 1 : 0));
    shares.emplace_back(next, next + count);
    next += count;
  }
  return shares;
}

// `ranks` runs of whole, neighbouring parts, at least one each, near to equal in cores.
std::vector<CoreSet> join_parts(const std::vector<CoreSet>& parts, std::uint32_t ranks) {
  std::vector<CoreSet> shares(ranks);
  std::size_t cores_left = 0;
  for (const CoreSet& part : parts) cores_left += part.size();
  std::size_t part = 0;
  for (std::uint32_t rank = 0; rank < ranks; ++rank) {
    const std::size_t ranks_after = ranks - rank - 1;
    const std::size_t fair = (cores_left + ranks_after) / (ranks_after + 1);
    CoreSet& share = shares[rank];
    do {
      share.insert(share.end(), parts[part].begin(), parts[part].end());
      cores_left -= parts[part].size();
      ++part;
    } while (parts.size() - part > ranks_after &&
             (ranks_after == 0 || share.size() + parts[part].size() / 2 < fair));
  }
  return shares;
}

std::size_t smallest(const std::vector<CoreSet>& shares) {
  std::size_t size = std::numeric_limits<std::size_t>::max();
  for (const CoreSet& share : shares) size = std::min(size, share.size());
  return size;
}

void append(std::vector<CoreSet>& shares, std::vector<CoreSet> more) {
  std::move(more.begin(), more.end(), std::back_inserter(shares));
}

// -- Shares ----------------------------------------------------------------------------------

// Shares of one memory node: along its caches where no rank loses a core by that.
std::vector<CoreSet> share_numa_node(const NodeTopology& topology, const CoreSet& cores,
                                     std::uint32_t ranks) {
  std::vector<CoreSet> even = split_evenly(cores, ranks);
  const std::vector<CoreSet> caches = split_by(topology, cores, &Core::l3);
  std::vector<CoreSet> along;
  if (ranks < caches.size()) {
    along = join_parts(caches, ranks);
  } else {
    const std::vector<std::uint32_t> dealt = deal_ranks(caches, ranks);
    for (std::size_t cache = 0; cache < caches.size(); ++cache) {
      if (dealt[cache] != 0) append(along, split_evenly(caches[cache], dealt[cache]));
    }
  }
  return smallest(along) >= smallest(even) ? along : even;
}

// Fewer ranks than memory nodes: whole nodes, and whole packages' worth of them where that fits.
std::vector<CoreSet> share_whole_numa_nodes(const NodeTopology& topology, const CoreSet& cores,
                                            std::uint32_t ranks) {
  const std::vector<CoreSet> packages = split_by(topology, cores, &Core::package);
  const bool rank_in_each = ranks >= packages.size();
  if (!rank_in_each) return join_parts(packages, ranks);
  std::vector<CoreSet> shares;
  const std::vector<std::uint32_t> dealt = deal_ranks(packages, ranks);
  for (std::size_t package = 0; package < packages.size(); ++package) {
    if (dealt[package] == 0) continue;
    const std::vector<CoreSet> nodes = split_by(topology, packages[package], &Core::numa);
    append(shares, dealt[package] <= nodes.size()
                       ? join_parts(nodes, dealt[package])
                       : split_evenly(packages[package], dealt[package]));
  }
  return shares;
}

// One share of cores a rank, none in two shares. There are at least as many cores as ranks.
std::vector<CoreSet> exclusive_shares(const NodeTopology& topology, const CoreSet& cores,
                                      std::uint32_t ranks) {
  const std::vector<CoreSet> nodes = split_by(topology, cores, &Core::numa);
  if (ranks < nodes.size()) return share_whole_numa_nodes(topology, cores, ranks);
  std::vector<std::uint32_t> packages;
  for (const CoreSet& node : nodes) packages.push_back(topology.cores[node.front()].package);
  const std::vector<std::uint32_t> dealt = deal_ranks(nodes, packages, ranks);
  std::vector<CoreSet> shares;
  for (std::size_t node = 0; node < nodes.size(); ++node) {
    if (dealt[node] != 0) append(shares, share_numa_node(topology, nodes[node], dealt[node]));
  }
  return shares;
}

// More ranks than cores: each has all cores of a memory node, with others.
std::vector<CoreSet> shared_shares(const NodeTopology& topology, const CoreSet& cores,
                                   std::uint32_t ranks) {
  const std::vector<CoreSet> nodes = split_by(topology, cores, &Core::numa);
  const std::vector<std::uint32_t> dealt = deal_ranks(nodes, ranks);
  std::vector<CoreSet> shares;
  for (std::size_t node = 0; node < nodes.size(); ++node) {
    shares.insert(shares.end(), dealt[node], nodes[node]);
  }
  return shares;
}

}  // namespace

std::vector<CoreSet> share_cores(const NodeTopology& topology, CoreSet cores, std::uint32_t ranks) {
  REGROUP_CHECK(!cores.empty() && ranks != 0, "some cores are shared by some ranks");
  cores = sorted_by_place(topology, std::move(cores));
  std::vector<CoreSet> shares = ranks > cores.size() ? shared_shares(topology, cores, ranks)
                                                     : exclusive_shares(topology, cores, ranks);
  REGROUP_CHECK(shares.size() == ranks, "every rank has a share of the cores");
  for (const CoreSet& share : shares) REGROUP_CHECK(!share.empty(), "a share has a core");
  return shares;
}

}  // namespace regroup
