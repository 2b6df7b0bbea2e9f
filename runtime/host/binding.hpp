// Decides which cores and which GPU each rank of one node gets. A pure function of the node, the
// number of ranks and the options: every rank of a node computes the same plan and takes its own
// line of it. Never touches the machine; hwloc_wrapper.hpp carries it out.
//
// Cores: where there are at least as many ranks as memory nodes, ranks are dealt to memory nodes by
// the highest averages method (D'Hondt, in whole cores: the smallest share is as large as it can
// be) and none straddles two. Fewer ranks get whole memory nodes, within one package if they can
// be. Inside a memory node ranks keep to one last-level cache where that costs no rank a core.
// GPUs: the assignment of least total distance (Kuhn, "The Hungarian method", 1955), ranks spread
// evenly over the GPUs first.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/host/node_topology.hpp"

namespace regroup {

enum class BindMode {
  kAutomatic,  // cores where every rank can have its own, otherwise memory nodes
  kCore,       // each rank its own cores, each thread its own core
  kNuma,       // each rank the whole memory nodes of its share, threads move freely there
  kNone,       // nothing is bound; ranks still get a thread count and a GPU
};

enum class GpuMode { kAutomatic, kNone, kAtMost };

struct BindingOptions {
  BindMode mode = BindMode::kAutomatic;
  std::uint32_t threads = 0;  // a rank; 0: one for each core of its share, within the cpu quota
  GpuMode gpus = GpuMode::kAutomatic;
  std::uint32_t gpus_max = 0;  // with kAtMost: GPUs used on each node
};

enum class GpuDistance { kSameNuma, kSamePackage, kRemote, kUnknown };

struct RankBinding {
  std::uint32_t local_rank = 0;
  std::vector<std::uint32_t> cores;       // positions in NodeTopology::cores, ascending
  CpuList pus;                            // to bind the rank to; empty: leave it unbound
  std::uint32_t threads = 1;              // compute threads
  CpuList thread_pus;                     // one for each thread; empty: threads are not pinned
  std::vector<std::uint32_t> numa_nodes;  // system's numbers, ascending
  bool exclusive = false;                 // no other rank of this node has any of `cores`
  std::optional<std::uint32_t> gpu;       // position in NodeTopology::gpus
  GpuDistance gpu_distance = GpuDistance::kUnknown;
  std::uint32_t gpu_sharers = 0;  // ranks on that GPU, this one included

  friend bool operator==(const RankBinding&, const RankBinding&) = default;
};

struct BindingPlan {
  BindMode mode = BindMode::kNone;  // in effect: never automatic
  bool oversubscribed = false;      // a core has several ranks, or a rank more threads than units
  bool by_launcher = false;         // ranks came with different masks, each stays in its own
  std::vector<RankBinding> ranks;   // by local rank
  std::uint32_t idle_cores = 0;     // in no rank's share
  std::vector<std::string> notes;   // what a user should know, one line each

  friend bool operator==(const BindingPlan&, const BindingPlan&) = default;
};

// The plan for ranks 0 to local_ranks-1 of a node. `topology` has a core, local_ranks is not 0.
BindingPlan plan_binding(const NodeTopology& topology, std::uint32_t local_ranks,
                         const BindingOptions& options);

// `allowed` with no more than what some rank's inherited affinity mask holds: the node that
// plan_binding_within_masks plans for. All of `allowed` where the masks have nothing of it.
NodeTopology node_within_masks(const NodeTopology& allowed, std::span<const CpuList> masks);

// The plan where the ranks' inherited affinity masks are known; masks[r] is local rank r's. Equal
// masks (taskset, a Slurm step) simply bound the node. Different ones are a launcher's binding, as
// of mpirun --bind-to core or socket: every rank stays within its own, and ranks with the same mask
// divide that among themselves. A mask with nothing of the node counts as all of it.
BindingPlan plan_binding_within_masks(const NodeTopology& node, std::span<const CpuList> masks,
                                      const BindingOptions& options);

}  // namespace regroup
