// A set of shards as few disjoint ranges in ascending order: what a rank holds leased, or what
// waits in a worker's own queue. Neighbouring ranges are always joined, so one set has one form.
// Its owner bounds how many shards it takes; the bound on ranges here only catches an owner that
// does not. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/protocol/ids.hpp"

namespace regroup {

class RangeSet {
 public:
  static constexpr std::size_t kRangesMax = std::size_t{1} << 20;  // 16 MiB

  RangeSet() = default;
  // Outgrowing `ranges_max` ranges is a broken invariant.
  explicit RangeSet(std::size_t ranges_max) : ranges_max_(ranges_max) {}

  // Adds what is not there yet and returns how many shards that were. O(1) at the end of the set,
  // else O(ranges). A range must not run past the largest shard number (here and below).
  std::uint64_t insert(ShardRange range);
  // Takes out what is there and returns how many shards that were. O(ranges).
  std::uint64_t erase(ShardRange range);

  // Takes the lowest, or highest, `count` shards out (all, if there are fewer) and returns them.
  RangeSet take_front(std::uint64_t count);
  RangeSet take_back(std::uint64_t count);
  // Takes the lowest shards that form one run, at most `count_max`; count 0 when the set is empty.
  ShardRange pop_front(std::uint64_t count_max);

  bool contains(ShardId shard) const;
  // True when every shard of the range is in the set; an empty range always is.
  bool contains(ShardRange range) const;

  // How many shards the set holds.
  std::uint64_t count() const { return count_; }
  bool empty() const { return count_ == 0; }
  // Valid until the set changes.
  std::span<const ShardRange> ranges() const { return ranges_; }
  void clear();

  friend bool operator==(const RangeSet& a, const RangeSet& b) { return a.ranges_ == b.ranges_; }

 private:
  std::vector<ShardRange> ranges_;  // ascending, none empty, none touching the next
  std::uint64_t count_ = 0;
  std::size_t ranges_max_ = kRangesMax;
};

}  // namespace regroup
