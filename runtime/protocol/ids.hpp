// The names of things that cross the wire, as distinct types: a rank is not a shard is not an
// epoch. Each is a plain unsigned number underneath, ordered and hashable, and free to copy.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace regroup {

template <class Tag, class Rep>
struct Id {
  using rep = Rep;
  Rep value{};

  constexpr Id() = default;
  constexpr explicit Id(Rep number) : value(number) {}
  friend constexpr auto operator<=>(Id, Id) = default;
};

// A process of the run, numbered as in the launch: a rank keeps its number for life, in every view.
using RankId = Id<struct RankTag, std::uint32_t>;
// The generation of a view. Epochs only grow (I3).
using Epoch = Id<struct EpochTag, std::uint64_t>;
// One stage of a job; a stage starts when the one before it has settled.
using StageId = Id<struct StageTag, std::uint16_t>;
// One unit of work of a stage, 0 to shards-1.
using ShardId = Id<struct ShardTag, std::uint64_t>;
// The how-manieth try of a shard, from 1.
using Attempt = Id<struct AttemptTag, std::uint32_t>;

// Nanoseconds since the run's start, on the clock of one rank. Never compared across ranks.
using Nanoseconds = std::int64_t;

inline constexpr Nanoseconds kMicrosecond = 1'000;
inline constexpr Nanoseconds kMillisecond = 1'000'000;
inline constexpr Nanoseconds kSecond = 1'000'000'000;

// A half-open run of shards [first, first + count).
struct ShardRange {
  ShardId first;
  std::uint64_t count = 0;

  constexpr ShardId end() const { return ShardId{first.value + count}; }
  friend constexpr bool operator==(const ShardRange&, const ShardRange&) = default;
};

}  // namespace regroup

template <class Tag, class Rep>
struct std::hash<regroup::Id<Tag, Rep>> {
  std::size_t operator()(regroup::Id<Tag, Rep> id) const noexcept {
    return std::hash<Rep>{}(id.value);
  }
};
