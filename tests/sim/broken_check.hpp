// A broken invariant inside the protocol or the scheduler, where their second copy is simulated:
// there it ends the run and not the process (planted_check.cpp).
#pragma once

#include <string>

namespace regroup::sim {

struct BrokenCheck {
  std::string what;
};

}  // namespace regroup::sim
