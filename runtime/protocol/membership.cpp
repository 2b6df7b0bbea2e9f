#include "runtime/protocol/membership.hpp"

#include <algorithm>
#include <utility>

#include "runtime/protocol/check.hpp"
#include "runtime/protocol/planted.hpp"

namespace regroup {

Membership::Membership(const MembershipOptions& options)
    : options_(options), told_at_(options.ranks, -kTellAgain) {}

void Membership::start(Nanoseconds now) {
  now_ = now;
  std::vector<RankId> all;
  for (std::uint32_t rank = 0; rank < options_.ranks; ++rank) all.emplace_back(rank);
  view_ = {.epoch = Epoch{1},
           .members = RankSet(std::move(all)),
           .coordinator = RankId{0},
           .joined = {},
           .ledger_holder = RankId{0},
           .ledger = 0};
}

bool Membership::has_quorum(const RankSet& answered) const {
  RankSet able = view_.members;
  able.erase_all(confirmed_);
  const auto count = static_cast<std::size_t>(
      std::ranges::count_if(able, [&](RankId rank) { return answered.contains(rank); }));
  if (planted(PlantedBug::kQuorumTooSmall)) return 2 * (count + 1) >= able.size();
  return count != 0 && 2 * count >= able.size();
}

RankSet Membership::alive() const {
  RankSet alive = view_.members;
  alive.erase_all(confirmed_);
  alive.erase_all(suspected_);
  return alive;
}

// ---- what others tell ----

void Membership::learn(const PeerEvidence& evidence, Output& output) {
  if (evidence.rank == options_.self || evidence.rank.value >= options_.ranks) return;
  switch (evidence.kind) {
    case EvidenceKind::kTrusted:
      suspected_.erase(evidence.rank);
      own_suspected_.erase(evidence.rank);
      return;
    case EvidenceKind::kLeft:
      has_left(evidence.rank);
      return;
    case EvidenceKind::kConfirmed:
      if (!confirmed_.insert(evidence.rank)) return;
      joining_.erase(evidence.rank);
      own_suspected_.erase(evidence.rank);
      break;
    case EvidenceKind::kSuspected:
    case EvidenceKind::kUnreachable:
      if (confirmed_.contains(evidence.rank)) return;
      if (planted(PlantedBug::kSuspicionIsDeath)) confirmed_.insert(evidence.rank);
      own_suspected_.insert(evidence.rank);
      doubted_.insert(evidence.rank);
      if (!suspected_.insert(evidence.rank)) return;
      break;
  }
  if (!view_.members.contains(evidence.rank)) return;
  revoke();
  flood_revoke(output);
  advance(output);
}

void Membership::request_new_view(Output& output, const RankSet& unreachable) {
  if (state_ != State::kStable) return;
  for (const RankId rank : unreachable) dead_links_.insert(options_.self, rank);
  revoke();
  flood_revoke(output);
}

bool Membership::receive(RankId from, MessageKind kind, std::span<const std::byte> payload,
                         Output& output) {
  Reader reader(payload);
  if (kind == MessageKind::kDecide) return on_decide(reader, output);
  if (kind == MessageKind::kJoin) return on_join(from, reader, output);
  const auto epoch = reader.get<Epoch>();
  if (reader.failed()) return false;
  if (epoch < view_.epoch) {
    tell(from, output);
    return true;
  }
  // This rank missed a decision, and is answered with it.
  if (epoch > view_.epoch) {
    begin(from, MessageKind::kAsk, output);
    return true;
  }
  if (!view_.members.contains(from) || state_ == State::kGivenUp) return true;
  if (state_ == State::kExcluded) {  // it may be a member of the view that this rank is not in
    tell(from, output);
    return true;
  }
  suspected_.erase(from);
  switch (kind) {
    case MessageKind::kAsk:
      return reader.complete();  // of this epoch: there is no more to tell
    case MessageKind::kRevoke:
      return on_revoke(reader, output);
    case MessageKind::kPrepare:
      return on_prepare(from, reader, output);
    case MessageKind::kPromise:
      return on_promise(from, reader, output);
    case MessageKind::kAccept:
      return on_accept(from, reader, output);
    case MessageKind::kAccepted:
      return on_accepted(from, reader, output);
    case MessageKind::kRefuse:
      return on_refuse(reader, output);
    default:
      return false;
  }
}

void Membership::tell(RankId from, Output& output) {
  if (confirmed_.contains(from) || now_ - told_at_[from.value] < kTellAgain) return;
  told_at_[from.value] = now_;
  send_view(from, excluded_by_ ? *excluded_by_ : view_, {}, output);
}

// ---- revoke ----

void Membership::revoke() {
  if (state_ != State::kStable) return;
  state_ = State::kRevoked;
  revoked_since_ = now_;
  progressed_at_ = now_;
  nag_at_ = now_ + kResendMin;
}

// To the neighbours at distances of powers of two, both ways: any two members are linked by a path
// of logarithmic length, also when some of those between are dead.
void Membership::flood_revoke(Output& output) {
  RankSet able = view_.members;
  able.erase_all(confirmed_);
  const std::size_t count = able.size();
  const auto self =
      static_cast<std::size_t>(std::ranges::lower_bound(able, options_.self) - able.begin());
  RankSet neighbours;
  for (std::size_t distance = 1; distance < count; distance *= 2) {
    neighbours.insert(able.list()[(self + distance) % count]);
    neighbours.insert(able.list()[(self + count - distance) % count]);
  }
  neighbours.erase(options_.self);
  for (const RankId to : neighbours) {
    Writer writer = begin(to, MessageKind::kRevoke, output);
    put_knowledge(writer);
  }
}

void Membership::put_knowledge(Writer& writer) const {
  put_ranks(writer, confirmed_);
  put_ranks(writer, suspected_);
  put_ranks(writer, joining_);
  dead_links_.put(writer);
}

std::optional<Membership::Knowledge> Membership::get_knowledge(Reader& reader) const {
  auto confirmed = get_ranks(reader, options_.ranks);
  auto suspected = get_ranks(reader, options_.ranks);
  auto joining = get_ranks(reader, options_.ranks);
  auto dead_links = DeadLinks::get(reader, options_.ranks);
  if (!confirmed || !suspected || !joining || !dead_links) return {};
  return Knowledge{std::move(*confirmed), std::move(*suspected), std::move(*joining),
                   std::move(*dead_links)};
}

// Whether any of it is news.
bool Membership::merge(const Knowledge& heard) {
  bool news = false;
  for (const RankId rank : heard.confirmed) {
    if (rank != options_.self) news |= confirmed_.insert(rank);
  }
  for (const RankId rank : heard.suspected) {
    if (rank == options_.self || confirmed_.contains(rank)) continue;
    // Believed once: else the suspicion and the suspect, heard in turns, would be told without end.
    if (doubted_.insert(rank)) news |= suspected_.insert(rank);
  }
  for (const RankId rank : heard.joining) {
    if (!confirmed_.contains(rank) && !view_.members.contains(rank)) news |= joining_.insert(rank);
  }
  joining_.erase_all(confirmed_);
  news |= dead_links_.insert_all(heard.dead_links);
  return news;
}

bool Membership::on_revoke(Reader& reader, Output& output) {
  const auto heard = get_knowledge(reader);
  if (!heard || !reader.complete()) return false;
  const bool was_stable = state_ == State::kStable;
  const bool news = merge(*heard);
  revoke();
  if (was_stable || news) flood_revoke(output);
  advance(output);
  return true;
}

// ---- agree: acceptor ----

// What is agreed on is the view of the next epoch and of no other.
std::optional<View> Membership::get_next_view(Reader& reader) const {
  auto view = get_view(reader, options_.ranks);
  if (view && view->epoch.value != view_.epoch.value + 1) view.reset();
  return view;
}

bool Membership::on_prepare(RankId from, Reader& reader, Output& output) {
  const auto ballot = reader.get<Ballot>();
  const auto heard = get_knowledge(reader);
  auto charge = get_charge(reader);
  if (!heard || !charge || !reader.complete()) return false;
  merge(*heard);
  revoke();
  if (has_promised_more(from, ballot, output)) return true;
  take_part(from, {.phase = Phase::kPrepare, .ballot = ballot}, std::move(*charge), output);
  return true;
}

bool Membership::on_accept(RankId from, Reader& reader, Output& output) {
  const auto ballot = reader.get<Ballot>();
  auto value = get_next_view(reader);
  auto charge = get_charge(reader);
  if (!value || !charge || !reader.complete()) return false;
  revoke();
  if (!planted(PlantedBug::kVoteTwice) && has_promised_more(from, ballot, output)) return true;
  if (ballot != accepted_ballot_) progressed_at_ = now_;
  accepted_ballot_ = ballot;
  accepted_ = *value;
  nag_at_ = now_ + kAskAfter;
  take_part(from, {.phase = Phase::kAccept, .ballot = ballot, .value = std::move(value)},
            std::move(*charge), output);
  return true;
}

bool Membership::has_promised_more(RankId from, Ballot ballot, Output& output) {
  if (ballot >= promised_) return false;
  begin(from, MessageKind::kRefuse, output).put(promised_);
  return true;
}

// ---- agree: passing it on ----

std::optional<RankSet> Membership::get_charge(Reader& reader) const {
  auto charge = get_other_ranks(reader, options_.ranks);
  if (charge && !view_.members.contains_all(*charge)) charge.reset();
  return charge;
}

// Answers for itself what it is asked, and asks those in its charge.
void Membership::take_part(RankId from, Round round, RankSet charge, Output& output) {
  promised_ = round.ballot;
  if (proposal_ && proposal_->ballot < round.ballot) proposal_.reset();
  const bool same = relay_ && relay_->ballot == round.ballot;
  if (same && relay_->phase > round.phase) return;  // nobody waits for it any more
  if (!same || relay_->phase < round.phase) {
    abandon_relay(output);
    Relay& relay = relay_.emplace();
    static_cast<Round&>(relay) = std::move(round);
    relay.answers.ranks.insert(options_.self);
    if (ledger_ != 0) relay.answers.ledgers.emplace_back(options_.self, ledger_);
    if (accepted_ && !planted(PlantedBug::kForgetAccepted)) {
      relay.answers.best_ballot = accepted_ballot_;
      relay.answers.value = accepted_;
    }
    if (planted(PlantedBug::kAnswerForOthers)) relay.answers.ranks.insert_all(charge);
  }
  auto asker = std::ranges::find(relay_->askers, from, &Relay::Asker::rank);
  if (asker == relay_->askers.end()) asker = relay_->askers.insert(asker, {.rank = from});
  asker->told = 0;
  if (charge.empty()) {  // one that goes round those who should have been asked by others
    asker->told = relay_->answers.ranks.size();
    return send_answer(from, output);
  }
  charge.erase(options_.self);
  charge.erase_all(relay_->charge);
  if (relay_->charge.insert_all(charge)) relay_->since = now_;
  ask(*relay_, std::move(charge), {}, output);
  answer_askers(output);
}

std::uint32_t Membership::fanout(std::size_t members) const {
  const bool star = members <= options_.tree.star_ranks_max;
  return star ? static_cast<std::uint32_t>(members) : options_.tree.fanout;
}

RankSet Membership::lost_or_silent() const {
  RankSet set = confirmed_;
  set.insert_all(suspected_);
  return set;
}

// Nobody is to depend on those that seem silent: they are asked, and ask nobody.
void Membership::ask(Round& round, RankSet ranks, const RankSet& silent, Output& output) {
  ranks.erase_all(confirmed_);
  RankSet able = ranks;
  able.erase_all(suspected_);
  able.erase_all(silent);
  ranks.erase_all(able);
  for (Branch& branch : make_branches(able, fanout(view_.members.size()))) {
    send_request(round, branch, output);
    if (!branch.charge.empty()) round.branches.push_back(std::move(branch));
  }
  for (const RankId rank : ranks) send_request(round, {rank, {}}, output);
}

// Takes over whom a rank was to ask that is lost, or seems so.
void Membership::mend(Round& round, const RankSet& silent, Output& output) {
  if (round.branches.empty()) return;
  RankSet orphans = round.take_orphans(lost_or_silent());
  if (!orphans.empty()) ask(round, std::move(orphans), silent, output);
}

void Membership::send_request(const Round& round, const Branch& branch, Output& output) const {
  const bool prepare = round.phase == Phase::kPrepare;
  Writer writer =
      begin(branch.head, prepare ? MessageKind::kPrepare : MessageKind::kAccept, output);
  writer.put(round.ballot);
  if (prepare) {
    put_knowledge(writer);
  } else {
    put_view(writer, *round.value);
  }
  put_other_ranks(writer, branch.charge);
}

// Its own answer, and those that it has gathered.
void Membership::send_answer(RankId to, Output& output) const {
  const Answers& answers = relay_->answers;
  RankSet others = answers.ranks;
  others.erase(options_.self);
  const bool prepare = relay_->phase == Phase::kPrepare;
  Writer writer = begin(to, prepare ? MessageKind::kPromise : MessageKind::kAccepted, output);
  writer.put(relay_->ballot);
  if (!prepare) return put_other_ranks(writer, others);
  put_knowledge(writer);
  LedgerPosition own = 0;
  for (const auto& [rank, ledger] : answers.ledgers) {
    if (rank == options_.self) own = ledger;
  }
  writer.put(own);
  writer.put(answers.best_ballot);
  writer.put(static_cast<std::uint8_t>(answers.value.has_value()));
  if (answers.value) put_view(writer, *answers.value);
  if (others.empty()) return;
  put_rank_runs(writer, others);
  const std::size_t ledgers = answers.ledgers.size() - (own != 0 ? 1 : 0);
  writer.put(static_cast<std::uint32_t>(ledgers));
  for (const auto& [rank, ledger] : answers.ledgers) {
    if (rank == options_.self) continue;
    writer.put(rank);
    writer.put(ledger);
  }
}

// When all in its charge that seem alive have answered, or after a while; what comes later, at
// once.
void Membership::answer_askers(Output& output) {
  RankSet waited = relay_->charge;
  waited.erase_all(lost_or_silent());
  const bool all = relay_->answers.ranks.contains_all(waited);
  if (!all && now_ - relay_->since < kGatherPatience) return;
  const std::size_t count = relay_->answers.ranks.size();
  for (Relay::Asker& asker : relay_->askers) {
    if (std::exchange(asker.told, count) != count) send_answer(asker.rank, output);
  }
}

// For the sake of a higher ballot: who waits for an answer need not.
void Membership::abandon_relay(Output& output) {
  if (!relay_) return;
  for (const Relay::Asker& asker : relay_->askers) {
    if (asker.told == 0 && relay_->ballot < promised_) {
      begin(asker.rank, MessageKind::kRefuse, output).put(promised_);
    }
  }
  relay_.reset();
}

void Membership::collect(Phase phase, Ballot ballot, Answers answers, Output& output) {
  const auto is_meant = [&](const auto& round) {
    return round && round->ballot == ballot && round->phase == phase;
  };
  if (is_meant(proposal_)) {
    suspected_.erase_all(answers.ranks);
    if (planted(PlantedBug::kIgnoreAccepted)) answers.value.reset();
    proposal_->answers.add(answers);
  } else if (is_meant(relay_)) {
    if (planted(PlantedBug::kForgetMerged)) answers.value.reset();
    relay_->answers.add(answers);
  } else {
    return;
  }
  advance(output);
}

// ---- agree: proposer ----

void Membership::propose(Output& output) {
  const std::uint64_t round = (promised_.value >> kBallotRoundShift) + 1;
  proposal_.emplace();
  proposal_->ballot = Ballot{round << kBallotRoundShift | options_.self.value};
  proposal_->since = now_;
  proposal_->answers.ranks.insert(options_.self);
  if (ledger_ != 0) proposal_->answers.ledgers.emplace_back(options_.self, ledger_);
  promised_ = proposal_->ballot;
  if (accepted_) {
    proposal_->answers.best_ballot = accepted_ballot_;
    proposal_->answers.value = accepted_;
  }
  abandon_relay(output);
  send_phase(output);
  advance(output);
}

// To every member that may be alive and has not answered in this phase: through each other at
// first, later each by itself.
void Membership::send_phase(Output& output) {
  Proposal& proposal = *proposal_;
  proposal.resend_at = now_ + proposal.resend_after;
  proposal.resend_after = std::min(2 * proposal.resend_after, kResendMax);
  if (proposal.phase == Phase::kFence) {
    Buffer content;
    Writer writer(content);
    put_view(writer, *proposal.value);
    output.fence = FenceRequest{proposal.value->epoch, std::move(content)};
    return;
  }
  RankSet to = view_.members;
  to.erase_all(confirmed_);
  to.erase_all(proposal.answers.ranks);
  if (!std::exchange(proposal.asked, true)) {
    return ask(proposal, std::move(to), proposal.silent, output);
  }
  for (const RankId rank : to) send_request(proposal, {rank, {}}, output);
}

bool Membership::on_promise(RankId from, Reader& reader, Output& output) {
  const auto ballot = reader.get<Ballot>();
  const auto heard = get_knowledge(reader);
  Answers answers{.ranks = {from}, .ledgers = {}, .best_ballot = {}, .value = {}};
  const auto ledger = reader.get<LedgerPosition>();
  answers.best_ballot = reader.get<Ballot>();
  if (reader.get<std::uint8_t>() != 0) {
    answers.value = get_next_view(reader);
    if (!answers.value) return false;
  }
  if (ledger != 0) answers.ledgers.emplace_back(from, ledger);
  if (!heard || !get_other_promises(reader, answers) || !reader.complete()) return false;
  if (merge(*heard)) flood_revoke(output);
  collect(Phase::kPrepare, ballot, std::move(answers), output);
  return true;
}

// Of those who promise through the sender; none if nothing follows.
bool Membership::get_other_promises(Reader& reader, Answers& answers) const {
  const auto others = get_charge(reader);
  if (!others) return false;
  if (others->empty()) return true;
  answers.ranks.insert_all(*others);
  for (auto left = reader.get_count(sizeof(RankId::rep) + sizeof(LedgerPosition)); left != 0;
       --left) {
    const auto rank = reader.get<RankId>();
    const auto ledger = reader.get<LedgerPosition>();
    if (!others->contains(rank)) return false;
    answers.ledgers.emplace_back(rank, ledger);
  }
  return true;
}

bool Membership::on_accepted(RankId from, Reader& reader, Output& output) {
  const auto ballot = reader.get<Ballot>();
  const auto others = get_charge(reader);
  if (!others || !reader.complete()) return false;
  Answers answers{.ranks = *others, .ledgers = {}, .best_ballot = {}, .value = {}};
  answers.ranks.insert(from);
  collect(Phase::kAccept, ballot, std::move(answers), output);
  return true;
}

// Somebody promised a later ballot: its proposer is left to it.
bool Membership::on_refuse(Reader& reader, Output& output) {
  const auto promised = reader.get<Ballot>();
  if (!reader.complete()) return false;
  promised_ = std::max(promised_, promised);
  const bool of_relay = relay_ && relay_->ballot < promised;
  if (of_relay) abandon_relay(output);
  const bool of_proposal =
      proposal_ && proposal_->ballot < promised && proposal_->phase != Phase::kFence;
  if (of_proposal) proposal_.reset();
  if (of_relay || of_proposal) progressed_at_ = now_;
  return true;
}

// Goes on when all those that seem alive have answered; without some of them only after a while.
void Membership::advance(Output& output) {
  if (state_ != State::kRevoked) return;
  if (relay_) {
    mend(*relay_, {}, output);
    answer_askers(output);
  }
  if (!proposal_) {
    const RankSet able = alive();
    const bool led = promised_ != Ballot{} && able.contains(proposer_of(promised_));
    if (!led && !able.empty() && able.front() == options_.self) propose(output);
    return;
  }
  Proposal& proposal = *proposal_;
  if (proposal.phase == Phase::kFence) return;
  mend(proposal, proposal.silent, output);
  if (!has_quorum(proposal.answers.ranks)) return;
  // Who is not in the view that is to be accepted cannot hold it up.
  RankSet waited = alive();
  if (proposal.phase == Phase::kAccept) {
    RankSet left_out = view_.members;
    left_out.erase_all(proposal.value->members);
    waited.erase_all(left_out);
  }
  const bool all = proposal.answers.ranks.contains_all(waited);
  if (!all && now_ - proposal.since < kPatience) return;
  if (proposal.phase == Phase::kPrepare) {
    begin_accept(output);
  } else {
    take_fence(output);
  }
}

View Membership::next_view() const {
  const Proposal& proposal = *proposal_;
  View next{.epoch = Epoch{view_.epoch.value + 1},
            .members = proposal.answers.ranks,
            .coordinator = view_.coordinator,
            .joined = joining_,
            .ledger_holder = {},
            .ledger = 0};
  next.members.erase_all(confirmed_);
  part_dead_links(next.members);
  if (!next.members.contains(next.coordinator)) next.coordinator = next.members.front();
  next.ledger_holder = next.coordinator;
  for (const auto& [rank, ledger] : proposal.answers.ledgers) {
    const bool own = rank == next.coordinator && ledger == next.ledger;  // nothing to fetch then
    if (!next.members.contains(rank) || (ledger <= next.ledger && !own)) continue;
    next.ledger_holder = rank;
    next.ledger = ledger;
  }
  next.joined.erase_all(next.members);
  next.members.insert_all(next.joined);
  return next;
}

// Takes one end of each dead link out of those that would be members, as long as enough stay.
void Membership::part_dead_links(RankSet& members) const {
  if (!members.contains(view_.coordinator) || planted(PlantedBug::kKeepDeadLinks)) return;
  while (const auto end = dead_links_.worst_end(members, view_.coordinator)) {
    RankSet rest = members;
    rest.erase(*end);
    if (!has_quorum(rest)) return;
    members = std::move(rest);
  }
}

void Membership::begin_accept(Output& output) {
  Proposal& proposal = *proposal_;
  proposal.value = proposal.answers.value ? proposal.answers.value : next_view();
  proposal.phase = Phase::kAccept;
  proposal.silent = view_.members;
  proposal.silent.erase_all(proposal.answers.ranks);
  proposal.answers = {.ranks = {options_.self}, .ledgers = {}, .best_ballot = {}, .value = {}};
  proposal.branches.clear();
  proposal.asked = false;
  proposal.since = now_;
  proposal.resend_after = kResendMin;
  accepted_ballot_ = proposal.ballot;
  accepted_ = proposal.value;
  send_phase(output);
  advance(output);
}

void Membership::take_fence(Output& output) {
  if (planted(PlantedBug::kSkipFence)) return decide(View(*proposal_->value), output);
  proposal_->phase = Phase::kFence;
  proposal_->since = now_;
  proposal_->resend_after = kResendMin;
  send_phase(output);
}

void Membership::fence_answered(const FenceAnswer& answer, Output& output) {
  if (state_ != State::kRevoked || !proposal_ || proposal_->phase != Phase::kFence) return;
  if (answer.epoch != proposal_->value->epoch || !answer.content) return;  // tried again in a while
  Reader reader(answer.content->view());
  const auto fenced = get_view(reader, options_.ranks);
  // A token that somebody else made and that cannot be read leaves no way on.
  if (!fenced || !reader.complete() || fenced->epoch != answer.epoch) {
    state_ = State::kGivenUp;
    return;
  }
  decide(*fenced, output);
}

void Membership::decide(const View& view, Output& output) {
  RankSet to = view_.members;
  to.insert_all(view.members);
  to.erase(options_.self);
  RankSet silent = to;
  silent.erase_all(proposal_->answers.ranks);
  pass_on_view(view, std::move(to), silent, output);
  adopt(view, output);
}

void Membership::pass_on_view(const View& view, RankSet to, const RankSet& silent,
                              Output& output) const {
  to.erase_all(confirmed_);
  RankSet able = to;
  able.erase_all(suspected_);
  able.erase_all(silent);
  to.erase_all(able);
  for (const Branch& branch : make_branches(able, fanout(view.members.size()))) {
    send_view(branch.head, view, branch.charge, output);
  }
  for (const RankId rank : to) send_view(rank, view, {}, output);
}

bool Membership::on_decide(Reader& reader, Output& output) {
  const auto view = get_view(reader, options_.ranks);
  auto charge = get_other_ranks(reader, options_.ranks);
  if (!view || !charge || !reader.complete()) return false;
  if (state_ == State::kGivenUp) return true;
  const Epoch known = excluded_by_ ? excluded_by_->epoch : view_.epoch;
  if (view->epoch > known || (planted(PlantedBug::kAdoptOldView) && view->epoch < known)) {
    adopt(*view, output);
  }
  // Whatever it has known before: those in its charge may not. Once: a copy of the message that was
  // passed on again by each would be multiplied from rank to rank.
  const View& latest = excluded_by_ ? *excluded_by_ : view_;
  if (std::exchange(passed_on_epoch_, latest.epoch) != latest.epoch) passed_on_.clear();
  charge->erase(options_.self);
  charge->erase_all(passed_on_);
  passed_on_.insert_all(*charge);
  pass_on_view(latest, std::move(*charge), {}, output);
  return true;
}

// I3: only ever called with a later epoch.
void Membership::adopt(const View& view, Output& output) {
  REGROUP_CHECK(view.epoch > view_.epoch || planted(PlantedBug::kAdoptOldView),
                "an epoch that does not grow");
  proposal_.reset();
  relay_.reset();
  accepted_.reset();
  accepted_ballot_ = {};
  promised_ = {};
  joining_.clear();
  dead_links_.clear();
  doubted_.clear();
  if (!view.members.contains(options_.self)) {
    if (state_ != State::kExcluded) {
      revoked_since_ = now_;
      put_off_rejoining();
    }
    state_ = State::kExcluded;
    excluded_by_ = view;
    join_at_ = now_;
    join_turn_ = 0;
    ask_to_join(output);
    return;
  }
  excluded_by_.reset();
  // The others went on without its copy, which is not told of again, be it in the next moment.
  if (view.joined.contains(options_.self)) ledger_ = 0;
  view_ = view;
  member_since_ = now_;
  state_ = State::kStable;
  output.installed = true;
  suspected_.erase_all(view.members);  // they took part
  second_chance_ends_ = now_ + kSecondChance;
  const bool one_is_dead =
      std::ranges::any_of(view_.members, [&](RankId rank) { return confirmed_.contains(rank); });
  if (!one_is_dead) return;
  revoke();
  flood_revoke(output);
  advance(output);
}

// ---- coming back ----

// Whom the others let in but cannot reach they leave out again, and each time all of them stop: so
// it comes back later each time.
void Membership::put_off_rejoining() {
  if (now_ - member_since_ >= kRejoinForgotten) rejoin_after_ = 0;
  rejoin_at_ = now_ + rejoin_after_;
  rejoin_after_ = std::clamp(4 * rejoin_after_, kRejoinMin, kRejoinMax);
}

// Every other time the coordinator; in between one rank of the run after the other, for whoever
// knows a later view tells it: those who went on without this rank may have been followed by
// others.
void Membership::ask_to_join(Output& output) {
  join_at_ = now_ + 2 * kTellAgain;
  const std::uint32_t turn = join_turn_++;
  const RankId to = turn % 2 == 0 ? excluded_by_->coordinator : RankId{turn / 2 % options_.ranks};
  const bool too_soon = to == excluded_by_->coordinator && now_ < rejoin_at_;
  if (too_soon || to == options_.self || confirmed_.contains(to)) return;
  Writer writer = begin(to, MessageKind::kJoin, output);
  writer.put(excluded_by_->epoch);
}

bool Membership::on_join(RankId from, Reader& reader, Output& output) {
  (void)reader.get<Epoch>();  // of the message
  const auto known = reader.get<Epoch>();
  if (!reader.complete()) return false;
  if (state_ == State::kExcluded || state_ == State::kGivenUp) return true;
  if (known < view_.epoch) {
    tell(from, output);
    return true;
  }
  const bool may_let_in =
      known == view_.epoch && !view_.members.contains(from) && view_.coordinator == options_.self;
  if (!may_let_in || confirmed_.contains(from)) return true;
  suspected_.erase(from);
  if (!joining_.insert(from)) return true;
  if (proposal_ && proposal_->phase != Phase::kPrepare) return true;  // it asks again
  revoke();
  flood_revoke(output);
  advance(output);
  return true;
}

// ---- time ----

void Membership::tick(Nanoseconds now, Output& output) {
  if (now - now_ > kOwnStall) excuse_own_stall(now - now_);
  now_ = now;
  if (state_ == State::kStable) end_second_chance(output);
  if (state_ == State::kStable || state_ == State::kGivenUp) return;
  if (now_ - revoked_since_ >= options_.give_up_after) {
    state_ = State::kGivenUp;
    return;
  }
  if (state_ == State::kExcluded) {
    const bool alone = confirmed_.size() + 1 == options_.ranks;  // nobody will ever let it in
    if (alone) state_ = State::kGivenUp;
    if (!alone && now_ >= join_at_) ask_to_join(output);
    return;
  }
  if (proposal_) {
    if (now_ >= proposal_->resend_at) send_phase(output);
    advance(output);
    return;
  }
  const RankSet able = alive();
  const auto place = std::ranges::lower_bound(able, options_.self) - able.begin();
  if (now_ - progressed_at_ >= (place + 1) * kTakeover) {
    progressed_at_ = now_;
    propose(output);
    return;
  }
  // Whoever should propose may not have heard.
  if (now_ >= nag_at_) {
    nag_at_ = now_ + kResendMax;
    flood_revoke(output);
  }
  advance(output);
}

// What others had to say meanwhile waits to be heard.
void Membership::excuse_own_stall(Nanoseconds stall) {
  progressed_at_ += stall;
  second_chance_ends_ += stall;
  if (proposal_) proposal_->since += stall;
  if (relay_) relay_->since += stall;
}

void Membership::end_second_chance(Output& output) {
  if (own_suspected_.empty() || now_ < second_chance_ends_) return;
  bool any = false;
  for (const RankId rank : own_suspected_) {
    if (view_.members.contains(rank)) any |= suspected_.insert(rank);
  }
  if (!any) return;
  revoke();
  flood_revoke(output);
  advance(output);
}

// ---- messages ----

// Every payload but that of kDecide begins with the epoch that its sender is in.
Writer Membership::begin(RankId to, MessageKind kind, Output& output) const {
  output.messages.push_back({to, kind, Buffer(std::size_t{256})});
  Writer writer(output.messages.back().payload);
  writer.put(view_.epoch);
  return writer;
}

void Membership::send_view(RankId to, const View& view, const RankSet& charge,
                           Output& output) const {
  output.messages.push_back({to, MessageKind::kDecide, Buffer(std::size_t{256})});
  Writer writer(output.messages.back().payload);
  put_view(writer, view);
  put_other_ranks(writer, charge);
}

}  // namespace regroup
