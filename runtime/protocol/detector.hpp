// Who is silent: the heartbeat ring of Bosilca, Bouteiller, Guermouche, Herault, Robert, Sens and
// Dongarra, "Failure detection and propagation in HPC systems" (SC16), section 4. Each member of
// the view observes its nearest living predecessor and emits to its nearest living successor, so
// that a member costs one datagram a period, whatever their number. Unlike in the paper, silence
// only suspects, and being heard again takes the suspicion back; a death is confirmed by evidence
// from outside alone. Leaving is announced to all and acknowledged, so that it never looks like
// dying. A pure state machine: it must never look at a clock or a socket. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "runtime/protocol/evidence.hpp"
#include "runtime/protocol/ids.hpp"

namespace regroup {

// What a datagram between detectors says. The numbers are part of the wire format.
enum class HeartbeatKind : std::uint8_t {
  kHeartbeat = 1,     // the sender lives
  kObserve = 2,       // and observes the receiver: answer at once, and emit to it for a while
  kLeaving = 3,       // the sender leaves the run; repeated until it is acknowledged
  kLeavingTaken = 4,  // acknowledges kLeaving
};
// Of any kind but these nothing is believed.
constexpr bool is_heartbeat_kind(HeartbeatKind kind) {
  return kind >= HeartbeatKind::kHeartbeat && kind <= HeartbeatKind::kLeavingTaken;
}

struct DetectorOptions {
  RankId self;
  std::uint32_t ranks = 1;  // of the run; members are some of them
  Nanoseconds period = 100 * kMillisecond;
  Nanoseconds suspect_after = 0;  // of silence; 0: five periods
  // Peers start at different times: silence before a peer was ever heard counts from then on.
  Nanoseconds start_grace = kSecond;
  // Who has not acknowledged this rank's leaving by then is not waited for.
  Nanoseconds leave_timeout = kSecond;
};

// Why a detector cannot work with these times, on one line; empty when it can.
std::optional<std::string> problem_with(const DetectorOptions& options);

// What an input asks of the world. The detector only appends.
struct DetectorOutput {
  struct Datagram {
    RankId to;
    HeartbeatKind kind{};
    friend constexpr bool operator==(const Datagram&, const Datagram&) = default;
  };
  std::vector<Datagram> datagrams;
  std::vector<PeerEvidence> evidence;

  void clear() {
    datagrams.clear();
    evidence.clear();
  }
};

class Detector {
 public:
  static constexpr Nanoseconds kNever = std::numeric_limits<Nanoseconds>::max();
  // A silent stretch of the ring is searched with steps that double up to this many predecessors
  // at once, each as soon as those before it are overdue, so that a lost node of 64 ranks is seen
  // whole in little more than one silence, not 64.
  static constexpr std::size_t kObservedMax = 64;
  // An observed peer that is overdue by a quarter of a period is asked this many times before it is
  // suspected, so that a lost datagram or two cost nothing.
  static constexpr int kAsks = 3;
  // Stalls of one's own in a row that excuse a peer's silence. More, and it is the peer.
  static constexpr int kGracesMax = 3;
  static constexpr Nanoseconds kLeaveRetry = 20 * kMillisecond;

  // The options have no problem, see above.
  explicit Detector(const DetectorOptions& options);

  // Once, before any other input. `members`: of the first view, in any order.
  void start(Nanoseconds now, std::vector<RankId> members, DetectorOutput& output);
  // At next_tick() or as soon after as can be. A tick that is late by a quarter of suspect_after
  // means that this rank stalled, and perhaps the machine: observed peers get a fresh grace period.
  // Take in what was heard before.
  void tick(Nanoseconds now, DetectorOutput& output);
  // A datagram that was proven to come from `from`.
  void heard(RankId from, HeartbeatKind kind, Nanoseconds now, DetectorOutput& output);
  // `rank` is dead for certain. Evidence of it is given once, and none if it had left.
  void confirm(RankId rank, Nanoseconds now, DetectorOutput& output);
  // A new view. Suspicions are taken back, and start afresh; confirmed deaths and leavings stay. A
  // view without this rank means that it observes nobody.
  void set_members(std::vector<RankId> members, Nanoseconds now, DetectorOutput& output);
  // This rank leaves: tells every member until all that are trusted have acknowledged. There is no
  // evidence any more. Keep passing on what is heard, for those that leave later.
  void leave(Nanoseconds now, DetectorOutput& output);
  bool left() const { return phase_ == Phase::kLeft; }

  // When it wants to be ticked; kNever if only an input can change anything.
  Nanoseconds next_tick() const;
  // The latest that a tick ever was.
  Nanoseconds longest_stall() const { return longest_stall_; }

  // The nearest predecessor that is observed, and whom this rank emits to unasked.
  std::optional<RankId> observed() const;
  std::optional<RankId> observer() const { return observer_; }

 private:
  enum class Phase : std::uint8_t { kNew, kRunning, kLeaving, kLeft };
  enum class Standing : std::uint8_t { kTrusted, kSuspected, kConfirmed, kLeft };

  struct Watch {
    RankId rank;
    Nanoseconds silent_since = 0;
    Nanoseconds ask_at = 0;
    int graces = 0;  // since it was last heard
  };

  Standing& standing(RankId rank) { return standing_[rank.value]; }
  bool is_gone(RankId rank) const;
  std::vector<RankId> neighbours() const;
  void join_ring(Nanoseconds now, DetectorOutput& output);
  void watch_predecessors(Nanoseconds now, DetectorOutput& output);
  void restart(Watch& watch, Nanoseconds now) const;
  void note_life(RankId from, Nanoseconds now, DetectorOutput& output);
  void answer(RankId asker, Nanoseconds now, DetectorOutput& output);
  void lose(RankId rank, Standing how, Nanoseconds now, DetectorOutput& output);
  void note_stall(Nanoseconds now);
  void emit(Nanoseconds now, DetectorOutput& output);
  void judge_silence(Nanoseconds now, DetectorOutput& output);
  void ask(Nanoseconds now, DetectorOutput& output);
  void tell_leaving(Nanoseconds now, DetectorOutput& output);
  void finish_leaving(Nanoseconds now);
  bool has_audience() const { return observer_.has_value() || asker_.has_value(); }

  DetectorOptions options_;
  Phase phase_ = Phase::kNew;
  std::vector<Standing> standing_;  // by rank, over all views
  std::vector<RankId> members_;     // of the view, ascending; none if this rank is not in it

  std::vector<Watch> watched_;  // nearest predecessor first
  std::size_t window_ = 1;      // how many are to be watched
  std::vector<RankId> suspects_;
  Nanoseconds suspects_ask_at_ = 0;
  Nanoseconds nobody_silent_before_ = 0;  // the end of the grace at the start

  std::optional<RankId> observer_;  // nearest successor that is not gone
  std::optional<RankId> asker_;     // the latest other one that asked to be emitted to,
  Nanoseconds asker_until_ = 0;     // and until when it is
  Nanoseconds next_emission_ = 0;

  std::vector<RankId> untold_;  // have not acknowledged that this rank leaves
  Nanoseconds leave_retry_at_ = 0;
  Nanoseconds leave_deadline_ = 0;

  Nanoseconds longest_stall_ = 0;
};

}  // namespace regroup
