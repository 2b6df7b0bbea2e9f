#include "runtime/protocol/circuit_breaker.hpp"

#include <algorithm>

#include "runtime/protocol/check.hpp"

namespace regroup {

CircuitBreaker::CircuitBreaker(const CircuitBreakerOptions& options)
    : options_(options), pause_(options.pause_min) {
  REGROUP_CHECK(options.failures_max >= 1, "a breaker opens after a failure at least");
  REGROUP_CHECK(options.pause_min > 0 && options.pause_max >= options.pause_min,
                "pauses grow from one to another");
}

bool CircuitBreaker::allows(Nanoseconds now) {
  if (state_ == BreakerState::kClosed) return true;
  if (now < next_try_) return false;
  state_ = BreakerState::kHalfOpen;
  next_try_ = now + pause_;
  return true;
}

void CircuitBreaker::succeeded() {
  state_ = BreakerState::kClosed;
  failures_ = 0;
  pause_ = options_.pause_min;
  next_try_ = 0;
}

void CircuitBreaker::failed(Nanoseconds now) {
  if (state_ == BreakerState::kHalfOpen) return open(now);
  if (state_ == BreakerState::kClosed && ++failures_ >= options_.failures_max) open(now);
}

void CircuitBreaker::open(Nanoseconds now) {
  state_ = BreakerState::kOpen;
  failures_ = 0;
  next_try_ = std::max(next_try_, now + pause_);
  pause_ = std::min(options_.pause_max,
                    pause_ > options_.pause_max / 2 ? options_.pause_max : 2 * pause_);
}

}  // namespace regroup
