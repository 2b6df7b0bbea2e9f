// Counts of rare paths, by name, over many runs: a simulator that never takes a path proves nothing
// of it (I15). They are observed from outside, so the protocol carries none of them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace regroup::sim {

enum class Probe : std::uint8_t {
  kFrameHeld,  // came before an earlier one of its link, and waited
  kDuplicateDropped,
  kTruncatedDropped,
  kOversizedDropped,
  kForeignDropped,
  kVersionDropped,
  kDamagedDropped,
  kFrameBeforeStart,  // waited until its receiver entered the first view
  kMessageFragmented,
  kRecall,
  kRecallGaveShards,
  kRecallGaveNothing,
  kStealSucceeded,
  kStealMissed,
  kStealOfOtherStage,  // request and reply are of different stages
  kRetry,
  kQuarantine,
  kStageWithoutShards,
  kResultsAfterEnd,  // results for a run that is closing
  kStopped,
  kOpenFailed,
  kJobsDiffer,
  kFinalizeFailed,
  kLoneRank,
  kCoordinatorOnly,  // the coordinator computes nothing
  kSlowRank,
  kKilled,
  kPaused,
  kFalselySuspected,
  kControlLost,
  kLinkParted,
  kFenceFailed,
  kFenceTaken,  // by another, before
  kViewInstalled,
  kRoundBegun,
  kShardsKept,
  kRankCameBack,
  kBallotRefused,
  kRevokedDropped,  // a message of an epoch that was coming to its end
  kOtherEpochDropped,
  kRunningAnnounced,     // computing went on across a view
  kReportsAcknowledged,  // without a lease
  kCoordinatorLost,
  kTakenOver,  // from a copy of the ledger
  kBegunAnew,  // without one: all who had it were lost as well
  kCaughtUp,   // another rank had the longer copy
  kStateReplicated,
  kRecordsReplicated,
  kCutOff,  // a rank gave up
  kKilledSending,
  kPartitioned,
  kFrameHeldBack,  // until a partition healed
  kFrameLost,
  kDoubted,
  kLinkBroken,
  kConnectionsBroke,
  kTokenLost,  // made, but whoever made it was not told
  kLateControl,
  kLateFrame,
  kLateTick,
  kSlowOrder,
  kManyFaults,
  kRequestPassedOn,
  kAnswersMerged,
  kDecisionPassedOn,
  kKilledInTree,  // between asking others and answering
  kPutConflict,
  kPutAcrossViews,
  kWatchSaw,
  kRegistryTimedOut,
  kRegistryLost,  // with a majority of those that kept it
  kCheckpointWished,
  kCheckpointFailed,
  kCheckpointSealed,
  kRestored,
  kPartitionRestored,
  kPoweredOff,
  kLaunchedAgain,
  kCopyKept,
  kCopyNoRoom,
  kCopyDamaged,
  kCopyNotNow,
  kRegainedSnapshot,
  kRegainedCopyHere,
  kRegainedCopyElsewhere,
  kRegainedFile,
  kBulkDelivered,
  kBulkLate,     // its bytes came in a later epoch
  kBulkDamaged,  // and was dropped
  kBulkCutShort,
  kBulkStuck,
  kCellsSetBack,  // to a step of which ranks had copies
  kCellsSetToFile,
  kCellsBegunAgain,
  kCellFailed,
  kCellsKept,    // all owners have all of them at a step
  kCellsMissed,  // one was beyond the step at which they were to be written down
  kCellRegainedHere,
  kCellRegainedElsewhere,
  kTotalsAdded,
};

inline constexpr std::size_t kProbes = static_cast<std::size_t>(Probe::kTotalsAdded) + 1;

constexpr std::array<std::string_view, kProbes> kProbeNames{
    "a reordered frame was held",
    "a duplicate was dropped",
    "a truncated frame was dropped",
    "an oversized frame was dropped",
    "a foreign frame was dropped",
    "a frame of another version was dropped",
    "a damaged frame was dropped",
    "a frame came before its receiver had started",
    "a message took several frames",
    "shards were recalled",
    "a recall gave shards",
    "a recall gave nothing",
    "a steal succeeded",
    "a steal missed",
    "a steal met another stage",
    "a shard was retried",
    "a shard was quarantined",
    "a stage had no shards",
    "results came after the end",
    "a run was stopped",
    "a rank could not open the job",
    "a rank saw another job",
    "the result could not be written",
    "a rank ran alone",
    "the coordinator computed nothing",
    "a rank was slow",
    "a rank was killed",
    "a rank was paused",
    "a rank was falsely suspected",
    "a control message was lost",
    "one of two ranks that could not talk to each other was left out",
    "a fencing token could not be taken",
    "a fencing token was another's",
    "a rank entered a new view",
    "a map stage began anew",
    "a map shard did not run again, since all partitions held it",
    "a rank that was left out came back",
    "a proposer was refused",
    "a message of a revoked epoch was dropped",
    "a message of another epoch was dropped",
    "a shard was computed across a view",
    "reports were acknowledged without a lease",
    "the coordinator was lost",
    "a coordinator went on from a ledger",
    "a coordinator began anew",
    "a coordinator caught up with another's ledger",
    "the state was replicated",
    "records were replicated",
    "a rank was cut off and gave up",
    "a rank was killed in the middle of sending",
    "ranks were parted",
    "a frame was held back by a partition",
    "a frame of the job was lost",
    "a rank was doubted without reason",
    "a link broke between two that live",
    "a connection broke at a death",
    "a fencing token was made in silence",
    "a control message came late",
    "a frame of the job came late",
    "a rank looked at its clock late",
    "an order took long",
    "a run had ten faults or more",
    "a rank asked others on behalf of a proposer",
    "a rank answered for others",
    "a decision went through others",
    "a rank that had asked others was killed before it answered",
    "a put met another version",
    "a put was answered in a later view",
    "a watch saw a new version",
    "a call of the registry had no answer in time",
    "the registry was lost with a majority",
    "a checkpoint was asked for",
    "the disk failed a checkpoint",
    "a checkpoint was sealed",
    "a run went on from a checkpoint",
    "a partition came back from a checkpoint",
    "all ranks were lost at once",
    "a run was launched again",
    "a partner kept a copy of a partition",
    "a partner had no room for a copy",
    "a copy came damaged to a partner",
    "a partner could not take a copy",
    "a partition came back from the rank's own memory",
    "a partition came back from its partner's memory, where it is now",
    "a partition came back from its partner's memory, to another rank",
    "a partition came back from a file",
    "a bulk transfer was handed over",
    "a bulk transfer came in a later epoch",
    "a damaged bulk transfer was dropped",
    "a rank died in the middle of a bulk transfer",
    "a bulk transfer was stuck",
    "cells went back to copies in memory",
    "cells went back to a file",
    "cells began again at the beginning",
    "a cell failed, and all went back",
    "all cells were written down at a step",
    "a cell was beyond the step at which it was to be written down",
    "a cell came back from its partner's memory, where it is now",
    "a cell came back from its partner's memory, to another rank",
    "totals were added up",
};

class Probes {
 public:
  void hit(Probe probe, std::uint64_t times = 1) {
    counts_[static_cast<std::size_t>(probe)] += times;
  }
  std::uint64_t count(Probe probe) const { return counts_[static_cast<std::size_t>(probe)]; }
  void add(const Probes& other) {
    for (std::size_t i = 0; i < kProbes; ++i) counts_[i] += other.counts_[i];
  }

 private:
  std::array<std::uint64_t, kProbes> counts_{};
};

}  // namespace regroup::sim
