// The state of every shard of one stage in two bits: pending, leased, done or quarantined. It
// promises that a shard turns done exactly once (I7), whoever else delivers it again, and that
// operations over ranges cost per 64 shards, not per shard. The coordinator owns one a stage; each
// standby rebuilds the same from the ledger. It knows nothing of ranks: who holds a lease is the
// policy's to remember.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <map>
#include <optional>
#include <vector>

#include "runtime/protocol/ids.hpp"

namespace regroup {

// The high bit says that the shard is settled: it will not run again.
enum class ShardState : std::uint8_t { kPending = 0, kLeased = 1, kDone = 2, kQuarantined = 3 };

// Whether a released shard was executing, so that the try counts against it.
enum class Charge : std::uint8_t { kNone, kAttempt };

struct CommitCounts {
  std::uint64_t committed = 0;   // newly done
  std::uint64_t duplicates = 0;  // were done or quarantined before
};

// Why a commit changed nothing.
struct CommitRefusal {
  enum class Reason : std::uint8_t { kNoSuchShard, kNeverIssued };
  Reason reason{};
  ShardId shard;    // the first shard that the commit cannot be right about
  Attempt current;  // its current attempt; 0 if there is no such shard
};

// The current attempt of each shard: 1, but for those retried, which are kept as the steps of a
// function over the shard numbers. Costs memory per run of equally often retried shards.
class AttemptMap {
 public:
  Attempt at(ShardId shard) const;
  void charge(ShardRange range);
  // The first shard of the range whose attempt is below `attempt`.
  std::optional<ShardId> first_below(ShardRange range, Attempt attempt) const;
  // How many shards from `shard` on, `count_max` at most, have the same attempt as it.
  std::uint64_t equal_run(ShardId shard, std::uint64_t count_max) const;
  std::size_t memory_bytes() const;

 private:
  using Steps = std::map<std::uint64_t, std::uint32_t>;
  Steps::iterator split(std::uint64_t shard);
  void join(std::uint64_t shard);

  Steps steps_;  // from this shard on, this attempt; no two neighbours are equal
};

// Not thread-safe. Ranges must lie within the stage (checked, but for commit, which reports it);
// an empty range does nothing.
class TaskTable {
 public:
  explicit TaskTable(std::uint64_t shards);

  std::uint64_t shards() const { return shards_; }
  std::uint64_t count(ShardState state) const { return counts_[static_cast<std::size_t>(state)]; }
  // True when no shard will run again.
  bool settled() const;
  ShardState state(ShardId shard) const;
  Attempt attempt(ShardId shard) const;

  // Pending -> leased. Every shard of the range must be pending (checked).
  void lease(ShardRange range);

  // The result of a try arrived: whatever is pending or leased turns done (first result wins, also
  // one of an earlier attempt or of a lease since released), and those runs are appended to
  // `newly_done` in ascending order. Refused as a whole, with nothing changed, when `attempt` is 0
  // or greater than the current attempt of any shard of the range.
  std::expected<CommitCounts, CommitRefusal> commit(ShardRange range, Attempt attempt,
                                                    std::vector<ShardRange>& newly_done);

  // Leased -> pending, and the next attempt if charged; shards in other states stay as they are.
  // Returns how many were released.
  std::uint64_t release(ShardRange range, Charge charge);

  // Pending or leased -> quarantined; false when the shard was settled before.
  bool quarantine(ShardId shard);

  // The first run of pending shards at or after `from`, `count_max` long at most and all of one
  // attempt, so that one lease can name it; empty when there is none. A sweep costs amortised
  // O(1) a call, be it from the end of the run before or always from shard 0.
  ShardRange next_pending(ShardId from, std::uint64_t count_max);

  // The first run of shards in any state at or after `from`, `count_max` long at most.
  ShardRange next_run(ShardState state, ShardId from, std::uint64_t count_max) const;

  std::size_t memory_bytes() const;

 private:
  // 64 shards: bit i of both words is the state of shard i.
  struct Word {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
  };

  static std::uint64_t bits_in(ShardState state, const Word& word);
  bool within(ShardRange range) const;
  std::uint64_t& counter(ShardState state) { return counts_[static_cast<std::size_t>(state)]; }
  // Calls visit(word, first shard of the word, mask of the shards in range).
  template <class Visit>
  void for_each_word(ShardRange range, Visit visit);

  std::uint64_t shards_;
  std::vector<Word> words_;
  std::array<std::uint64_t, 4> counts_{};  // by state
  std::uint64_t no_pending_below_ = 0;
  AttemptMap attempts_;
};

}  // namespace regroup
