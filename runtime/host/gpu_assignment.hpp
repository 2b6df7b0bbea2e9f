// Gives every rank of a node a GPU: the second half of a binding plan (binding.hpp). A pure
// function of what it is given.
#pragma once

#include <span>

#include "runtime/host/binding.hpp"

namespace regroup {

// Fills in `gpu`, `gpu_distance` and `gpu_sharers` of ranks whose cores are known; leaves them be
// where no GPU is to be used.
void assign_gpus(const NodeTopology& topology, const BindingOptions& options,
                 std::span<RankBinding> ranks);

}  // namespace regroup
