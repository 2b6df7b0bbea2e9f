// A worker's part in checkpoints: the partitions that it owns are written down, each with the set
// of map shards that it has taken in. Partitions need not be of one moment, since each says what it
// holds. What is written down for a file stays in memory as well, and goes to the partner.
#include <algorithm>
#include <iterator>
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

bool Worker::on_snapshot(Context& context, Reader& reader) {
  const auto number = reader.get<CheckpointNumber>();
  const auto stage = reader.get<StageId>();
  std::vector<std::uint32_t> partitions(reader.get_count(sizeof(std::uint32_t)));
  for (std::uint32_t& partition : partitions) partition = reader.get<std::uint32_t>();
  if (!reader.complete() || finished_ || stage.value >= stages_.size()) return false;
  if (is_cells(stage)) return write_cells(context, number, stage, partitions);
  const bool map = stages_[stage.value].kind == StageKind::kMap;
  if (!partitions.empty() && !map) return false;
  for (const std::uint32_t partition : partitions) {
    if (partition >= stages_[stage.value + 1u].shards) return false;
  }
  drop_checkpoint_work();
  find_partner(context);
  begin_part(context, number);
  for (const std::uint32_t partition : partitions) {
    if (held_.of(stage, partition) == nullptr) continue;
    absorb_orders_.push_back(
        {.kind = WorkKind::kSave, .stage = stage, .shards = {ShardId{partition}, 1}});
    ++part_->partitions_left;
  }
  const bool copies = keeps_snapshots() && owners_stage_ == stage && !owners_.empty();
  if (copies && part_->partitions_left != 0) open_copy_round(part_->partitions_left);
  if (part_->partitions_left == 0) write_part(context);
  return true;
}

// They have been written down before.
bool Worker::write_cells(Context& context, CheckpointNumber number, StageId stage,
                         const std::vector<std::uint32_t>& cells) {
  drop_checkpoint_work();
  begin_part(context, number);
  if (!cells_.add_pieces(stage, cells, part_->request)) {
    tell_part(context, "a cell is not there any more as it was", "");
    return true;
  }
  write_part(context);
  return true;
}

// The set goes before the content, into memory that was used before if there is some.
void Worker::begin_saving(WorkOrder& order) {
  ShardBits held = *held_.of(order.stage, partition_of(order.shards));
  const ShardId last{stages_[order.stage.value].shards - 1};
  if (planted(PlantedBug::kClaimMore) && !part_ && !held.contains(last)) held.insert(last);
  saving_ = Saving{.held = held.count(), .bytes = copies_.spares().take()};
  if (part_) saving_->number = part_->number;
  if (copying_) saving_->copy_round = copying_->number;
  Writer writer(*saving_->bytes);
  held.save(writer);
  order.input = std::move(*saving_->bytes);
}

void Worker::saved(Context& context, WorkResult& result) {
  const auto saving = std::exchange(saving_, {});
  if (!saving) return;
  const bool for_part = part_ && part_->number == saving->number;
  const bool for_copy = copying_ && copying_->number == saving->copy_round;
  if (for_copy) --copying_->saves_left;
  if (result.error.empty()) {
    const std::uint32_t partition = partition_of(result.shards);
    *saving->bytes = std::move(result.partitions.front());
    if (keeps_snapshots()) keep_snapshot(context, {result.stage, partition}, *saving);
    if (for_copy) {
      copy_desk_.saved(result.elapsed);
      copying_->to_send.push_back(partition);
    }
    if (for_part) {
      part_->request.pieces.push_back(
          {partition_dataset(result.stage, partition), 0, {}, saving->bytes});
      if (--part_->partitions_left == 0) write_part(context);
    }
  } else if (for_part) {
    tell_part(context, result.error, "");
  }
  send_next_copy(context);
}

void Worker::begin_part(Context& context, CheckpointNumber number) {
  part_ = Part{.number = number,
               .request = {.task = DiskTask::kWritePart,
                           .checkpoint = number,
                           .epoch = context.view().epoch,
                           .pieces = std::exchange(own_pieces_, {})}};
}

void Worker::write_part(Context& context) {
  copies_.spares().lent_to_disk();
  cells_.lent_to_disk();
  context.ask_disk(std::move(part_->request));
}

void Worker::on_disk(Context& context, DiskAnswer& answer) {
  if (answer.task == DiskTask::kLoadPieces) {
    if (cells_.awaits_disk()) return cells_.on_loaded(context, answer);
    return on_loaded(context, answer);
  }
  copies_.spares().back_from_disk();
  cells_.back_from_disk();
  if (part_ && part_->number == answer.checkpoint) tell_part(context, answer.error, answer.part);
}

void Worker::tell_part(Context& context, std::string_view error, std::string_view part) {
  Writer writer = context.begin(context.view().coordinator, MessageKind::kSnapshotTaken);
  writer.put(part_->number);
  writer.put_string(error);
  writer.put_string(part);
  context.send();
  part_.reset();
  const auto unsaved = std::erase_if(
      absorb_orders_, [](const WorkOrder& order) { return order.kind == WorkKind::kSave; });
  if (unsaved != 0) drop_copies();
}

// Of a view before, or a checkpoint that has failed.
void Worker::drop_checkpoint_work() {
  part_.reset();
  regaining_.reset();
  drop_copies();
  std::erase_if(absorb_orders_, [](const WorkOrder& order) {
    return order.kind == WorkKind::kSave || order.kind == WorkKind::kRestore;
  });
}

}  // namespace regroup
