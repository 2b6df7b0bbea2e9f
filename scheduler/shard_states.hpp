// The states of many shards as bits, and the bytes in which they travel: runs where states are
// alike, the words themselves where they are not. The choice is made for every 64 shards, so that a
// stage mostly done takes a few bytes and no stage takes more than two bits a shard and a header.
// The format is docs/coordinator-state.md's. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "runtime/protocol/wire.hpp"

namespace regroup {

// The high bit says that the shard is settled: it will not run again.
enum class ShardState : std::uint8_t { kPending = 0, kLeased = 1, kDone = 2, kQuarantined = 3 };

// 64 shards: bit i of both words is the state of shard i.
struct StateWord {
  static constexpr std::uint64_t kShards = 64;
  std::uint64_t low = 0;
  std::uint64_t high = 0;
};

constexpr std::size_t state_words(std::uint64_t shards) {
  return shards / StateWord::kShards + (shards % StateWord::kShards != 0);
}

// Words that need not be looked at: so many at the front hold nothing but done shards, and those
// from another on nothing but pending ones.
struct KnownWords {
  std::size_t done = 0;
  std::size_t pending_from = std::numeric_limits<std::size_t>::max();
};

// Appends the states of `shards` shards, state_words(shards) words; unused bits are clear. At most
// 16 bytes a word, and 10. The bytes do not depend on what is known.
void put_states(Writer& writer, std::span<const StateWord> words, std::uint64_t shards,
                const KnownWords& known = {});

// Reads them into words that are all clear. False, with the words undefined, if the input is
// anything but the states of `shards` shards. What follows them stays unread.
bool get_states(Reader& reader, std::span<StateWord> words, std::uint64_t shards);

}  // namespace regroup
