// Divides cores of a node among ranks: the first half of a binding plan (binding.hpp), with its
// rules. A pure function of what it is given.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/host/node_topology.hpp"

namespace regroup {

// Positions in NodeTopology::cores.
using CoreSet = std::vector<std::uint32_t>;

// One share of `cores` for each of `ranks`, in the order of the ranks; both are at least 1. Where
// there are as many cores as ranks no core is in two shares, otherwise each share is all cores of a
// memory node, with others.
std::vector<CoreSet> share_cores(const NodeTopology& topology, CoreSet cores, std::uint32_t ranks);

}  // namespace regroup
