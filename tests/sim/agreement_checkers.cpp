#include "tests/sim/agreement_checkers.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "runtime/protocol/agreement.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup::sim {
namespace {

constexpr const char* kOneVote = "I2 one vote";
constexpr const char* kAgreement = "I5 agreement";
constexpr const char* kRevokedEpoch = "I6 delivery";
constexpr const char* kProgress = "I13 progress";
constexpr int kExitResumable = 75;

RankId proposer_of(std::uint64_t ballot) {
  return RankId{static_cast<std::uint32_t>(ballot)};
}

// Of a promise: what the ranks tell each other about who can take part.
void skip_knowledge(Reader& reader, std::uint32_t ranks) {
  for (int i = 0; i < 3; ++i) (void)get_ranks(reader, ranks);
  (void)DeadLinks::get(reader, ranks);
}

}  // namespace

AgreementCheckers::AgreementCheckers(std::uint32_t ranks, Checkers& checkers)
    : ranks_(ranks), checkers_(&checkers), epochs_(ranks), confirmed_(ranks) {}

// ---- what a rank says ----

void AgreementCheckers::sent(RankId from, const Frame& frame) {
  if (!is_control(frame.header.kind)) return;
  Reader reader(frame.body);
  if (frame.header.kind == MessageKind::kDecide) return on_decide(reader);
  const auto epoch = reader.get<Epoch>();
  switch (frame.header.kind) {
    case MessageKind::kPrepare:
      return on_prepare(from, epoch, reader);
    case MessageKind::kPromise:
      return on_promise(from, epoch, reader);
    case MessageKind::kAccept:
      return on_accept(from, epoch, reader);
    case MessageKind::kAccepted:
      return on_accepted(from, epoch, reader);
    default:
      return;
  }
}

void AgreementCheckers::promises(RankId rank, Epoch epoch, Ballot ballot) {
  Voter& voter = voters_[{epoch, rank}];
  if (ballot < voter.promised) {
    checkers_->violated(kOneVote, "promises a ballot below one that it has promised");
  }
  voter.promised = ballot;
  proposals_[{epoch, ballot}].promised.try_emplace(rank, Promise{voter.accepted, voter.value});
}

void AgreementCheckers::votes(RankId rank, Epoch epoch, Ballot ballot) {
  Voter& voter = voters_[{epoch, rank}];
  if (ballot < voter.promised) {
    checkers_->violated(kOneVote, "votes below the ballot that it has promised");
  }
  Proposal& proposal = proposals_[{epoch, ballot}];
  voter = {ballot, ballot, proposal.value};
  proposal.voted.insert(rank);
}

// A proposer promises itself the ballot that it asks for; whoever passes it on has promised it.
void AgreementCheckers::on_prepare(RankId from, Epoch epoch, Reader& reader) {
  const auto ballot = reader.get<Ballot>();
  promises(from, epoch, ballot);
  Proposal& proposal = proposals_[{epoch, ballot}];
  if (proposer_of(ballot) != from) {
    if (proposal.promises.empty()) checkers_->violated(kOneVote, "a ballot of another's");
    return;
  }
  if (!proposal.promises.insert(from)) return;
  const Voter& voter = voters_[{epoch, from}];
  proposal.best = voter.accepted;
  proposal.best_value = voter.value;
}

// Of itself and those that it has heard: the highest vote of all.
void AgreementCheckers::on_promise(RankId from, Epoch epoch, Reader& reader) {
  const auto ballot = reader.get<Ballot>();
  skip_knowledge(reader, ranks_);
  reader.get<LedgerPosition>();
  const auto accepted = reader.get<Ballot>();
  std::optional<View> value;
  if (reader.get<std::uint8_t>() != 0) value = get_view(reader, ranks_);
  const auto others = get_other_ranks(reader, ranks_);
  Voter& voter = voters_[{epoch, from}];
  if (accepted > voter.accepted && proposer_of(accepted) == from) {  // it had nobody to tell
    voter.accepted = accepted;
    voter.value = value;
  }
  promises(from, epoch, ballot);
  const Proposal& proposal = proposals_[{epoch, ballot}];
  Promise best = proposal.promised.at(from);
  for (const RankId other : others.value_or(RankSet())) {
    const auto promised = proposal.promised.find(other);
    if (promised == proposal.promised.end()) {
      return checkers_->violated(kOneVote, "promises for one that has not promised");
    }
    if (promised->second.accepted > best.accepted) best = promised->second;
  }
  if (accepted != best.accepted || value != best.value) {
    checkers_->violated(kOneVote, "a promise does not say what its voter has voted for");
  }
}

void AgreementCheckers::on_accept(RankId from, Epoch epoch, Reader& reader) {
  const auto ballot = reader.get<Ballot>();
  const auto value = get_view(reader, ranks_);
  Proposal& proposal = proposals_[{epoch, ballot}];
  const bool passed_on = proposer_of(ballot) != from;
  if (passed_on && !proposal.value) {
    return checkers_->violated(kOneVote, "a ballot of another's");
  }
  if (proposal.value && proposal.value != value) {
    checkers_->violated(kAgreement, "one ballot with two values");
  }
  if (proposal.value) return votes(from, epoch, ballot);
  proposal.value = value;
  votes(from, epoch, ballot);
  proposal.votes.insert(from);
  proposal.promises.insert(from);  // a lone member asks nobody
  if (proposal.best_value && proposal.best_value != value) {
    checkers_->violated(kAgreement, "proposes another value than the one it was told of");
  }
  const auto view = views_.find(epoch);
  if (view != views_.end() && !is_quorum(proposal.promises, view->second, confirmed_[from.value])) {
    checkers_->violated(kAgreement, "proposes without a quorum of promises");
  }
  RankSet left_out = proposal.promises;
  left_out.erase_all(confirmed_[from.value]);
  if (value) left_out.erase_all(value->members);
  if (!proposal.best_value && !left_out.empty()) probes_.hit(Probe::kLinkParted);
}

void AgreementCheckers::on_accepted(RankId from, Epoch epoch, Reader& reader) {
  const auto ballot = reader.get<Ballot>();
  const auto others = get_other_ranks(reader, ranks_);
  votes(from, epoch, ballot);
  if (!proposals_[{epoch, ballot}].voted.contains_all(others.value_or(RankSet()))) {
    checkers_->violated(kOneVote, "votes for one that has not voted");
  }
}

// Nobody says what was decided before the token of that epoch holds it.
void AgreementCheckers::on_decide(Reader& reader) {
  const auto view = get_view(reader, ranks_);
  if (!view) return checkers_->violated(kAgreement, "a decision that is no view");
  if (view->epoch <= Epoch{1}) return;
  const auto token = tokens_.find(view->epoch);
  if (token == tokens_.end() || token->second != *view) {
    checkers_->violated(
        kAgreement, fmt::format("the decision on epoch {} is not its token's", view->epoch.value));
  }
}

// ---- what arrives ----

void AgreementCheckers::arrives(const Node& node, RankId from, std::span<const std::byte> bytes) {
  stale_.reset();
  const auto frame = open_frame(bytes);
  if (!frame || frame->header.from != from) return;
  const FrameHeader& header = frame->header;
  if (!is_control(header.kind)) {
    if (header.epoch != node.view().epoch || !node.stable()) {
      stale_ = {from, header.kind, header.lamport};
    }
    return;
  }
  Reader reader(frame->body);
  if (header.kind != MessageKind::kPromise && header.kind != MessageKind::kAccepted) return;
  const auto epoch = reader.get<Epoch>();
  if (epoch != node.view().epoch || !node.view().members.contains(from)) return;
  if (header.kind == MessageKind::kPromise) return promise_arrives(from, epoch, reader);
  vote_arrives(from, epoch, reader);
}

AgreementCheckers::Proposal* AgreementCheckers::own_proposal(RankId rank, Epoch epoch,
                                                             Ballot ballot) {
  const auto found = proposals_.find({epoch, ballot});
  return proposer_of(ballot) == rank && found != proposals_.end() ? &found->second : nullptr;
}

void AgreementCheckers::promise_arrives(RankId from, Epoch epoch, Reader& reader) {
  const auto ballot = reader.get<Ballot>();
  Proposal* proposal = own_proposal(checkers_->rank(), epoch, ballot);
  if (!proposal || proposal->value) return;
  skip_knowledge(reader, ranks_);
  reader.get<LedgerPosition>();
  const auto accepted = reader.get<Ballot>();
  std::optional<View> value;
  if (reader.get<std::uint8_t>() != 0) value = get_view(reader, ranks_);
  proposal->promises.insert(from);
  proposal->promises.insert_all(get_other_ranks(reader, ranks_).value_or(RankSet()));
  if (!value || accepted <= proposal->best) return;
  proposal->best = accepted;
  proposal->best_value = std::move(value);
}

void AgreementCheckers::vote_arrives(RankId from, Epoch epoch, Reader& reader) {
  Proposal* proposal = own_proposal(checkers_->rank(), epoch, reader.get<Ballot>());
  if (!proposal || !proposal->value) return;
  proposal->votes.insert(from);
  proposal->votes.insert_all(get_other_ranks(reader, ranks_).value_or(RankSet()));
}

void AgreementCheckers::taken_in(const Output& output) {
  if (!stale_) return;
  for (const Event& event : output.events) {
    if (event.kind != EventKind::kReceive || event.peer != stale_->from) continue;
    if (event.a == stale_->lamport && event.b == static_cast<std::uint64_t>(stale_->kind)) {
      checkers_->violated(
          kRevokedEpoch,
          fmt::format("hands on a frame of rank {} of an epoch that is over", stale_->from.value));
    }
  }
  stale_.reset();
}

// ---- what a rank knows and wants ----

void AgreementCheckers::after_step(RankId rank, const Node& node) {
  if (epochs_[rank.value] != node.view().epoch) {
    epochs_[rank.value] = node.view().epoch;
    views_.try_emplace(node.view().epoch, node.view());
  }
  const RankSet& confirmed = node.membership().confirmed();
  if (confirmed.size() == confirmed_[rank.value].size()) return;
  confirmed_[rank.value] = confirmed;
  if (!gone_.contains_all(confirmed)) {
    checkers_->violated(kAgreement, "a rank that lives is counted as dead");
  }
}

void AgreementCheckers::rank_ended(RankId rank, const Outcome& outcome) {
  gone_.insert(rank);
  if (outcome.alone && outcome.exit_status == kExitResumable) gave_up_.insert(rank);
}

void AgreementCheckers::run_ended() {
  if (views_.empty()) return;
  const View& latest = views_.rbegin()->second;
  RankSet stuck;  // whoever never heard of the latest view may have been alone
  const auto next = tokens_.upper_bound(latest.epoch);  // decided, be it by one that died then
  for (const RankId rank : gave_up_) {
    const bool left_out = next != tokens_.end() && !next->second.members.contains(rank);
    if (epochs_[rank.value] == latest.epoch && !left_out) stuck.insert(rank);
  }
  for (const RankSet& group : that_hear_each_other(stuck)) {
    for (const RankId rank : group) {
      RankSet dead = confirmed_[rank.value];
      dead.erase_all(gave_up_);  // and before that they were in the way
      if (!is_quorum(group, latest, dead)) continue;
      checkers_->violated(kProgress, fmt::format("rank {} and others gave up in epoch {}, though "
                                                 "they were enough to go on",
                                                 rank.value, latest.epoch.value));
    }
  }
}

std::vector<RankSet> AgreementCheckers::that_hear_each_other(const RankSet& ranks) const {
  std::vector<RankSet> groups{ranks};
  for (const auto& [from, to] : cut_) {
    std::vector<RankSet> split;
    for (const RankSet& group : groups) {
      for (const RankSet* side : {&from, &to}) {
        split.push_back(group);
        split.back().erase_all(*side);
      }
    }
    groups = std::move(split);
  }
  return groups;
}

// At least half of the members, not counting those that are known to be dead.
bool AgreementCheckers::is_quorum(const RankSet& answered, const View& view,
                                  const RankSet& confirmed) const {
  RankSet able = view.members;
  able.erase_all(confirmed);
  const auto count =
      std::ranges::count_if(able, [&](RankId rank) { return answered.contains(rank); });
  return count != 0 && 2 * static_cast<std::size_t>(count) >= able.size();
}

void AgreementCheckers::token_wanted(RankId rank, const Node& node, const FenceRequest& request) {
  Reader reader(request.content.view());
  const auto wanted = get_view(reader, ranks_);
  const Epoch epoch = node.view().epoch;
  if (!wanted || wanted->epoch.value != epoch.value + 1 || request.epoch != wanted->epoch) {
    return checkers_->violated(kAgreement, "wants a token that is not the next view");
  }
  const RankSet& confirmed = node.membership().confirmed();
  if (is_quorum(RankSet{rank}, node.view(), confirmed)) return;  // it needs nobody's answer
  const Ballot ballot = voters_[{epoch, rank}].accepted;
  Proposal& proposal = proposals_[{epoch, ballot}];
  if (std::exchange(proposal.token_wanted, true)) return;  // a quorum that it had it may lose
  if (proposal.value != *wanted) {
    checkers_->violated(kAgreement, "wants a token for another value than it proposes");
  }
  if (!is_quorum(proposal.votes, node.view(), confirmed)) {
    checkers_->violated(kAgreement, "wants a token without a quorum of votes");
  }
}

void AgreementCheckers::token_made(Epoch epoch, std::span<const std::byte> content) {
  Reader reader(content);
  if (auto view = get_view(reader, ranks_)) tokens_.emplace(epoch, std::move(*view));
}

}  // namespace regroup::sim
