// The coordinator's part in partitions: which rank owns which, what becomes of those that were lost
// with their owners, and which map shards run again for them. Owners say what they hold and ranks
// which copies they keep, so that nothing here depends on what a coordinator remembers.
#include <algorithm>
#include <utility>

#include "runtime/protocol/planted.hpp"
#include "scheduler/coordinator.hpp"

namespace regroup {
namespace {

constexpr std::size_t kOfferBytes = 2 + 4 + 8;

// A quarter above its share: beyond that a rank would hold up the others longer than it takes to
// send a copy.
constexpr std::uint64_t owned_at_most(std::uint64_t partitions, std::uint64_t ranks) {
  return (partitions + partitions / 4 + ranks - 1) / ranks;
}

}  // namespace

// ---- rounds ----

// Any rank that computes may own partitions.
bool Coordinator::lost_parts(const RankSet& lost) const {
  return !lost.empty() && stages_[stage_.value].kind != StageKind::kBag;
}

// What was lost with its owners is made again by the map shards that made it; what the sink was
// given stays given. Owners say which shards need not run again: who takes over may know an older
// state, and who was given up and came back has discarded what it held.
void Coordinator::begin_round(Context& context) {
  round_ = static_cast<std::uint32_t>(context.view().epoch.value);
  ledger_.want_state();
  std::unique_ptr<TaskTable> held = std::move(table_);
  if (stages_[stage_.value].kind == StageKind::kReduce) {
    settled_before_ -= stages_[stage_.value - 1u].shards;
    given_.insert_or_assign(stage_, std::move(held));
    --stage_.value;
    held = std::move(given_[stage_]);
  } else if (given_[stage_]) {
    held = std::move(given_[stage_]);
  }
  table_ = std::make_unique<TaskTable>(stages_[stage_.value].shards);
  if (held) {
    for (ShardRange run = held->next_run(ShardState::kQuarantined, ShardId{0}, held->shards());
         run.count != 0;
         run = held->next_run(ShardState::kQuarantined, run.end(), held->shards())) {
      for (ShardId shard = run.first; shard < run.end(); ++shard.value) table_->quarantine(shard);
    }
  }
  given_[stage_] = std::move(held);
  held_.emplace(table_->shards());
  if (const TaskTable* given = given_[stage_].get()) {
    for (ShardRange run = given->next_run(ShardState::kDone, ShardId{0}, given->shards());
         run.count != 0; run = given->next_run(ShardState::kDone, run.end(), given->shards())) {
      held_->insert(run);
    }
  }
  context.event(EventKind::kRound, context.self(), stage_, round_, 0);
  asked_ = {};
  holders_.clear();
  cells_.reset(round_);
  dealing_ = true;
  lay_out_stage(context);
  if (dealing_) deal_lost_when_known(context);
}

// Once all members have said which copies they keep.
void Coordinator::deal_lost_when_known(Context& context) {
  const bool known =
      std::ranges::all_of(members_, [&](RankId rank) { return peers_[rank.value].announced; });
  if (state_ != RunPhase::kRunning || !known) return;
  dealing_ = false;
  const bool iterates = stages_[stage_.value].kind == StageKind::kIterate;
  iterates ? choose_cell_targets() : find_holders();
  deal_to_holders();
  deal_partitions();
  if (iterates) {
    ledger_.want_state();
    return top_up_all(context);
  }
  RankSet in_need(owners_in_need());
  in_need.erase(kNobody);
  asked_ = held_->empty() ? RankSet() : std::move(in_need);
  ledger_.want_state();
  top_up_all(context);
}

// ---- who owns which partition ----

std::uint64_t Coordinator::partitions_of(StageId stage) const {
  const StagePlan& plan = stages_[stage.value];
  if (plan.kind == StageKind::kBag) return 0;
  return plan.kind == StageKind::kMap ? stages_[stage.value + 1u].shards : plan.shards;
}

// Who has the best copy of each partition: what knows the most map shards; of several the one of
// the partition's owner, else of the lowest rank.
void Coordinator::find_holders() {
  holders_.assign(partitions_of(stage_), kNobody);
  std::vector<std::uint64_t> best(holders_.size(), 0);
  for (const RankId rank : members_) {
    for (const CopyOffer& offer : peers_[rank.value].offers) {
      const auto [stage, p] = offer.partition;
      if (stage != stage_ || p >= holders_.size() || offer.held < best[p]) continue;
      const bool owns = p < owners_.size() && owners_[p] == rank;
      if (offer.held == best[p] && !owns) continue;
      best[p] = offer.held;
      holders_[p] = rank;
    }
  }
}

// A lost partition stays where its copy is, for as long as that rank has room.
void Coordinator::deal_to_holders() {
  if (owners_.size() != holders_.size()) owners_.assign(holders_.size(), kNobody);
  const auto works = [&](RankId rank) { return std::ranges::binary_search(workers_, rank); };
  std::map<RankId, std::uint64_t> load;
  for (const RankId owner : owners_) load[owner] += works(owner) ? 1 : 0;
  const std::uint64_t most = owned_at_most(owners_.size(), workers_.size());
  for (std::size_t p = 0; p < owners_.size(); ++p) {
    const RankId holder = holders_[p];
    if (works(owners_[p]) || !works(holder) || load[holder] >= most) continue;
    owners_[p] = holder;
    ++load[holder];
  }
}

// Those without an owner among the ranks of now go where the ring has them.
void Coordinator::deal_partitions() {
  const std::uint64_t partitions = partitions_of(stage_);
  if (partitions == 0) return owners_.clear();
  const auto dealt = partition_owners(workers_, partitions);
  if (owners_.size() != dealt.size()) owners_.assign(dealt.size(), kNobody);
  for (std::size_t p = 0; p < dealt.size(); ++p) {
    if (!std::ranges::binary_search(workers_, owners_[p])) owners_[p] = dealt[p];
  }
}

// A partition that is reduced needs no parts.
std::vector<RankId> Coordinator::owners_in_need() const {
  std::vector<RankId> owners = owners_;
  const TaskTable* reduced = table_.get();
  if (stages_[stage_.value].kind == StageKind::kMap) {
    const auto given = given_.find(StageId{static_cast<std::uint16_t>(stage_.value + 1u)});
    reduced = given == given_.end() ? nullptr : given->second.get();
  }
  for (std::size_t p = 0; reduced != nullptr && p < owners.size(); ++p) {
    if (reduced->state(ShardId{p}) == ShardState::kDone) owners[p] = kNobody;
  }
  return owners;
}

void Coordinator::send_owners(Context& context, RankId rank) {
  peers_[rank.value].knows_owners = true;
  const std::vector<RankId> owners = owners_in_need();
  Writer writer = context.begin(rank, MessageKind::kOwners);
  writer.put(stage_);
  writer.put(round_);
  writer.put(static_cast<std::uint8_t>(asked_.contains(rank)));
  writer.put(checkpoints_.newest());
  writer.put(static_cast<std::uint32_t>(owners.size()));
  for (const RankId owner : owners) writer.put(owner);
  if (asked_.contains(rank)) {
    for (std::size_t p = 0; p < owners.size(); ++p) {
      writer.put(holders_.empty() ? kNobody : holders_[p]);
    }
  }
  context.send();
}

// A shard that all owners hold is done; no other is, whoever thought so before.
bool Coordinator::on_holdings(Context& context, RankId from, Reader& reader) {
  const auto stage = reader.get<StageId>();
  const auto round = reader.get<std::uint32_t>();
  RegainedCounts regained;
  for (std::uint64_t& partitions : regained) partitions = reader.get<std::uint32_t>();
  if (reader.failed() || stage.value >= stages_.size() || round > round_) return false;
  const auto bits = ShardBits::load(reader, stages_[stage.value].shards);
  if (!bits || !reader.complete()) return false;
  if (!in_stage(stage) || round != round_ || !asked_.erase(from)) return true;
  if (!planted(PlantedBug::kCountLost)) held_->intersect(*bits);
  for (std::size_t i = 0; i < regained.size(); ++i) regained_[i] += regained[i];
  if (asked_.empty()) keep_held(context);
  return true;
}

void Coordinator::keep_held(Context& context) {
  for (ShardRange run = held_->next_run(ShardId{0}); run.count != 0;
       run = held_->next_run(run.end())) {
    newly_done_.clear();
    (void)table_->commit(run, Attempt{1}, newly_done_);
    context.event(EventKind::kKeep, context.self(), stage_, run.first.value, run.count);
  }
  ledger_.want_state();
  top_up_all(context);
  end_stage_if_settled(context);
}

// ---- copies in memory ----

std::vector<CopyOffer> Coordinator::read_offers(Reader& reader) {
  std::vector<CopyOffer> offers(reader.get_count(kOfferBytes));
  for (CopyOffer& offer : offers) {
    offer.partition.first = reader.get<StageId>();
    offer.partition.second = reader.get<std::uint32_t>();
    offer.held = reader.get<std::uint64_t>();
  }
  return offers;
}

bool Coordinator::on_copies_made(RankId from, Reader& reader) {
  const CopyProgress made = get_copy_progress(reader);
  if (!reader.complete()) return false;
  peers_[from.value].copies = made;
  ++copy_rounds_;
  return true;
}

CopyProgress Coordinator::copies_made() const {
  CopyProgress all{.rounds = copy_rounds_};
  for (const Peer& peer : peers_) {
    all.partitions += peer.copies.partitions;
    all.bytes += peer.copies.bytes;
    all.refused += peer.copies.refused;
    all.cost = std::max(all.cost, peer.copies.cost);
    all.interval = std::max(all.interval, peer.copies.interval);
    all.sent += peer.copies.sent;
    all.sending = std::max(all.sending, peer.copies.sending);
  }
  if (cell_stage()) all.interval = cell_desk_.interval();
  return all;
}

}  // namespace regroup
