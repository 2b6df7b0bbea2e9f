#include "scheduler/checkpoint_desk.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/protocol/check.hpp"

namespace regroup {

Nanoseconds daly_interval(Nanoseconds cost, Nanoseconds failure_interval) {
  const auto delta = static_cast<double>(cost);
  const auto mean = static_cast<double>(failure_interval);
  if (delta >= 2 * mean) return failure_interval;
  const double ratio = delta / (2 * mean);
  const double interval =
      std::sqrt(2 * delta * mean) * (1 + std::sqrt(ratio) / 3 + ratio / 9) - delta;
  return static_cast<Nanoseconds>(interval);
}

Nanoseconds checkpoint_interval(Nanoseconds cost, Nanoseconds failure_interval) {
  return std::max(daly_interval(cost, failure_interval), kCheckpointCostShare * cost);
}

std::string field_dataset(const GridField& field) {
  return "fields/" + field.name;
}

std::string partition_dataset(StageId stage, std::uint32_t partition) {
  return "partitions/stage_" + std::to_string(stage.value) + "/" + std::to_string(partition);
}

CheckpointDesk::CheckpointDesk(const CheckpointOptions& options)
    : options_(options), storage_(CircuitBreakerOptions{}) {}

void CheckpointDesk::begin_run(Nanoseconds now) {
  run_begun_at_ = now;
  ended_at_ = now;
}

void CheckpointDesk::want_stop(const std::string& reason, Nanoseconds now) {
  if (stop_reason_) return;
  stop_reason_ = reason;
  stop_wanted_at_ = now;
  wanted_ = !busy();
}

bool CheckpointDesk::grace_over(Nanoseconds now) const {
  return stop_reason_ && now - stop_wanted_at_ > options_.grace;
}

// ---- when ----

// Failures are counted from a day before the run on, in which there was one.
Nanoseconds CheckpointDesk::interval(Nanoseconds now, std::size_t state_bytes,
                                     std::uint64_t failures) {
  const auto seen = static_cast<Nanoseconds>(failures) + 1;
  progress_.failure_interval = (options_.failure_interval + now - run_begun_at_) / seen;
  if (options_.every == CheckpointOptions::Every::kOff) return 0;
  if (options_.every == CheckpointOptions::Every::kPeriod) return options_.period;
  const Nanoseconds guess = kCostGuess + kCostGuessPerByte * static_cast<Nanoseconds>(state_bytes);
  const Nanoseconds cost = progress_.cost != 0 ? progress_.cost : guess;
  return std::max(checkpoint_interval(cost, progress_.failure_interval), kIntervalMin);
}

bool CheckpointDesk::due(Nanoseconds now, std::size_t state_bytes, std::uint64_t failures) {
  if (busy() || (!wanted_ && now - looked_at_ < kLookPeriod)) return false;
  looked_at_ = now;
  progress_.interval = interval(now, state_bytes, failures);
  if (wanted_) return true;
  if (progress_.interval == 0) return false;
  const bool again = !progress_.error.empty();
  const Nanoseconds pause = again ? std::min(kRetryPause, progress_.interval) : progress_.interval;
  const bool is_due = now - ended_at_ >= pause && storage_.allows(now);
  progress_.storage = storage_.state();
  return is_due;
}

bool CheckpointDesk::overdue(Nanoseconds now) const {
  return busy() && now - begun_at_ > options_.timeout;
}

// ---- how far ----

void CheckpointDesk::begin(Nanoseconds now) {
  REGROUP_CHECK(!busy(), "one checkpoint at a time");
  step_ = CheckpointStep::kNumbering;
  number_ = {};
  wanted_ = false;
  begun_at_ = now;
}

void CheckpointDesk::write(CheckpointNumber number, const RankSet& writers) {
  step_ = CheckpointStep::kWriting;
  number_ = number;
  writers_left_ = writers;
  parts_.clear();
}

bool CheckpointDesk::take_part(RankId from, CheckpointNumber number, std::string part) {
  if (step_ != CheckpointStep::kWriting || number != number_) return false;
  if (!writers_left_.erase(from)) return false;
  parts_.push_back(std::move(part));
  return true;
}

std::vector<std::string> CheckpointDesk::seal() {
  step_ = CheckpointStep::kSealing;
  return std::exchange(parts_, {});
}

void CheckpointDesk::record(LedgerPosition entry, std::uint64_t bytes) {
  step_ = CheckpointStep::kRecording;
  recorded_by_ = entry;
  newest_ = number_;
  progress_.bytes = bytes;
}

void CheckpointDesk::sealed(Nanoseconds now) {
  ++progress_.sealed;
  progress_.newest = newest_.value;
  progress_.cost = now - begun_at_;
  progress_.error.clear();
  storage_.succeeded();
  end(now);
}

void CheckpointDesk::failed(Nanoseconds now, std::string error) {
  ++progress_.failed;
  progress_.error = std::move(error);
  storage_.failed(now);
  end(now);
}

void CheckpointDesk::end(Nanoseconds now) {
  step_ = CheckpointStep::kIdle;
  ended_at_ = now;
  progress_.storage = storage_.state();
}

// What the disk has been asked to seal may be sealed at any time, and what it has sealed stays so.
void CheckpointDesk::begin_view(Nanoseconds now) {
  if (step_ == CheckpointStep::kSealing || step_ == CheckpointStep::kRecording) return;
  if (!busy()) return;
  wanted_ = true;
  end(now);
}

}  // namespace regroup
