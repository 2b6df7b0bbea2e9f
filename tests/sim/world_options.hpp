// All that decides a simulated run. Two runs with equal options are equal, event by event (I14).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "runtime/protocol/ids.hpp"
#include "scheduler/options.hpp"
#include "tests/sim/pretend_job.hpp"
#include "tests/sim/random.hpp"

namespace regroup::sim {

// The fault model of the network: frames are delayed, overtake each other, come twice, and second
// copies come damaged. No frame is lost for good: over MPI none is, and so the protocol sends
// nothing again.
struct NetworkOptions {
  Spread spread = Spread::kConstant;
  Nanoseconds delay = 10 * kMicrosecond;
  Nanoseconds delay_max = 500 * kMicrosecond;
  bool reorders = false;  // else frames of one link arrive as they were sent
  double duplicate = 0;   // probability of a second copy of a frame
  double damage = 0;      // probability that a second copy has one bit flipped
};

struct WorldOptions {
  std::uint64_t seed = 0;
  std::uint32_t ranks = 4;
  ScheduleOptions schedule;
  NetworkOptions network;
  JobOptions job;
  bool vector_clocks = true;

  // A rank looks at its clock this often, give or take 20 %.
  Nanoseconds tick_period = 100 * kMicrosecond;
  // Ranks start, and take to open the job, up to this long. Their clocks differ by up to a second
  // in what they show and by up to 100 ppm in how fast they run.
  Nanoseconds start_spread = kMillisecond;
  Nanoseconds open_time_max = kMillisecond;

  std::optional<RankId> slow_rank;
  std::uint32_t slowness = 10;

  Upset upset = Upset::kNone;
  RankId upset_rank;        // whom it befalls
  Nanoseconds stop_at = 0;  // Upset::kStop

  bool trace = false;  // print every event on standard output
};

}  // namespace regroup::sim
