// The faults that a user wants rehearsed, parsed from what --inject takes: kill:rank=2,at=2s and
// the like. A fault says what happens, to whom, and when. Pure text in, plain structs out; nothing
// happens here (see fault_injector.hpp). Errors are one line that says what is wrong and what the
// choices are.
//
//   SPEC   = FAULT { "," FAULT }            a word with ':' begins the next fault
//   FAULT  = ACTION ":" WORD { "," WORD }   words in any order
//   ACTION = kill | stop | wedge | slow | duplicate-results | late-results
//   who    = rank=N | all-but=N | coordinator | successor
//   when   = after-shards=N | at=TIME | at=start | at=end | at=election | at=agreement | at=shrink
//   more   = for=TIME (stop) | factor=X (slow) | by=TIME (late-results)
//   TIME   = a number and its unit, ms or s: 250ms, 1.5s
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/protocol/ids.hpp"

namespace regroup {

enum class FaultAction : std::uint8_t {
  kKill,              // SIGKILL
  kStop,              // SIGSTOP, and SIGCONT later
  kWedge,             // the next call of the transport never returns
  kSlow,              // each order takes so many times longer
  kDuplicateResults,  // what the rank sends to others is sent twice
  kLateResults,       // what the rank sends to others is held back
};

enum class FaultTarget : std::uint8_t {
  kRank,         // by its number at the start
  kAllBut,       // all other ranks
  kCoordinator,  // whoever coordinates when the time comes
  kSuccessor,    // the member after the coordinator, when the time comes
};

enum class FaultPoint : std::uint8_t {
  kAlways,       // slow, duplicate-results, late-results: from start to end
  kAfterShards,  // when the rank has computed so many
  kTime,         // so long after the rank began on the job
  kStart,        // before the rank has opened the job
  kEnd,          // when its last work is done, before it says goodbye
  kElection,
  kAgreement,
  kShrink,
};

struct Fault {
  FaultAction action = FaultAction::kKill;
  FaultTarget target = FaultTarget::kRank;
  RankId rank;  // kRank, kAllBut
  FaultPoint point = FaultPoint::kAlways;
  std::uint64_t shards = 0;  // kAfterShards
  Nanoseconds time = 0;      // kTime
  Nanoseconds duration = 0;  // kStop: how long; kLateResults: by how much
  double factor = 1;         // kSlow
  std::string text;          // as the user wrote it

  // Whether only the view at that time tells whom it strikes.
  bool is_floating() const {
    return target == FaultTarget::kCoordinator || target == FaultTarget::kSuccessor;
  }
  // Strikes once and is over, unlike what is there all the time.
  bool is_single() const { return point != FaultPoint::kAlways; }
};

struct FaultPlan {
  static constexpr std::size_t kFaultsMax = 64;
  static constexpr Nanoseconds kTimeMax = 1'000'000 * kSecond;
  static constexpr double kFactorMax = 1'000'000;
  // A frame that is missing for Node::kStallTimeout, 10 s, ends the rank that waits for it.
  static constexpr Nanoseconds kLateMax = 5 * kSecond;

  std::vector<Fault> faults;

  bool empty() const { return faults.empty(); }
  // A fault whose victim is known only when it strikes, and who must be the only one. Ranks tell
  // each other through the run directory.
  bool needs_run_directory() const;
};

// All the texts together are one plan.
std::expected<FaultPlan, std::string> parse_fault_plan(const std::vector<std::string>& texts);

// The error if a rank is named that a run of so many ranks does not have, or if a rank without
// others is to be wedged: it has no transport that could be.
std::expected<void, std::string> check_ranks(const FaultPlan& plan, std::uint32_t ranks);

// "2 s", "250 ms", for people.
std::string time_text(Nanoseconds time);

}  // namespace regroup
