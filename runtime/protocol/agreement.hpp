// How one phase of a ballot (membership.hpp) gets to many ranks and their answers back, with few
// messages for each: a request goes down a tree, answers come up merged. Plain values and pure
// functions, owned by Membership. Nothing here promises, votes or counts a quorum: a tree only
// carries what its ranks say, so that it is as safe as single messages are, whoever dies in it.
//
// What a merged answer means: each rank in it has itself given that answer to this ballot in this
// phase, and the highest ballot that any of them had accepted before is in it with its value. That
// is all that a proposer takes from single answers (Lamport, TOCS 16(2), 1998). A tree for the
// agreement on failures: Herault et al., "Practical Scalable Consensus for Pseudo-Synchronous
// Distributed Systems", SC15.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "runtime/protocol/ids.hpp"
#include "runtime/protocol/rank_set.hpp"
#include "runtime/protocol/view.hpp"

namespace regroup {

// Ballots are ordered by round, then by who proposes.
using Ballot = Id<struct BallotTag, std::uint64_t>;
constexpr unsigned kBallotRoundShift = 32;
constexpr RankId proposer_of(Ballot ballot) {
  return RankId{static_cast<std::uint32_t>(ballot.value)};
}

struct TreeOptions {
  // In a view of so many members the proposer asks each itself: that is as fast, and one message
  // each way.
  std::uint32_t star_ranks_max = 16;
  // Else each asks so many, who ask the others. At least 1.
  std::uint32_t fanout = 8;
};

// What some ranks answer to one phase of a ballot.
struct Answers {
  RankSet ranks;
  std::vector<std::pair<RankId, LedgerPosition>> ledgers;  // of those of them that have any
  Ballot best_ballot;                                      // the highest that they had accepted
  std::optional<View> value;                               // in it

  void add(const Answers& others);
};

// A rank that is asked, and those whom it is to ask in turn.
struct Branch {
  RankId head;
  RankSet charge;
};

// Parts the ranks, in their order, into at most `fanout` branches of the same size, give or take
// one: neighbours, who often share a node, share a branch. The depth of the whole tree is
// logarithmic to the base `fanout`; with 1 it is a chain.
std::vector<Branch> make_branches(const RankSet& ranks, std::uint32_t fanout);

enum class Phase : std::uint8_t { kPrepare, kAccept, kFence };

// One phase of a ballot, as the rank that proposes or passes it on sees it.
struct Round {
  Phase phase = Phase::kPrepare;
  Ballot ballot;
  std::optional<View> value;  // that is to be accepted
  Answers answers;            // its own among them
  std::vector<Branch> branches;
  Nanoseconds since = 0;

  // Those who were to be asked by ranks among `lost`, and have not answered. Their branches go.
  RankSet take_orphans(const RankSet& lost);
};

// Ranks as runs of neighbours: the number of runs as u32, then the first rank and how many of each
// as u32.
void put_rank_runs(Writer& writer, const RankSet& set);
// Empty if they are not there, not in ascending order, or not all below `ranks`.
std::optional<RankSet> get_rank_runs(Reader& reader, std::uint32_t ranks);

// What ends a message that is about other ranks than its sender and receiver: nothing if `set` is
// empty.
void put_other_ranks(Writer& writer, const RankSet& set);
std::optional<RankSet> get_other_ranks(Reader& reader, std::uint32_t ranks);

}  // namespace regroup
