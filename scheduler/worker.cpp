#include "scheduler/worker.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/protocol/check.hpp"
#include "scheduler/shard_source.hpp"

namespace regroup {
namespace {

constexpr std::size_t kLeaseBytes = 8 + 8 + 4;
constexpr std::size_t kEntryBytes = 8 + 4 + 4 + 4;
// How much the newest measurement of a shard's cost counts in the running mean.
constexpr double kCostWeight = 0.25;

}  // namespace

bool Worker::on_message(Context& context, RankId from, MessageKind kind, Reader& reader) {
  switch (kind) {
    case MessageKind::kOpen:
      return on_open(reader);
    case MessageKind::kLease:
      return on_lease(context, reader);
    case MessageKind::kRecall:
      return on_recall(context, reader);
    case MessageKind::kStealRequest:
      return on_steal_request(context, from, reader);
    case MessageKind::kStealReply:
      return on_steal_reply(context, from, reader);
    case MessageKind::kPartitions:
      return on_partitions(context, from, reader);
    case MessageKind::kPartitionsTaken:
      return on_partitions_taken(context, reader);
    case MessageKind::kFinish:
      return on_finish(context, reader);
    default:
      return false;
  }
}

// ---- messages ----

bool Worker::on_open(Reader& reader) {
  const auto description = reader.get_bytes();
  if (!reader.complete()) return false;
  WorkOrder order{.kind = WorkKind::kOpen};
  order.input = Buffer(description);
  control_orders_.push_back(std::move(order));
  return true;
}

bool Worker::on_lease(Context& context, Reader& reader) {
  const auto stage = reader.get<StageId>();
  const bool steal = reader.get<std::uint8_t>() != 0;
  if (reader.failed() || stage.value >= stages_.size()) return false;
  if (!in_stage_ || stage != stage_) enter_stage(stage);
  peers_steal_ = steal;
  if (plan().kind == StageKind::kMap && owners_.empty()) {
    owners_ = partition_owners(computing_ranks(context.view(), options_),
                               stages_[stage.value + 1u].shards);
  }
  return read_leases(reader);
}

bool Worker::on_recall(Context& context, Reader& reader) {
  const auto stage = reader.get<StageId>();
  const auto count = reader.get<std::uint64_t>();
  if (!reader.complete()) return false;
  std::vector<Lease> leases;
  if (in_stage_ && stage == stage_) leases = give_away(std::min(count, queued_));
  send_leases(context, context.view().coordinator(), MessageKind::kReturned, leases);
  return true;
}

bool Worker::on_steal_request(Context& context, RankId from, Reader& reader) {
  const auto stage = reader.get<StageId>();
  if (!reader.complete()) return false;
  std::vector<Lease> leases;
  if (in_stage_ && stage == stage_) leases = give_away((queued_ + 1) / 2);
  send_leases(context, from, MessageKind::kStealReply, leases);
  return true;
}

bool Worker::on_steal_reply(Context& context, RankId, Reader& reader) {
  const auto stage = reader.get<StageId>();
  if (reader.failed()) return false;
  steal_waiting_ = false;
  if (!in_stage_) return true;
  const std::uint64_t before = queued_;
  // A peer that is in another stage has no loot: a miss like any other.
  if (stage == stage_ && !read_leases(reader)) return false;
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

bool Worker::on_partitions(Context& context, RankId from, Reader& reader) {
  if (stages_.empty()) {  // the sender has opened the job sooner
    early_parts_.push_back({from, Buffer(reader.rest())});
    return true;
  }
  const auto stage = reader.get<StageId>();
  const auto shard = reader.get<ShardId>();
  const auto attempt = reader.get<Attempt>();
  if (reader.failed() || stage.value >= stages_.size()) return false;
  const StagePlan& map = stages_[stage.value];
  if (map.kind != StageKind::kMap || shard.value >= map.shards) return false;
  if (stage < parts_stage_) {  // of a stage that has settled without them
    acknowledge_partitions(context, from, stage, shard);
    return true;
  }
  if (stage > parts_stage_ || parts_taken_.empty()) {
    parts_stage_ = stage;
    parts_taken_.assign(map.shards, false);
  }
  if (parts_taken_[shard.value]) {  // another attempt made the same bytes: one copy counts (I7)
    acknowledge_partitions(context, from, stage, shard);
    return true;
  }
  parts_taken_[shard.value] = true;
  WorkOrder order{.kind = WorkKind::kAbsorb, .stage = stage, .shards = {shard, 1}};
  order.attempt = attempt;
  order.from = from;
  order.input = Buffer(reader.rest());
  absorb_orders_.push_back(std::move(order));
  return true;
}

bool Worker::on_partitions_taken(Context& context, Reader& reader) {
  const auto stage = reader.get<StageId>();
  const auto shard = reader.get<ShardId>();
  if (!reader.complete()) return false;
  const auto found = map_shards_.find(shard);
  if (stage != stage_ || found == map_shards_.end()) return true;
  MapShard& map_shard = found->second;
  if (--map_shard.owners_left != 0) return true;
  add_values(context, {shard, 1}, map_shard.attempt,
             static_cast<std::uint32_t>(map_shard.value.size()), map_shard.value.view());
  map_shards_.erase(found);
  if (result_shards_ != 0) send_results(context);
  return true;
}

bool Worker::on_finish(Context& context, Reader& reader) {
  const auto exit_status = reader.get<std::int32_t>();
  const auto message = reader.get_string();
  if (!reader.complete()) return false;
  queue_.clear();
  queued_ = 0;
  in_stage_ = false;
  control_orders_.clear();
  absorb_orders_.clear();
  context.begin(context.view().coordinator(), MessageKind::kGoodbye);
  context.send();
  if (!context.is_coordinator()) context.finish({exit_status, std::string(message)});
  return true;
}

// ---- the queue of leases ----

void Worker::enter_stage(StageId stage) {
  REGROUP_CHECK(result_shards_ == 0, "a stage ended with results unsent");
  stage_ = stage;
  in_stage_ = true;
  queue_.clear();
  queued_ = 0;
  map_shards_.clear();
  owners_.clear();
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

bool Worker::read_leases(Reader& reader) {
  const std::size_t count = reader.get_count(kLeaseBytes);
  const std::uint64_t shards_max = plan().shards;
  for (std::size_t i = 0; i < count; ++i) {
    const ShardRange shards = reader.get_range();
    const auto attempt = reader.get<Attempt>();
    if (shards.count > shards_max || shards.first.value > shards_max - shards.count) return false;
    if (shards.count != 0) enqueue(shards, attempt);
  }
  return reader.complete();
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

void Worker::send_leases(Context& context, RankId to, MessageKind kind,
                         std::span<const Lease> leases) {
  Writer writer = context.begin(to, kind);
  writer.put(stage_);
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
}

std::uint64_t Worker::order_shards_max() const {
  if (plan().kind != StageKind::kBag || shard_nanoseconds_ == 0) return 1;
  const double fitting = static_cast<double>(kOrderTime) / shard_nanoseconds_;
  return static_cast<std::uint64_t>(std::clamp(fitting, 1.0, static_cast<double>(kOrderShardsMax)));
}

void Worker::on_work_wanted(Context& context) {
  for (auto* urgent : {&control_orders_, &absorb_orders_}) {
    if (urgent->empty()) continue;
    context.order(std::move(urgent->front()));
    urgent->pop_front();
    return;
  }
  if (!in_stage_) return;
  if (queue_.empty()) {
    if (result_shards_ != 0) send_results(context);
    if (peers_steal_) steal(context);
    return;
  }
  if (map_shards_.size() >= kMapShardsInFlightMax) return;
  Lease& lease = queue_.front();
  const std::uint64_t count = std::min(lease.shards.count, order_shards_max());
  context.order({.kind = WorkKind::kRun,
                 .stage = stage_,
                 .shards = {lease.shards.first, count},
                 .attempt = lease.attempt,
                 .from = context.self(),
                 .input = {}});
  lease.shards = {ShardId{lease.shards.first.value + count}, lease.shards.count - count};
  queued_ -= count;
  if (lease.shards.count == 0) queue_.pop_front();
}

void Worker::on_work_finished(Context& context, WorkResult& result) {
  switch (result.kind) {
    case WorkKind::kOpen:
      return opened(context, result);
    case WorkKind::kRun:
      return ran(context, result);
    case WorkKind::kAbsorb:
      REGROUP_CHECK(result.error.empty(), "a part of a partition that was sent cannot be read");
      return acknowledge_partitions(context, result.from, result.stage, result.shards.first);
    case WorkKind::kFinalize:
      REGROUP_CHECK(false, "finalizing is the coordinator's");
  }
}

void Worker::opened(Context& context, WorkResult& result) {
  stages_ = result.stages;
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    const bool reduced = i + 1 < stages_.size() && stages_[i + 1].kind == StageKind::kReduce;
    REGROUP_CHECK(stages_[i].kind != StageKind::kMap || reduced, "a map stage without its reduce");
  }
  if (result.error.empty()) {
    for (const auto& [from, parts] : std::exchange(early_parts_, {})) {
      Reader reader(parts.view());
      on_partitions(context, from, reader);
    }
  }
  Writer writer = context.begin(context.view().coordinator(), MessageKind::kReady);
  writer.put_string(result.error);
  writer.put(static_cast<std::uint32_t>(stages_.size()));
  for (const StagePlan& stage : stages_) {
    writer.put(stage.kind);
    writer.put(stage.shards);
  }
  context.send();
}

void Worker::ran(Context& context, WorkResult& result) {
  if (!in_stage_ || result.stage != stage_) return;  // the run is over
  const double each = static_cast<double>(std::max<Nanoseconds>(result.elapsed, 1)) /
                      static_cast<double>(result.shards.count);
  shard_nanoseconds_ = shard_nanoseconds_ == 0
                           ? each
                           : shard_nanoseconds_ + kCostWeight * (each - shard_nanoseconds_);
  if (!result.failures.empty()) send_failures(context, result);
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
  const std::size_t bytes_left = kResultBytesMax - std::min(kResultBytesMax, results_.size());
  if (bytes_left < kEntryBytes) room = 0;
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
  Writer writer = context.begin(context.view().coordinator(), MessageKind::kResults);
  writer.put(stage_);
  writer.put(static_cast<std::uint64_t>(shard_nanoseconds_));
  writer.put(result_entries_);
  writer.put_raw(results_.view());
  context.send();
  results_.clear();
  result_entries_ = 0;
  result_shards_ = 0;
  last_entry_ = {};
  results_sent_at_ = context.now();
}

void Worker::send_failures(Context& context, const WorkResult& result) {
  Writer writer = context.begin(context.view().coordinator(), MessageKind::kFailures);
  writer.put(result.stage);
  writer.put(static_cast<std::uint32_t>(result.failures.size()));
  for (const ShardFailure& failure : result.failures) {
    writer.put(failure.shard);
    writer.put(result.attempt);
    writer.put_string(failure.what);
  }
  context.send();
}

// ---- partitions ----

void Worker::send_partitions(Context& context, WorkResult& result) {
  const ShardId shard = result.shards.first;
  const auto owned_by = [&](std::size_t partition) { return owners_[partition]; };
  REGROUP_CHECK(result.partitions.size() <= owners_.size(), "parts for partitions that are not");
  std::vector<RankId> owners;
  for (std::size_t p = 0; p < result.partitions.size(); ++p) {
    if (!result.partitions[p].empty()) owners.push_back(owned_by(p));
  }
  std::ranges::sort(owners);
  owners.erase(std::ranges::unique(owners).begin(), owners.end());
  if (owners.empty()) {  // the shard is done all the same, be it without a value
    const auto value = result.results.bytes.view();
    return add_values(context, {shard, 1}, result.attempt, static_cast<std::uint32_t>(value.size()),
                      value);
  }
  MapShard& map_shard = map_shards_[shard];
  map_shard.attempt = result.attempt;
  map_shard.owners_left = owners.size();
  map_shard.value = Buffer(result.results.bytes.view());
  for (const RankId owner : owners) {
    Writer writer = context.begin(owner, MessageKind::kPartitions);
    writer.put(result.stage);
    writer.put(shard);
    writer.put(result.attempt);
    for (std::size_t p = 0; p < result.partitions.size(); ++p) {
      if (owned_by(p) != owner || result.partitions[p].empty()) continue;
      writer.put(static_cast<std::uint32_t>(p));
      writer.put_bytes(result.partitions[p].view());
    }
    context.send();
  }
}

void Worker::acknowledge_partitions(Context& context, RankId to, StageId stage, ShardId shard) {
  Writer writer = context.begin(to, MessageKind::kPartitionsTaken);
  writer.put(stage);
  writer.put(shard);
  context.send();
}

}  // namespace regroup
