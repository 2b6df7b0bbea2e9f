// Keeps off something that keeps failing, such as a disk, and tries it again after a growing pause
// (M. Nygard, Release It!, 2007, chapter 5). Closed, everything is tried. After so many failures in
// a row it is open, and nothing is tried until the pause is over. Then it is half-open: one try at
// a time, whose success closes it and whose failure opens it for twice as long, up to a bound. It
// has no clock: callers say what time it is, and time that goes back counts as standing still. Not
// thread-safe.
#pragma once

#include <cstdint>

#include "runtime/protocol/ids.hpp"

namespace regroup {

enum class BreakerState : std::uint8_t { kClosed, kOpen, kHalfOpen };

struct CircuitBreakerOptions {
  std::uint32_t failures_max = 3;  // in a row, until it opens; at least 1
  Nanoseconds pause_min = kSecond;
  Nanoseconds pause_max = 60 * kSecond;
};

class CircuitBreaker {
 public:
  explicit CircuitBreaker(const CircuitBreakerOptions& options);

  // Whether to try now; if so, tell how it went. A try in the half-open state of which nothing is
  // heard for a pause is followed by another one.
  bool allows(Nanoseconds now);
  void succeeded();
  // One that comes while it is open, of a try that began before, changes nothing.
  void failed(Nanoseconds now);

  BreakerState state() const { return state_; }
  // When allows() will say yes again; 0 while it is closed.
  Nanoseconds next_try() const { return next_try_; }

 private:
  void open(Nanoseconds now);

  CircuitBreakerOptions options_;
  BreakerState state_ = BreakerState::kClosed;
  std::uint32_t failures_ = 0;  // in a row, while closed
  Nanoseconds pause_;           // of the next opening
  Nanoseconds next_try_ = 0;
};

}  // namespace regroup
