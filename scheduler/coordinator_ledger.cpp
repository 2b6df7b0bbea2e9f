// The coordinator's part in the ledger: what of its decisions goes into it, and how a coordinator
// goes on from a copy. Layout: docs/coordinator-state.md.
#include <algorithm>
#include <limits>
#include <utility>

#include "runtime/protocol/planted.hpp"
#include "scheduler/coordinator.hpp"

namespace regroup {
namespace {

constexpr int kExitNotRecovered = 3;

// What making and sending an entry takes, roughly: by its bytes, copied for each standby, and by
// the words of the table that are looked at.
constexpr Nanoseconds entry_cost(std::size_t bytes, std::size_t copies, std::size_t words) {
  return static_cast<Nanoseconds>(bytes * (copies + 1) + words);
}

}  // namespace

// ---- entries ----

// The first members after the coordinator, as many as there are to be.
void Coordinator::begin_ledger_view(Context& context) {
  std::vector<RankId> standbys;
  for (const RankId rank : context.view().members) {
    if (rank != context.self() && standbys.size() < options_.standbys) standbys.push_back(rank);
  }
  entries_in_flight_.clear();
  registry_.forget();
  ledger_.begin_view(std::max(ledger_.position(), context.view().ledger), std::move(standbys));
  if (closed_at_ != 0) closed_at_ = ledger_.position() + 1;
  if (checkpoints_.step() == CheckpointStep::kRecording) {
    checkpoints_.record_again(ledger_.position() + 1);
  }
  if (ledger_.has_standbys()) return;
  for (Peer& peer : peers_) peer.safe = peer.reports;
}

// Until the next view.
void Coordinator::stop_replicating(Context& context) {
  entries_in_flight_.clear();
  ledger_.begin_view(ledger_.position(), {});
  for (Peer& peer : peers_) peer.safe = peer.reports;
  for (const RankId rank : context.view().members) acknowledge(context, rank);
  send_answers(context);
}

void Coordinator::replicate(Context& context, bool urgent) {
  const bool without_result = state_ == RunPhase::kClosing && closed_at_ == 0;
  if (!table_ || without_result || !ledger_.due(context.now(), urgent)) return;
  if (settled_state_.empty() && state_bytes() > kReplicatedBytesMax) {
    return stop_replicating(context);
  }
  const auto dispatches = ledger_.begin_entry();
  Buffer state;
  std::size_t bytes = 0;
  std::size_t words = 0;
  for (const auto [to, form] : dispatches) {
    if (form == LedgerForm::kState && settled_state_.empty() && state.empty()) {
      Writer writer(state);
      save_state(writer);
      words = table_->save_words();
    }
    const auto content = form == LedgerForm::kRecords ? ledger_.recorded_bytes()
                         : settled_state_.empty()     ? state.view()
                                                      : settled_state_.view();
    bytes = std::max(bytes, content.size());
    Writer writer = context.begin(to, MessageKind::kLedger);
    put_entry_head(writer, ledger_.position(), form);
    writer.put_raw(content);
    context.send();
  }
  context.set_ledger(ledger_.position());
  EntryInFlight entry{ledger_.position(), {}};
  for (const Peer& peer : peers_) entry.reports.push_back(peer.reports);
  if (entries_in_flight_.size() == kEntriesInFlightMax) entries_in_flight_.pop_back();
  entries_in_flight_.push_back(std::move(entry));
  ledger_.sent(context.now(), entry_cost(bytes, dispatches.size(), words));
}

bool Coordinator::on_ledger_held(Context& context, RankId from, Reader& reader) {
  const auto position = reader.get<LedgerPosition>();
  if (!reader.complete()) return false;
  if (!ledger_.has_standbys()) return true;  // of before it stopped replicating
  if (!ledger_.held(from, position)) return false;
  note_safe(context);
  if (registry_.waits()) send_answers(context);
  if (state_ == RunPhase::kClosing) finish_when_safe(context);
  return true;
}

// What a majority of the replicas has is safe.
void Coordinator::note_safe(Context& context) {
  const LedgerPosition committed = ledger_.committed();
  const EntryInFlight* latest = nullptr;
  while (!entries_in_flight_.empty() && entries_in_flight_.front().position <= committed) {
    latest = &entries_in_flight_.front();
    for (std::size_t i = 0; i < peers_.size(); ++i) {
      peers_[i].safe = std::max(peers_[i].safe, latest->reports[i]);
    }
    entries_in_flight_.pop_front();
  }
  if (latest == nullptr) return;
  for (const RankId rank : context.view().members) acknowledge(context, rank);
}

// With a lease, or when enough has come together.
void Coordinator::acknowledge(Context& context, RankId rank) {
  Peer& peer = peers_[rank.value];
  if (rank == context.self() || peer.safe - peer.acknowledged < kReportsUntoldMax) return;
  peer.acknowledged = peer.safe;
  context.begin(rank, MessageKind::kAcknowledge).put(peer.safe);
  context.send();
}

// ---- records ----

std::size_t Coordinator::state_bytes() const {
  return sink_->state_bytes() + table_bytes_ + registry_.store().saved_bytes();
}

void Coordinator::record_commit(ShardRange shards, std::uint32_t value_bytes,
                                std::span<const std::byte> values) {
  Buffer* records = ledger_.records();
  if (records == nullptr) return;
  Writer writer(*records);
  writer.put(Record::kCommit);
  writer.put(stage_);
  writer.put(shards.first);
  writer.put(static_cast<std::uint32_t>(shards.count));
  writer.put(Attempt{1});
  writer.put(value_bytes);
  writer.put_raw(values);
  ledger_.recorded(state_bytes());
}

void Coordinator::record_charge(ShardId shard) {
  Buffer* records = ledger_.records();
  if (records == nullptr) return;
  Writer writer(*records);
  writer.put(Record::kCharge);
  writer.put(stage_);
  writer.put(shard);
  ledger_.recorded(state_bytes());
}

void Coordinator::record_quarantine(ShardId shard, Attempt attempt, RankId rank,
                                    const std::string& what) {
  Buffer* records = ledger_.records();
  if (records == nullptr) return;
  Writer writer(*records);
  writer.put(Record::kQuarantine);
  writer.put(stage_);
  writer.put(shard);
  writer.put(attempt);
  writer.put(rank);
  writer.put_string(what);
  ledger_.recorded(state_bytes());
}

void Coordinator::record_seal() {
  Buffer* records = ledger_.records();
  if (records == nullptr) return;
  Writer writer(*records);
  writer.put(Record::kSeal);
  writer.put(stage_);
  writer.put(checkpoints_.number());
  ledger_.recorded(state_bytes());
}

// False at the first record that does not follow on the state.
bool Coordinator::replay(Reader& reader) {
  while (!reader.rest().empty()) {
    if (!replay_one(reader)) return false;
  }
  return reader.complete();
}

bool Coordinator::replay_one(Reader& reader) {
  const auto record = reader.get<Record>();
  const auto stage = reader.get<StageId>();
  if (stage != stage_ || record > Record::kSeal) return false;
  if (record == Record::kCommit) {
    const auto entry = read_result_entry(reader);
    newly_done_.clear();
    if (!entry || !table_->commit(entry->shards, Attempt{1}, newly_done_)) return false;
    hand_over(stage, *entry);
    return true;
  }
  if (record == Record::kPut) return replay_put(reader);
  if (record == Record::kSeal) {
    checkpoints_.know(reader.get<CheckpointNumber>());
    return !reader.failed();
  }
  const auto shard = reader.get<ShardId>();
  if (reader.failed() || !within_stage({shard, 1})) return false;
  if (record == Record::kCharge) {
    if (table_->state(shard) == ShardState::kPending) table_->lease({shard, 1});
    table_->release({shard, 1}, Charge::kAttempt);
    ++retry_count_;
    return true;
  }
  const auto attempt = reader.get<Attempt>();
  const auto rank = reader.get<RankId>();
  const std::string what(reader.get_string());
  if (!reader.failed()) give_up(shard, attempt, rank, what);
  return !reader.failed();
}

// ---- the state ----

// From here on the sink belongs to whoever writes the result, on another thread.
void Coordinator::finalize(Context& context) {
  state_ = RunPhase::kFinalizing;
  state_since_ = context.now();
  // The state that is kept from here on would not know of it.
  if (checkpoints_.step() != CheckpointStep::kRecording) checkpoints_.cancel(context.now());
  const bool kept = options_.standbys != 0 && context.ranks() > 1;
  if (kept && !planted(PlantedBug::kSaveUsedUpState)) {
    Writer writer(settled_state_);
    save_state(writer);
  }
  ledger_.want_state();
  order_finalize();
}

void Coordinator::save_state(Writer& writer) {
  const std::size_t begin = writer.buffer().size();
  writer.put(static_cast<std::uint8_t>(state_ == RunPhase::kFinalizing));
  writer.put(stage_);
  writer.put(settled_before_);
  writer.put(quarantined_);
  writer.put(retry_count_);
  writer.put(duplicates_);
  writer.put(checkpoints_.newest());
  writer.put(options_.launch);
  for (const std::uint64_t partitions : regained_) writer.put(partitions);
  table_->save(writer);
  const auto kept =
      std::ranges::count_if(given_, [](const auto& one) { return one.second != nullptr; });
  writer.put(static_cast<std::uint32_t>(kept));
  for (const auto& [stage, table] : given_) {
    if (!table) continue;
    writer.put(stage);
    table->save(writer);
  }
  writer.put(static_cast<std::uint32_t>(owners_.size()));
  for (const RankId owner : owners_) writer.put(owner);
  table_bytes_ = writer.buffer().size() - begin;
  registry_.store().save(writer);
  sink_->save_state(writer);
}

std::expected<void, std::string> Coordinator::load_table(Reader& reader, StageId stage,
                                                         std::unique_ptr<TaskTable>& table) const {
  auto loaded = TaskTable::load(reader, stages_[stage.value].shards);
  if (!loaded) return std::unexpected(loaded.error());
  table = std::make_unique<TaskTable>(std::move(*loaded));
  return {};
}

std::expected<void, std::string> Coordinator::load_state(Reader& reader) {
  const bool settled = reader.get<std::uint8_t>() != 0;
  stage_ = reader.get<StageId>();
  settled_before_ = reader.get<std::uint64_t>();
  quarantined_ = reader.get<std::uint64_t>();
  retry_count_ = reader.get<std::uint64_t>();
  duplicates_ = reader.get<std::uint64_t>();
  checkpoints_.know(std::max(reader.get<CheckpointNumber>(), restored_from_));
  const bool of_others = reader.get<std::uint64_t>() != options_.launch;
  for (std::uint64_t& partitions : regained_) partitions = reader.get<std::uint64_t>();
  if (reader.failed() || stage_.value >= stages_.size()) {
    return std::unexpected("it names a stage that the job does not have");
  }
  if (auto loaded = load_table(reader, stage_, table_); !loaded) return loaded;
  for (std::size_t left = reader.get_count(sizeof(StageId)); left != 0; --left) {
    const auto stage = reader.get<StageId>();
    if (reader.failed() || stage.value >= stages_.size()) {
      return std::unexpected("it names a stage that the job does not have");
    }
    if (auto loaded = load_table(reader, stage, given_[stage]); !loaded) return loaded;
  }
  owners_.resize(reader.get_count(sizeof(RankId::rep)));
  for (RankId& owner : owners_) owner = reader.get<RankId>();
  if (owners_.size() != partitions_of(stage_)) {
    return std::unexpected("it names the owners of other partitions than the stage has");
  }
  // The ranks of another launch are gone, however many they were, with all that they held.
  const auto ranks = of_others ? std::numeric_limits<std::uint32_t>::max()
                               : static_cast<std::uint32_t>(peers_.size());
  if (auto loaded = registry_.store().load(reader, ranks); !loaded) return loaded;
  if (of_others && !planted(PlantedBug::kKeepOldWrites)) registry_.store().forget_writes();
  if (of_others) owners_.clear();
  if (auto loaded = sink_->load_state(reader); !loaded) return loaded;
  if (!reader.complete()) return std::unexpected("it has more than a state");
  state_ = settled ? RunPhase::kFinalizing : RunPhase::kRunning;
  return {};
}

// ---- taking over ----

void Coordinator::take_over(Context& context, const LedgerCopy& copy) {
  heir_ = true;
  round_ = static_cast<std::uint32_t>(context.view().epoch.value);
  Buffer bytes;
  Writer writer(bytes);
  copy.put(writer);
  Reader reader(bytes.view());
  (void)inherited_.load(reader);  // stays empty if there is nothing
  loading_ = inherited_.position() == 0;
  peers_.resize(context.ranks());
  for (Peer& peer : peers_) peer.announced = false;
  take_charge(context);
}

std::expected<void, std::string> Coordinator::inherit() {
  const LedgerCopy copy = std::exchange(inherited_, {});
  Reader state(copy.state());
  if (auto loaded = load_state(state); !loaded) return loaded;
  Reader records(copy.records());
  if (!replay(records)) return std::unexpected("its records do not follow on its state");
  return {};
}

// The own rank has opened the job. What was leased, and the parts that the ranks of before held, is
// to be given out again.
void Coordinator::go_on(Context& context) {
  running_since_ = context.now();
  state_since_ = context.now();
  const LedgerPosition position = inherited_.position();
  if (position == 0) {
    context.event(EventKind::kElect, context.self(), stage_, 0, 0);
    return begin_stage(context);
  }
  if (const auto inherited = inherit(); !inherited) {
    table_.reset();
    return close(context, kExitNotRecovered,
                 (restored_from_.value != 0
                      ? "the checkpoint cannot be used: "
                      : "the ledger of the coordinator that was lost cannot be used: ") +
                     inherited.error());
  }
  if (heir_) context.event(EventKind::kElect, context.self(), stage_, position, 0);
  if (restored_from_.value != 0) {
    context.event(EventKind::kRestore, context.self(), stage_, restored_from_.value, 0);
  }
  ledger_.want_state();
  if (state_ == RunPhase::kFinalizing) return finalize(context);
  table_->release_all();
  if (stages_[stage_.value].kind != StageKind::kBag) return begin_round(context);
  lay_out_stage(context);
}

}  // namespace regroup
