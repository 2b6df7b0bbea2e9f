#include "tests/sim/pretend_job.hpp"

#include <algorithm>
#include <cstring>

#include "runtime/protocol/wire.hpp"

namespace regroup::sim {
namespace {

// Purposes of hashes: one shard's cost, failures and value are independent of each other.
constexpr std::uint64_t kCost = 1, kFailure = 2, kSize = 3, kValue = 4, kKeys = 5, kRegistry = 6,
                        kCell = 7, kEdge = 8;
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
    case JobKind::kIterate: {
      if (options.shards % 3 == 1) stages_ = {bag};
      if (options.shards % 3 == 2) stages_ = {map, reduce};
      stages_.push_back({StageKind::kIterate, options.cells});
      stages_.push_back({StageKind::kReduce, options.cells});
      make_neighbours();
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
  if (stages_[stage.value].kind == StageKind::kIterate) return 0;
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
  if (stages_[stage.value].kind == StageKind::kIterate) return 0;
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
    if (stages_[s].kind == StageKind::kIterate) iterate_serially(s);
    if (stages_[s].kind != StageKind::kMap) continue;
    std::vector<std::map<std::uint32_t, std::uint32_t>> counts(stages_[s + 1u].shards);
    for (ShardId shard{0}; shard.value < stages_[s].shards; ++shard.value) {
      if (given_up(map, shard)) continue;
      for (const std::uint32_t key : keys(map, shard)) ++counts[partition_of(map, key)][key];
    }
    for (const auto& partition : counts) reduced_[s + 1u].push_back(count_list(partition));
  }
}

// ---- cells ----

// Some have many neighbours, some one or none.
void PretendJob::make_neighbours() {
  const std::uint64_t cells = options_.cells;
  neighbours_.resize(cells);
  for (std::uint32_t a = 0; a < cells; ++a) {
    for (std::uint32_t b = a + 1; b < cells; ++b) {
      const double near = b == a + 1 ? 0.8 : 1.0 / static_cast<double>(cells);
      if (unit_of(scatter({options_.seed, kEdge, a, b})) >= near) continue;
      neighbours_[a].push_back(b);
      neighbours_[b].push_back(a);
    }
  }
  for (auto& others : neighbours_) std::ranges::sort(others);
}

std::uint64_t PretendJob::cell_at_begin(std::uint32_t cell) const {
  return scatter({options_.seed, kCell, cell});
}

std::uint64_t PretendJob::shown(std::uint64_t value, std::uint32_t to) {
  return scatter({value, to});
}

PretendTotals PretendJob::partial(std::uint64_t value, std::uint64_t step) {
  return {scatter({value, step}), scatter(value) | 1};
}

bool PretendJob::at_end(std::uint64_t step, const PretendTotals& totals) const {
  const bool early = wants_totals(step) && 2 * step > options_.steps && totals.hash % 32 == 0;
  return step >= options_.steps || early;
}

std::uint64_t PretendJob::next(std::uint64_t value, std::uint64_t step,
                               std::span<const std::uint64_t> halos, const PretendTotals& totals) {
  std::uint64_t next = scatter({value, step, totals.hash, totals.shift});
  for (const std::uint64_t halo : halos) next = scatter(next ^ halo);
  return next;
}

Bytes PretendJob::cell_value(std::uint64_t value, std::uint64_t step) {
  Bytes bytes(sizeof value + sizeof step);
  std::memcpy(bytes.data(), &value, sizeof value);
  std::memcpy(bytes.data() + sizeof value, &step, sizeof step);
  return bytes;
}

CellPlan PretendJob::cells() const {
  CellPlan plan{neighbours_};
  if (!options_.cells_in_field) return plan;
  const std::uint64_t extent = options_.cell_bytes / element_bytes(ElementType::kUint64);
  CellField& field = plan.field.emplace(
      CellField{.field = {.name = "pretended", .shape = {extent * options_.cells}},
                .type = ElementType::kUint64});
  for (std::uint64_t cell = 0; cell < options_.cells; ++cell) {
    field.places.push_back({{cell * extent}, {extent}});
  }
  return plan;
}

Bytes PretendJob::cell_elements(std::uint64_t value) const {
  Bytes bytes(options_.cell_bytes);
  std::size_t at = 0;
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(value >> 8 * (at++ % 8));
  return bytes;
}

void PretendJob::iterate_serially(std::size_t stage) {
  std::vector<std::uint64_t> values;
  for (std::uint32_t cell = 0; cell < options_.cells; ++cell) values.push_back(cell_at_begin(cell));
  std::uint64_t step = 0;
  for (;; ++step) {
    PretendTotals totals;
    if (wants_totals(step)) {
      for (const std::uint64_t value : values) totals.join(partial(value, step));
    }
    if (at_end(step, totals)) break;
    std::vector<std::uint64_t> after;
    for (std::uint32_t cell = 0; cell < options_.cells; ++cell) {
      std::vector<std::uint64_t> halos;
      for (const std::uint32_t other : neighbours_[cell]) {
        halos.push_back(shown(values[other], cell));
      }
      after.push_back(next(values[cell], step, halos, totals));
    }
    values = std::move(after);
  }
  for (const std::uint64_t value : values) {
    reduced_[stage + 1].push_back(cell_value(value, step));
  }
}

bool PretendExecutor::cell_fails(const WorkOrder& order) {
  const JobOptions& options = job_->options();
  const bool meant = order.kind == options.failing_order &&
                     order.shards.first.value == options.failing_cell &&
                     order.step >= options.failing_step;
  if (!meant || *cell_failures_ == 0) return false;
  --*cell_failures_;
  return true;
}

void PretendExecutor::set_cell(const WorkOrder& order, WorkResult& result) {
  result.elapsed = kAbsorbTime * slowness_;
  Cell& cell = cells_[{order.stage, order.shards.first.value}];
  cell = {0, job_->cell_at_begin(static_cast<std::uint32_t>(order.shards.first.value))};
  if (order.kind == WorkKind::kRestore) {
    Reader reader(order.saved());
    cell.step = reader.get<std::uint64_t>();
    cell.value = reader.get<std::uint64_t>();
    if (reader.failed() || !std::ranges::equal(reader.rest(), job_->cell_elements(cell.value))) {
      result.error = "a cell that does not decode";
    } else if (cell.step != order.step) {
      result.error = "a cell is restored to another step than was said";
    }
  }
  show_cell(order, result);
}

void PretendExecutor::step_cell(const WorkOrder& order, WorkResult& result) {
  result.elapsed = job_->cost(order.stage, order.shards.first) * slowness_;
  const auto number = static_cast<std::uint32_t>(order.shards.first.value);
  Cell& cell = cells_[{order.stage, number}];
  if (cell.step != order.step) result.error = "a cell is not at the step that it is to go on from";
  PretendTotals totals;
  if (job_->wants_totals(cell.step) != (order.totals != nullptr)) {
    result.error = "there are no totals, or those that nobody wants";
  } else if (order.totals) {
    Reader reader(order.totals->view());
    totals.hash = reader.get<std::uint64_t>();
    totals.shift = reader.get<std::uint64_t>();
  }
  if (!std::ranges::equal(order.halos, job_->neighbours()[number], {}, &Halo::cell)) {
    result.error = "halos of others than its neighbours";
  }
  std::vector<std::uint64_t> halos;
  for (const Halo& halo : order.halos) {
    Reader reader(halo.bytes.view());
    if (reader.get<std::uint64_t>() != cell.step) result.error = "a halo of another step";
    if (reader.get<std::uint32_t>() != halo.cell) result.error = "a halo of another cell";
    if (reader.get<std::uint32_t>() != number) result.error = "a halo for another cell";
    halos.push_back(reader.get<std::uint64_t>());
    if (!reader.complete()) result.error = "a halo that does not decode";
  }
  if (result.error.empty() && cell_fails(order)) result.error = kCellFailure;
  if (!result.error.empty()) return;
  result.at_end = job_->at_end(cell.step, totals);
  if (result.at_end) return;
  cell.value = PretendJob::next(cell.value, cell.step, halos, totals);
  ++cell.step;
  show_cell(order, result);
}

void PretendExecutor::show_cell(const WorkOrder& order, WorkResult& result) {
  const auto number = static_cast<std::uint32_t>(order.shards.first.value);
  const Cell& cell = cells_[{order.stage, number}];
  for (const std::uint32_t other : job_->neighbours()[number]) {
    Halo& halo = result.halos.emplace_back(Halo{other, {}});
    Writer writer(halo.bytes);
    writer.put(cell.step);
    writer.put(number);
    writer.put(other);
    writer.put(PretendJob::shown(cell.value, other));
  }
  result.wants_totals = job_->wants_totals(cell.step);
  if (!result.wants_totals) return;
  const PretendTotals partial = PretendJob::partial(cell.value, cell.step);
  Writer writer(result.partial);
  writer.put(partial.hash);
  writer.put(partial.shift);
}

// ---- the computing part of a rank ----

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
    case WorkKind::kBegin:
      set_cell(order, result);
      return;
    case WorkKind::kStep:
      step_cell(order, result);
      return;
    case WorkKind::kForget:
      cells_.clear();
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
  if (job_->options().kind == JobKind::kIterate) result.cells = {job_->cells()};
  if (upset_ == Upset::kOtherJob) {
    ++result.stages.back().shards;
    if (job_->options().kind == JobKind::kIterate) {  // another job, and one that can be
      ++result.stages[result.stages.size() - 2].shards;
      result.cells.back() = {job_->neighbours()};
      result.cells.back().neighbours.emplace_back();
    }
  }
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
  if (job_->stages()[order.stage.value].kind == StageKind::kIterate) {
    const Cell& cell = cells_[{order.stage, order.shards.first.value}];
    writer.put(cell.step);
    writer.put(cell.value);
    writer.put_raw(job_->cell_elements(cell.value));
    if (cell.step != order.step) result.error = "a cell is written down at another step";
    if (result.error.empty() && cell_fails(order)) result.error = kCellFailure;
    return;
  }
  for (const auto& [shard, bytes] : parts_[order.stage][order.shards.first.value]) {
    writer.put(shard);
    writer.put_bytes(bytes);
  }
}

void PretendExecutor::restore(const WorkOrder& order, WorkResult& result) {
  if (job_->stages()[order.stage.value].kind == StageKind::kIterate) {
    return set_cell(order, result);
  }
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
  const StageId before{static_cast<std::uint16_t>(stage.value - 1u)};
  if (job_->stages()[before.value].kind == StageKind::kIterate) {
    const auto cell = cells_.find({before, partition.value});
    if (cell == cells_.end()) return {};
    return PretendJob::cell_value(cell->second.value, cell->second.step);
  }
  std::map<std::uint32_t, std::uint32_t> counts;
  const auto map_parts = parts_.find(before);
  if (map_parts == parts_.end()) return {};
  const auto parts = map_parts->second.find(partition.value);
  if (parts == map_parts->second.end()) return {};
  for (const auto& [shard, bytes] : parts->second) {
    for (Reader reader(bytes); !reader.rest().empty();) ++counts[reader.get<std::uint32_t>()];
  }
  return count_list(counts);
}

}  // namespace regroup::sim
