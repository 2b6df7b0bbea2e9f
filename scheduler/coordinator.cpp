#include "scheduler/coordinator.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/protocol/check.hpp"
#include "runtime/protocol/planted.hpp"

namespace regroup {
namespace {

constexpr int kExitDone = 0;
constexpr int kExitQuarantined = 1;
constexpr int kExitBadInput = 2;
constexpr int kExitNotRecovered = 3;

constexpr std::size_t kStageBytes = 1 + 8;
constexpr std::size_t kFailureBytesMin = 8 + 4 + 4;
constexpr std::size_t kLeaseBytes = 8 + 8 + 4;

}  // namespace

Coordinator::Coordinator(const ScheduleOptions& options, Buffer job_description, ResultSink& sink,
                         Worker& own_worker)
    : options_(options),
      job_description_(std::move(job_description)),
      sink_(&sink),
      own_worker_(&own_worker),
      cell_desk_(options.copies, options.checkpoints.failure_interval),
      checkpoints_(options.checkpoints) {}

// ---- opening ----

void Coordinator::on_start(Context& context) {
  peers_.resize(context.ranks());
  loading_ = options_.checkpoints.resume;
  take_charge(context);
}

void Coordinator::take_charge(Context& context) {
  state_since_ = context.now();
  opening_since_ = context.now();
  workers_ = computing_ranks(context.view(), options_);
  members_ = context.view().members;
  begin_ledger_view(context);
  loading_ ? load_checkpoint(context) : open_job(context);
}

void Coordinator::open_job(Context& context) {
  state_since_ = context.now();
  opening_since_ = context.now();
  if (job_description_.empty()) {
    own_worker_->add_control_order({.kind = WorkKind::kDescribe});
    return;
  }
  for (const RankId rank : members_) send_open(context, rank);
}

void Coordinator::on_described(Context& context, WorkResult& result) {
  if (state_ != RunPhase::kOpening || !job_description_.empty()) return;
  if (!result.error.empty()) return close(context, kExitNotRecovered, result.error);
  job_description_ = std::move(result.description);
  for (const RankId rank : members_) send_open(context, rank);
}

void Coordinator::send_open(Context& context, RankId rank) {
  if (job_description_.empty() || loading_) return;
  Writer writer = context.begin(rank, MessageKind::kOpen);
  writer.put_bytes(job_description_.view());
  context.send();
}

bool Coordinator::on_message(Context& context, RankId from, MessageKind kind, Reader& reader) {
  peers_[from.value].heard_at = context.now();
  switch (kind) {
    case MessageKind::kReady:
      return on_ready(context, from, reader);
    case MessageKind::kResults:
      return on_results(context, from, reader);
    case MessageKind::kFailures:
      return on_failures(context, from, reader);
    case MessageKind::kReturned:
      return on_returned(context, from, reader);
    case MessageKind::kAnnounce:
      return on_announce(context, from, reader);
    case MessageKind::kHoldings:
      return on_holdings(context, from, reader);
    case MessageKind::kCellNews:
      return on_cell_news(context, from, reader);
    case MessageKind::kPartials:
      return on_partials(context, from, reader);
    case MessageKind::kCopiesMade:
      return on_copies_made(from, reader);
    case MessageKind::kSnapshotTaken:
      return on_snapshot_taken(context, from, reader);
    case MessageKind::kGoodbye:
      return on_goodbye(context, from, reader);
    case MessageKind::kLedgerHeld:
      return on_ledger_held(context, from, reader);
    case MessageKind::kRegistryRequest:
      return on_registry_request(context, from, reader);
    default:
      return false;
  }
}

bool Coordinator::on_ready(Context& context, RankId from, Reader& reader) {
  const std::string error(reader.get_string());
  std::vector<StagePlan> stages(reader.get_count(kStageBytes));
  for (StagePlan& stage : stages) {
    stage.kind = reader.get<StageKind>();
    stage.shards = reader.get<std::uint64_t>();
    if (stage.kind > StageKind::kIterate) return false;
  }
  if (!reader.complete()) return false;
  if (state_ == RunPhase::kClosing || state_ == RunPhase::kOver) return true;
  const std::string who = "rank " + std::to_string(from.value);
  if (!error.empty()) {
    close(context, kExitBadInput, who + ": " + error);
    return true;
  }
  Peer& peer = peers_[from.value];
  peer.ready = true;
  peer.stages = std::move(stages);
  const bool was_complete = std::exchange(
      all_ready_,
      std::ranges::all_of(workers_, [&](RankId rank) { return peers_[rank.value].ready; }));
  const bool begins = from == context.self() && state_ == RunPhase::kOpening;
  if (begins) {
    stages_ = peer.stages;
    REGROUP_CHECK(!stages_.empty(), "a job without stages");
  }
  if (closes_for_other_job(context)) return true;
  if (begins) {
    checkpoints_.begin_run(context.now());
    heir_ || restored_from_.value != 0 ? go_on(context) : begin_stage(context);
    serve_held(context);
  } else if (state_ == RunPhase::kRunning && peer.stages == stages_) {
    top_up(context, from);
    if (all_ready_ && !was_complete) top_up_all(context);
  }
  return true;
}

bool Coordinator::closes_for_other_job(Context& context) {
  for (const RankId rank : context.view().members) {
    const Peer& other = peers_[rank.value];
    if (stages_.empty() || !other.ready || other.stages == stages_) continue;
    close(
        context, kExitBadInput,
        "rank " + std::to_string(rank.value) +
            " sees another job than the coordinator: give every rank the same arguments and files");
    return true;
  }
  return false;
}

// ---- stages ----

void Coordinator::begin_stage(Context& context) {
  if (state_ == RunPhase::kOpening) running_since_ = context.now();
  state_ = RunPhase::kRunning;
  ledger_.want_state();
  state_since_ = context.now();
  if (const auto kept = given_.find(stage_);
      kept != given_.end() && stages_[stage_.value].kind == StageKind::kReduce) {
    table_ = std::move(kept->second);  // a reduced partition needs no parts again
    given_.erase(kept);
  } else {
    table_ = std::make_unique<TaskTable>(stages_[stage_.value].shards);
  }
  const StageKind kind = stages_[stage_.value].kind;
  if (kind == StageKind::kMap || kind == StageKind::kIterate) owners_.clear();
  if (kind == StageKind::kIterate) cells_.reset(round_);
  cell_failures_ = 0;
  cell_failed_at_ = 0;
  dealing_ = false;
  holders_.clear();
  deal_partitions();
  lay_out_stage(context);
}

// Everything that is pending goes to the ranks of now.
void Coordinator::lay_out_stage(Context& context) {
  source_ = make_shard_source(stages_[stage_.value], options_.policy, workers_, owners_);
  retries_.clear();
  for (Peer& peer : peers_) {
    peer.outstanding = 0;
    peer.shard_nanoseconds = 0;
    peer.shards_ahead = 0;
    peer.lease_shards = 1;
    peer.recall_pending = false;
    peer.knows_stage = false;
    peer.knows_owners = false;
  }
  top_up_all(context);
  end_stage_if_settled(context);
}

void Coordinator::end_stage_if_settled(Context& context) {
  while (state_ == RunPhase::kRunning && table_->settled()) {
    settled_before_ += stages_[stage_.value].shards;
    if (stage_.value + 1u < stages_.size()) {
      const StageKind kind = stages_[stage_.value].kind;
      const bool leaves_parts = kind == StageKind::kMap || kind == StageKind::kIterate;
      if (leaves_parts && !given_[stage_]) {
        given_[stage_] = std::move(table_);  // it may have to run again
      }
      ++stage_.value;
      return begin_stage(context);
    }
    run_time_ = context.now() - running_since_;
    finalize(context);
  }
}

// ---- views ----

void Coordinator::on_view(Context& context) {
  const RankSet before = std::exchange(members_, context.view().members);
  workers_ = computing_ranks(context.view(), options_);
  opening_since_ = context.now();
  if (state_ == RunPhase::kClosing || state_ == RunPhase::kOpening) state_since_ = context.now();
  for (std::uint32_t i = 0; i < peers_.size(); ++i) {
    const RankId rank{i};
    const bool stays =
        members_.contains(rank) && before.contains(rank) && !context.view().joined.contains(rank);
    if (!stays) peers_[i] = {};
    peers_[i].announced = false;
    peers_[i].outstanding = 0;
    peers_[i].offers.clear();
  }
  all_ready_ = std::ranges::all_of(workers_, [&](RankId rank) { return peers_[rank.value].ready; });
  checkpoints_.begin_view(context.now());
  begin_ledger_view(context);
  naming_ = false;
  cell_desk_.drop();
  for (const RankId rank : members_) {
    if (state_ == RunPhase::kClosing || state_ == RunPhase::kOver) {
      if (finish_sent_ && !peers_[rank.value].said_goodbye) send_finish(context, rank);
    } else if (!peers_[rank.value].ready) {
      send_open(context, rank);
    }
  }
  if (state_ != RunPhase::kRunning) return;
  RankSet lost = before;
  lost.erase_all(members_);
  lost.insert_all(context.view().joined);
  for (ShardRange run = table_->next_run(ShardState::kLeased, ShardId{0}, table_->shards());
       run.count != 0; run = table_->next_run(ShardState::kLeased, run.end(), table_->shards())) {
    table_->release(run, Charge::kNone);
    context.event(EventKind::kReturn, context.self(), stage_, run.first.value, run.count);
  }
  // Halos and totals that were under way are lost with the view.
  const bool begins_anew = lost_parts(lost) || cell_stage();
  if (begins_anew || dealing_ || !asked_.empty()) return begin_round(context);
  lay_out_stage(context);
}

bool Coordinator::on_announce(Context& context, RankId from, Reader& reader) {
  const auto stage = reader.get<StageId>();
  const ShardRange running = reader.get_range();
  const auto attempt = reader.get<Attempt>();
  auto offers = read_offers(reader);
  if (!reader.complete()) return false;
  Peer& peer = peers_[from.value];
  if (running.count != 0) {
    if (attempt.value == 0 || !(was_begun(stage) || heir_)) return false;
    if (in_stage(stage)) {
      if (!leases_shards() || !within_stage(running)) return false;
      ShardRange left = running;
      while (left.count != 0) {
        const ShardRange run = table_->next_run(ShardState::kPending, left.first, left.count);
        if (run.count == 0 || run.first >= left.end()) break;
        const ShardRange part{run.first, std::min(run.count, left.end().value - run.first.value)};
        const ShardRange cut = table_->next_pending(part.first, part.count);  // of one attempt
        left = {cut.end(), left.end().value - cut.end().value};
        if (table_->attempt(cut.first) != attempt) continue;  // counted where it is lost now
        table_->lease(cut);
        context.event(EventKind::kLease, from, stage_, cut.first.value, cut.count);
        peer.outstanding += cut.count;
      }
    }
  }
  peer.announced = true;
  peer.offers = std::move(offers);
  if (dealing_) deal_lost_when_known(context);
  if (state_ == RunPhase::kRunning) {
    top_up(context, from);
    end_stage_if_settled(context);
  }
  return true;
}

// ---- results ----

bool Coordinator::on_results(Context& context, RankId from, Reader& reader) {
  const auto stage = reader.get<StageId>();
  const auto round = reader.get<std::uint32_t>();
  const auto report = reader.get<std::uint64_t>();
  const auto shard_nanoseconds = reader.get<std::uint64_t>();
  const auto entries = reader.get<std::uint32_t>();
  if (reader.failed() || !(was_begun(stage) || heir_) || round > round_) return false;
  Peer& peer = peers_[from.value];
  if (!in_stage(stage) || (round != round_ && stages_[stage.value].kind != StageKind::kBag)) {
    take_report_number(context, from, report);
    ++duplicates_;  // it has settled, or is run again
    return true;
  }
  if (!leases_shards() || !results_make_sense(reader, entries)) return false;
  std::uint64_t shards = 0;
  for (std::uint32_t i = 0; i < entries; ++i) {
    const auto entry = read_result_entry(reader);
    if (!entry || !commit(context, *entry)) return false;
    shards += entry->shards.count;
  }
  take_report_number(context, from, report);
  peer.take_report(shard_nanoseconds);
  peer.outstanding -= std::min(peer.outstanding, shards);
  peer.recall_pending = false;
  top_up(context, from);
  acknowledge(context, from);
  end_stage_if_settled(context);
  return true;
}

// Without standbys nothing is safer than what the coordinator has.
void Coordinator::take_report_number(Context& context, RankId from, std::uint64_t report) {
  Peer& peer = peers_[from.value];
  peer.reports = std::max(peer.reports, report);
  ledger_.touch();
  const bool nowhere_safer = !ledger_.has_standbys() || from == context.self();
  if (nowhere_safer || planted(PlantedBug::kAcknowledgeEarly)) peer.safe = peer.reports;
}

// Empty if no entry is there, or not one of this stage.
std::optional<Coordinator::ResultEntry> Coordinator::read_result_entry(Reader& reader) const {
  ResultEntry entry;
  entry.shards.first = reader.get<ShardId>();
  entry.shards.count = reader.get<std::uint32_t>();
  entry.attempt = reader.get<Attempt>();
  entry.value_bytes = reader.get<std::uint32_t>();
  entry.values = reader.get_raw(entry.shards.count * std::size_t{entry.value_bytes});
  if (reader.failed() || entry.shards.count == 0 || !within_stage(entry.shards)) return {};
  return entry;
}

// A message is believed whole or not at all: no entry is committed if a later one is malformed.
bool Coordinator::results_make_sense(Reader reader, std::uint32_t entries) const {
  for (std::uint32_t i = 0; i < entries; ++i) {
    const auto entry = read_result_entry(reader);
    if (!entry || entry->attempt.value == 0) return false;
    if (entry->attempt.value == 1) continue;  // every shard has had its first attempt
    if (heir_ && entry->attempt.value <= options_.attempts_max) continue;  // had, before
    for (ShardId shard = entry->shards.first; shard < entry->shards.end(); ++shard.value) {
      if (table_->attempt(shard) < entry->attempt) return false;
    }
  }
  return reader.complete();
}

bool Coordinator::commit(Context& context, const ResultEntry& entry) {
  newly_done_.clear();
  // The coordinator that led to an attempt beyond those known here was lost: it was one of them.
  const Attempt attempt{heir_ ? 1 : entry.attempt.value};
  const auto counts = table_->commit(entry.shards, attempt, newly_done_);  // I7
  if (!counts) return false;
  for (const ShardRange done : newly_done_) {
    context.event(EventKind::kCommit, context.self(), stage_, done.first.value, done.count);
    const std::size_t offset = (done.first.value - entry.shards.first.value) * entry.value_bytes;
    record_commit(done, entry.value_bytes,
                  entry.values.subspan(offset, done.count * entry.value_bytes));
  }
  hand_over(stage_, entry);
  duplicates_ += counts->duplicates;
  return true;
}

// What of the entry is newly done goes to the sink, which gets each shard once.
void Coordinator::hand_over(StageId stage, const ResultEntry& entry) {
  const auto given = given_.find(stage);
  if (given != given_.end() && given->second) {
    newly_given_.clear();
    for (const ShardRange done : newly_done_) {
      const auto counts = given->second->commit(done, Attempt{1}, newly_given_);
      if (counts) repeated_ += counts->duplicates;
    }
    newly_done_.swap(newly_given_);
  }
  for (const ShardRange fresh : newly_done_) {
    const ShardId first = planted(PlantedBug::kWrongValue) ? fresh.first : entry.shards.first;
    const std::size_t offset = (fresh.first.value - first.value) * entry.value_bytes;
    sink_->commit(stage, fresh, entry.value_bytes,
                  entry.values.subspan(offset, fresh.count * entry.value_bytes));
  }
}

bool Coordinator::within_stage(ShardRange shards) const {
  const std::uint64_t shards_max = stages_[stage_.value].shards;
  return shards.count <= shards_max && shards.first.value <= shards_max - shards.count;
}

// A message about a stage that has not begun makes no sense.
bool Coordinator::was_begun(StageId stage) const {
  return table_ && stage <= stage_;
}

bool Coordinator::in_stage(StageId stage) const {
  return state_ == RunPhase::kRunning && stage == stage_;
}

// Cells are not leased, nor reported one by one.
bool Coordinator::leases_shards() const {
  return stages_[stage_.value].kind != StageKind::kIterate;
}

bool Coordinator::on_failures(Context& context, RankId from, Reader& reader) {
  struct Failure {
    ShardId shard;
    Attempt attempt;
    std::string_view what;
  };
  const auto stage = reader.get<StageId>();
  std::vector<Failure> failures(reader.get_count(kFailureBytesMin));
  for (Failure& failure : failures) {
    failure.shard = reader.get<ShardId>();
    failure.attempt = reader.get<Attempt>();
    failure.what = reader.get_string();
  }
  if (!reader.complete() || !(was_begun(stage) || heir_)) return false;
  if (!in_stage(stage)) return true;
  if (!leases_shards()) return false;
  for (const Failure& failure : failures) {
    if (!within_stage({failure.shard, 1})) return false;
  }
  Peer& peer = peers_[from.value];
  peer.outstanding -= std::min<std::uint64_t>(peer.outstanding, failures.size());
  peer.recall_pending = false;
  for (const Failure& failure : failures) {
    fail_shard(context, from, failure.shard, failure.attempt, std::string(failure.what));
  }
  top_up(context, from);
  end_stage_if_settled(context);
  return true;
}

void Coordinator::fail_shard(Context& context, RankId rank, ShardId shard, Attempt attempt,
                             const std::string& what) {
  const bool current =
      table_->state(shard) == ShardState::kLeased && table_->attempt(shard) == attempt;
  if (!current) return;  // another attempt is under way, or has won
  if (attempt.value >= options_.attempts_max && !planted(PlantedBug::kRetryForever)) {
    give_up(shard, attempt, rank, what);
    record_quarantine(shard, attempt, rank, what);
    context.event(EventKind::kQuarantine, rank, stage_, shard.value, attempt.value);
    return;
  }
  ++retry_count_;
  const std::uint32_t doublings = std::min(attempt.value - 1, 20u);
  const Nanoseconds pause = std::min(kRetryPauseMin << doublings, kRetryPauseMax);
  table_->release({shard, 1}, Charge::kAttempt);  // the same failure heard again is of the past
  record_charge(shard);
  retries_.emplace(context.now() + pause, shard);
  context.event(EventKind::kRetry, rank, stage_, shard.value, attempt.value);
}

void Coordinator::give_up(ShardId shard, Attempt attempt, RankId rank, const std::string& what) {
  if (!table_->quarantine(shard)) return;
  ++quarantined_;
  const auto given = given_.find(stage_);
  const bool was_given =
      given != given_.end() && given->second && !given->second->quarantine(shard);
  if (!was_given) sink_->skip(stage_, shard, attempt, rank, what);
}

void Coordinator::retry_due(Context& context) {
  bool any = false;
  while (!retries_.empty() && retries_.begin()->first <= context.now()) {
    const ShardId shard = retries_.begin()->second;
    retries_.erase(retries_.begin());
    if (table_->state(shard) != ShardState::kPending) continue;  // a late result came
    source_->give_back({shard, 1});
    any = true;
  }
  if (any) top_up_all(context);
}

bool Coordinator::on_returned(Context& context, RankId from, Reader& reader) {
  const auto stage = reader.get<StageId>();
  std::vector<ShardRange> returned(reader.get_count(kLeaseBytes));
  for (ShardRange& shards : returned) {
    shards = reader.get_range();
    reader.get<Attempt>();
  }
  if (!reader.complete() || !(was_begun(stage) || heir_)) return false;
  if (!in_stage(stage)) return true;
  if (!leases_shards()) return false;
  for (const ShardRange shards : returned) {
    if (!within_stage(shards)) return false;
  }
  std::uint64_t taken_back = 0;
  for (const ShardRange shards : returned) taken_back += take_back(context, from, shards);
  Peer& peer = peers_[from.value];
  peer.outstanding -= std::min(peer.outstanding, taken_back);
  if (taken_back == 0) return true;  // asking again would bring the same answer
  peer.recall_pending = false;
  for (const RankId rank : workers_) {
    if (rank != from) top_up(context, rank);
  }
  top_up(context, from);
  return true;
}

// Makes what is leased of the range available again; what is settled or on offer already stays so.
std::uint64_t Coordinator::take_back(Context& context, RankId from, ShardRange shards) {
  std::uint64_t taken_back = 0;
  while (shards.count != 0) {
    const ShardRange run = table_->next_run(ShardState::kLeased, shards.first, shards.count);
    if (run.count == 0 || run.first >= shards.end()) break;
    const ShardRange leased{run.first, std::min(run.count, shards.end().value - run.first.value)};
    taken_back += table_->release(leased, Charge::kNone);
    source_->give_back(leased);
    context.event(EventKind::kReturn, from, stage_, leased.first.value, leased.count);
    shards = {leased.end(), shards.end().value - leased.end().value};
  }
  return taken_back;
}

bool Coordinator::on_goodbye(Context& context, RankId from, Reader& reader) {
  if (!reader.complete() || (state_ != RunPhase::kClosing && state_ != RunPhase::kOver)) {
    return false;
  }
  peers_[from.value].said_goodbye = true;
  context.has_left(from);
  return true;
}

// ---- leases ----

void Coordinator::top_up_all(Context& context) {
  for (const RankId rank : workers_) top_up(context, rank);
}

void Coordinator::top_up(Context& context, RankId rank) {
  Peer& peer = peers_[rank.value];
  if (state_ != RunPhase::kRunning || !peer.ready || !peer.announced) return;
  if (!std::ranges::binary_search(workers_, rank)) return;  // it only coordinates
  // A part of a partition needs an owner that has opened the job.
  if (stages_[stage_.value].kind == StageKind::kMap) {
    if (!all_ready_ || dealing_) return;
    if (!peer.knows_owners) send_owners(context, rank);
    if (!asked_.empty()) return;
  }
  if (stages_[stage_.value].kind == StageKind::kIterate) {
    if (all_ready_ && !dealing_ && !cells_.begun()) begin_cells(context);
    return;
  }
  if (source_->peers_steal() && !peer.knows_stage) {
    peer.knows_stage = true;
    if (source_->left_for(rank) == 0) lease(context, rank, 0);
  }
  if (source_->whole_share_at_once()) {
    while (source_->left_for(rank) != 0) lease(context, rank, source_->left_for(rank));
    return;
  }
  for (std::uint64_t left = source_->left_for(rank); left != 0; left = source_->left_for(rank)) {
    const Allowance allowed = allowance(peer);
    if (peer.outstanding != 0 && peer.outstanding + allowed.batch > allowed.outstanding_max) return;
    lease(context, rank, allowed.batch);
  }
  if (peer.outstanding == 0) balance_tail(context);
}

void Coordinator::Peer::take_report(std::uint64_t nanoseconds) {
  shard_nanoseconds = std::min(nanoseconds, static_cast<std::uint64_t>(kShardTimeMax));
  if (shard_nanoseconds == 0) return;
  shards_ahead = static_cast<std::uint64_t>(kLatencyHidden) / shard_nanoseconds;
  lease_shards =
      std::clamp<std::uint64_t>(shards_ahead / (kLatencyHidden / kLeaseTime), 1, kLeaseShardsMax);
}

// Guided self-scheduling (Polychronopoulos and Kuck 1987): a share of what is left, so that batches
// shrink towards the end, but no more than a lease's time is worth.
Coordinator::Allowance Coordinator::allowance(const Peer& peer) const {
  const std::uint64_t share = source_->left() / workers_.size();
  const std::uint64_t guided = std::max<std::uint64_t>(1, share / 2);
  const std::uint64_t batch =
      std::min<std::uint64_t>(options_.batch != 0 ? options_.batch : peer.lease_shards, guided);
  const std::uint64_t ahead =
      options_.prefetch != 0
          ? options_.prefetch * batch
          : std::clamp(peer.shards_ahead, kPrefetchMin * batch, kPrefetchMax * batch);
  return {batch, std::min({std::max<std::uint64_t>(1, share), ahead, kAheadShardsMax})};
}

// Leases up to `shards` shards to `rank` in one message.
void Coordinator::lease(Context& context, RankId rank, std::uint64_t shards) {
  Writer writer = context.begin(rank, MessageKind::kLease);
  writer.put(stage_);
  writer.put(static_cast<std::uint8_t>(source_->peers_steal()));
  writer.put(round_);
  Peer& peer = peers_[rank.value];
  peer.acknowledged = peer.safe;
  writer.put(peer.acknowledged);
  const std::size_t count_offset = writer.buffer().size();
  writer.put(std::uint32_t{0});
  std::uint32_t leases = 0;
  std::uint64_t leased = 0;
  // A coordinator that goes on from a state is proposed what was settled before, too: long runs of
  // it are passed over in steps that double.
  std::uint64_t step = 0;
  while (leased < shards && leases < kLeaseRangesMax) {
    const std::uint64_t wanted = shards - leased;
    const ShardRange range = source_->take(rank, std::max(wanted, step));
    if (range.count == 0) break;
    const std::uint64_t put = put_leases(context, writer, rank, range, wanted, leases);
    step = put == 0 ? 2 * range.count : 0;
    leased += put;
  }
  std::memcpy(writer.buffer().data() + count_offset, &leases, sizeof leases);
  context.send();
  peer.outstanding += leased;
}

// Leases what is pending of a range that the source has proposed, up to `shards_max` shards, and
// gives back the rest: a shard given back may have been committed by an earlier attempt.
std::uint64_t Coordinator::put_leases(Context& context, Writer& writer, RankId rank,
                                      ShardRange range, std::uint64_t shards_max,
                                      std::uint32_t& leases) {
  std::uint64_t leased = 0;
  while (range.count != 0) {
    const ShardRange part = table_->next_pending(range.first, range.count);
    if (part.count == 0 || part.first >= range.end()) return leased;
    range = {part.first, range.end().value - part.first.value};
    if (leased == shards_max) break;
    const ShardRange cut{part.first, std::min({part.count, range.count, shards_max - leased})};
    table_->lease(cut);
    writer.put(cut);
    writer.put(table_->attempt(cut.first));
    context.event(EventKind::kLease, rank, stage_, cut.first.value, cut.count);
    ++leases;
    leased += cut.count;
    range = {cut.end(), range.count - cut.count};
  }
  if (range.count != 0) source_->give_back(range);
  return leased;
}

// Near the end: an idle rank, nothing left to lease, and shards that wait behind others elsewhere.
// The rank that would keep them waiting longest gives half of them back.
void Coordinator::balance_tail(Context& context) {
  if (state_ != RunPhase::kRunning || !source_->recalls() || source_->left() != 0) return;
  const auto waiting_time = [&](const Peer& peer) {
    const auto silent = static_cast<std::uint64_t>(context.now() - peer.heard_at);
    return std::max(peer.outstanding * peer.shard_nanoseconds, silent);
  };
  RankId victim;
  std::uint64_t longest = static_cast<std::uint64_t>(kRecallWorth);
  for (const RankId rank : workers_) {
    const Peer& peer = peers_[rank.value];
    if (peer.outstanding < 2 || peer.recall_pending || waiting_time(peer) <= longest) continue;
    longest = waiting_time(peer);
    victim = rank;
  }
  if (longest == static_cast<std::uint64_t>(kRecallWorth)) return;
  Peer& peer = peers_[victim.value];
  peer.recall_pending = true;
  Writer writer = context.begin(victim, MessageKind::kRecall);
  writer.put(stage_);
  writer.put(peer.outstanding / 2);
  context.send();
}

// A rank that never opens the job would hold its share of it for ever. Whoever may be left out by
// the next view does not say that of others.
bool Coordinator::missing_rank_fails_run(Context& context) {
  if (!context.stable() || context.now() - opening_since_ <= options_.open_timeout) return false;
  const auto missing =
      std::ranges::find_if(workers_, [&](RankId rank) { return !peers_[rank.value].ready; });
  close(context, kExitNotRecovered,
        "rank " + std::to_string(missing->value) + " did not open the job in time");
  return true;
}

void Coordinator::on_tick(Context& context) {
  replicate(context, state_ == RunPhase::kClosing || registry_waits());
  registry_.expire(context.now());
  tend_checkpoint(context);
  switch (state_) {
    case RunPhase::kOpening: {
      // Without a view nothing is opened, and whoever was left out judges nothing.
      const Nanoseconds most = loading_ ? options_.checkpoints.timeout : options_.open_timeout;
      if (!context.stable() || context.now() - state_since_ <= most) return;
      return close(context, kExitNotRecovered,
                   loading_ ? "the checkpoint could not be read in time"
                            : "the coordinator could not open the job in time");
    }
    case RunPhase::kRunning: {
      if (!all_ready_ && missing_rank_fails_run(context)) return;
      if (!retries_.empty()) retry_due(context);
      tend_cells(context);
      if (source_->left() != 0 || context.now() - balanced_at_ < kRecallWorth) return;
      balanced_at_ = context.now();
      const bool idle = std::ranges::any_of(workers_, [&](RankId rank) {
        return peers_[rank.value].ready && peers_[rank.value].outstanding == 0;
      });
      if (idle) balance_tail(context);
      return;
    }
    case RunPhase::kClosing: {
      if (!finish_sent_) return finish_when_safe(context);
      const bool all = std::ranges::all_of(
          context.view().members, [&](RankId rank) { return peers_[rank.value].said_goodbye; });
      if (!all && context.now() - state_since_ < kGoodbyeTimeout) return;
      state_ = RunPhase::kOver;
      context.finish(outcome_);
      return;
    }
    case RunPhase::kFinalizing:
    case RunPhase::kOver:
      return;
  }
}

// ---- the end ----

// The round tells it from what this rank ordered when it coordinated before.
void Coordinator::order_finalize() {
  own_worker_->add_control_order({.kind = WorkKind::kFinalize, .attempt = Attempt{round_}});
}

void Coordinator::on_finalized(Context& context, const WorkResult& result) {
  if (state_ != RunPhase::kFinalizing) return;  // closed while the result was being written
  if (result.attempt != Attempt{round_}) return;
  if (!result.error.empty()) return close(context, kExitNotRecovered, result.error);
  if (quarantined_ == 0) return close(context, kExitDone, "");
  close(context, kExitQuarantined, std::to_string(quarantined_) + " shards were given up");
}

// A result is announced when whoever may take over knows that all is done: it would come to the
// same.
void Coordinator::close(Context& context, int exit_status, std::string message) {
  state_ = RunPhase::kClosing;
  outcome_ = {exit_status, std::move(message)};
  ledger_.want_state();
  const bool has_result = exit_status == kExitDone || exit_status == kExitQuarantined;
  closed_at_ = has_result ? ledger_.position() + 1 : 0;
  replicate(context, true);
  finish_when_safe(context);
}

void Coordinator::finish_when_safe(Context& context) {
  if (finish_sent_ || (ledger_.has_standbys() && ledger_.committed() < closed_at_)) return;
  finish_sent_ = true;
  state_since_ = context.now();
  for (const RankId rank : context.view().members) send_finish(context, rank);
}

void Coordinator::send_finish(Context& context, RankId rank) {
  Writer writer = context.begin(rank, MessageKind::kFinish);
  writer.put(static_cast<std::int32_t>(outcome_.exit_status));
  writer.put_string(outcome_.message);
  context.send();
}

RunProgress Coordinator::progress() const {
  RunProgress progress{.phase = state_,
                       .stage = stage_.value,
                       .stages = static_cast<std::uint32_t>(stages_.size()),
                       .quarantined = quarantined_,
                       .retries = retry_count_,
                       .duplicates = duplicates_,
                       .repeated = repeated_,
                       .regained = regained_,
                       .copies = copies_made(),
                       .run_time = run_time_,
                       .checkpoints = checkpoints_.progress()};
  for (const StagePlan& stage : stages_) progress.shards += stage.shards;
  progress.done = settled_before_;
  if (cell_stage()) progress.step = cells_.last();
  if (table_ && !table_->settled()) {
    progress.stage_shards = stages_[stage_.value].shards;
    progress.stage_done =
        table_->count(ShardState::kDone) + table_->count(ShardState::kQuarantined);
    progress.done += progress.stage_done;
  }
  return progress;
}

}  // namespace regroup
