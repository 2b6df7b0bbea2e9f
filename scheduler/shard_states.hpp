// The states of many shards as bits, and the bytes in which they travel: runs where states are
// alike, the words themselves where they are not. The choice is made for every 64 shards, so that a
// stage mostly done takes a few bytes and no stage takes more than two bits a shard and a header.
// The format is docs/coordinator-state.md's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/protocol/wire.hpp"

namespace regroup {

// The high bit says that the shard is settled: it will not run again.
enum class ShardState : std::uint8_t { kPending = 0, kLeased = 1, kDone = 2, kQuarantined = 3 };

// 64 shards: bit i of both words is the state of shard i.
struct StateWord {
  static constexpr std::uint64_t kShards = 64;
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  friend constexpr bool operator==(const StateWord&, const StateWord&) = default;
};

constexpr std::size_t state_words(std::uint64_t shards) {
  return shards / StateWord::kShards + (shards % StateWord::kShards != 0);
}

// The states of a stage's shards. Stages are worked off more or less in order: at the front all
// shards are done, at the back all are pending, and only the words between take memory. Words are
// numbered over the stage. Not thread-safe.
class ShardStates {
 public:
  // All pending.
  explicit ShardStates(std::uint64_t shards) : shards_(shards) {}

  std::uint64_t shards() const { return shards_; }
  std::size_t words() const { return state_words(shards_); }
  // Words before the first have done shards alone, those from the last on pending ones alone.
  std::size_t first() const { return dropped_; }
  std::size_t last() const { return dropped_ + kept_.size(); }
  // Of those between. Unused bits of the stage's last word are to stay clear.
  StateWord& at(std::size_t word) { return kept_[word - dropped_]; }
  // Of any.
  StateWord operator[](std::size_t word) const {
    if (word < first()) return kDoneWord;
    return word < last() ? kept_[word - dropped_] : StateWord{};
  }

  // Makes last() at least so much.
  void keep_up_to(std::size_t word) {
    if (word > last()) kept_.resize(word - dropped_);
  }
  // Gives back the memory of words at the front that have come to hold done shards alone. Amortised
  // O(1) a word.
  void drop_done();
  // Settled shards are pending again, leased ones stay leased.
  void reopen();

  std::size_t memory_bytes() const { return kept_.capacity() * sizeof(StateWord); }

  // At most 16 bytes a word, and 10. Equal states are equal bytes.
  void put(Writer& writer) const;
  // How many words put() looks at.
  std::size_t words_to_put() const { return kept_.size() - done_; }
  // Reads what put() has written of as many shards, in place of what was here. False, with the
  // states undefined, if the input is anything else. What follows it stays unread.
  bool get(Reader& reader);

 private:
  static constexpr StateWord kDoneWord{0, ~std::uint64_t{0}};

  void fill(std::uint64_t first, std::uint64_t count, std::uint64_t state);
  bool get_words(Reader& reader, bool both, std::size_t word, std::size_t count);

  std::uint64_t shards_;
  std::size_t dropped_ = 0;      // words
  std::vector<StateWord> kept_;  // from there on
  std::size_t done_ = 0;         // of those at the front, so many are known to be done
};

}  // namespace regroup
