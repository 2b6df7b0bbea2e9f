// All that decides a simulated run. Two runs with equal options are equal, event by event (I14).
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/protocol/agreement.hpp"
#include "runtime/protocol/frame.hpp"
#include "runtime/protocol/ids.hpp"
#include "runtime/protocol/rank_set.hpp"
#include "scheduler/options.hpp"
#include "tests/sim/bulk_user.hpp"
#include "tests/sim/pretend_job.hpp"
#include "tests/sim/random.hpp"

namespace regroup::sim {

// The fault model of the network at peace: frames are delayed, overtake each other, come twice, and
// second copies come damaged. No frame is lost for good: over MPI none is, and so the protocol
// sends nothing again. FailureOptions has what goes beyond that.
struct NetworkOptions {
  Spread spread = Spread::kConstant;
  Nanoseconds delay = 10 * kMicrosecond;
  Nanoseconds delay_max = 500 * kMicrosecond;
  bool reorders = false;     // else frames of one link arrive as they were sent
  double duplicate = 0;      // probability of a second copy of a frame
  double damage = 0;         // probability that a second copy has one bit flipped
  Nanoseconds handling = 0;  // of each frame, by whoever sends it and whoever receives it
};

struct Fault {
  enum class Kind : std::uint8_t {
    kKill,         // the rank is gone from one moment to the next
    kPause,        // it stands still for a while: stopped, swapped out, or starved
    kKillSending,  // it dies when it next sends, and only some of what it sends gets out
    kLoseFrame,    // the next job frame that it sends is lost, which MPI does not do by itself
    kLoseBulk,     // the next bulk transfer that it sends is stuck, or the last part of it is
    kDoubt,        // others hold it for silent for a while, though it is not
  };
  Kind kind = Kind::kKill;
  RankId rank;
  Nanoseconds at = 0;
  Nanoseconds duration = 0;  // kPause, kDoubt
  // kKillSending: when it sends one of this kind; without, of any.
  std::optional<MessageKind> sending;

  bool kills() const { return kind == Kind::kKill || kind == Kind::kKillSending; }
  bool stops() const { return kills() || kind == Kind::kPause; }
};

// For a while nothing gets from some ranks to others; the other way is another partition. Frames of
// the job are held and come when it is over, control messages are lost, and whoever hears nothing
// for long enough suspects. Or for good, and then heartbeats, which go another way, still come.
struct Partition {
  RankSet from;
  RankSet to;
  Nanoseconds at = 0;
  Nanoseconds duration = 0;
  bool for_good = false;  // `duration` is of no meaning then
  bool noticed = false;   // then: whoever sends is told by its transport that nothing gets there
};

// Paths that are possible and rare, made likely: how often each is taken, as a probability.
struct RarePaths {
  double late_control = 0;  // a control message, or a copy of it, comes after seconds
  double late_frame = 0;    // a frame of the job does
  double token_lost = 0;    // a fencing token is made, but whoever made it is not told
  double late_tick = 0;     // a rank does not look at its clock for a while
  double slow_order = 0;    // an order takes much longer than its shards are worth
  Nanoseconds late_max = 0;

  bool any() const { return late_max != 0; }
};

// How failures show, as the detector would have it, and how the file system behaves.
struct FailureOptions {
  std::vector<Fault> faults;
  std::vector<Partition> partitions;
  RarePaths rare;
  double witnesses = 1;                // share of ranks that see a death themselves
  std::optional<RankId> only_witness;  // who alone does, at once
  double broken_connections = 0;       // share of ranks whose transport says so at a death
  Nanoseconds evidence_delay_max = 2 * kMillisecond;
  Nanoseconds suspect_after = 50 * kMillisecond;  // of silence
  double control_loss = 0;                        // probability that a control message is lost
  Nanoseconds disk_delay = 100 * kMicrosecond;
  double disk_error = 0;
  Nanoseconds give_up_after = 60 * kSecond;

  bool any() const {
    return !faults.empty() || !partitions.empty() || rare.any() || control_loss != 0;
  }
  // Whether it may be gone, or seem so to the others.
  bool hits(RankId rank) const {
    const auto seems_gone = [&](const Fault& fault) {
      return fault.rank == rank && fault.kind != Fault::Kind::kLoseFrame &&
             fault.kind != Fault::Kind::kLoseBulk;
    };
    return std::ranges::any_of(faults, seems_gone) || is_cut_off(rank);
  }
  bool is_cut_off(RankId rank) const {
    return std::ranges::any_of(
        partitions, [&](const Partition& partition) { return partition.from.contains(rank); });
  }
  // Whether the others may leave a rank behind that they cannot reach.
  bool loses_messages() const {
    return control_loss > 0 || rare.any() || !partitions.empty() ||
           std::ranges::any_of(faults, [](const Fault& fault) { return !fault.stops(); });
  }
};

struct WorldOptions {
  std::uint64_t seed = 0;
  std::uint32_t ranks = 4;
  ScheduleOptions schedule;
  NetworkOptions network;
  JobOptions job;
  BulkOptions bulk;
  bool vector_clocks = true;
  TreeOptions tree;  // of the agreement on views

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
  Wish stop_wish = Wish::kStop;

  // When a user asks for a checkpoint, and when all ranks are lost at once.
  std::vector<Nanoseconds> checkpoint_wishes;
  std::optional<Nanoseconds> power_off_at;
  // How many worlds may follow one another, and how many came before.
  std::uint32_t launches_max = 1;
  std::uint32_t launch = 0;

  bool trace = false;  // print every event on standard output
};

}  // namespace regroup::sim
