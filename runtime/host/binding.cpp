#include "runtime/host/binding.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

// Positions in NodeTopology::cores.
using CoreSet = std::vector<std::uint32_t>;
// Which place of one kind (package, memory node, cache) a core is in.
using PlaceOf = std::uint32_t Core::*;

// -- Shares of cores -------------------------------------------------------------------------

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

// -- From shares to bindings -----------------------------------------------------------------

// Ranks that inherited the same affinity mask, and the cores that it leaves them.
struct MaskGroup {
  CpuList mask;
  CoreSet cores;
  std::vector<std::uint32_t> ranks;
};

bool has(const CpuList& list, std::uint32_t number) {
  return std::binary_search(list.begin(), list.end(), number);
}

CpuList within(const CpuList& mask, const CpuList& pus) {
  CpuList both;
  std::set_intersection(mask.begin(), mask.end(), pus.begin(), pus.end(), std::back_inserter(both));
  return both;
}

std::vector<MaskGroup> group_by_mask(const NodeTopology& topology, std::span<const CpuList> masks) {
  const CpuList usable = usable_pus(topology);
  std::map<CpuList, MaskGroup> by_mask;
  for (std::uint32_t rank = 0; rank < masks.size(); ++rank) {
    CpuList mask = within(masks[rank], usable);
    if (mask.empty()) mask = usable;
    by_mask[mask].ranks.push_back(rank);
  }
  std::vector<MaskGroup> groups;
  for (auto& [mask, group] : by_mask) {
    CoreSet cores;
    for (std::uint32_t core = 0; core < topology.cores.size(); ++core) {
      if (!within(mask, topology.cores[core].pus).empty()) cores.push_back(core);
    }
    groups.push_back({mask, sorted_by_place(topology, std::move(cores)), std::move(group.ranks)});
  }
  return groups;
}

CpuList pus_of(const NodeTopology& topology, const CoreSet& cores, const CpuList& mask) {
  CpuList pus;
  for (const std::uint32_t core : cores) {
    const CpuList more = within(mask, topology.cores[core].pus);
    pus.insert(pus.end(), more.begin(), more.end());
  }
  std::sort(pus.begin(), pus.end());
  return pus;
}

std::vector<std::uint32_t> numa_nodes_of(const NodeTopology& topology, const CoreSet& cores) {
  std::set<std::uint32_t> nodes;
  for (const std::uint32_t core : cores) nodes.insert(topology.cores[core].numa);
  return {nodes.begin(), nodes.end()};
}

// Those of the group's cores that are in a memory node that one of `cores` is in.
CoreSet whole_numa_nodes(const NodeTopology& topology, const MaskGroup& group,
                         const CoreSet& cores) {
  const std::vector<std::uint32_t> nodes = numa_nodes_of(topology, cores);
  CoreSet whole;
  for (const std::uint32_t core : group.cores) {
    if (has(nodes, topology.cores[core].numa)) whole.push_back(core);
  }
  return whole;
}

RankBinding bind_share(const NodeTopology& topology, const MaskGroup& group, CoreSet share,
                       BindMode mode) {
  RankBinding rank;
  rank.cores =
      mode == BindMode::kNuma ? whole_numa_nodes(topology, group, share) : std::move(share);
  std::sort(rank.cores.begin(), rank.cores.end());
  rank.numa_nodes = numa_nodes_of(topology, rank.cores);
  if (mode != BindMode::kNone) rank.pus = pus_of(topology, rank.cores, group.mask);
  return rank;
}

// How many ranks have each core.
std::vector<std::uint32_t> sharers_of_cores(const NodeTopology& topology,
                                            const std::vector<RankBinding>& ranks) {
  std::vector<std::uint32_t> sharers(topology.cores.size(), 0);
  for (const RankBinding& rank : ranks) {
    for (const std::uint32_t core : rank.cores) ++sharers[core];
  }
  return sharers;
}

// The first unit of a core for each thread: never a second thread on the same core.
CpuList one_unit_a_core(const NodeTopology& topology, const RankBinding& rank) {
  CpuList units;
  if (rank.threads > rank.cores.size()) return units;
  for (std::uint32_t thread = 0; thread < rank.threads; ++thread) {
    units.push_back(within(rank.pus, topology.cores[rank.cores[thread]].pus).front());
  }
  return units;
}

// -- GPUs ------------------------------------------------------------------------------------

GpuDistance distance_to(const NodeTopology& topology, const RankBinding& rank, const Gpu& gpu) {
  if (gpu.nearest_pus.empty()) return GpuDistance::kUnknown;
  std::set<std::uint32_t> near_packages;
  for (const Core& core : topology.cores) {
    const bool near = std::find_first_of(core.pus.begin(), core.pus.end(), gpu.nearest_pus.begin(),
                                         gpu.nearest_pus.end()) != core.pus.end();
    if (!near) continue;
    near_packages.insert(core.package);
    if (std::find(rank.numa_nodes.begin(), rank.numa_nodes.end(), core.numa) !=
        rank.numa_nodes.end()) {
      return GpuDistance::kSameNuma;
    }
  }
  for (const std::uint32_t core : rank.cores) {
    if (near_packages.contains(topology.cores[core].package)) return GpuDistance::kSamePackage;
  }
  return GpuDistance::kRemote;
}

// Rows to columns at least total cost, rows <= columns: shortest augmenting paths with potentials
// (Kuhn 1955; the O(rows^2 * columns) form of Jonker and Volgenant 1987, section 2).
// Index 0 stands for "none" in the arrays below.
std::vector<std::size_t> cheapest_assignment(const std::vector<std::vector<std::int64_t>>& cost) {
  const std::size_t rows = cost.size();
  const std::size_t columns = cost.front().size();
  REGROUP_CHECK(rows <= columns, "each row of an assignment needs a column of its own");
  std::vector<std::int64_t> row_price(rows + 1, 0);
  std::vector<std::int64_t> column_price(columns + 1, 0);
  std::vector<std::size_t> row_of(columns + 1, 0);
  for (std::size_t row = 1; row <= rows; ++row) {
    std::vector<std::int64_t> slack(columns + 1, std::numeric_limits<std::int64_t>::max());
    std::vector<std::size_t> came_from(columns + 1, 0);
    std::vector<bool> reached(columns + 1, false);
    std::size_t column = 0;
    row_of[0] = row;
    do {
      reached[column] = true;
      const std::size_t here = row_of[column];
      std::size_t next = 0;
      std::int64_t step = std::numeric_limits<std::int64_t>::max();
      for (std::size_t other = 1; other <= columns; ++other) {
        if (reached[other]) continue;
        const std::int64_t reduced =
            cost[here - 1][other - 1] - row_price[here] - column_price[other];
        if (reduced < slack[other]) {
          slack[other] = reduced;
          came_from[other] = column;
        }
        if (slack[other] < step) {
          step = slack[other];
          next = other;
        }
      }
      for (std::size_t other = 0; other <= columns; ++other) {
        if (reached[other]) {
          row_price[row_of[other]] += step;
          column_price[other] -= step;
        } else {
          slack[other] -= step;
        }
      }
      column = next;
    } while (row_of[column] != 0);
    while (column != 0) {
      const std::size_t before = came_from[column];
      row_of[column] = row_of[before];
      column = before;
    }
  }
  std::vector<std::size_t> column_of(rows, 0);
  for (std::size_t column = 1; column <= columns; ++column) {
    if (row_of[column] != 0) column_of[row_of[column] - 1] = column - 1;
  }
  return column_of;
}

std::int64_t price_of(GpuDistance distance) {
  switch (distance) {
    case GpuDistance::kSameNuma:
      return 0;
    case GpuDistance::kSamePackage:
      return 1;
    case GpuDistance::kUnknown:
      return 2;
    case GpuDistance::kRemote:
      return 3;
  }
  return 3;
}

// The GPUs that may be used: all, or `gpus_max` of them spread over the list and so over the node.
std::vector<std::uint32_t> gpus_to_use(const NodeTopology& topology,
                                       const BindingOptions& options) {
  const std::size_t all = options.gpus == GpuMode::kNone ? 0 : topology.gpus.size();
  std::size_t count = all;
  if (options.gpus == GpuMode::kAtMost) count = std::min<std::size_t>(all, options.gpus_max);
  std::vector<std::uint32_t> chosen;
  for (std::size_t number = 0; number < count; ++number) {
    chosen.push_back(static_cast<std::uint32_t>(number * all / count));
  }
  return chosen;
}

// Every rank gets one GPU, since ranks on different kinds of device could differ in the last bit
// (I8). A GPU has as many places as ranks share evenly; one more place is the dearest of all, then
// comes distance, and among equals ranks keep to the order of the GPUs.
void assign_gpus(const NodeTopology& topology, const BindingOptions& options, BindingPlan& plan) {
  const std::vector<std::uint32_t> gpus = gpus_to_use(topology, options);
  if (gpus.empty()) return;
  const std::size_t ranks = plan.ranks.size();
  const std::size_t even = ranks / gpus.size();
  const std::size_t places_each = even + (ranks % gpus.size() != 0 ? 1 : 0);

  const auto rank_count = static_cast<std::int64_t>(ranks);
  const auto gpu_count = static_cast<std::int64_t>(gpus.size());
  const std::int64_t far = rank_count * rank_count * gpu_count * gpu_count * rank_count + 1;
  const std::int64_t crowded = far * 4 * rank_count;
  std::vector<std::vector<std::int64_t>> cost(ranks);
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    for (std::size_t gpu = 0; gpu < gpus.size(); ++gpu) {
      const auto distance = distance_to(topology, plan.ranks[rank], topology.gpus[gpus[gpu]]);
      const std::int64_t out_of_order =
          static_cast<std::int64_t>(rank) * gpu_count - static_cast<std::int64_t>(gpu) * rank_count;
      const std::int64_t place_cost = price_of(distance) * far + out_of_order * out_of_order;
      for (std::size_t place = 0; place < places_each; ++place) {
        cost[rank].push_back(place_cost + (place < even ? 0 : crowded));
      }
    }
  }

  const std::vector<std::size_t> place_of = cheapest_assignment(cost);
  std::vector<std::uint32_t> sharers(topology.gpus.size(), 0);
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    RankBinding& binding = plan.ranks[rank];
    binding.gpu = gpus[place_of[rank] / places_each];
    binding.gpu_distance = distance_to(topology, binding, topology.gpus[*binding.gpu]);
    ++sharers[*binding.gpu];
  }
  for (RankBinding& rank : plan.ranks) rank.gpu_sharers = sharers[*rank.gpu];
}

// -- The plan --------------------------------------------------------------------------------

// More threads than a cgroup gives cpu time for only make each other wait.
std::size_t threads_within_quota(const NodeTopology& node, std::size_t ranks) {
  if (!node.cpu_quota) return std::numeric_limits<std::size_t>::max();
  return std::max<std::size_t>(
      1, static_cast<std::size_t>(*node.cpu_quota / static_cast<double>(ranks)));
}

void note_what_is_wrong(const NodeTopology& topology, const BindingOptions& options,
                        BindingPlan& plan) {
  const std::size_t cores = topology.cores.size();
  if (plan.oversubscribed) {
    plan.notes.push_back(fmt::format(
        "{} ranks share {} core{}: none has cores of its own; start fewer ranks for speed",
        plan.ranks.size(), cores, cores == 1 ? "" : "s"));
  }
  const bool crowded_rank =
      std::any_of(plan.ranks.begin(), plan.ranks.end(), [&](const RankBinding& rank) {
        std::size_t units = 0;
        for (const std::uint32_t core : rank.cores) units += topology.cores[core].pus.size();
        return rank.threads > units;
      });
  if (crowded_rank) {
    plan.oversubscribed = true;
    plan.notes.push_back(
        fmt::format("{} threads a rank are more than its cores can run at once; --threads 0 takes "
                    "one for each core",
                    options.threads));
  }
  if (topology.cpu_quota && *topology.cpu_quota < static_cast<double>(cores)) {
    plan.notes.push_back(
        fmt::format("a cgroup gives time for {:.1f} cpus on {} cores: threads "
                    "are counted by that",
                    *topology.cpu_quota, cores));
  }
  if (plan.idle_cores != 0) {
    plan.notes.push_back(fmt::format("{} of {} cores stay idle with {} rank{}", plan.idle_cores,
                                     cores, plan.ranks.size(), plan.ranks.size() == 1 ? "" : "s"));
  }
}

}  // namespace

BindingPlan plan_binding(const NodeTopology& topology, std::uint32_t local_ranks,
                         const BindingOptions& options) {
  return plan_binding_within_masks(
      topology, std::vector<CpuList>(local_ranks, usable_pus(topology)), options);
}

NodeTopology node_within_masks(const NodeTopology& allowed, std::span<const CpuList> masks) {
  std::set<std::uint32_t> all;
  for (const CpuList& mask : masks) all.insert(mask.begin(), mask.end());
  NodeTopology node = restrict_topology(allowed, CpuList(all.begin(), all.end()));
  return node.cores.empty() ? allowed : node;
}

BindingPlan plan_binding_within_masks(const NodeTopology& node, std::span<const CpuList> masks,
                                      const BindingOptions& options) {
  REGROUP_CHECK(!node.cores.empty(), "a node has a core");
  REGROUP_CHECK(!masks.empty(), "a node to plan for has a rank");
  const std::vector<MaskGroup> groups = group_by_mask(node, masks);
  BindingPlan plan;
  plan.by_launcher = groups.size() > 1;
  plan.oversubscribed = std::any_of(groups.begin(), groups.end(), [](const MaskGroup& group) {
    return group.ranks.size() > group.cores.size();
  });
  plan.mode = options.mode == BindMode::kAutomatic ? BindMode::kCore : options.mode;
  if (plan.oversubscribed && plan.mode == BindMode::kCore) plan.mode = BindMode::kNuma;

  const std::size_t threads_max = threads_within_quota(node, masks.size());
  plan.ranks.resize(masks.size());
  for (const MaskGroup& group : groups) {
    const auto ranks = static_cast<std::uint32_t>(group.ranks.size());
    const bool shared = ranks > group.cores.size();
    std::vector<CoreSet> shares = shared ? shared_shares(node, group.cores, ranks)
                                         : exclusive_shares(node, group.cores, ranks);
    REGROUP_CHECK(shares.size() == ranks, "every rank has a share of the cores");
    for (std::uint32_t position = 0; position < ranks; ++position) {
      REGROUP_CHECK(!shares[position].empty(), "a share has a core");
      const std::size_t threads = shared ? 1 : std::min(shares[position].size(), threads_max);
      RankBinding& rank = plan.ranks[group.ranks[position]];
      rank = bind_share(node, group, std::move(shares[position]), plan.mode);
      rank.local_rank = group.ranks[position];
      rank.threads = options.threads != 0 ? options.threads : static_cast<std::uint32_t>(threads);
    }
  }

  const std::vector<std::uint32_t> sharers = sharers_of_cores(node, plan.ranks);
  plan.idle_cores = static_cast<std::uint32_t>(std::count(sharers.begin(), sharers.end(), 0U));
  for (RankBinding& rank : plan.ranks) {
    rank.exclusive = std::all_of(rank.cores.begin(), rank.cores.end(),
                                 [&](std::uint32_t core) { return sharers[core] == 1; });
    if (plan.mode == BindMode::kCore && rank.exclusive) {
      rank.thread_pus = one_unit_a_core(node, rank);
    }
  }
  assign_gpus(node, options, plan);
  note_what_is_wrong(node, options, plan);
  return plan;
}

}  // namespace regroup
