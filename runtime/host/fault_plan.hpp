// The faults that a user wants rehearsed, parsed from what --inject takes: kill:rank=2,at=2s and
// the like. A fault says what happens, to whom, and when. Pure text in, plain structs out; nothing
// happens here (see fault_injector.hpp). Errors are one line that says what is wrong and what the
// choices are.
//
//   SPEC   = FAULT { "," FAULT }            a word with ':' begins the next fault
//   FAULT  = ACTION ":" WORD { "," WORD }   words in any order
//   ACTION = kill | stop | wedge | slow | duplicate-results | late-results | disk-full | disk-error
//            | gpu-error | gpu-hang
//   who    = rank=N | all-but=N | coordinator | successor; may be left out for a disk: every rank
//   when   = after-shards=N | at=TIME | at=start | at=end | at=election | at=agreement | at=shrink
//   |
//            at=part | at=manifest | at=seal | at=sealed; only after=N for a disk
//   more   = for=TIME (stop; a disk or a GPU may have it) | factor=X (slow) | by=TIME
//   (late-results) TIME   = a number and its unit, ms or s: 250ms, 1.5s
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
  kDiskFull,          // what the rank writes of checkpoints fails for want of space
  kDiskError,         // the same, with an input/output error
  kGpuError,          // what the rank asks of its device fails
  kGpuHang,           // what the rank asks of its device never comes back
};

enum class FaultTarget : std::uint8_t {
  kRank,         // by its number at the start
  kAllBut,       // all other ranks
  kCoordinator,  // whoever coordinates when the time comes
  kSuccessor,    // the member after the coordinator, when the time comes
  kEvery,        // each rank, when its own time comes
};

enum class FaultPoint : std::uint8_t {
  kAlways,       // slow, duplicate-results, late-results, of a device: from the start on
  kAfterShards,  // when the rank has computed so many
  kTime,         // so long after the rank began on the job
  kStart,        // before the rank has opened the job
  kEnd,          // when its last work is done, before it says goodbye
  kElection,
  kAgreement,
  kShrink,
  kPart,              // its file of a checkpoint is about to be created
  kManifest,          // a checkpoint's parts are there, and its manifest is about to be written
  kSeal,              // the manifest is written, and about to get its name
  kSealed,            // it has its name, and nobody was told
  kCheckpointWrites,  // the rank begins to write its share of a checkpoint for the so many-th time
};

struct Fault {
  FaultAction action = FaultAction::kKill;
  FaultTarget target = FaultTarget::kRank;
  RankId rank;  // kRank, kAllBut
  FaultPoint point = FaultPoint::kAlways;
  std::uint64_t shards = 0;  // kAfterShards
  std::uint64_t writes = 0;  // kCheckpointWrites
  Nanoseconds time = 0;      // kTime
  Nanoseconds duration = 0;  // how long; kLateResults: by how much; of disk, device 0: to the end
  double factor = 1;         // kSlow
  std::string text;          // as the user wrote it

  // Whether only the view at that time tells whom it strikes.
  bool is_floating() const {
    return target == FaultTarget::kCoordinator || target == FaultTarget::kSuccessor;
  }
  // Strikes at some moment, unlike what is there from the start.
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
