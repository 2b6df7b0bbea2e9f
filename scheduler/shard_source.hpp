// Where the next shards for a rank come from: one source a policy. A source only proposes; the task
// table remains the one truth about a shard's state. Every shard of the stage is proposed exactly
// once, and once more each time it is given back. Owned by the coordinator, pure, not thread-safe.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "runtime/protocol/ids.hpp"
#include "runtime/protocol/node.hpp"
#include "runtime/protocol/work.hpp"
#include "scheduler/options.hpp"

namespace regroup {

class ShardSource {
 public:
  virtual ~ShardSource() = default;

  // Up to `count_max` consecutive shards for `rank`; none if there is nothing for this rank now.
  virtual ShardRange take(RankId rank, std::uint64_t count_max) = 0;
  // Shards that were taken and are to be proposed again, to any rank that may have them.
  virtual void give_back(ShardRange shards) = 0;
  // Shards not proposed yet (or again).
  virtual std::uint64_t left() const = 0;
  // Shards not proposed yet that `rank` could get.
  virtual std::uint64_t left_for(RankId rank) const = 0;
  // A rank's share is fixed and goes out in one lease.
  virtual bool whole_share_at_once() const { return false; }
  // Ranks that run dry take from others without the coordinator.
  virtual bool peers_steal() const { return false; }
  // Shards that a rank has not begun may be taken back for idle ranks.
  virtual bool recalls() const { return true; }
};

// The members of a view that compute, ascending.
std::vector<RankId> computing_ranks(const View& view, const ScheduleOptions& options);

// In the place of an owner: nobody needs the parts of this partition.
inline constexpr RankId kNobody{std::numeric_limits<RankId::rep>::max()};

// Who is to own a job's partitions, by partition, when they are dealt: a pure function of the
// members.
std::vector<RankId> partition_owners(std::span<const RankId> members, std::uint64_t partitions);

// The source for a stage of `plan` over `workers` (ascending, at least one). For a reduce stage
// `owners` says where its partitions are; those of others than workers are not proposed.
std::unique_ptr<ShardSource> make_shard_source(const StagePlan& plan, Policy policy,
                                               std::span<const RankId> workers,
                                               std::span<const RankId> owners);

}  // namespace regroup
