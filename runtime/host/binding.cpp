#include "runtime/host/binding.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "runtime/host/core_shares.hpp"
#include "runtime/host/gpu_assignment.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

// -- Masks -----------------------------------------------------------------------------------

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
    groups.push_back({mask, std::move(cores), std::move(group.ranks)});
  }
  return groups;
}

bool is_oversubscribed(const MaskGroup& group) {
  return group.ranks.size() > group.cores.size();
}

// -- From shares to bindings -----------------------------------------------------------------

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

// More threads than a cgroup gives cpu time for only make each other wait.
std::size_t threads_within_quota(const NodeTopology& node, std::size_t ranks) {
  if (!node.cpu_quota) return std::numeric_limits<std::size_t>::max();
  return std::max<std::size_t>(
      1, static_cast<std::size_t>(*node.cpu_quota / static_cast<double>(ranks)));
}

// The bindings of a group's ranks, each to its share of the group's cores.
void bind_group(const NodeTopology& node, const MaskGroup& group, const BindingOptions& options,
                BindingPlan& plan) {
  const auto ranks = static_cast<std::uint32_t>(group.ranks.size());
  const std::size_t threads_max =
      is_oversubscribed(group) ? 1 : threads_within_quota(node, plan.ranks.size());
  std::vector<CoreSet> shares = share_cores(node, group.cores, ranks);
  for (std::uint32_t position = 0; position < ranks; ++position) {
    const std::size_t threads = std::min(shares[position].size(), threads_max);
    RankBinding& rank = plan.ranks[group.ranks[position]];
    rank = bind_share(node, group, std::move(shares[position]), plan.mode);
    rank.local_rank = group.ranks[position];
    rank.threads = options.threads != 0 ? options.threads : static_cast<std::uint32_t>(threads);
  }
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

// Tells the cores that one rank has for itself, and pins the threads of a rank that has only such.
void mark_exclusive_cores(const NodeTopology& topology, BindingPlan& plan) {
  std::vector<std::uint32_t> sharers(topology.cores.size(), 0);
  for (const RankBinding& rank : plan.ranks) {
    for (const std::uint32_t core : rank.cores) ++sharers[core];
  }
  plan.idle_cores = static_cast<std::uint32_t>(std::count(sharers.begin(), sharers.end(), 0U));
  for (RankBinding& rank : plan.ranks) {
    rank.exclusive = std::all_of(rank.cores.begin(), rank.cores.end(),
                                 [&](std::uint32_t core) { return sharers[core] == 1; });
    if (plan.mode == BindMode::kCore && rank.exclusive) {
      rank.thread_pus = one_unit_a_core(topology, rank);
    }
  }
}

// -- The plan --------------------------------------------------------------------------------

BindMode mode_in_effect(BindMode asked, bool oversubscribed) {
  const BindMode mode = asked == BindMode::kAutomatic ? BindMode::kCore : asked;
  return oversubscribed && mode == BindMode::kCore ? BindMode::kNuma : mode;
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
  plan.oversubscribed = std::any_of(groups.begin(), groups.end(), is_oversubscribed);
  plan.mode = mode_in_effect(options.mode, plan.oversubscribed);
  plan.ranks.resize(masks.size());
  for (const MaskGroup& group : groups) bind_group(node, group, options, plan);
  mark_exclusive_cores(node, plan);
  assign_gpus(node, options, plan.ranks);
  note_what_is_wrong(node, options, plan);
  return plan;
}

}  // namespace regroup
