// Which map shards each partition on this rank has taken in. What a map shard makes is the same
// whenever it runs, so these sets say all about what the partitions hold: whoever needs more runs
// the missing shards, and a part that is there already is ignored (I7). Sets never shrink, but when
// everything is discarded. Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <utility>

#include "runtime/protocol/ids.hpp"
#include "scheduler/shard_bits.hpp"

namespace regroup {

class HeldParts {
 public:
  bool has(StageId stage, std::uint32_t partition, ShardId shard) const;
  // `shards`: of the map stage.
  void take(StageId stage, std::uint32_t partition, ShardId shard, std::uint64_t shards);
  // The shards that all of these partitions have; with no partitions, every shard.
  ShardBits in_all(StageId stage, std::span<const std::uint32_t> partitions,
                   std::uint64_t shards) const;
  // Nothing while the partition has taken in nothing.
  const ShardBits* of(StageId stage, std::uint32_t partition) const;
  // All that a partition has which had nothing.
  void restore(StageId stage, std::uint32_t partition, ShardBits shards);
  void clear() { held_.clear(); }

 private:
  std::map<std::pair<StageId, std::uint32_t>, ShardBits> held_;  // by map stage and partition
};

}  // namespace regroup
