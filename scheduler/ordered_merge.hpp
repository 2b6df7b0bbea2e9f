// Merges one value a shard into a total whose bits do not depend on the order of arrival (I8): the
// tree of merges is fixed by the shard numbers alone. Shards are cut into blocks; inside a block
// values merge left to right, and so do the blocks' results. A skipped shard contributes nothing
// and leaves the rest of the tree as it is. Values that come in order are merged at once and never
// stored.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "runtime/protocol/check.hpp"
#include "runtime/protocol/ids.hpp"

namespace regroup {

// T is movable; Merge is void(T& into, T&& next), associative or not, commutative or not. Each
// shard is added or skipped exactly once (checked). Not thread-safe.
template <class T, class Merge>
class OrderedMerge {
  static_assert(std::is_invocable_v<Merge&, T&, T&&>);

 public:
  static constexpr std::uint64_t kBlockShards = 1024;

  // Shards 0 to shards-1. `block_shards` is a power of two; another size is another tree, and
  // so other bits.
  explicit OrderedMerge(std::uint64_t shards, Merge merge = {},
                        std::uint64_t block_shards = kBlockShards)
      : merge_(std::move(merge)),
        shards_(shards),
        block_shards_(block_shards),
        block_shift_(std::countr_zero(block_shards)) {
    REGROUP_CHECK(std::has_single_bit(block_shards), "a merge block is a power of two of shards");
    blocks_.resize((shards >> block_shift_) + (shards % block_shards != 0));
  }

  // Moves the values of the shards first, first+1, ... in.
  void add(ShardId first, std::span<T> values) {
    REGROUP_CHECK(values.size() <= shards_ && first.value <= shards_ - values.size(),
                  "a merge of a shard beyond the stage");
    std::uint64_t shard = first.value;
    while (!values.empty()) {
      const std::size_t index = shard >> block_shift_;
      const std::uint64_t offset = shard & (block_shards_ - 1);
      const std::size_t count =
          std::min<std::uint64_t>(values.size(), block_length(index) - offset);
      Block& block = open(index);
      if (offset == block.next) {
        extend(block, values.first(count));
      } else {
        store(block, index, offset, values.first(count));
      }
      settle(block, index);
      settled_ += count;
      shard += count;
      values = values.subspan(count);
    }
  }

  // The shard has no value: it was quarantined.
  void skip(ShardId shard) {
    REGROUP_CHECK(shard.value < shards_, "a merge of a shard beyond the stage");
    const std::size_t index = shard.value >> block_shift_;
    const std::uint64_t offset = shard.value & (block_shards_ - 1);
    Block& block = open(index);
    if (offset == block.next) {
      check_absent(block, offset, 1);
      ++block.next;
    } else {
      arrive(block, index, offset);
    }
    settle(block, index);
    ++settled_;
  }

  // How many shards were added or skipped.
  std::uint64_t settled() const { return settled_; }

  // The total, once; every shard must be added or skipped (checked). Empty when all were skipped.
  std::optional<T> finish() {
    REGROUP_CHECK(settled_ == shards_, "a merge ended with shards missing");
    std::optional<T> total = std::move(total_);
    total_.reset();
    return total;
  }

  // Without what the values themselves own elsewhere. O(blocks).
  std::size_t memory_bytes() const {
    std::size_t bytes = sizeof *this + blocks_.capacity() * sizeof(blocks_[0]);
    for (std::size_t index = front_; index < blocks_.size(); ++index) {
      if (const Block* block = blocks_[index].get()) {
        bytes += sizeof *block + block->stored.capacity() * sizeof(std::optional<T>) +
                 block->arrived.capacity() / 8;
      }
    }
    return bytes;
  }

 private:
  struct Block {
    std::uint64_t next = 0;  // the shards before this one are in `sum`
    std::optional<T> sum;
    // Empty until a value arrives ahead of `next`. Arrived, but nothing stored: skipped.
    std::vector<std::optional<T>> stored;
    std::vector<bool> arrived;
  };

  std::uint64_t block_length(std::size_t index) const {
    return std::min(block_shards_, shards_ - (std::uint64_t{index} << block_shift_));
  }

  Block& open(std::size_t index) {
    REGROUP_CHECK(index >= front_, "a merge of a shard for the second time");
    if (!blocks_[index]) blocks_[index] = std::make_unique<Block>();
    return *blocks_[index];
  }

  void absorb(std::optional<T>& into, T&& value) {
    if (into) {
      merge_(*into, std::move(value));
    } else {
      into.emplace(std::move(value));
    }
  }

  void extend(Block& block, std::span<T> values) {
    check_absent(block, block.next, values.size());
    for (T& value : values) absorb(block.sum, std::move(value));
    block.next += values.size();
  }

  void store(Block& block, std::size_t index, std::uint64_t offset, std::span<T> values) {
    for (T& value : values) {
      arrive(block, index, offset);
      block.stored[offset++].emplace(std::move(value));
    }
  }

  void arrive(Block& block, std::size_t index, std::uint64_t offset) {
    if (block.arrived.empty()) {
      block.stored = std::vector<std::optional<T>>(block_length(index));
      block.arrived.resize(block_length(index));
    }
    REGROUP_CHECK(offset > block.next && !block.arrived[offset],
                  "a merge of a shard for the second time");
    block.arrived[offset] = true;
  }

  void check_absent(const Block& block, std::uint64_t offset, std::size_t count) const {
    if (block.arrived.empty()) return;
    for (std::size_t i = 0; i < count; ++i) {
      REGROUP_CHECK(!block.arrived[offset + i], "a merge of a shard for the second time");
    }
  }

  // Merges what waited for the gap before it to fill; a block thus completed joins the total, and
  // so do those that waited for it.
  void settle(Block& block, std::size_t index) {
    const std::uint64_t length = block_length(index);
    if (!block.arrived.empty()) {
      for (; block.next < length && block.arrived[block.next]; ++block.next) {
        if (auto& value = block.stored[block.next]) absorb(block.sum, std::move(*value));
        block.stored[block.next].reset();
      }
    }
    if (block.next < length) return;
    block.stored = decltype(block.stored)();
    block.arrived = decltype(block.arrived)();
    if (index == front_) advance();
  }

  // Runs once a block, so it stays out of the path of every value.
  [[gnu::noinline]] void advance() {
    while (front_ < blocks_.size() && blocks_[front_] &&
           blocks_[front_]->next == block_length(front_)) {
      if (auto& sum = blocks_[front_]->sum) absorb(total_, std::move(*sum));
      blocks_[front_++].reset();
    }
  }

  [[no_unique_address]] Merge merge_;
  std::uint64_t shards_;
  std::uint64_t block_shards_;
  int block_shift_;
  std::uint64_t settled_ = 0;
  std::size_t front_ = 0;  // the blocks before this one are in total_
  std::optional<T> total_;
  std::vector<std::unique_ptr<Block>> blocks_;  // null: nothing arrived, or all in total_
};

}  // namespace regroup
