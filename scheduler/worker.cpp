#include "scheduler/worker.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "runtime/protocol/check.hpp"
#include "runtime/protocol/planted.hpp"
#include "scheduler/shard_source.hpp"

namespace regroup {
namespace {

constexpr std::size_t kLeaseBytes = 8 + 8 + 4;
constexpr std::size_t kEntryBytes = 8 + 4 + 4 + 4;
constexpr std::size_t kPartHeadBytes = 4 + 4;
constexpr std::size_t kStagesMax = 65'535;
// How much the newest measurement of a shard's cost counts in the running mean.
constexpr double kCostWeight = 0.25;

// Why these cannot be the stages of a job; empty if they can.
std::string_view problem_with(std::span<const StagePlan> stages) {
  if (stages.empty()) return "the job has no stages";
  if (stages.size() > kStagesMax) return "the job has more than 65535 stages";
  for (std::size_t i = 0; i < stages.size(); ++i) {
    if (stages[i].kind != StageKind::kMap) continue;
    if (i + 1 == stages.size() || stages[i + 1].kind != StageKind::kReduce) {
      return "a map stage of the job has no reduce stage after it";
    }
  }
  return {};
}

bool leases_make_sense(Reader reader, std::uint64_t shards_max) {
  for (std::size_t left = reader.get_count(kLeaseBytes); left-- > 0;) {
    const ShardRange shards = reader.get_range();
    const auto attempt = reader.get<Attempt>();
    const bool within =
        shards.count <= shards_max && shards.first.value <= shards_max - shards.count;
    if (shards.count == 0 || !within || attempt.value == 0) return false;
  }
  return reader.complete();
}

}  // namespace

bool Worker::on_message(Context& context, RankId from, MessageKind kind, Reader& reader) {
  switch (kind) {
    case MessageKind::kOpen:
      return on_open(context, reader);
    case MessageKind::kLease:
      return on_lease(context, reader);
    case MessageKind::kRecall:
      return on_recall(context, reader);
    case MessageKind::kStealRequest:
      return on_steal_request(context, from, reader);
    case MessageKind::kStealReply:
      return on_steal_reply(context, from, reader);
    case MessageKind::kOwners:
      return on_owners(context, reader);
    case MessageKind::kSnapshot:
      return on_snapshot(context, reader);
    case MessageKind::kCells:
      return on_cells(context, reader);
    case MessageKind::kSnapshotAt:
    case MessageKind::kTotals:
    case MessageKind::kHalos:
    case MessageKind::kCellCopy:
    case MessageKind::kCellCopyKept:
    case MessageKind::kCellCopyWanted:
      return finished_ || cells_.on_message(context, from, kind, reader);
    case MessageKind::kPartitions:
      return on_partitions(context, from, reader);
    case MessageKind::kPartitionsTaken:
      return on_partitions_taken(context, from, reader);
    case MessageKind::kCopy:
      return on_copy(context, from, reader);
    case MessageKind::kCopyKept:
      return on_copy_kept(context, from, reader);
    case MessageKind::kCopyWanted:
      return on_copy_wanted(context, from, reader);
    case MessageKind::kCopyBack:
      return on_copy_back(context, reader);
    case MessageKind::kAcknowledge:
      return on_acknowledge(reader);
    case MessageKind::kFinish:
      return on_finish(context, reader);
    default:
      return false;
  }
}

// ---- messages ----

// A coordinator that has not heard of this rank, since it took over or in this view, asks again.
bool Worker::on_open(Context& context, Reader& reader) {
  const auto description = reader.get_bytes();
  if (!reader.complete()) return false;
  const bool awaited = std::exchange(awaiting_, false);
  const bool again = std::exchange(open_wanted_, true);
  if (!again) {
    WorkOrder order{.kind = WorkKind::kOpen};
    order.input = Buffer(description);
    control_orders_.push_back(std::move(order));
  }
  if (awaited || again) announce(context);
  return true;
}

bool Worker::on_lease(Context&, Reader& reader) {
  const auto stage = reader.get<StageId>();
  const bool steal = reader.get<std::uint8_t>() != 0;
  const auto round = reader.get<std::uint32_t>();
  const auto acknowledged = reader.get<std::uint64_t>();
  if (reader.failed() || stage.value >= stages_.size() || finished_ || round < round_) return false;
  if (stage < stage_ && round == round_) return false;
  if (!leases_make_sense(reader, stages_[stage.value].shards)) return false;
  const bool map = stages_[stage.value].kind == StageKind::kMap;
  if (map && (round != round_ || !knows_owners(stage))) return false;
  enter_round(round);
  take_acknowledgement(acknowledged);
  if (!in_stage_ || stage != stage_) enter_stage(stage);
  peers_steal_ = steal;
  enqueue_leases(reader);
  return true;
}

bool Worker::on_acknowledge(Reader& reader) {
  const auto reports = reader.get<std::uint64_t>();
  if (!reader.complete()) return false;
  take_acknowledgement(reports);
  return true;
}

// The reports up to this one are safe: whoever coordinates from now on has them.
void Worker::take_acknowledgement(std::uint64_t reports) {
  unsafe_reports_.drop_through(reports);
}

bool Worker::on_recall(Context& context, Reader& reader) {
  const auto stage = reader.get<StageId>();
  const auto count = reader.get<std::uint64_t>();
  if (!reader.complete()) return false;
  std::vector<Lease> leases;
  if (in_stage_ && stage == stage_) leases = give_away(std::min(count, queued_));
  send_leases(context, context.view().coordinator, MessageKind::kReturned, stage, leases);
  return true;
}

bool Worker::on_steal_request(Context& context, RankId from, Reader& reader) {
  const auto stage = reader.get<StageId>();
  if (!reader.complete()) return false;
  std::vector<Lease> leases;
  if (in_stage_ && stage == stage_) leases = give_away((queued_ + 1) / 2);
  send_leases(context, from, MessageKind::kStealReply, stage, leases);
  return true;
}

bool Worker::on_steal_reply(Context& context, RankId, Reader& reader) {
  const auto stage = reader.get<StageId>();
  if (reader.failed() || stage.value >= stages_.size()) return false;
  if (!leases_make_sense(reader, stages_[stage.value].shards)) return false;
  if (!in_stage_ || stage != stage_) return stage <= stage_;  // an answer that comes late
  if (!steal_waiting_) return false;
  steal_waiting_ = false;
  const std::uint64_t before = queued_;
  enqueue_leases(reader);
  if (queued_ != before) {
    steal_misses_ = 0;
    return true;
  }
  // A whole round without loot: pause, longer each time.
  const auto peers = static_cast<std::uint32_t>(context.view().members.size());
  ++steal_misses_;
  const std::uint32_t rounds = std::min(steal_misses_ / peers, 16u);
  if (rounds != 0) {
    steal_after_ = context.now() + std::min(kStealPauseMin << rounds, kStealPauseMax);
  }
  return true;
}

// Where the parts of a map stage go, from this rank's next map shard on; and, if asked, what this
// rank's partitions hold.
bool Worker::on_owners(Context& context, Reader& reader) {
  const auto stage = reader.get<StageId>();
  const auto round = reader.get<std::uint32_t>();
  const bool asked = reader.get<std::uint8_t>() != 0;
  const auto checkpoint = reader.get<CheckpointNumber>();
  std::vector<RankId> owners(reader.get_count(sizeof(RankId::rep)));
  for (RankId& owner : owners) owner = reader.get<RankId>();
  std::vector<RankId> holders(asked ? owners.size() : 0);
  for (RankId& holder : holders) holder = reader.get<RankId>();
  if (!reader.complete() || stage.value >= stages_.size() || finished_ || round < round_) {
    return false;
  }
  if (stage < stage_ && round == round_) return false;
  const bool map = stages_[stage.value].kind == StageKind::kMap;
  if (!map || owners.size() != stages_[stage.value + 1u].shards) return false;
  for (const RankId owner : owners) {
    if (owner != kNobody && !context.view().members.contains(owner)) return false;
  }
  enter_round(round);
  if (stage != owners_stage_) forget_copies_before(stage);
  cells_.forget_before(stage);
  owners_ = std::move(owners);
  owners_stage_ = stage;
  if (asked) regain_missing(context, checkpoint, std::move(holders));
  return true;
}

// A round of cells: until it is over there is nothing else to do.
bool Worker::on_cells(Context& context, Reader& reader) {
  Reader head = reader;
  const auto stage = head.get<StageId>();
  const auto round = head.get<std::uint32_t>();
  if (head.failed() || finished_ || round < round_ || (stage < stage_ && round == round_)) {
    return false;
  }
  if (!cells_.begin(context, reader)) return false;
  enter_round(round);
  enter_stage(stage);
  in_stage_ = false;
  forget_copies_before(stage);
  owners_.clear();
  return true;
}

bool Worker::knows_owners(StageId stage) const {
  return owners_stage_ == stage && owners_.size() == stages_[stage.value + 1u].shards;
}

bool Worker::on_partitions(Context& context, RankId from, Reader& reader) {
  const auto stage = reader.get<StageId>();
  const auto shard = reader.get<ShardId>();
  const auto attempt = reader.get<Attempt>();
  const auto round = reader.get<std::uint32_t>();
  if (reader.failed() || attempt.value == 0 || stage.value >= stages_.size()) return false;
  const StagePlan& map = stages_[stage.value];
  if (map.kind != StageKind::kMap || shard.value >= map.shards) return false;
  if (!parts_make_sense(stage, reader)) return false;
  if (finished_ || round < round_) return true;
  enter_round(round);
  if (holds_all(stage, shard, reader)) {  // another attempt made the same: one copy counts (I7)
    acknowledge_partitions(context, from, stage, shard, attempt, "");
    return true;
  }
  WorkOrder order{.kind = WorkKind::kAbsorb, .stage = stage, .shards = {shard, 1}};
  order.attempt = attempt;
  order.from = from;
  order.input = Buffer(reader.rest());
  absorb_orders_.push_back(std::move(order));
  return true;
}

// At least one part, each of another partition, in ascending order. They may come before the
// coordinator says that these partitions are this rank's: whoever sends them was told.
bool Worker::parts_make_sense(StageId stage, Reader reader) const {
  const std::uint64_t partitions = stages_[stage.value + 1u].shards;
  std::uint32_t partition_min = 0;
  do {
    const auto partition = reader.get<std::uint32_t>();
    reader.get_bytes();
    if (reader.failed() || partition < partition_min || partition >= partitions) return false;
    partition_min = partition + 1;
  } while (!reader.complete());
  return true;
}

bool Worker::holds_all(StageId stage, ShardId shard, Reader parts) const {
  bool all = !planted(PlantedBug::kTakeTwice);
  while (all && !parts.rest().empty()) {
    all = held_.has(stage, parts.get<std::uint32_t>(), shard);
    parts.get_bytes();
  }
  return all;
}

// Leaves those parts in the order whose partitions do not have them. False if there are none.
bool Worker::take_missing(WorkOrder& order) {
  absorbing_ = Absorbing{round_, {}};
  Buffer missing;
  Writer writer(missing);
  for (Reader reader(order.input.view()); !reader.rest().empty();) {
    const auto partition = reader.get<std::uint32_t>();
    const auto part = reader.get_bytes();
    const bool held = held_.has(order.stage, partition, order.shards.first);
    if (held && !planted(PlantedBug::kTakeTwice)) continue;
    absorbing_->partitions.push_back(partition);
    writer.put(partition);
    writer.put_bytes(part);
  }
  order.input = std::move(missing);
  if (absorbing_->partitions.empty()) absorbing_.reset();
  return absorbing_.has_value();
}

// The map shards that all partitions of this rank have.
void Worker::tell_holdings(Context& context) {
  std::vector<std::uint32_t> own;
  for (std::uint32_t p = 0; p < owners_.size(); ++p) {
    if (owners_[p] == context.self()) own.push_back(p);
  }
  Writer writer = context.begin(context.view().coordinator, MessageKind::kHoldings);
  writer.put(owners_stage_);
  writer.put(round_);
  for (std::uint32_t& partitions : regained_) writer.put(std::exchange(partitions, 0));
  held_.in_all(owners_stage_, own, stages_[owners_stage_.value].shards).save(writer);
  context.send();
}

bool Worker::on_partitions_taken(Context& context, RankId from, Reader& reader) {
  const auto stage = reader.get<StageId>();
  const auto shard = reader.get<ShardId>();
  const auto attempt = reader.get<Attempt>();
  const auto round = reader.get<std::uint32_t>();
  const auto error = reader.get_string();
  if (!reader.complete() || stage.value >= stages_.size() || round > round_) return false;
  if (round < round_) return true;  // for the owners of before
  if (stage > stage_) return false;
  const auto found = map_shards_.find(shard);
  if (stage != stage_ || found == map_shards_.end()) return true;
  MapShard& map_shard = found->second;
  if (map_shard.attempt != attempt) return true;
  // A second answer: of parts that were sent in a view before.
  if (std::erase(map_shard.owners_left, from) == 0) return true;
  if (!error.empty()) {
    map_shards_.erase(found);
    send_failures(context, stage, attempt, std::array{ShardFailure{shard, std::string(error)}});
    return true;
  }
  if (!map_shard.owners_left.empty()) return true;
  if (!planted(PlantedBug::kReportBeforeParts)) {
    add_values(context, {shard, 1}, map_shard.attempt,
               static_cast<std::uint32_t>(map_shard.value.size()), map_shard.value.view());
  }
  map_shards_.erase(found);
  if (result_shards_ != 0) send_results(context);
  return true;
}

bool Worker::on_finish(Context& context, Reader& reader) {
  const auto exit_status = reader.get<std::int32_t>();
  const auto message = reader.get_string();
  if (!reader.complete() || finished_) return false;
  finished_ = true;
  in_stage_ = false;
  queue_.clear();
  queued_ = 0;
  drop_results();
  map_shards_.clear();
  control_orders_.clear();
  absorb_orders_.clear();
  drop_checkpoint_work();
  cells_.end();
  copies_.clear();
  context.begin(context.view().coordinator, MessageKind::kGoodbye);
  context.send();
  if (!context.is_coordinator()) context.finish({exit_status, std::string(message)});
  return true;
}

// ---- views ----

void Worker::on_view(Context& context) {
  const RankId before = std::exchange(coordinator_, context.view().coordinator);
  owners_.clear();
  cells_.on_view();
  if (context.view().joined.contains(context.self())) {
    discard_all();
    awaiting_ = true;
    return;
  }
  if (finished_) return;
  if (coordinator_ != before) awaiting_ = true;
  if (planted(PlantedBug::kKeepLeases)) return announce(context);
  queue_.clear();
  queued_ = 0;
  map_shards_.clear();
  steal_waiting_ = false;
  steal_misses_ = 0;
  steal_after_ = 0;
  drop_checkpoint_work();
  // The results of a bag hold whatever the view; what was made of the parts of a map stage may have
  // lost its base.
  if (in_stage_ && plan().kind != StageKind::kBag) drop_results();
  in_stage_ = false;  // until the coordinator leases again
  unsafe_reports_.keep_if([&](const ResultReport& report) {
    return stages_[report.stage.value].kind == StageKind::kBag;
  });
  if (!awaiting_) announce(context);
}

// This rank was given up by the others, who have gone on without it: all that it did since is void.
void Worker::discard_all() {
  in_stage_ = false;
  queue_.clear();
  queued_ = 0;
  map_shards_.clear();
  drop_results();
  unsafe_reports_.clear();
  steal_waiting_ = false;
  running_.reset();
  absorb_orders_.clear();
  absorb_orders_.push_back({.kind = WorkKind::kForget});
  held_.clear();
  absorbing_.reset();
  drop_checkpoint_work();
  restoring_.reset();
  finished_ = false;
  // Another coordinates now.
  std::erase_if(control_orders_, [](const WorkOrder& order) {
    return order.kind == WorkKind::kFinalize || order.kind == WorkKind::kDescribe;
  });
}

void Worker::announce(Context& context) {
  if (opened_) send_ready(context);
  const bool goes_on = running_ && stages_[running_->stage.value].kind == StageKind::kBag;
  Writer writer = context.begin(context.view().coordinator, MessageKind::kAnnounce);
  writer.put(goes_on ? running_->stage : StageId{});
  writer.put(goes_on ? running_->shards : ShardRange{});
  writer.put(goes_on ? running_->attempt : Attempt{});
  put_offers(writer);
  context.send();
  unsafe_reports_.for_each([&](const ResultReport& report) { send_report(context, report); });
  if (result_shards_ != 0) send_results(context);
}

// Partitions were lost with their owners: their parts are made again, for the owners of now.
void Worker::enter_round(std::uint32_t round) {
  if (round == round_) return;
  round_ = round;
  stage_ = {};
  in_stage_ = false;
  owners_.clear();
  std::erase_if(absorb_orders_,
                [](const WorkOrder& order) { return order.kind == WorkKind::kAbsorb; });
}

// ---- the queue of leases ----

void Worker::enter_stage(StageId stage) {
  stage_ = stage;
  in_stage_ = true;
  queue_.clear();
  queued_ = 0;
  drop_results();  // the stage before has settled: whatever is unsent is there already
  map_shards_.clear();
  shard_nanoseconds_ = 0;
  steal_waiting_ = false;
  steal_misses_ = 0;
  steal_after_ = 0;
}

void Worker::enqueue(ShardRange shards, Attempt attempt) {
  queued_ += shards.count;
  if (!queue_.empty()) {
    Lease& last = queue_.back();
    if (last.shards.end() == shards.first && last.attempt == attempt) {
      last.shards.count += shards.count;
      return;
    }
  }
  queue_.push_back({shards, attempt});
}

void Worker::enqueue_leases(Reader& reader) {
  for (std::size_t left = reader.get_count(kLeaseBytes); left-- > 0;) {
    const ShardRange shards = reader.get_range();
    enqueue(shards, reader.get<Attempt>());
  }
}

// Unbegun shards from the end of the queue: those this rank would come to last.
std::vector<Worker::Lease> Worker::give_away(std::uint64_t count) {
  std::vector<Lease> leases;
  while (count != 0 && !queue_.empty()) {
    Lease& last = queue_.back();
    const std::uint64_t cut = std::min(count, last.shards.count);
    last.shards.count -= cut;
    leases.push_back({{last.shards.end(), cut}, last.attempt});
    if (last.shards.count == 0) queue_.pop_back();
    count -= cut;
    queued_ -= cut;
  }
  return leases;
}

// `stage` is that of the request, so that the answer is known as one to it.
void Worker::send_leases(Context& context, RankId to, MessageKind kind, StageId stage,
                         std::span<const Lease> leases) {
  Writer writer = context.begin(to, kind);
  writer.put(stage);
  writer.put(static_cast<std::uint32_t>(leases.size()));
  for (const Lease& lease : leases) {
    writer.put(lease.shards);
    writer.put(lease.attempt);
  }
  context.send();
}

void Worker::steal(Context& context) {
  if (steal_waiting_ || context.now() < steal_after_) return;
  const auto workers = computing_ranks(context.view(), options_);
  if (workers.size() < 2) return;
  steal_next_ = (steal_next_ + 1) % static_cast<std::uint32_t>(workers.size());
  if (workers[steal_next_] == context.self()) {
    steal_next_ = (steal_next_ + 1) % static_cast<std::uint32_t>(workers.size());
  }
  steal_waiting_ = true;
  Writer writer = context.begin(workers[steal_next_], MessageKind::kStealRequest);
  writer.put(stage_);
  context.send();
}

// ---- computing ----

void Worker::on_tick(Context& context) {
  if (result_shards_ != 0 && context.now() - results_sent_at_ >= kResultDelayMax) {
    send_results(context);
  }
  tend_copies(context);
  cells_.on_tick(context);
}

std::uint64_t Worker::order_shards_max() const {
  if (plan().kind != StageKind::kBag || shard_nanoseconds_ == 0) return 1;
  const double fitting = static_cast<double>(kOrderTime) / shard_nanoseconds_;
  return static_cast<std::uint64_t>(std::clamp(fitting, 1.0, static_cast<double>(kOrderShardsMax)));
}

void Worker::on_work_wanted(Context& context) {
  for (auto* urgent : {&control_orders_, &absorb_orders_}) {
    while (!urgent->empty()) {
      WorkOrder order = std::move(urgent->front());
      urgent->pop_front();
      if (prepare(context, order)) return context.order(std::move(order));
    }
  }
  if (cells_.on_work_wanted(context) || !in_stage_) return;
  if (queue_.empty()) {
    if (result_shards_ != 0) send_results(context);
    if (peers_steal_) steal(context);
    return;
  }
  if (map_shards_.size() >= kMapShardsInFlightMax) return;
  if (unsafe_reports_.bytes() > kUnsafeBytesMax) return;
  Lease& lease = queue_.front();
  const std::uint64_t count = std::min(lease.shards.count, order_shards_max());
  context.order({.kind = WorkKind::kRun,
                 .stage = stage_,
                 .shards = {lease.shards.first, count},
                 .attempt = lease.attempt,
                 .from = context.self(),
                 .input = {}});
  running_ = {stage_, {lease.shards.first, count}, lease.attempt, context.view().epoch};
  lease.shards = {ShardId{lease.shards.first.value + count}, lease.shards.count - count};
  queued_ -= count;
  if (lease.shards.count == 0) queue_.pop_front();
}

// False if there is nothing to do any more.
bool Worker::prepare(Context& context, WorkOrder& order) {
  switch (order.kind) {
    case WorkKind::kAbsorb:
      if (take_missing(order)) return true;
      acknowledge_partitions(context, order.from, order.stage, order.shards.first, order.attempt,
                             "");
      return false;
    case WorkKind::kSave:
      begin_saving(order);
      return true;
    case WorkKind::kRestore:
      return begin_restoring(context, order);
    default:
      return true;
  }
}

void Worker::on_work_finished(Context& context, WorkResult& result) {
  if (result.kind != WorkKind::kRun && is_cells(result.stage)) {
    const bool of_cells = result.kind == WorkKind::kBegin || result.kind == WorkKind::kStep ||
                          result.kind == WorkKind::kSave || result.kind == WorkKind::kRestore;
    if (of_cells) return cells_.on_work_finished(context, result);
  }
  switch (result.kind) {
    case WorkKind::kOpen:
      return opened(context, result);
    case WorkKind::kRun:
      return ran(context, result);
    case WorkKind::kAbsorb:
      return absorbed(context, result);
    case WorkKind::kSave:
      return saved(context, result);
    case WorkKind::kRestore:
      return restored(context, result);
    case WorkKind::kForget:
    case WorkKind::kBegin:
    case WorkKind::kStep:
      return;
    case WorkKind::kDescribe:
    case WorkKind::kFinalize:
      REGROUP_CHECK(false, "describing and finalizing are the coordinator's");
  }
}

void Worker::opened(Context& context, WorkResult& result) {
  opened_ = true;
  stages_ = result.stages;
  open_error_ = std::move(result.error);
  if (open_error_.empty()) open_error_ = problem_with(stages_);
  if (open_error_.empty()) open_error_ = cells_.open(stages_, std::move(result.cells));
  if (!open_error_.empty()) stages_.clear();
  send_ready(context);
}

void Worker::send_ready(Context& context) {
  if (awaiting_) return;
  Writer writer = context.begin(context.view().coordinator, MessageKind::kReady);
  writer.put_string(open_error_);
  writer.put(static_cast<std::uint32_t>(stages_.size()));
  for (const StagePlan& stage : stages_) {
    writer.put(stage.kind);
    writer.put(stage.shards);
  }
  context.send();
}

void Worker::ran(Context& context, WorkResult& result) {
  const auto ran = std::exchange(running_, {});
  if (!ran || finished_) return;
  const bool bag = stages_[ran->stage.value].kind == StageKind::kBag;
  const bool of_this_view = in_stage_ && ran->epoch == context.view().epoch;
  context.event(EventKind::kWork, context.self(), result.stage, result.shards.first.value,
                result.shards.count, result.elapsed);
  if (ran->stage != stage_ || !(bag || of_this_view)) return;
  const double each = static_cast<double>(std::max<Nanoseconds>(result.elapsed, 1)) /
                      static_cast<double>(result.shards.count);
  shard_nanoseconds_ = shard_nanoseconds_ == 0
                           ? each
                           : shard_nanoseconds_ + kCostWeight * (each - shard_nanoseconds_);
  fail_oversized(result);
  if (!result.failures.empty()) {
    send_failures(context, result.stage, result.attempt, result.failures);
  }
  if (plan().kind == StageKind::kMap && result.failures.empty()) {
    send_partitions(context, result);
  } else {
    add_results(context, result.results, result.attempt);
  }
  // Send when the queue is low, so that the next lease is on its way, or when results waited
  // enough.
  const bool waited = context.now() - results_sent_at_ >= kResultDelayMax;
  if (result_shards_ != 0 && (queue_.empty() || waited)) send_results(context);
}

// ---- results ----

void Worker::add_results(Context& context, const ResultBlock& block, Attempt attempt) {
  for (const ResultSegment& segment : block.segments) {
    add_values(context, segment.shards, attempt, segment.value_bytes, block.values(segment));
  }
}

// How many more values of this size go into the open message: at least one if it is empty.
std::uint64_t Worker::room_for(std::uint32_t value_bytes) const {
  std::uint64_t room = kOrderShardsMax;
  const std::size_t bytes_left =
      kResultBytesMax - std::min(kResultBytesMax, results_.size() + kEntryBytes);
  if (bytes_left == 0) room = 0;
  if (value_bytes != 0) room = std::min<std::uint64_t>(room, bytes_left / value_bytes);
  if (result_shards_ == 0) room = std::max<std::uint64_t>(room, 1);
  if (options_.batch != 0) room = std::min<std::uint64_t>(room, options_.batch - result_shards_);
  return room;
}

void Worker::add_values(Context& context, ShardRange shards, Attempt attempt,
                        std::uint32_t value_bytes, std::span<const std::byte> values) {
  while (shards.count != 0) {
    const std::uint64_t count = std::min(shards.count, room_for(value_bytes));
    if (count == 0) {
      send_results(context);
      continue;
    }
    const auto now_fitting = values.first(count * value_bytes);
    append_entry({shards.first, count}, attempt, value_bytes, now_fitting);
    values = values.subspan(now_fitting.size());
    shards = {ShardId{shards.first.value + count}, shards.count - count};
    if (options_.batch != 0 && result_shards_ == options_.batch) send_results(context);
  }
}

// One entry of a message of results: { u64 first, u32 count, u32 attempt, u32 value_bytes, values
// }. Values that continue the last entry lengthen it.
void Worker::append_entry(ShardRange shards, Attempt attempt, std::uint32_t value_bytes,
                          std::span<const std::byte> values) {
  const bool extends = last_entry_.count != 0 && last_entry_.end() == shards.first &&
                       last_entry_attempt_ == attempt && last_entry_value_bytes_ == value_bytes;
  if (extends) {
    last_entry_.count += shards.count;
    const auto count = static_cast<std::uint32_t>(last_entry_.count);
    std::memcpy(results_.data() + last_entry_offset_ + sizeof(std::uint64_t), &count, sizeof count);
  } else {
    last_entry_ = shards;
    last_entry_offset_ = results_.size();
    last_entry_attempt_ = attempt;
    last_entry_value_bytes_ = value_bytes;
    ++result_entries_;
    Writer writer(results_);
    writer.put(shards.first);
    writer.put(static_cast<std::uint32_t>(shards.count));
    writer.put(attempt);
    writer.put(value_bytes);
  }
  results_.append(values);
  result_shards_ += shards.count;
}

void Worker::send_results(Context& context) {
  ++reports_;
  send_report(context, {reports_, stage_, result_entries_, results_.view()});
  // What the coordinator's own rank has is as safe as the report would be.
  if (awaiting_ || (!context.is_coordinator() && worth_keeping())) {
    unsafe_reports_.add(reports_, stage_, result_entries_, results_);
  }
  drop_results();
  results_sent_at_ = context.now();
}

// Of other stages than bags nothing holds in the next view.
bool Worker::worth_keeping() const {
  const double work = shard_nanoseconds_ * static_cast<double>(result_shards_);
  const auto bytes = static_cast<Nanoseconds>(results_.size());
  return plan().kind == StageKind::kBag && work >= static_cast<double>(kWorkPerByteKept * bytes);
}

void Worker::send_report(Context& context, const ResultReport& report) {
  if (awaiting_) return;
  Writer writer = context.begin(context.view().coordinator, MessageKind::kResults);
  writer.put(report.stage);
  writer.put(round_);
  writer.put(report.number);
  writer.put(static_cast<std::uint64_t>(std::max(shard_nanoseconds_, 1.0)));  // 0: not known
  writer.put(report.entries);
  writer.put_raw(report.values);
  context.send();
}

void Worker::drop_results() {
  results_.clear();
  result_entries_ = 0;
  result_shards_ = 0;
  last_entry_ = {};
}

void Worker::send_failures(Context& context, StageId stage, Attempt attempt,
                           std::span<const ShardFailure> failures) {
  if (awaiting_) return;  // nobody holds this rank to its leases
  Writer writer = context.begin(context.view().coordinator, MessageKind::kFailures);
  writer.put(stage);
  writer.put(static_cast<std::uint32_t>(failures.size()));
  for (const ShardFailure& failure : failures) {
    writer.put(failure.shard);
    writer.put(attempt);
    writer.put_string(std::string_view(failure.what).substr(0, kFailureTextBytesMax));
  }
  context.send();
}

// A shard whose value or parts no message can carry has failed.
void Worker::fail_oversized(WorkResult& result) {
  const auto fail = [&](ShardRange shards, std::size_t bytes) {
    for (ShardId shard = shards.first; shard < shards.end(); ++shard.value) {
      result.failures.push_back(
          {shard, "gave " + std::to_string(bytes) + " bytes for one rank, where " +
                      std::to_string(kPayloadBytesMax) + " are the most: make the shards smaller"});
    }
  };
  std::erase_if(result.results.segments, [&](const ResultSegment& segment) {
    if (segment.value_bytes <= kPayloadBytesMax) return false;
    fail(segment.shards, segment.value_bytes);
    return true;
  });
  if (result.partitions.empty()) return;
  std::unordered_map<RankId, std::size_t> bytes_for;
  for (std::size_t p = 0; p < std::min(owners_.size(), result.partitions.size()); ++p) {
    if (owners_[p] != kNobody)
      bytes_for[owners_[p]] += result.partitions[p].size() + kPartHeadBytes;
  }
  const auto most =
      std::ranges::max_element(bytes_for, {}, [](const auto& to) { return to.second; });
  if (most == bytes_for.end() || most->second <= kPayloadBytesMax) return;
  result.results.clear();
  result.failures.clear();
  fail(result.shards, most->second);
}

// ---- partitions ----

// Each owner is sent the parts of all its partitions, be they empty, so that it knows what each
// partition has.
void Worker::send_partitions(Context& context, WorkResult& result) {
  const ShardId shard = result.shards.first;
  REGROUP_CHECK(knows_owners(result.stage), "map shards of a stage whose owners are known");
  REGROUP_CHECK(result.partitions.size() <= owners_.size(), "parts for partitions that are not");
  result.partitions.resize(owners_.size());
  RankSet owners(owners_);
  owners.erase(kNobody);
  if (owners.empty()) {  // the shard is done all the same, be it without a value
    const auto value = result.results.bytes.view();
    return add_values(context, {shard, 1}, result.attempt, static_cast<std::uint32_t>(value.size()),
                      value);
  }
  if (planted(PlantedBug::kReportBeforeParts)) {
    add_values(context, {shard, 1}, result.attempt,
               static_cast<std::uint32_t>(result.results.bytes.size()),
               result.results.bytes.view());
  }
  MapShard& map_shard = map_shards_[shard];
  map_shard.attempt = result.attempt;
  map_shard.owners_left = owners.list();
  map_shard.value = Buffer(result.results.bytes.view());
  for (const RankId owner : owners) {
    Writer writer = context.begin(owner, MessageKind::kPartitions);
    writer.put(result.stage);
    writer.put(shard);
    writer.put(result.attempt);
    writer.put(round_);
    for (std::size_t p = 0; p < owners_.size(); ++p) {
      if (owners_[p] != owner) continue;
      writer.put(static_cast<std::uint32_t>(p));
      writer.put_bytes(result.partitions[p].view());
    }
    context.send();
  }
}

void Worker::absorbed(Context& context, const WorkResult& result) {
  const auto absorbed = std::exchange(absorbing_, {});
  if (!absorbed) return;  // it is to be forgotten
  if (result.error.empty()) {
    for (const std::uint32_t partition : absorbed->partitions) {
      held_.take(result.stage, partition, result.shards.first, stages_[result.stage.value].shards);
    }
  }
  if (absorbed->round != round_) return;  // nobody waits for it any more
  acknowledge_partitions(context, result.from, result.stage, result.shards.first, result.attempt,
                         result.error);
}

// With an error, that they could not be taken.
void Worker::acknowledge_partitions(Context& context, RankId to, StageId stage, ShardId shard,
                                    Attempt attempt, std::string_view error) {
  Writer writer = context.begin(to, MessageKind::kPartitionsTaken);
  writer.put(stage);
  writer.put(shard);
  writer.put(attempt);
  writer.put(round_);
  writer.put_string(error.substr(0, kFailureTextBytesMax));
  context.send();
}

}  // namespace regroup
