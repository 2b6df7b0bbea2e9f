// When the coordinator takes a checkpoint, how far the one being taken has come, and what is known
// of those before. One is taken at a time. It counts as sealed when every part is durable, the disk
// has sealed it and a majority of the replicas knows so. What a checkpoint holds is for the
// coordinator to know. Pure, not thread-safe.
//
//   idle --due--> numbering --its number--> writing --all parts durable--> sealing
//   sealing --sealed--> recording --the ledger's replicas know--> idle
//   any but idle --an error, a timeout, a new view before the disk was to seal it--> idle
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/protocol/circuit_breaker.hpp"
#include "runtime/protocol/disk.hpp"
#include "runtime/protocol/node.hpp"
#include "runtime/protocol/rank_set.hpp"
#include "scheduler/options.hpp"

namespace regroup {

// What the coordinator adds to a checkpoint: its state (docs/coordinator-state.md), and the job as
// kOpen orders have it.
inline constexpr const char* kStateDataset = "coordinator/state";
inline constexpr const char* kDescriptionDataset = "job/description";
// What an owner adds for a partition of a map stage: which map shards it has taken in, and what the
// job says that it holds.
std::string partition_dataset(StageId stage, std::uint32_t partition);
// What it adds for cells of a field: their blocks. The rest of each is its partition's.
std::string field_dataset(const GridField& field);

enum class CheckpointStep : std::uint8_t {
  kIdle,
  kNumbering,
  kWriting,
  kSealing,
  kRecording,
};

// A picture of a run's checkpoints, for status files.
struct CheckpointProgress {
  std::uint64_t newest = 0;  // number of the newest sealed one; 0: none
  std::uint64_t sealed = 0;  // by this coordinator
  std::uint64_t failed = 0;  // the same
  std::string error;         // of the latest one, while it has failed
  BreakerState storage = BreakerState::kClosed;
  std::uint64_t bytes = 0;           // of the newest one
  Nanoseconds cost = 0;              // from its beginning to its seal
  Nanoseconds interval = 0;          // until the next one; 0: none by itself
  Nanoseconds failure_interval = 0;  // as taken for the interval
};

// The time between checkpoints that loses the least, to what they cost and to failures (J. T. Daly,
// "A higher order estimate of the optimum checkpoint interval for restart dumps", 2006, eq. 37).
Nanoseconds daly_interval(Nanoseconds cost, Nanoseconds failure_interval);
// That, and no shorter than so many times the cost, so that it takes below 1 % of the time.
inline constexpr Nanoseconds kCheckpointCostShare = 100;
Nanoseconds checkpoint_interval(Nanoseconds cost, Nanoseconds failure_interval);

class CheckpointDesk {
 public:
  static constexpr Nanoseconds kIntervalMin = kSecond;
  // After one that failed, another is tried so soon, for as long as the breaker lets through.
  static constexpr Nanoseconds kRetryPause = kSecond;
  static constexpr Nanoseconds kLookPeriod = kMillisecond;
  // What a checkpoint takes is unknown before the first: this, and so much for each byte.
  static constexpr Nanoseconds kCostGuess = 20 * kMillisecond;
  static constexpr Nanoseconds kCostGuessPerByte = 5;

  explicit CheckpointDesk(const CheckpointOptions& options);

  // The job runs from now on, or goes on.
  void begin_run(Nanoseconds now);
  // One is to be taken beyond those that are due by themselves. Counts for the one under way.
  void want() { wanted_ = true; }
  // The run is to end when one is sealed. The first reason counts.
  void want_stop(const std::string& reason, Nanoseconds now);
  bool stop_wanted() const { return stop_reason_.has_value(); }
  const std::string& stop_reason() const { return *stop_reason_; }
  // The run has waited for that as long as it may.
  bool grace_over(Nanoseconds now) const;

  // Nothing is under way or asked for, and it was looked a moment ago whether one is due.
  bool rests(Nanoseconds now) const {
    return step_ == CheckpointStep::kIdle && !wanted_ && !stop_reason_ &&
           now - looked_at_ < kLookPeriod;
  }
  // One is to begin; looked at every kLookPeriod. `state_bytes`: about what it will hold;
  // `failures`: ranks lost so far.
  bool due(Nanoseconds now, std::size_t state_bytes, std::uint64_t failures);

  CheckpointStep step() const { return step_; }
  CheckpointNumber number() const { return number_; }
  bool busy() const { return step_ != CheckpointStep::kIdle; }
  // Its time is over.
  bool overdue(Nanoseconds now) const;

  void begin(Nanoseconds now);
  // `writers`: who adds a part.
  void write(CheckpointNumber number, const RankSet& writers);
  // False if the part is not one that is waited for.
  bool take_part(RankId from, CheckpointNumber number, std::string part);
  bool all_written() const { return step_ == CheckpointStep::kWriting && writers_left_.empty(); }
  // The disk is asked to seal these.
  std::vector<std::string> seal();
  // The disk has sealed it; this entry tells others so, or in a later view that one.
  void record(LedgerPosition entry, std::uint64_t bytes);
  void record_again(LedgerPosition entry) { recorded_by_ = entry; }
  LedgerPosition recorded_by() const { return recorded_by_; }
  // It is over.
  void sealed(Nanoseconds now);
  void failed(Nanoseconds now, std::string error);
  // A view begins: what is not sealed yet will not be.
  void begin_view(Nanoseconds now);

  // Nothing is to be kept any more.
  void cancel(Nanoseconds now) { end(now); }

  // The newest one that is known to be sealed; 0: none.
  CheckpointNumber newest() const { return newest_; }
  void know(CheckpointNumber newest) {
    newest_ = newest;
    progress_.newest = newest.value;
  }
  Nanoseconds begun_at() const { return begun_at_; }
  const CheckpointProgress& progress() const { return progress_; }

 private:
  void end(Nanoseconds now);
  Nanoseconds interval(Nanoseconds now, std::size_t state_bytes, std::uint64_t failures);

  CheckpointOptions options_;
  CircuitBreaker storage_;
  CheckpointStep step_ = CheckpointStep::kIdle;
  bool wanted_ = false;
  std::optional<std::string> stop_reason_;
  Nanoseconds stop_wanted_at_ = 0;
  Nanoseconds run_begun_at_ = 0;
  Nanoseconds looked_at_ = 0;
  Nanoseconds begun_at_ = 0;
  Nanoseconds ended_at_ = 0;
  CheckpointNumber number_;
  LedgerPosition recorded_by_ = 0;
  RankSet writers_left_;
  std::vector<std::string> parts_;
  CheckpointNumber newest_;
  CheckpointProgress progress_;
};

}  // namespace regroup
