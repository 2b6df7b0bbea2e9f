// Who keeps copies of a rank's partitions, when it gives them, and what that costs. The rule is
// that of checkpoints (checkpoint_desk.hpp), with a cost of its own: what it took to write the
// partitions down, as measured, and so much for each byte that is sent. Pure, not thread-safe.
#pragma once

#include <cstdint>

#include "runtime/protocol/ids.hpp"
#include "runtime/protocol/view.hpp"
#include "scheduler/options.hpp"

namespace regroup {

// The next of the ranks that compute, on another host if there is one; without another that
// computes, the next member. kNobody when there is no other.
RankId partner_of(RankId rank, const View& view, const ScheduleOptions& options);

class CopyDesk {
 public:
  static constexpr Nanoseconds kIntervalMin = 100 * kMillisecond;
  static constexpr Nanoseconds kLookPeriod = kMillisecond;
  // Before the first round has shown what one costs.
  static constexpr Nanoseconds kCostGuess = kMillisecond;
  // For a byte to get into frames, to the partner and out of them again, with its hash, in both
  // ranks.
  static constexpr Nanoseconds kSendingPerByte = 2;

  CopyDesk(const CopyOptions& options, Nanoseconds failure_interval)
      : options_(options), failure_interval_(failure_interval) {}

  bool on() const { return options_.every != CopyOptions::Every::kOff; }
  // A round of copies is to begin; looked at every kLookPeriod. `failures`: ranks lost so far.
  bool due(Nanoseconds now, std::uint64_t failures);
  // There is another partner: as soon as may be.
  void want() { wanted_ = true; }

  void begin();
  void saved(Nanoseconds elapsed) { cost_so_far_ += elapsed; }
  void sent(std::uint64_t bytes) {
    cost_so_far_ += kSendingPerByte * static_cast<Nanoseconds>(bytes);
  }
  // There is nothing that the partner does not have.
  void pass(Nanoseconds now);
  // All that was to be copied is with the partner, or was refused.
  void end(Nanoseconds now);
  // The round comes to nothing: the view has changed.
  void drop() { busy_ = false; }

  Nanoseconds cost() const { return cost_; }          // of the latest round; 0: there was none
  Nanoseconds interval() const { return interval_; }  // until the next one
  std::uint64_t rounds() const { return rounds_; }

 private:
  CopyOptions options_;
  Nanoseconds failure_interval_;
  bool known_ = false;  // when the run began
  Nanoseconds run_begun_at_ = 0;
  Nanoseconds looked_at_ = 0;
  Nanoseconds ended_at_ = 0;
  Nanoseconds interval_ = 0;
  Nanoseconds cost_ = 0;
  Nanoseconds cost_so_far_ = 0;
  std::uint64_t rounds_ = 0;
  bool wanted_ = false;
  bool busy_ = false;
};

}  // namespace regroup
