#include "runtime/host/run_pulse.hpp"

#include <algorithm>
#include <utility>

namespace regroup {

void RunPulse::look(Clock::time_point now, const std::string& seen) {
  const bool first = looked_at_ == Clock::time_point{};
  const Clock::duration passed = now - std::exchange(looked_at_, now);
  if (first || seen.empty() || seen != seen_) {
    seen_ = seen;
    silence_ = {};
    return;
  }
  silence_ += std::min<Clock::duration>(passed, kLookMax);
}

}  // namespace regroup
