// Many seeds over many processes. A process is a cheap cage: a seed that aborts, crashes or eats
// the stack ends its own worker and is reported as a failure with the command that runs it again,
// and the others go on. Workers share nothing but counters and the next seed, so the seeds that run
// and what they find do not depend on the number of workers.
#pragma once

#include <cstdint>

#include "tests/sim/probes.hpp"
#include "tests/sim/scenario.hpp"

namespace regroup::sim {

struct SoakOptions {
  std::uint64_t first = 1;
  std::uint64_t last = 1;
  Overrides overrides;
  unsigned workers = 1;
  // Now and then a cluster of 64 or 1,000 ranks instead of what the seed draws, and two runs of
  // every eighth seed only.
  bool long_run = false;
  std::uint64_t failures_max = 100;  // no more seeds are begun after so many
};

struct SoakSummary {
  std::uint64_t seeds = 0;
  std::uint64_t failures = 0;
  Probes probes;
  double time_bound_share = 0;  // the largest
  std::uint64_t frames_in_flight_max = 0;
  double seconds = 0;
};

// What a seed runs with in a soak.
Overrides overrides_for(std::uint64_t seed, const SoakOptions& options);

// Prints a line on standard output for each failure, and progress on standard error.
SoakSummary soak(const SoakOptions& options);

}  // namespace regroup::sim
