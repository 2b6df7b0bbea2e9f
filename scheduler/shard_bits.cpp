#include "scheduler/shard_bits.hpp"

#include <algorithm>
#include <bit>

#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

constexpr std::uint64_t kBits = 64;

}  // namespace

bool ShardBits::contains(ShardId shard) const {
  REGROUP_CHECK(shard.value < shards_, "a shard of the stage");
  return (words_[shard.value / kBits] >> shard.value % kBits & 1) != 0;
}

void ShardBits::insert(ShardId shard) {
  REGROUP_CHECK(shard.value < shards_, "a shard of the stage");
  words_[shard.value / kBits] |= std::uint64_t{1} << shard.value % kBits;
}

void ShardBits::insert(ShardRange range) {
  REGROUP_CHECK(range.count <= shards_ && range.first.value <= shards_ - range.count,
                "shards of the stage");
  for (std::uint64_t at = range.first.value; at != range.end().value;) {
    const std::uint64_t bit = at % kBits;
    const std::uint64_t here = std::min(kBits - bit, range.end().value - at);
    words_[at / kBits] |= ~std::uint64_t{0} >> (kBits - here) << bit;
    at += here;
  }
}

void ShardBits::intersect(const ShardBits& other) {
  REGROUP_CHECK(shards_ == other.shards_, "sets of one stage");
  for (std::size_t i = 0; i < words_.size(); ++i) words_[i] &= other.words_[i];
}

std::uint64_t ShardBits::count() const {
  std::uint64_t count = 0;
  for (const std::uint64_t word : words_) count += static_cast<std::uint64_t>(std::popcount(word));
  return count;
}

// The first shard at or after `from` that is in the set, or outside; shards_ if there is none.
std::uint64_t ShardBits::first(bool inside, std::uint64_t from) const {
  for (std::uint64_t word = from / kBits; word < words_.size(); ++word) {
    std::uint64_t bits = inside ? words_[word] : ~words_[word];
    if (word == from / kBits) bits &= ~std::uint64_t{0} << from % kBits;
    if (bits == 0) continue;
    return std::min(shards_, word * kBits + static_cast<std::uint64_t>(std::countr_zero(bits)));
  }
  return shards_;
}

ShardRange ShardBits::next_run(ShardId from) const {
  const std::uint64_t begin = first(true, std::min(from.value, shards_));
  return {ShardId{begin}, first(false, begin) - begin};
}

void ShardBits::save(Writer& writer) const {
  bool inside = false;
  for (std::uint64_t at = 0; at != shards_; inside = !inside) {
    const std::uint64_t end = first(!inside, at);
    writer.put_varint(end - at);
    at = end;
  }
}

std::optional<ShardBits> ShardBits::load(Reader& reader, std::uint64_t shards) {
  ShardBits bits(shards);
  bool inside = false;
  for (std::uint64_t at = 0; at != shards; inside = !inside) {
    const std::uint64_t run = reader.get_varint();
    const bool may_be_none = at == 0 && !inside;
    if (reader.failed() || run > shards - at || (run == 0 && !may_be_none)) return std::nullopt;
    if (inside) bits.insert(ShardRange{ShardId{at}, run});
    at += run;
  }
  return bits;
}

}  // namespace regroup
