// How the members of a view get to the next one when some are lost, come back, or something else
// broke the epoch: revoke, agree, shrink. Pure, not thread-safe; one a Node, which carries its
// messages outside the job's links, so they may be lost, doubled and reordered at will.
//
//   stable --evidence, a revoke heard, a join, a request--> revoked --agreed--> stable in a new
//   view
//                                                                 \--agreed without this rank-->
//                                                                 excluded
//   excluded --lets in by the coordinator--> stable          revoked, excluded --too long--> given
//   up
//
// Revoke: whoever learns of a failure tells its neighbours in a binomial graph over the members
// (Angskun, Bosilca and Dongarra, ISPA 2007), who tell theirs (Bosilca et al., EuroMPI 2016), with
// what is known of deaths and suspicions.
// Agree: single-decree Paxos (Lamport, TOCS 16(2), 1998) an epoch, whose decision is the next view.
// The lowest rank that seems alive proposes at once, the others later, so any proposer may die.
// Many members are asked, answer and are told through a tree (agreement.hpp): its inner ranks
// promise and vote for nobody but themselves, and pass on what others have said. The proposer goes
// round those that are silent, so that a tree is never needed to go on.
// A quorum is at least half of the members that are not confirmed dead; since such quorums need not
// meet (the dead cannot answer), no decision counts before it is the content of the next epoch's
// fencing token, which is made by one atomic create: the file system breaks every tie, and both
// halves of a cluster never go on. A rank that meets another of an older epoch answers with the
// decision.
// Where two members that live cannot talk to each other, one of them is left out, for both would
// bring each view to a stop. Never the coordinator, and nobody while another is to take its place:
// that one has to hear of every copy of the ledger.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "runtime/protocol/agreement.hpp"
#include "runtime/protocol/buffer.hpp"
#include "runtime/protocol/dead_links.hpp"
#include "runtime/protocol/evidence.hpp"
#include "runtime/protocol/frame.hpp"
#include "runtime/protocol/view.hpp"

namespace regroup {

// Take the token of `epoch` for `content`: create it if it is not there, else say what is in it.
struct FenceRequest {
  Epoch epoch;
  Buffer content;
};

// What the token of the epoch holds now; empty: it could not be made nor read.
struct FenceAnswer {
  Epoch epoch;
  std::optional<Buffer> content;
};

struct MembershipOptions {
  RankId self;
  std::uint32_t ranks = 1;
  // Without a next view for so long, a rank gives up.
  Nanoseconds give_up_after = 60 * kSecond;
  TreeOptions tree = {};
};

class Membership {
 public:
  // Between sendings of what was not answered: doubled each time.
  static constexpr Nanoseconds kResendMin = 10 * kMillisecond;
  static constexpr Nanoseconds kResendMax = 320 * kMillisecond;
  // Who asks others on behalf of the proposer waits so long for all of them before it passes on
  // what it has, and then what comes. Shorter than kResendMin, after which the proposer asks those
  // itself of whom it has not heard.
  static constexpr Nanoseconds kGatherPatience = 4 * kMillisecond;
  // Who has voted and not heard what was decided asks its neighbours.
  static constexpr Nanoseconds kAskAfter = 40 * kMillisecond;
  // A proposer waits so long for members that nobody suspects before it goes on without them.
  static constexpr Nanoseconds kPatience = 3 * kSecond;
  // The n-th member alive proposes when no proposer has come so far that this rank was to accept
  // for n times this; at once when the proposer seems dead. Longer than a proposer's patience, or
  // they would outbid each other for ever. That somebody proposes is not enough: it may not hear
  // the answers.
  static constexpr Nanoseconds kTakeover = 2 * kPatience;
  // A member of a new view whom this rank's detector suspected before, and has not heard since,
  // gets so long to show that it lives.
  static constexpr Nanoseconds kSecondChance = 500 * kMillisecond;
  // A rank that was not ticked for so long stood still itself: that is no silence of others.
  static constexpr Nanoseconds kOwnStall = 100 * kMillisecond;
  // A rank that was left out asks to come back at once the first time, then after so long, four
  // times as long, and so on; at once again if it has been a member for so long.
  static constexpr Nanoseconds kRejoinMin = kSecond;
  static constexpr Nanoseconds kRejoinMax = 60 * kSecond;
  static constexpr Nanoseconds kRejoinForgotten = 600 * kSecond;
  // A rank of an older epoch is told of the newer one no more often than this.
  static constexpr Nanoseconds kTellAgain = 20 * kMillisecond;

  struct Message {
    RankId to;
    MessageKind kind{};
    Buffer payload;
  };
  struct Output {
    std::vector<Message> messages;
    std::optional<FenceRequest> fence;
    bool installed = false;  // view() is a new one
  };
  enum class State : std::uint8_t { kStable, kRevoked, kExcluded, kGivenUp };

  explicit Membership(const MembershipOptions& options);

  // Enters the first view: all ranks, rank 0 coordinates.
  void start(Nanoseconds now);

  // Inputs; each appends to `output`.
  void tick(Nanoseconds now, Output& output);
  void learn(const PeerEvidence& evidence, Output& output);
  // False if the message makes no sense.
  bool receive(RankId from, MessageKind kind, std::span<const std::byte> payload, Output& output);
  void fence_answered(const FenceAnswer& answer, Output& output);
  // This epoch cannot go on, though nobody is known to have failed: a message was lost. The links
  // to `unreachable` have carried nothing in an epoch before this one either: the next view has
  // only one end of each.
  void request_new_view(Output& output, const RankSet& unreachable = {});
  // `from`, a rank that runs, still sends in an epoch before this one.
  void tell(RankId from, Output& output);
  // A rank has left, and will neither say nor do anything more in this run. No failure.
  void has_left(RankId rank) { confirmed_.insert(rank); }
  // How far this rank's copy of the ledger goes, to be told when it is asked.
  void set_ledger(LedgerPosition position) { ledger_ = position; }

  const View& view() const { return view_; }
  State state() const { return state_; }
  const RankSet& confirmed() const { return confirmed_; }
  const RankSet& suspected() const { return suspected_; }
  // Whether those who answered are enough to go on, though not all did.
  bool has_quorum(const RankSet& answered) const;

 private:
  struct Proposal : Round {
    bool asked = false;  // all of them, once
    RankSet silent;      // did not answer in the phase before
    Nanoseconds resend_at = 0;
    Nanoseconds resend_after = kResendMin;
  };
  // Of another's ballot: this rank has answered, and asks others.
  struct Relay : Round {
    struct Asker {
      RankId rank;
      std::size_t told = 0;  // of how many ranks
    };
    RankSet charge;  // whom it is to ask
    std::vector<Asker> askers;
  };
  // What ranks tell each other with every message about who can take part.
  struct Knowledge {
    RankSet confirmed;
    RankSet suspected;
    RankSet joining;
    DeadLinks dead_links;
  };

  bool on_revoke(Reader& reader, Output& output);
  bool on_prepare(RankId from, Reader& reader, Output& output);
  bool on_promise(RankId from, Reader& reader, Output& output);
  bool on_accept(RankId from, Reader& reader, Output& output);
  bool get_other_promises(Reader& reader, Answers& answers) const;
  bool on_accepted(RankId from, Reader& reader, Output& output);
  bool on_refuse(Reader& reader, Output& output);
  bool on_decide(Reader& reader, Output& output);
  bool on_join(RankId from, Reader& reader, Output& output);

  // Of a request, whoever it came from.
  bool has_promised_more(RankId from, Ballot ballot, Output& output);
  void take_part(RankId from, Round round, RankSet charge, Output& output);
  std::optional<RankSet> get_charge(Reader& reader) const;
  void ask(Round& round, RankSet ranks, const RankSet& silent, Output& output);
  void mend(Round& round, const RankSet& silent, Output& output);
  void send_request(const Round& round, const Branch& branch, Output& output) const;
  void send_answer(RankId to, Output& output) const;
  void answer_askers(Output& output);
  void abandon_relay(Output& output);
  void collect(Phase phase, Ballot ballot, Answers answers, Output& output);
  std::uint32_t fanout(std::size_t members) const;
  RankSet lost_or_silent() const;
  void pass_on_view(const View& view, RankSet to, const RankSet& silent, Output& output) const;

  void revoke();
  void flood_revoke(Output& output);
  bool merge(const Knowledge& heard);
  void put_knowledge(Writer& writer) const;
  std::optional<Knowledge> get_knowledge(Reader& reader) const;

  RankSet alive() const;
  std::optional<View> get_next_view(Reader& reader) const;
  void propose(Output& output);
  void send_phase(Output& output);
  void advance(Output& output);
  View next_view() const;
  void part_dead_links(RankSet& members) const;
  void begin_accept(Output& output);
  void take_fence(Output& output);
  void decide(const View& view, Output& output);
  void adopt(const View& view, Output& output);
  void put_off_rejoining();
  void ask_to_join(Output& output);
  void end_second_chance(Output& output);
  void excuse_own_stall(Nanoseconds stall);

  Writer begin(RankId to, MessageKind kind, Output& output) const;
  void send_view(RankId to, const View& view, const RankSet& charge, Output& output) const;

  MembershipOptions options_;
  Nanoseconds now_ = 0;
  State state_ = State::kStable;
  View view_;
  RankSet confirmed_;      // dead or gone, for good
  RankSet suspected_;      // by whomever, in this epoch
  RankSet own_suspected_;  // by this rank's detector, until it takes that back
  RankSet doubted_;        // of whom a suspicion was heard in this epoch
  Nanoseconds second_chance_ends_ = 0;
  RankSet joining_;
  DeadLinks dead_links_;  // of this epoch

  // Of this epoch, once revoked.
  Nanoseconds revoked_since_ = 0;
  Nanoseconds progressed_at_ = 0;
  Nanoseconds nag_at_ = 0;
  Ballot promised_;
  Ballot accepted_ballot_;
  std::optional<View> accepted_;
  std::optional<Proposal> proposal_;
  std::optional<Relay> relay_;

  Epoch passed_on_epoch_;
  RankSet passed_on_;                // who were told the view of that epoch for another rank
  std::optional<View> excluded_by_;  // the view that this rank is not in
  Nanoseconds member_since_ = 0;
  Nanoseconds rejoin_after_ = 0;  // the next time it is left out
  Nanoseconds rejoin_at_ = 0;
  Nanoseconds join_at_ = 0;
  std::uint32_t join_turn_ = 0;
  std::vector<Nanoseconds> told_at_;  // by rank
  LedgerPosition ledger_ = 0;
};

}  // namespace regroup
