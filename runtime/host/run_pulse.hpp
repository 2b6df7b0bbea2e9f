// Whether anybody still works at a run that is looked at from outside. Its ranks change what they
// leave in the run directory every second, or say something; when all of them are gone nothing
// does. Time counts from look to look, and no look counts for much: a watcher that was itself held
// up, by a file system or a stop, takes that for no silence of theirs. Pure; one thread.
#pragma once

#include <chrono>
#include <string>

namespace regroup {

class RunPulse {
 public:
  using Clock = std::chrono::steady_clock;

  // More between two looks counts as this.
  static constexpr std::chrono::seconds kLookMax{1};

  explicit RunPulse(Clock::duration silence_max) : silence_max_(silence_max) {}

  // What is there now, as text; empty: that could not be told, which is no silence.
  void look(Clock::time_point now, const std::string& seen);
  // Somebody has spoken.
  void heard() { silence_ = {}; }
  void silence_max(Clock::duration longest) { silence_max_ = longest; }
  bool is_silent() const { return silence_ >= silence_max_; }

 private:
  Clock::duration silence_max_;
  Clock::duration silence_{};
  Clock::time_point looked_at_;
  std::string seen_;
};

}  // namespace regroup
