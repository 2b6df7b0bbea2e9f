// A set of shards of one stage as a bitmap: which map shards a partition has taken in. It takes a
// bit a shard, however they lie. Not thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/protocol/ids.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup {

class ShardBits {
 public:
  // Empty, of a stage of so many shards. Shards and ranges below must lie within it (checked).
  explicit ShardBits(std::uint64_t shards) : shards_(shards), words_((shards + 63) / 64) {}

  std::uint64_t shards() const { return shards_; }
  bool contains(ShardId shard) const;
  void insert(ShardId shard);
  void insert(ShardRange range);
  // Takes out what `other`, of the same stage, does not have.
  void intersect(const ShardBits& other);
  std::uint64_t count() const;
  bool empty() const { return count() == 0; }
  // The first run of shards of the set at or after `from`; empty when there is none.
  ShardRange next_run(ShardId from) const;

  // Runs of shards outside and inside, in turns, as varints, until every shard is told of: at most
  // a byte a shard, and 11.
  void save(Writer& writer) const;
  // Never trusts its input; nothing unless it is a set of a stage of `shards`.
  static std::optional<ShardBits> load(Reader& reader, std::uint64_t shards);

  friend bool operator==(const ShardBits&, const ShardBits&) = default;

 private:
  std::uint64_t first(bool inside, std::uint64_t from) const;

  std::uint64_t shards_;
  std::vector<std::uint64_t> words_;  // bit i of word w: shard 64 w + i
};

}  // namespace regroup
