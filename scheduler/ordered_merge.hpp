// Merges one value a shard into a total whose bits do not depend on the order of arrival (I8): the
// tree of merges is fixed by the shard numbers alone. Shards are cut into blocks; inside a block
// values merge left to right, and so do the blocks' results. A skipped shard contributes nothing
// and leaves the rest of the tree as it is. Values that come in order are merged at once and never
// stored. The state of a merge can be saved at any point and loaded by another, which then goes on
// to the same bits; docs/coordinator-state.md has the format.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "runtime/protocol/check.hpp"
#include "runtime/protocol/ids.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup {

// The Weight of a merge that only counts the values it holds.
struct OneEach {
  template <class T>
  constexpr std::uint64_t operator()(const T&) const {
    return 1;
  }
};

// T is movable; Merge is void(T& into, T&& next), associative or not, commutative or not. Weight is
// std::uint64_t(const T&), O(1), and decides nothing but what weight() says. Each shard is added or
// skipped exactly once (checked). Not thread-safe.
template <class T, class Merge, class Weight = OneEach>
class OrderedMerge {
  static_assert(std::is_invocable_v<Merge&, T&, T&&>);
  static_assert(std::is_invocable_r_v<std::uint64_t, const Weight&, const T&>);

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
    state_.blocks.resize((shards >> block_shift_) + (shards % block_shards != 0));
  }

  // Moves the values of the shards first, first+1, ... in.
  void add(ShardId first, std::span<T> values) {
    REGROUP_CHECK(values.size() <= shards_ && first.value <= shards_ - values.size(),
                  "a merge of a shard beyond the stage");
    for (const T& value : values) state_.weight += Weight{}(value);
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
      state_.settled += count;
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
    ++state_.settled;
  }

  // How many shards were added or skipped.
  std::uint64_t settled() const { return state_.settled; }
  // The sum of the weights of all values held: sums, and those that wait for others before them.
  std::uint64_t weight() const { return state_.weight; }

  // The total, once; every shard must be added or skipped (checked). Empty when all were skipped.
  std::optional<T> finish() {
    REGROUP_CHECK(state_.settled == shards_, "a merge ended with shards missing");
    state_.weight = 0;
    return std::exchange(state_.total, std::nullopt);
  }

  // Appends all that was added and skipped so far. `codec.encode(writer, value)` appends a value so
  // that `codec.decode(reader)` finds its end and gives it back as std::optional<T>.
  template <class Codec>
  void save(Writer& writer, const Codec& codec) const {
    writer.put(shards_);
    writer.put(block_shards_);
    writer.put(std::uint64_t{state_.front});
    put_optional(writer, codec, state_.total);
    writer.put(state_.open_blocks);
    std::size_t index = state_.front;
    for (std::uint64_t left = state_.open_blocks; left != 0; ++index) {
      if (!state_.blocks[index]) continue;
      put_block(writer, codec, index, *state_.blocks[index]);
      --left;
    }
  }

  // Takes over what save wrote in a merge of as many shards and as large blocks, in place of what
  // was added here. Never trusts its input: on an error, which is one line, or if decode throws,
  // the merge is as it was.
  template <class Codec>
  std::expected<void, std::string> load(Reader& reader, const Codec& codec) {
    const auto shards = reader.get<std::uint64_t>();
    const auto block_shards = reader.get<std::uint64_t>();
    if (reader.failed()) return std::unexpected("the saved merge is cut short");
    if (shards != shards_ || block_shards != block_shards_) {
      return std::unexpected("the saved merge is of " + std::to_string(shards) +
                             " shards in blocks of " + std::to_string(block_shards) + ", not of " +
                             std::to_string(shards_) + " in blocks of " +
                             std::to_string(block_shards_));
    }
    State loaded;
    loaded.blocks.resize(state_.blocks.size());
    if (!get_state(reader, codec, loaded)) return std::unexpected("the saved merge is damaged");
    state_ = std::move(loaded);
    return {};
  }

  // About what save would write now besides the values. O(1).
  std::size_t frame_bytes() const {
    return kSavedHeaderBytes + state_.open_blocks * kSavedBlockBytes +
           state_.waiting_blocks * 2 * bitmap_bytes(std::min(block_shards_, shards_));
  }

  // Without what the values themselves own elsewhere. O(blocks).
  std::size_t memory_bytes() const {
    std::size_t bytes = sizeof *this + state_.blocks.capacity() * sizeof(state_.blocks[0]);
    for (std::size_t index = state_.front; index < state_.blocks.size(); ++index) {
      if (const Block* block = state_.blocks[index].get()) {
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
  struct State {
    std::uint64_t settled = 0;
    std::uint64_t weight = 0;
    std::uint64_t open_blocks = 0;     // not null in `blocks`
    std::uint64_t waiting_blocks = 0;  // of those, with memory for values ahead of their turn
    std::size_t front = 0;             // the blocks before this one are in `total`
    std::optional<T> total;
    std::vector<std::unique_ptr<Block>> blocks;  // null: nothing arrived, or all in `total`
  };

  static constexpr std::size_t kSavedHeaderBytes = 33;
  static constexpr std::size_t kSavedBlockBytes = 18;
  static constexpr std::uint8_t kFlagMax = 1;  // flags are 0 or 1

  std::uint64_t block_length(std::size_t index) const {
    return std::min(block_shards_, shards_ - (std::uint64_t{index} << block_shift_));
  }

  Block& open(std::size_t index) {
    REGROUP_CHECK(index >= state_.front, "a merge of a shard for the second time");
    if (!state_.blocks[index]) {
      state_.blocks[index] = std::make_unique<Block>();
      ++state_.open_blocks;
    }
    return *state_.blocks[index];
  }

  void absorb(std::optional<T>& into, T&& value) {
    if (into) {
      const std::uint64_t before = Weight{}(*into) + Weight{}(value);
      merge_(*into, std::move(value));
      state_.weight += Weight{}(*into) - before;
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
      ++state_.waiting_blocks;
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
    if (!block.arrived.empty()) {
      block.stored = decltype(block.stored)();
      block.arrived = decltype(block.arrived)();
      --state_.waiting_blocks;
    }
    if (index == state_.front) advance();
  }

  // Runs once a block, so it stays out of the path of every value.
  [[gnu::noinline]] void advance() {
    for (; state_.front < state_.blocks.size(); ++state_.front) {
      auto& block = state_.blocks[state_.front];
      if (!block || block->next != block_length(state_.front)) return;
      if (block->sum) absorb(state_.total, std::move(*block->sum));
      block.reset();
      --state_.open_blocks;
    }
  }

  // ---- saving and loading ----

  static std::size_t bitmap_bytes(std::uint64_t bits) { return bits / 8 + (bits % 8 != 0); }

  template <class Has>
  static void put_bitmap(Writer& writer, std::uint64_t bits, Has has) {
    for (std::uint64_t first = 0; first < bits; first += 8) {
      unsigned byte = 0;
      for (std::uint64_t i = first; i < std::min(bits, first + 8); ++i) {
        byte |= unsigned{has(i)} << (i - first);
      }
      writer.put(static_cast<std::uint8_t>(byte));
    }
  }

  static bool bit(std::span<const std::byte> bitmap, std::uint64_t at) {
    return (bitmap[at / 8] >> (at % 8) & std::byte{1}) != std::byte{0};
  }

  template <class Codec>
  static void put_optional(Writer& writer, const Codec& codec, const std::optional<T>& value) {
    writer.put(static_cast<std::uint8_t>(value.has_value()));
    if (value) codec.encode(writer, *value);
  }

  // False when there is neither a value nor the word that there is none.
  template <class Codec>
  static bool get_optional(Reader& reader, const Codec& codec, State& state,
                           std::optional<T>& value) {
    const auto there = reader.get<std::uint8_t>();
    if (reader.failed() || there > kFlagMax) return false;
    return there == 0 || get_value(reader, codec, state, value);
  }

  template <class Codec>
  static bool get_value(Reader& reader, const Codec& codec, State& state, std::optional<T>& value) {
    std::optional<T> decoded = codec.decode(reader);
    if (reader.failed() || !decoded) return false;
    state.weight += Weight{}(*decoded);
    value.emplace(std::move(*decoded));
    return true;
  }

  // What waits is marked in bits from shard `next` on: which shards arrived, and which of them have
  // a value; then come the values.
  template <class Codec>
  void put_block(Writer& writer, const Codec& codec, std::size_t index, const Block& block) const {
    const std::uint64_t left = block_length(index) - block.next;
    const auto arrived = [&](std::uint64_t i) { return bool{block.arrived[block.next + i]}; };
    bool any_waits = false;
    for (std::uint64_t i = 0; i < left && !block.arrived.empty() && !any_waits; ++i) {
      any_waits = arrived(i);
    }
    writer.put(std::uint64_t{index});
    writer.put(block.next);
    put_optional(writer, codec, block.sum);
    writer.put(static_cast<std::uint8_t>(any_waits));
    if (!any_waits) return;
    put_bitmap(writer, left, arrived);
    put_bitmap(writer, left, [&](std::uint64_t i) { return !!block.stored[block.next + i]; });
    for (std::uint64_t at = block.next; at < block_length(index); ++at) {
      if (block.stored[at]) codec.encode(writer, *block.stored[at]);
    }
  }

  template <class Codec>
  bool get_state(Reader& reader, const Codec& codec, State& state) const {
    const auto front = reader.get<std::uint64_t>();
    if (front > state.blocks.size()) return false;
    state.front = front;
    state.settled = std::min(front << block_shift_, shards_);
    if (!get_optional(reader, codec, state, state.total)) return false;
    if (front == 0 && state.total) return false;
    std::uint64_t index_min = front;
    for (auto left = reader.get<std::uint64_t>(); left != 0; --left) {
      const auto index = reader.get<std::uint64_t>();
      if (reader.failed() || index < index_min || index >= state.blocks.size()) return false;
      index_min = index + 1;
      if (!get_block(reader, codec, index, state)) return false;
    }
    return !reader.failed();
  }

  template <class Codec>
  bool get_block(Reader& reader, const Codec& codec, std::size_t index, State& state) const {
    auto block = std::make_unique<Block>();
    block->next = reader.get<std::uint64_t>();
    // A front block that is complete would have joined the total.
    const std::uint64_t length = block_length(index);
    if (block->next > length || (block->next == length && index == state.front)) return false;
    if (!get_optional(reader, codec, state, block->sum)) return false;
    if (block->next == 0 && block->sum) return false;
    const auto any_waits = reader.get<std::uint8_t>();
    if (reader.failed() || any_waits > kFlagMax) return false;
    if (any_waits == 1 && !get_waiting(reader, codec, *block, length, state)) return false;
    state.settled += block->next;
    state.waiting_blocks += any_waits;
    ++state.open_blocks;
    state.blocks[index] = std::move(block);
    return true;
  }

  // Shard `next` itself cannot wait: it would have joined the sum.
  template <class Codec>
  bool get_waiting(Reader& reader, const Codec& codec, Block& block, std::uint64_t length,
                   State& state) const {
    const std::uint64_t left = length - block.next;
    const auto arrived = reader.get_raw(bitmap_bytes(left));
    const auto stored = reader.get_raw(bitmap_bytes(left));
    if (reader.failed() || left == 0 || bit(arrived, 0)) return false;
    for (std::size_t i = 0; i < arrived.size(); ++i) {
      const auto unused = i == left / 8 ? std::byte{0xff} << (left % 8) : std::byte{0};
      if ((arrived[i] & unused) != std::byte{0}) return false;
      if ((stored[i] & ~arrived[i]) != std::byte{0}) return false;
    }
    block.arrived.resize(length);
    block.stored = std::vector<std::optional<T>>(length);
    for (std::uint64_t i = 0; i < left; ++i) {
      if (!bit(arrived, i)) continue;
      block.arrived[block.next + i] = true;
      ++state.settled;
      if (!bit(stored, i)) continue;
      if (!get_value(reader, codec, state, block.stored[block.next + i])) return false;
    }
    return true;
  }

  [[no_unique_address]] Merge merge_;
  std::uint64_t shards_;
  std::uint64_t block_shards_;
  int block_shift_;
  State state_;
};

}  // namespace regroup
