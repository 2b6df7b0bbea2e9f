// Bugs that are planted on purpose, to prove that the simulator finds what it claims to find. In
// every build that does work planted() is false at compile time and nothing of a bug is left. Only
// the simulator's second copy of the protocol and the scheduler is compiled with
// REGROUP_PLANTED_BUGS; there a process-wide variable turns on one bug at a time. A bug is planted
// where the right code is, in as few characters as can be, and never changes what the right code
// does. A new one needs an enumerator, a name, and a line in tests/sim/planted_test.cpp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace regroup {

enum class PlantedBug : std::uint8_t {
  kNone,
  // membership
  kVoteTwice,         // accepts below the ballot that was promised
  kForgetAccepted,    // a promise does not say what was accepted before
  kIgnoreAccepted,    // a proposer is not held to what was accepted before
  kSkipFence,         // decides without the fencing token
  kQuorumTooSmall,    // goes on with one answer less than a quorum
  kSuspicionIsDeath,  // counts who is silent as dead
  kAdoptOldView,      // enters views that it has left behind
  kAnswerForOthers,   // answers for ranks in its charge that it has not heard
  kForgetMerged,      // merged answers do not say what others had accepted before
  // node and link
  kDeliverOldEpoch,    // hands on frames of an epoch that has ended
  kDeliverRevoked,     // hands on frames of an epoch that is coming to its end
  kDeliverDuplicates,  // hands on a frame that came before
  kLoseEarlyFrame,     // a frame that waited for its turn is gone when it comes
  kIgnoreStamps,       // does not move the Lamport clock past what it receives
  kKeepVectorBase,     // believes vector stamps received that were lost with their epoch
  kIgnoreStalls,       // waits for ever for a frame that was lost
  kIgnoreDeafness,     // goes on sending to a rank that hears nothing
  kKeepDeadLinks,      // lets two ranks that cannot talk to each other into every view
  // bulk transfers
  kSkipBulkHash,      // hands on bytes that are not those that were sent
  kKeepBulk,          // goes on with transfers of the view before
  kIgnoreBulkStalls,  // waits for ever for a transfer that is stuck
  // scheduler
  kCommitTwice,        // takes in a result again
  kWrongValue,         // commits the values of the shards before
  kReuseAttempt,       // a retry gets the number of the try before
  kRetryForever,       // never gives a shard up
  kKeepLeases,         // a worker goes on with leases of the view before
  kTakeTwice,          // takes in parts that it holds
  kCountLost,          // a map shard that a lost owner held counts as done
  kReportBeforeParts,  // a map shard counts as done before the owners hold its parts
  // ledger
  kAcknowledgeEarly,  // results count as safe before a majority has them
  kSkipCatchUp,       // takes over though another has the longer copy
  kLoseRecords,       // a standby confirms records that it does not keep
  kSaveUsedUpState,   // saves what the result has used up
  // registry
  kPutTwice,     // a put that comes again is made again
  kAnswerEarly,  // puts are answered before a majority has them
  kReadAlone,    // reads are answered before what they saw is safe
  // checkpoints
  kSealUntold,     // a checkpoint counts before a majority knows of it
  kLoseRestored,   // a partition is said to hold what did not come back
  kKeepOldWrites,  // the writes of ranks that are gone count as those of the ranks of now
  // copies in memory
  kKeepHalfCopy,  // a partner keeps half of a copy, as if it were the whole
  kClaimMore,     // a copy says that it has a map shard more than it has
  // cells
  kMissHalo,        // a cell goes on though one of its neighbours has not shown itself
  kUseOldTotals,    // a cell goes on with the totals of a step before
  kAddAsTheyCome,   // totals are added up in the order in which cells' parts come
  kGoBackUnevenly,  // a cell goes back to the latest step that this rank has of it
};

inline constexpr std::array<std::string_view, 46> kPlantedBugNames{
    "none",
    "vote-twice",
    "forget-accepted",
    "ignore-accepted",
    "skip-fence",
    "quorum-too-small",
    "suspicion-is-death",
    "adopt-old-view",
    "answer-for-others",
    "forget-merged",
    "deliver-old-epoch",
    "deliver-revoked",
    "deliver-duplicates",
    "lose-early-frame",
    "ignore-stamps",
    "keep-vector-base",
    "ignore-stalls",
    "ignore-deafness",
    "keep-dead-links",
    "skip-bulk-hash",
    "keep-bulk",
    "ignore-bulk-stalls",
    "commit-twice",
    "wrong-value",
    "reuse-attempt",
    "retry-forever",
    "keep-leases",
    "take-twice",
    "count-lost",
    "report-before-parts",
    "acknowledge-early",
    "skip-catch-up",
    "lose-records",
    "save-used-up-state",
    "put-twice",
    "answer-early",
    "read-alone",
    "seal-untold",
    "lose-restored",
    "keep-old-writes",
    "keep-half-copy",
    "claim-more",
    "miss-halo",
    "use-old-totals",
    "add-as-they-come",
    "go-back-unevenly",
};
static_assert(kPlantedBugNames.size() == static_cast<std::size_t>(PlantedBug::kGoBackUnevenly) + 1);

#ifdef REGROUP_PLANTED_BUGS
inline constexpr bool kBugsArePlanted = true;
// Which one is on. To be set before a run, not during one.
inline PlantedBug planted_bug = PlantedBug::kNone;
inline bool planted(PlantedBug bug) {
  return planted_bug == bug;
}
#else
inline constexpr bool kBugsArePlanted = false;
inline constexpr PlantedBug planted_bug = PlantedBug::kNone;
constexpr bool planted(PlantedBug) {
  return false;
}
#endif

constexpr std::string_view name_of(PlantedBug bug) {
  return kPlantedBugNames[static_cast<std::size_t>(bug)];
}

}  // namespace regroup
