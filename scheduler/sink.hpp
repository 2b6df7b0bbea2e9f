// Where committed results go on the coordinator: the job's side of a commit. Each shard of a stage
// is handed over exactly once, either by commit or by skip (I7), in any order.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "runtime/protocol/ids.hpp"

namespace regroup {

class ResultSink {
 public:
  virtual ~ResultSink() = default;
  // `values`: shards.count values of `value_bytes` each, in shard order.
  virtual void commit(StageId stage, ShardRange shards, std::uint32_t value_bytes,
                      std::span<const std::byte> values) = 0;
  // The shard was given up; `what` is what its last attempt said.
  virtual void skip(StageId stage, ShardId shard, Attempt attempts, RankId rank,
                    const std::string& what) = 0;
};

}  // namespace regroup
