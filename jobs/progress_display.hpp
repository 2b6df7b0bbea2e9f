// Shows how far a run is, on standard error: a bar with rate and time left on a terminal, a line
// now and then elsewhere. Formatting is a pure function; only show() and finish() write. One
// thread.
#pragma once

#include <cstdint>
#include <string>

#include "scheduler/coordinator.hpp"

namespace regroup {

enum class ProgressStyle { kBar, kPlain, kNone };

// The bar, or the line, for this picture; never wider than `columns`, without a newline.
std::string progress_text(const RunProgress& progress, double seconds, ProgressStyle style,
                          int columns);

class ProgressDisplay {
 public:
  static constexpr double kBarSeconds = 0.1;
  static constexpr double kPlainSecondsMin = 2;  // doubles up to
  static constexpr double kPlainSecondsMax = 60;

  ProgressDisplay(ProgressStyle style, int columns) : style_(style), columns_(columns) {}

  // Draws if it is time to.
  void show(const RunProgress& progress, double seconds);
  // Clears the bar away, so that what comes next starts on an empty line.
  void finish();

 private:
  ProgressStyle style_;
  int columns_;
  double next_seconds_ = 0;
  double plain_pause_ = kPlainSecondsMin;
  bool drawn_ = false;
};

}  // namespace regroup
