// The state of every shard of one stage in two bits: pending, leased, done or quarantined. It
// promises that a shard turns done exactly once (I7), whoever else delivers it again, and that
// operations over ranges cost per 64 shards, not per shard. The coordinator owns one a stage; each
// standby rebuilds the same from the ledger. It knows nothing of ranks: who holds a lease is the
// policy's to remember.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/protocol/ids.hpp"
#include "runtime/protocol/wire.hpp"
#include "scheduler/shard_states.hpp"

namespace regroup {

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

  // Two varints a step, and their count.
  void save(Writer& writer) const;
  // Never trusts its input; false, and the map unusable, unless it is one of a stage of `shards`.
  bool load(Reader& reader, std::uint64_t shards);

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

  // Leased -> pending for all, attempts uncharged: after a change of view nobody's lease holds.
  // Returns how many were released. Costs per 64 shards, however they lie.
  std::uint64_t release_all();

  // Done or quarantined -> pending for all, attempts as they are; leased shards stay leased. For a
  // map stage whose parts were lost: who was done before is the caller's to remember, so that no
  // result is handed to the job twice (I7). Costs per 64 shards.
  void reopen_all();

  // Pending or leased -> quarantined; false when the shard was settled before.
  bool quarantine(ShardId shard);

  // The first run of pending shards at or after `from`, `count_max` long at most and all of one
  // attempt, so that one lease can name it; empty when there is none. A sweep costs amortised
  // O(1) a call, be it from the end of the run before or always from shard 0.
  ShardRange next_pending(ShardId from, std::uint64_t count_max);

  // The first run of shards in any state at or after `from`, `count_max` long at most.
  ShardRange next_run(ShardState state, ShardId from, std::uint64_t count_max) const;

  std::size_t memory_bytes() const;

  // Appends all states, leased ones as leased, and all attempts. States take at most two bits a
  // shard, rounded up to 64 shards, and kHeaderBytesMax; runs of equal states take 1 to 10 bytes
  // each. Attempts take at most 15 bytes a step (see AttemptMap). Equal tables are equal bytes.
  static constexpr std::size_t kHeaderBytesMax = 32;
  void save(Writer& writer) const;
  // Words of 64 shards that save() would look at.
  std::size_t save_words() const { return states_.words_to_put(); }
  // The table that save wrote, of a stage of `shards`. Never trusts its input; the error is one
  // line. Allocates two bits a shard, on the word of the caller and not of the input.
  static std::expected<TaskTable, std::string> load(Reader& reader, std::uint64_t shards);

 private:
  void touch(ShardRange range) { states_.keep_up_to(state_words(range.end().value)); }
  static std::uint64_t bits_in(ShardState state, const StateWord& word);
  bool within(ShardRange range) const;
  std::uint64_t& counter(ShardState state) { return counts_[static_cast<std::size_t>(state)]; }
  // Calls visit(word, first shard of the word, mask of the shards in range), but for words that
  // have no memory.
  template <class Visit>
  void for_each_word(ShardRange range, Visit visit);
  void count_states();

  std::uint64_t shards_;
  ShardStates states_;
  std::array<std::uint64_t, 4> counts_{};  // by state
  std::uint64_t no_pending_below_ = 0;
  AttemptMap attempts_;
};

}  // namespace regroup
