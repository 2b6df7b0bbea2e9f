// All that decides a simulated run. Two runs with equal options are equal, event by event (I14).
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

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

struct Fault {
  enum class Kind : std::uint8_t {
    kKill,   // the rank is gone from one moment to the next
    kPause,  // it stands still for a while: stopped, swapped out, or starved
  };
  Kind kind = Kind::kKill;
  RankId rank;
  Nanoseconds at = 0;
  Nanoseconds duration = 0;  // kPause
};

// How failures show, as the detector would have it, and how the file system behaves.
struct FailureOptions {
  std::vector<Fault> faults;
  double witnesses = 1;  // share of ranks that see a death themselves
  Nanoseconds evidence_delay_max = 2 * kMillisecond;
  Nanoseconds suspect_after = 50 * kMillisecond;  // of silence
  double control_loss = 0;                        // probability that a control message is lost
  Nanoseconds disk_delay = 100 * kMicrosecond;
  double disk_error = 0;
  Nanoseconds give_up_after = 60 * kSecond;

  bool any() const { return !faults.empty() || control_loss != 0; }
  bool hits(RankId rank) const {
    return std::ranges::any_of(faults, [&](const Fault& fault) { return fault.rank == rank; });
  }
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

  FailureOptions failures;

  Upset upset = Upset::kNone;
  RankId upset_rank;        // whom it befalls
  Nanoseconds stop_at = 0;  // Upset::kStop

  bool trace = false;  // print every event on standard output
};

}  // namespace regroup::sim
