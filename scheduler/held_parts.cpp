#include "scheduler/held_parts.hpp"

namespace regroup {

bool HeldParts::has(StageId stage, std::uint32_t partition, ShardId shard) const {
  const auto found = held_.find({stage, partition});
  return found != held_.end() && found->second.contains(shard);
}

void HeldParts::take(StageId stage, std::uint32_t partition, ShardId shard, std::uint64_t shards) {
  held_.try_emplace({stage, partition}, shards).first->second.insert(shard);
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
