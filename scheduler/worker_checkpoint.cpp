// A worker's part in checkpoints: the partitions that it owns are written down, each with the set
// of map shards that it has taken in, and come back to whoever owns them after a loss or a restart.
// Partitions need not be of one moment, since each says what it holds. Restored is only a partition
// that holds nothing.
#include <algorithm>
#include <string>
#include <utility>

#include "runtime/protocol/planted.hpp"
#include "scheduler/checkpoint_desk.hpp"
#include "scheduler/worker.hpp"

namespace regroup {
namespace {

std::uint32_t partition_of(ShardRange shards) {
  return static_cast<std::uint32_t>(shards.first.value);
}

}  // namespace

// ---- what comes back ----

// Partitions that were others' begin with what the checkpoint has of them, if there is one.
void Worker::load_missing(Context& context, CheckpointNumber checkpoint) {
  DiskRequest request{
      .task = DiskTask::kLoadPieces, .checkpoint = checkpoint, .epoch = context.view().epoch};
  for (std::uint32_t p = 0; p < owners_.size(); ++p) {
    const bool missing = owners_[p] == context.self() && held_.of(owners_stage_, p) == nullptr;
    if (missing) request.pieces.push_back({partition_dataset(owners_stage_, p), 0, {}});
  }
  loading_.reset();
  if (checkpoint.value == 0 || request.pieces.empty()) return tell_holdings(context);
  loading_.emplace();
  context.ask_disk(std::move(request));
}

// What cannot be read begins empty: its map shards run again.
void Worker::on_loaded(Context& context, DiskAnswer& answer) {
  if (!loading_ || !loading_->waits_for_disk) return;
  loading_->waits_for_disk = false;
  for (std::uint32_t p = 0; p < owners_.size(); ++p) {
    if (owners_[p] != context.self()) continue;
    const auto piece =
        std::ranges::find(answer.pieces, partition_dataset(owners_stage_, p), &StatePiece::dataset);
    if (piece == answer.pieces.end() || piece->bytes.empty()) continue;
    WorkOrder order{.kind = WorkKind::kRestore, .stage = owners_stage_, .shards = {ShardId{p}, 1}};
    order.input = std::move(piece->bytes);
    absorb_orders_.push_back(std::move(order));
    ++loading_->left;
  }
  if (loading_->left != 0) return;
  loading_.reset();
  tell_holdings(context);
}

bool Worker::begin_restoring(Context& context, WorkOrder& order) {
  Reader reader(order.input.view());
  auto held = ShardBits::load(reader, stages_[order.stage.value].shards);
  const bool holds_something = held_.of(order.stage, partition_of(order.shards)) != nullptr;
  if (!held || holds_something) {
    one_loaded(context);
    return false;
  }
  restoring_ = {round_, std::move(*held)};
  order.input =
      Buffer(planted(PlantedBug::kLoseRestored) ? std::span<const std::byte>() : reader.rest());
  return true;
}

void Worker::restored(Context& context, const WorkResult& result) {
  auto restoring = std::exchange(restoring_, {});
  if (!restoring) return;  // it is to be forgotten
  if (result.error.empty()) {
    held_.restore(result.stage, partition_of(result.shards), std::move(restoring->held));
  }
  if (restoring->round == round_) one_loaded(context);
}

void Worker::one_loaded(Context& context) {
  if (!loading_ || loading_->waits_for_disk || --loading_->left != 0) return;
  loading_.reset();
  tell_holdings(context);
}

// ---- what is written ----

bool Worker::on_snapshot(Context& context, Reader& reader) {
  const auto number = reader.get<CheckpointNumber>();
  const auto stage = reader.get<StageId>();
  std::vector<std::uint32_t> partitions(reader.get_count(sizeof(std::uint32_t)));
  for (std::uint32_t& partition : partitions) partition = reader.get<std::uint32_t>();
  if (!reader.complete() || finished_ || stage.value >= stages_.size()) return false;
  const bool map = stages_[stage.value].kind == StageKind::kMap;
  if (!partitions.empty() && !map) return false;
  for (const std::uint32_t partition : partitions) {
    if (partition >= stages_[stage.value + 1u].shards) return false;
  }
  drop_checkpoint_work();
  part_ = Part{number, 0, std::exchange(own_pieces_, {})};
  for (const std::uint32_t partition : partitions) {
    if (held_.of(stage, partition) == nullptr) continue;
    absorb_orders_.push_back(
        {.kind = WorkKind::kSave, .stage = stage, .shards = {ShardId{partition}, 1}});
    ++part_->partitions_left;
  }
  if (part_->partitions_left == 0) write_part(context);
  return true;
}

void Worker::saved(Context& context, WorkResult& result) {
  const auto saving = std::exchange(saving_, {});
  if (!saving || !part_ || part_->number != saving->number) return;  // nobody waits for it
  if (!result.error.empty()) return tell_part(context, result.error, "");
  StatePiece piece{partition_dataset(result.stage, partition_of(result.shards)), 0, {}};
  Writer writer(piece.bytes);
  saving->held.save(writer);
  for (const Buffer& content : result.partitions) writer.put_raw(content.view());
  part_->pieces.push_back(std::move(piece));
  if (--part_->partitions_left == 0) write_part(context);
}

void Worker::write_part(Context& context) {
  DiskRequest request{
      .task = DiskTask::kWritePart, .checkpoint = part_->number, .epoch = context.view().epoch};
  request.pieces = std::move(part_->pieces);
  context.ask_disk(std::move(request));
}

void Worker::on_disk(Context& context, DiskAnswer& answer) {
  if (answer.task == DiskTask::kLoadPieces) return on_loaded(context, answer);
  if (part_ && part_->number == answer.checkpoint) tell_part(context, answer.error, answer.part);
}

void Worker::tell_part(Context& context, std::string_view error, std::string_view part) {
  Writer writer = context.begin(context.view().coordinator, MessageKind::kSnapshotTaken);
  writer.put(part_->number);
  writer.put_string(error);
  writer.put_string(part);
  context.send();
  drop_checkpoint_work();
}

// Of a view before, or a checkpoint that has failed.
void Worker::drop_checkpoint_work() {
  part_.reset();
  loading_.reset();
  std::erase_if(absorb_orders_, [](const WorkOrder& order) {
    return order.kind == WorkKind::kSave || order.kind == WorkKind::kRestore;
  });
}

}  // namespace regroup
