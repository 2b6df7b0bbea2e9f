// Where committed results go on the coordinator: the job's side of a commit. Each shard of a stage
// is handed over exactly once, either by commit or by skip (I7), in any order. What a sink was
// handed so far can be written down and given to a fresh sink of the same job on another rank,
// which then goes on in its place. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>

#include "runtime/protocol/buffer.hpp"
#include "runtime/protocol/check.hpp"
#include "runtime/protocol/ids.hpp"
#include "runtime/protocol/wire.hpp"

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

  // Adds what a cell of an iterate stage gave towards the totals of a step to those of the cells
  // before it. The order depends on cell numbers alone.
  virtual void add_to_totals(StageId, Buffer&, std::span<const std::byte>) {
    REGROUP_CHECK(false, "totals of a job that has none");
  }

  // Appends all that was committed and skipped so far, such that a sink of the same job that loads
  // it goes on as if it had been handed the same: to the same result, bit for bit (I8).
  virtual void save_state(Writer& writer) const = 0;
  // Takes over what save_state wrote, in place of what was handed over before, and reads no
  // further. Never trusts its input: counts and sizes are held against what is there. A failed load
  // leaves the sink unusable but safe to load again or to destroy; the error is one line. Bytes
  // that were damaged into another valid state are not noticed: who stores them keeps a hash.
  virtual std::expected<void, std::string> load_state(Reader& reader) = 0;
  // About what save_state would write now. O(1).
  virtual std::size_t state_bytes() const = 0;
};

}  // namespace regroup
