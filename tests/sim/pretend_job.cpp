#include "tests/sim/pretend_job.hpp"

#include <algorithm>
#include <cstring>

#include "runtime/protocol/wire.hpp"

namespace regroup::sim {
namespace {

// Purposes of hashes: one shard's cost, failures and value are independent of each other.
constexpr std::uint64_t kCost = 1, kFailure = 2, kSize = 3, kValue = 4, kKeys = 5, kRegistry = 6;
constexpr std::uint32_t kKeysOfShardMax = 24;
constexpr std::uint32_t kDifferentKeys = 500;
constexpr std::uint32_t kFlakyTriesMax = 3;

double unit_of(std::uint64_t hash) {
  return static_cast<double>(hash >> 11) * 0x1.0p-53;
}

void append(Bytes& bytes, std::uint32_t value) {
  const auto raw = std::as_bytes(std::span(&value, 1));
  bytes.insert(bytes.end(), raw.begin(), raw.end());
}

// The part of one partition: its keys, repeated as often as they were met.
Bytes part_of(std::span<const std::uint32_t> keys) {
  Bytes part;
  for (const std::uint32_t key : keys) append(part, key);
  return part;
}

}  // namespace

Bytes count_list(const std::map<std::uint32_t, std::uint32_t>& counts) {
  Bytes list;
  for (const auto& [key, count] : counts) {
    append(list, key);
    append(list, count);
  }
  return list;
}

PretendJob::PretendJob(const JobOptions& options, std::uint32_t attempts_max)
    : options_(options), attempts_max_(attempts_max) {
  const StagePlan bag{StageKind::kBag, options.shards};
  const StagePlan map{StageKind::kMap, options.shards};
  const StagePlan reduce{StageKind::kReduce, options.partitions};
  switch (options.kind) {
    case JobKind::kSmallBag:
    case JobKind::kVariedBag:
      stages_ = {bag};
      break;
    case JobKind::kMapReduce:
      stages_ = {map, reduce};
      break;
    case JobKind::kChain: {
      const StagePlan longer_map{StageKind::kMap, options.shards + options.shards / 2};
      stages_ = {bag, map, reduce, longer_map, reduce};
      break;
    }
  }
  reduce_serially();
}

std::uint64_t PretendJob::hash(StageId stage, ShardId shard, std::uint64_t purpose) const {
  return scatter({options_.seed, stage.value, shard.value, purpose});
}

Nanoseconds PretendJob::cost(StageId stage, ShardId shard) const {
  return spread_out(options_.cost_spread, unit_of(hash(stage, shard, kCost)), options_.cost,
                    kCostMax);
}

std::uint32_t PretendJob::failing_tries(StageId stage, ShardId shard) const {
  const std::uint64_t drawn = hash(stage, shard, kFailure);
  const double unit = unit_of(drawn);
  if (unit < options_.hopeless) return kAlways;
  if (unit < options_.hopeless + options_.flaky) {
    return 1 + static_cast<std::uint32_t>(drawn % kFlakyTriesMax);
  }
  return 0;
}

bool PretendJob::asks_registry(StageId stage, ShardId shard) const {
  return unit_of(hash(stage, shard, kRegistry)) < options_.registry;
}

std::uint32_t PretendJob::value_bytes(StageId stage, ShardId shard) const {
  if (stages_[stage.value].kind == StageKind::kMap) return options_.map_value_bytes;
  if (options_.kind != JobKind::kVariedBag) return 8;
  const std::uint64_t drawn = hash(stage, shard, kSize);
  switch (drawn % 8) {
    case 0:
      return 0;
    case 1:
      return static_cast<std::uint32_t>(scatter(drawn) % (kValueBytesMax + 1));
    default:
      return static_cast<std::uint32_t>(scatter(drawn) % 600);
  }
}

Bytes PretendJob::value(StageId stage, ShardId shard) const {
  if (stages_[stage.value].kind == StageKind::kReduce) return reduced_[stage.value][shard.value];
  Bytes bytes(value_bytes(stage, shard));
  std::uint64_t word = hash(stage, shard, kValue);
  for (std::size_t i = 0; i < bytes.size(); i += sizeof word, word = scatter(word)) {
    std::memcpy(bytes.data() + i, &word, std::min(sizeof word, bytes.size() - i));
  }
  return bytes;
}

std::vector<std::uint32_t> PretendJob::keys(StageId stage, ShardId shard) const {
  std::uint64_t drawn = hash(stage, shard, kKeys);
  std::vector<std::uint32_t> keys(drawn % (kKeysOfShardMax + 1));
  if (drawn % 5 == 0) keys.clear();  // a shard that meets nothing
  for (std::uint32_t& key : keys) {
    drawn = scatter(drawn);
    key = static_cast<std::uint32_t>(drawn % kDifferentKeys);
  }
  return keys;
}

void PretendJob::reduce_serially() {
  reduced_.resize(stages_.size());
  for (std::uint16_t s = 0; s + 1u < stages_.size(); ++s) {
    const StageId map{s};
    if (stages_[s].kind != StageKind::kMap) continue;
    std::vector<std::map<std::uint32_t, std::uint32_t>> counts(stages_[s + 1u].shards);
    for (ShardId shard{0}; shard.value < stages_[s].shards; ++shard.value) {
      if (given_up(map, shard)) continue;
      for (const std::uint32_t key : keys(map, shard)) ++counts[partition_of(map, key)][key];
    }
    for (const auto& partition : counts) reduced_[s + 1u].push_back(count_list(partition));
  }
}

void PretendExecutor::execute(WorkOrder& order, WorkResult& result) {
  switch (order.kind) {
    case WorkKind::kDescribe:
      result.elapsed = open_time_;
      result.description = Buffer(std::as_bytes(std::span(kDescription)));
      return;
    case WorkKind::kOpen:
      open(result);
      return;
    case WorkKind::kAbsorb:
      absorb(order, result);
      return;
    case WorkKind::kSave:
      save(order, result);
      return;
    case WorkKind::kRestore:
      restore(order, result);
      return;
    case WorkKind::kForget:
      parts_.clear();
      result.elapsed = kAbsorbTime;
      return;
    case WorkKind::kFinalize:
      result.elapsed = kFinalizeTime;
      if (upset_ == Upset::kFinalizeFails) result.error = "the disk is full";
      return;
    case WorkKind::kRun:
      for (ShardId shard = order.shards.first; shard < order.shards.end(); ++shard.value) {
        run_shard(order.stage, shard, result);
      }
      return;
  }
}

void PretendExecutor::open(WorkResult& result) {
  result.elapsed = open_time_;
  if (upset_ == Upset::kOpenFails) {
    result.error = "no such input";
    return;
  }
  result.stages = job_->stages();
  if (upset_ == Upset::kOtherJob) ++result.stages.back().shards;
}

void PretendExecutor::run_shard(StageId stage, ShardId shard, WorkResult& result) {
  result.elapsed += job_->cost(stage, shard) * slowness_;
  if (result.attempt.value <= job_->failing_tries(stage, shard)) {
    result.failures.push_back({shard, "shard " + std::to_string(shard.value) + " threw"});
    return;
  }
  const StageKind kind = job_->stages()[stage.value].kind;
  const Bytes value = kind == StageKind::kReduce ? reduce(stage, shard) : job_->value(stage, shard);
  if (kind != StageKind::kMap || !value.empty()) {
    std::byte* into = result.results.add(shard, static_cast<std::uint32_t>(value.size()));
    if (!value.empty()) std::memcpy(into, value.data(), value.size());
  }
  if (kind != StageKind::kMap) return;
  std::vector<std::vector<std::uint32_t>> sorted(job_->stages()[stage.value + 1u].shards);
  for (const std::uint32_t key : job_->keys(stage, shard)) {
    sorted[job_->partition_of(stage, key)].push_back(key);
  }
  for (const auto& keys : sorted) result.partitions.emplace_back(part_of(keys));
}

void PretendExecutor::absorb(const WorkOrder& order, WorkResult& result) {
  result.elapsed = kAbsorbTime * slowness_;
  Parts& parts = parts_[order.stage];
  Reader reader(order.input.view());
  while (!reader.failed() && !reader.rest().empty()) {
    const auto partition = reader.get<std::uint32_t>();
    const auto bytes = reader.get_bytes();
    const bool fresh =
        parts[partition].emplace(order.shards.first, Bytes(bytes.begin(), bytes.end())).second;
    if (!fresh) result.error = "a part that was absorbed before";
  }
  if (reader.failed()) result.error = "a part that does not decode";
}

void PretendExecutor::save(WorkOrder& order, WorkResult& result) {
  result.elapsed = kAbsorbTime * slowness_;
  Writer writer(result.partitions.emplace_back(std::move(order.input)));
  for (const auto& [shard, bytes] : parts_[order.stage][order.shards.first.value]) {
    writer.put(shard);
    writer.put_bytes(bytes);
  }
}

void PretendExecutor::restore(const WorkOrder& order, WorkResult& result) {
  result.elapsed = kAbsorbTime * slowness_;
  auto& parts = parts_[order.stage][order.shards.first.value];
  if (!parts.empty()) result.error = "a partition that holds something is restored";
  for (Reader reader(order.saved()); !reader.rest().empty();) {
    const auto shard = reader.get<ShardId>();
    const auto bytes = reader.get_bytes();
    parts.emplace(shard, Bytes(bytes.begin(), bytes.end()));
  }
}

Bytes PretendExecutor::reduce(StageId stage, ShardId partition) const {
  std::map<std::uint32_t, std::uint32_t> counts;
  const auto map_parts = parts_.find(StageId{static_cast<std::uint16_t>(stage.value - 1u)});
  if (map_parts == parts_.end()) return {};
  const auto parts = map_parts->second.find(partition.value);
  if (parts == map_parts->second.end()) return {};
  for (const auto& [shard, bytes] : parts->second) {
    for (Reader reader(bytes); !reader.rest().empty();) ++counts[reader.get<std::uint32_t>()];
  }
  return count_list(counts);
}

}  // namespace regroup::sim
