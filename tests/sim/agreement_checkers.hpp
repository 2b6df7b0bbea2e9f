// Holds the agreement on views against I2, I5 and I6 where it happens: in the control messages as
// they are sent and arrive, in the fencing tokens that are asked for and made, and in the frames
// that are handed on. It rebuilds each voter's promise and vote from what that voter said, so that
// a bug shows when it is made and not only when two views meet. It knows the wire format and no
// code of the membership protocol; it never changes what it looks at. A rank promises and votes in
// the step in which it first says so or has others do it; one that answers for others must have
// their answers.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "runtime/protocol/node.hpp"
#include "tests/sim/checkers.hpp"
#include "tests/sim/probes.hpp"

namespace regroup::sim {

class AgreementCheckers {
 public:
  // `checkers` keeps the first violation and outlives it.
  AgreementCheckers(std::uint32_t ranks, Checkers& checkers);

  // A rank sends this frame, be it lost or not.
  void sent(RankId from, const Frame& frame);
  // Before a rank takes in these bytes, and after it, with what it gave out.
  void arrives(const Node& node, RankId from, std::span<const std::byte> bytes);
  void taken_in(const Output& output);
  // After any step: I5, nobody counts the living as dead.
  void after_step(RankId rank, const Node& node);
  void rank_killed(RankId rank) { gone_.insert(rank); }
  void rank_ended(RankId rank, const Outcome& outcome);
  // From now on nothing gets from these to those, for good.
  void cut(const RankSet& from, const RankSet& to) { cut_.emplace_back(from, to); }
  // I13: where members of the latest view gave up, they were too few to go on.
  void run_ended();
  void token_wanted(RankId rank, const Node& node, const FenceRequest& request);
  // The token of the epoch is made with this content, for good.
  void token_made(Epoch epoch, std::span<const std::byte> content);
  const Probes& probes() const { return probes_; }

 private:
  using Ballot = std::uint64_t;  // the round above the number of the rank that proposes
  struct Voter {
    Ballot promised = 0;
    Ballot accepted = 0;
    std::optional<View> value;  // what was accepted
  };
  // What a rank had voted for when it promised.
  struct Promise {
    Ballot accepted = 0;
    std::optional<View> value;
  };
  struct Proposal {
    std::map<RankId, Promise> promised;  // by whomever, heard by the proposer or not
    RankSet voted;
    RankSet promises;  // that arrived before the value was proposed; the proposer's own too
    Ballot best = 0;
    std::optional<View> best_value;  // what it is held to
    std::optional<View> value;       // what is proposed
    RankSet votes;                   // that arrived
    bool token_wanted = false;
  };
  // A frame of a job that its receiver must not hand on.
  struct Stale {
    RankId from;
    MessageKind kind{};
    std::uint64_t lamport = 0;
  };

  void on_prepare(RankId from, Epoch epoch, Reader& reader);
  void on_promise(RankId from, Epoch epoch, Reader& reader);
  void promises(RankId rank, Epoch epoch, Ballot ballot);
  void votes(RankId rank, Epoch epoch, Ballot ballot);
  void on_accept(RankId from, Epoch epoch, Reader& reader);
  void on_accepted(RankId from, Epoch epoch, Reader& reader);
  void on_decide(Reader& reader);
  void promise_arrives(RankId from, Epoch epoch, Reader& reader);
  void vote_arrives(RankId from, Epoch epoch, Reader& reader);
  // The largest groups of these in which nobody is cut off from another for good.
  std::vector<RankSet> that_hear_each_other(const RankSet& ranks) const;
  bool is_quorum(const RankSet& answered, const View& view, const RankSet& confirmed) const;
  Proposal* own_proposal(RankId rank, Epoch epoch, Ballot ballot);

  std::uint32_t ranks_;
  Checkers* checkers_;
  Probes probes_;
  std::map<std::pair<Epoch, RankId>, Voter> voters_;
  std::map<std::pair<Epoch, Ballot>, Proposal> proposals_;
  std::map<Epoch, View> tokens_;
  std::map<Epoch, View> views_;     // as installed by anybody
  std::vector<Epoch> epochs_;       // by rank
  std::vector<RankSet> confirmed_;  // by rank, as of its latest step
  std::optional<Stale> stale_;      // that is being taken in
  std::vector<std::pair<RankSet, RankSet>> cut_;
  RankSet gone_;
  RankSet gave_up_;
};

}  // namespace regroup::sim
