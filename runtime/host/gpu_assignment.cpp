#include "runtime/host/gpu_assignment.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <set>
#include <vector>

#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

using Costs = std::vector<std::vector<std::int64_t>>;  // by row, then column

// -- The cheapest assignment -----------------------------------------------------------------

// Rows to columns at least total cost, rows <= columns: shortest augmenting paths with potentials
// (Kuhn 1955; the O(rows^2 * columns) form of Jonker and Volgenant 1987, section 2).
// Index 0 stands for "none" in its arrays, so rows and columns count from 1.
class CheapestAssignment {
 public:
  explicit CheapestAssignment(const Costs& cost)
      : cost_(cost),
        columns_(cost.front().size()),
        row_price_(cost.size() + 1, 0),
        column_price_(columns_ + 1, 0),
        row_of_(columns_ + 1, 0) {
    REGROUP_CHECK(cost.size() <= columns_, "each row of an assignment needs a column of its own");
    for (std::size_t row = 1; row <= cost.size(); ++row) place(row);
  }

  // The column of each row, both from 0.
  std::vector<std::size_t> column_of() const {
    std::vector<std::size_t> column_of(cost_.size(), 0);
    for (std::size_t column = 1; column <= columns_; ++column) {
      if (row_of_[column] != 0) column_of[row_of_[column] - 1] = column - 1;
    }
    return column_of;
  }

 private:
  // Finds the cheapest path from the row to a free column, and moves each row on it one step.
  void place(std::size_t row) {
    slack_.assign(columns_ + 1, std::numeric_limits<std::int64_t>::max());
    came_from_.assign(columns_ + 1, 0);
    reached_.assign(columns_ + 1, false);
    std::size_t column = 0;
    row_of_[0] = row;
    do {
      column = reach_next(column);
    } while (row_of_[column] != 0);
    while (column != 0) {
      const std::size_t before = came_from_[column];
      row_of_[column] = row_of_[before];
      column = before;
    }
  }

  // Goes on from the row in this column: the column that is now the nearest, prices brought up to
  // it.
  std::size_t reach_next(std::size_t column) {
    reached_[column] = true;
    const std::size_t here = row_of_[column];
    std::size_t next = 0;
    std::int64_t step = std::numeric_limits<std::int64_t>::max();
    for (std::size_t other = 1; other <= columns_; ++other) {
      if (reached_[other]) continue;
      const std::int64_t reduced =
          cost_[here - 1][other - 1] - row_price_[here] - column_price_[other];
      if (reduced < slack_[other]) {
        slack_[other] = reduced;
        came_from_[other] = column;
      }
      if (slack_[other] < step) {
        step = slack_[other];
        next = other;
      }
    }
    for (std::size_t other = 0; other <= columns_; ++other) {
      if (reached_[other]) {
        row_price_[row_of_[other]] += step;
        column_price_[other] -= step;
      } else {
        slack_[other] -= step;
      }
    }
    return next;
  }

  const Costs& cost_;
  std::size_t columns_;
  std::vector<std::int64_t> row_price_;
  std::vector<std::int64_t> column_price_;
  std::vector<std::size_t> row_of_;
  // Of the path being looked for, by column:
  std::vector<std::int64_t> slack_;
  std::vector<std::size_t> came_from_;
  std::vector<bool> reached_;
};

// -- What an assignment costs ----------------------------------------------------------------

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

// What each place (column) costs each rank (row). A GPU has `places_each` places, as many as ranks
// share evenly; one more place is the dearest of all, then comes distance, and among equals ranks
// keep to the order of the GPUs.
Costs costs_of_places(const NodeTopology& topology, std::span<const std::uint32_t> gpus,
                      std::span<const RankBinding> ranks, std::size_t places_each) {
  const std::size_t even = ranks.size() / gpus.size();
  const auto rank_count = static_cast<std::int64_t>(ranks.size());
  const auto gpu_count = static_cast<std::int64_t>(gpus.size());
  const std::int64_t far = rank_count * rank_count * gpu_count * gpu_count * rank_count + 1;
  const std::int64_t crowded = far * 4 * rank_count;
  Costs cost(ranks.size());
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    for (std::size_t gpu = 0; gpu < gpus.size(); ++gpu) {
      const auto distance = distance_to(topology, ranks[rank], topology.gpus[gpus[gpu]]);
      const std::int64_t out_of_order =
          static_cast<std::int64_t>(rank) * gpu_count - static_cast<std::int64_t>(gpu) * rank_count;
      const std::int64_t place_cost = price_of(distance) * far + out_of_order * out_of_order;
      for (std::size_t place = 0; place < places_each; ++place) {
        cost[rank].push_back(place_cost + (place < even ? 0 : crowded));
      }
    }
  }
  return cost;
}

}  // namespace

// Every rank gets one GPU, since ranks on different kinds of device could differ in the last bit
// (I8).
void assign_gpus(const NodeTopology& topology, const BindingOptions& options,
                 std::span<RankBinding> ranks) {
  const std::vector<std::uint32_t> gpus = gpus_to_use(topology, options);
  if (gpus.empty()) return;
  const std::size_t places_each = (ranks.size() + gpus.size() - 1) / gpus.size();
  const Costs cost = costs_of_places(topology, gpus, ranks, places_each);
  const std::vector<std::size_t> place_of = CheapestAssignment(cost).column_of();
  std::vector<std::uint32_t> sharers(topology.gpus.size(), 0);
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    RankBinding& binding = ranks[rank];
    binding.gpu = gpus[place_of[rank] / places_each];
    binding.gpu_distance = distance_to(topology, binding, topology.gpus[*binding.gpu]);
    ++sharers[*binding.gpu];
  }
  for (RankBinding& rank : ranks) rank.gpu_sharers = sharers[*rank.gpu];
}

}  // namespace regroup
