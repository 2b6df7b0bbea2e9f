// Who keeps copies of a rank's partitions, when it gives them, and what that costs. The rule is
// that of checkpoints (checkpoint_desk.hpp), with a cost of its own: what it took to write the
// partitions down, as measured, and so much for each byte that is sent. Pure, not thread-safe.
#pragma once

#include <cstdint>

#include "runtime/protocol/ids.hpp"
#include "runtime/protocol/view.hpp"
#include "runtime/protocol/wire.hpp"
#include "scheduler/options.hpp"

namespace regroup {

// The next of the ranks that compute, on another host if there is one; without another that
// computes, the next member. kNobody when there is no other.
RankId partner_of(RankId rank, const View& view, const ScheduleOptions& options);

// What a rank has in the memory of its partner, and what that costs; or all ranks together: sums,
// and of times those of the rank that took longest.
struct CopyProgress {
  std::uint64_t rounds = 0;      // of all ranks, told to this coordinator
  std::uint64_t partitions = 0;  // or cells, of which there is a copy
  std::uint64_t bytes = 0;       // of those
  std::uint64_t refused = 0;     // copies, in the latest round
  Nanoseconds cost = 0;          // of the latest round
  Nanoseconds interval = 0;      // between rounds
  std::uint64_t sent = 0;        // bytes, in the latest round
  Nanoseconds sending = 0;       // while some of them were sent and not yet answered
};

// What kCopiesMade says: all but the rounds.
void put(Writer& writer, const CopyProgress& made);
CopyProgress get_copy_progress(Reader& reader);

// How much of a round was sent, and for how long some of it was under way.
class CopySending {
 public:
  void begins(std::uint64_t bytes, Nanoseconds now) {
    if (under_way_++ == 0) began_at_ = now;
    bytes_ += bytes;
  }
  void ends(Nanoseconds now) {
    if (--under_way_ == 0) took_ += now - began_at_;
  }
  std::uint64_t bytes() const { return bytes_; }
  Nanoseconds took() const { return took_; }

 private:
  std::uint64_t bytes_ = 0;
  std::size_t under_way_ = 0;
  Nanoseconds began_at_ = 0;
  Nanoseconds took_ = 0;
};

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
