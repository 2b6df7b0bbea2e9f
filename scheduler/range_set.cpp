#include "scheduler/range_set.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

constexpr std::uint64_t kShardMax = std::numeric_limits<std::uint64_t>::max();

ShardRange between(std::uint64_t first, std::uint64_t end) {
  return {ShardId{first}, end - first};
}

std::uint64_t total(auto first, auto last) {
  std::uint64_t sum = 0;
  for (; first != last; ++first) sum += first->count;
  return sum;
}

void check_fits(ShardRange range) {
  REGROUP_CHECK(range.count <= kShardMax - range.first.value,
                "a shard range runs past the largest shard number");
}

bool ends_before(const ShardRange& range, ShardId shard) {
  return range.end() < shard;
}
bool ends_at_or_before(const ShardRange& range, ShardId shard) {
  return range.end() <= shard;
}

}  // namespace

std::uint64_t RangeSet::insert(ShardRange range) {
  check_fits(range);
  if (range.count == 0) return 0;
  // [low, high) are the ranges that overlap or touch the new one: all become one.
  const auto low = ranges_.empty() || ranges_.back().end() < range.first
                       ? ranges_.end()
                       : std::lower_bound(ranges_.begin(), ranges_.end(), range.first, ends_before);
  auto high = low;
  while (high != ranges_.end() && high->first <= range.end()) ++high;

  if (low == high) {
    REGROUP_CHECK(ranges_.size() < ranges_max_, "a range set outgrew its bound");
    ranges_.insert(low, range);
    count_ += range.count;
    return range.count;
  }
  const std::uint64_t count_before = total(low, high);
  *low = between(std::min(low->first, range.first).value,
                 std::max((high - 1)->end(), range.end()).value);
  const std::uint64_t added = low->count - count_before;
  ranges_.erase(low + 1, high);
  count_ += added;
  return added;
}

std::uint64_t RangeSet::erase(ShardRange range) {
  check_fits(range);
  if (range.count == 0) return 0;
  // [low, high) are the ranges that overlap: of the outer two a piece may stay at either side.
  const auto low = std::lower_bound(ranges_.begin(), ranges_.end(), range.first, ends_at_or_before);
  auto high = low;
  while (high != ranges_.end() && high->first < range.end()) ++high;
  if (low == high) return 0;

  ShardRange kept[2];
  std::size_t pieces = 0;
  const std::uint64_t count_before = total(low, high);
  const ShardId last_end = (high - 1)->end();
  if (low->first < range.first) kept[pieces++] = between(low->first.value, range.first.value);
  if (range.end() < last_end) kept[pieces++] = between(range.end().value, last_end.value);
  const std::uint64_t removed = count_before - total(kept, kept + pieces);

  const std::size_t at = static_cast<std::size_t>(low - ranges_.begin());
  const std::size_t overlapping = static_cast<std::size_t>(high - low);
  std::copy_n(kept, std::min(pieces, overlapping), low);
  if (pieces < overlapping) ranges_.erase(low + static_cast<std::ptrdiff_t>(pieces), high);
  if (pieces > overlapping) {
    REGROUP_CHECK(ranges_.size() < ranges_max_, "a range set outgrew its bound");
    ranges_.insert(ranges_.begin() + static_cast<std::ptrdiff_t>(at + 1), kept[1]);
  }
  count_ -= removed;
  return removed;
}

RangeSet RangeSet::take_front(std::uint64_t count) {
  RangeSet taken(ranges_max_);
  std::size_t whole = 0;
  while (whole < ranges_.size() && ranges_[whole].count <= count - taken.count_) {
    taken.count_ += ranges_[whole++].count;
  }
  const auto split = ranges_.begin() + static_cast<std::ptrdiff_t>(whole);
  taken.ranges_.assign(ranges_.begin(), split);
  count_ -= taken.count_;
  ranges_.erase(ranges_.begin(), split);
  if (!empty() && taken.count_ < count) taken.insert(pop_front(count - taken.count_));
  return taken;
}

RangeSet RangeSet::take_back(std::uint64_t count) {
  if (count >= count_) return take_front(count);
  RangeSet kept = take_front(count_ - count);
  std::swap(*this, kept);
  return kept;
}

ShardRange RangeSet::pop_front(std::uint64_t count_max) {
  if (empty() || count_max == 0) return {};
  ShardRange& front = ranges_.front();
  const ShardRange popped{front.first, std::min(front.count, count_max)};
  front = between(popped.end().value, front.end().value);
  if (front.count == 0) ranges_.erase(ranges_.begin());
  count_ -= popped.count;
  return popped;
}

bool RangeSet::contains(ShardId shard) const {
  return contains(ShardRange{shard, 1});
}

bool RangeSet::contains(ShardRange range) const {
  check_fits(range);
  if (range.count == 0) return true;
  const auto at = std::lower_bound(ranges_.begin(), ranges_.end(), range.first, ends_at_or_before);
  return at != ranges_.end() && at->first <= range.first && range.end() <= at->end();
}

void RangeSet::clear() {
  ranges_.clear();
  count_ = 0;
}

}  // namespace regroup
