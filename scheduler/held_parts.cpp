#include "scheduler/held_parts.hpp"

#include <utility>

#include "runtime/protocol/check.hpp"

namespace regroup {

bool HeldParts::has(StageId stage, std::uint32_t partition, ShardId shard) const {
  const auto found = held_.find({stage, partition});
  return found != held_.end() && found->second.contains(shard);
}

void HeldParts::take(StageId stage, std::uint32_t partition, ShardId shard, std::uint64_t shards) {
  held_.try_emplace({stage, partition}, shards).first->second.insert(shard);
}

const ShardBits* HeldParts::of(StageId stage, std::uint32_t partition) const {
  const auto found = held_.find({stage, partition});
  return found == held_.end() ? nullptr : &found->second;
}

void HeldParts::restore(StageId stage, std::uint32_t partition, ShardBits shards) {
  const bool fresh = held_.try_emplace({stage, partition}, std::move(shards)).second;
  REGROUP_CHECK(fresh, "a partition that holds nothing is restored");
}

ShardBits HeldParts::in_all(StageId stage, std::span<const std::uint32_t> partitions,
                            std::uint64_t shards) const {
  ShardBits common(shards);
  common.insert(ShardRange{ShardId{0}, shards});
  for (const std::uint32_t partition : partitions) {
    const auto found = held_.find({stage, partition});
    if (found == held_.end()) return ShardBits(shards);
    common.intersect(found->second);
  }
  return common;
}

}  // namespace regroup
