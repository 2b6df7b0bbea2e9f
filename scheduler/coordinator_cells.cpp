// The coordinator's part in cells of an iterate stage: it sets them all to one step, and from there
// they go on without it, but for totals. It has them written down now and then, and when the view
// changes, or one of them fails, sets them back to the latest step that they all can be set to:
// ranks say in each view which copies they keep, so that nothing here depends on what a coordinator
// remembers.
#include <algorithm>
#include <utility>

#include "scheduler/coordinator.hpp"

namespace regroup {
namespace {

constexpr int kExitNotRecovered = 3;
constexpr int kFileTries = 3;

}  // namespace

// The stage whose cells there are: the one that runs, or the one that is being reduced.
std::optional<StageId> Coordinator::cell_stage() const {
  if (!table_) return std::nullopt;
  const bool reduces = stages_[stage_.value].kind == StageKind::kReduce && stage_.value != 0;
  const StageId stage{static_cast<std::uint16_t>(stage_.value - (reduces ? 1u : 0u))};
  if (stages_[stage.value].kind != StageKind::kIterate) return std::nullopt;
  return stage;
}

// ---- rounds ----

void Coordinator::choose_cell_targets() {
  std::vector<std::pair<RankId, const std::vector<CopyOffer>*>> offers;
  for (const RankId rank : members_) offers.emplace_back(rank, &peers_[rank.value].offers);
  cells_.reset(round_);
  cells_.targets().push_back({});
  push_file_targets();
  for (CellTarget& target : complete_steps(stage_, partitions_of(stage_), owners_, offers)) {
    cells_.targets().push_back(std::move(target));
  }
  holders_ = cells_.targets().back().holders;
  holders_.resize(partitions_of(stage_), kNobody);
}

// A read that fails may succeed the next time, and step 0 is far.
void Coordinator::push_file_targets() {
  if (checkpoints_.newest().value == 0) return;
  for (int i = 0; i < kFileTries; ++i) cells_.targets().push_back({CellStart::kFile, kNoStep, {}});
}

// What is tried last can always be done, unless the job's own code fails.
void Coordinator::begin_cells(Context& context) {
  if (owners_.empty()) return;
  if (cells_.targets().empty()) cells_.targets().push_back({});
  CellTarget target = std::move(cells_.targets().back());
  cells_.targets().pop_back();
  cells_.begin(std::move(target), owners_);
  if (std::exchange(naming_, false)) cell_desk_.drop();
  lease_cells(context);
  for (const RankId rank : workers_) send_cells(context, rank);
}

// They are with their owners until they are at the end.
void Coordinator::lease_cells(Context& context) {
  for (ShardId cell{0}; cell.value < table_->shards();) {
    const ShardRange pending = table_->next_pending(cell, table_->shards() - cell.value);
    if (pending.count == 0) return;
    std::uint64_t count = 1;
    const RankId owner = owners_[pending.first.value];
    while (count < pending.count && owners_[pending.first.value + count] == owner) ++count;
    table_->lease({pending.first, count});
    context.event(EventKind::kLease, owner, stage_, pending.first.value, count);
    cell = ShardId{pending.first.value + count};
  }
}

void Coordinator::send_cells(Context& context, RankId rank) {
  const CellTarget& target = cells_.target();
  Writer writer = context.begin(rank, MessageKind::kCells);
  writer.put(stage_);
  put(writer, cells_.round());
  writer.put(target.start);
  writer.put(target.step);
  writer.put(checkpoints_.newest());
  writer.put(static_cast<std::uint32_t>(owners_.size()));
  for (const RankId owner : owners_) writer.put(owner);
  for (const RankId holder : target.holders) writer.put(holder);
  context.send();
}

// A step that cannot be had, or a cell whose code failed: back to what there is.
void Coordinator::cells_failed(Context& context, std::uint64_t cell, std::uint64_t step,
                               const std::string& what) {
  const bool went_on = cells_.all_restored();
  const bool none_left = cells_.targets().empty();
  if (went_on || none_left) {
    cell_failed_at_ = std::max(cell_failed_at_, step);
    if (++cell_failures_ >= options_.attempts_max) {
      return close(context, kExitNotRecovered,
                   "cell " + std::to_string(cell) + " of stage " + std::to_string(stage_.value) +
                       " failed at step " + std::to_string(step) + ": " + what);
    }
    ++retry_count_;
  }
  if (went_on) {
    // What they were set to lies with their owners, though partners may not have it yet.
    const bool from_copies = cells_.target().start != CellStart::kBegin;
    const std::uint64_t latest = cells_.confirmed() != kNoStep ? cells_.confirmed()
                                 : from_copies                 ? cells_.begin_step()
                                                               : kNoStep;
    cells_.targets().clear();
    cells_.targets().push_back({});
    push_file_targets();
    if (latest != kNoStep) cells_.targets().push_back({CellStart::kMemory, latest, owners_});
  }
  begin_cells(context);
}

// ---- what owners say ----

bool Coordinator::on_cell_news(Context& context, RankId from, Reader& reader) {
  const auto stage = reader.get<StageId>();
  const CellRound round = get_cell_round(reader);
  const auto news = reader.get<CellNews>();
  const auto step = reader.get<std::uint64_t>();
  const auto a = reader.get<std::uint64_t>();
  const auto b = reader.get<std::uint64_t>();
  const std::string text(reader.get_string());
  if (!reader.complete() || news > CellNews::kFailed || round > cells_.round()) return false;
  if (ending() || cell_stage() != stage || round != cells_.round() || !cells_.begun()) return true;
  if (!cells_.is_owner(from)) return false;
  const bool runs = in_stage(stage);
  switch (news) {
    case CellNews::kRestored:
      if (!runs) return false;
      regained_[static_cast<std::size_t>(RegainedFrom::kPartner)] += a;
      regained_[static_cast<std::size_t>(RegainedFrom::kFile)] += b;
      if (!cells_.restored(from, step)) {
        cells_failed(context, 0, step, "the checkpoint has cells at several steps");
      }
      return true;
    case CellNews::kSteps:
      cells_.at_steps(from, step, a);
      return true;
    case CellNews::kEnded:
      if (runs && cells_.ended(from, step)) commit_cells(context);
      return true;
    case CellNews::kKept:
      if (cells_.kept(from, step, static_cast<Nanoseconds>(b))) cells_kept(context);
      return true;
    case CellNews::kMissed:
      if (!text.empty()) {
        if (cells_.save_failed(step)) cells_not_kept(context, text);
      } else if (cells_.missed(step, a)) {
        name_step(context);
      }
      return true;
    case CellNews::kFailed:
      if (runs) cells_failed(context, a, step, text);
      return true;
  }
  return true;
}

// All at once: the job is handed nothing but that they are done.
void Coordinator::commit_cells(Context& context) {
  ResultEntry entry;
  entry.shards = {ShardId{0}, table_->shards()};
  entry.attempt = Attempt{1};
  (void)commit(context, entry);
  end_stage_if_settled(context);
}

bool Coordinator::on_partials(Context& context, RankId from, Reader& reader) {
  const auto stage = reader.get<StageId>();
  const CellRound round = get_cell_round(reader);
  const auto step = reader.get<std::uint64_t>();
  if (reader.failed() || round > cells_.round()) return false;
  if (!in_stage(stage) || round != cells_.round() || !cells_.begun()) return true;
  if (!cells_.is_owner(from)) return false;
  if (!cells_.add_partials(*sink_, stage_, from, step, owners_, reader)) return false;
  const auto totals = cells_.take_totals();
  if (!totals) return true;
  if (totals->size() > CellWorker::kPayloadBytesMax) {
    cells_failed(context, 0, step, "the totals are too large");
    return true;
  }
  for (const RankId rank : workers_) {
    if (!cells_.is_owner(rank)) continue;
    Writer writer = context.begin(rank, MessageKind::kTotals);
    writer.put(stage_);
    put(writer, cells_.round());
    writer.put(step);
    writer.put_raw(totals->view());
    context.send();
  }
  return true;
}

// ---- snapshots ----

// As often as cost and failures say, and for a checkpoint, which is to have the cells as they were
// after it was wanted.
void Coordinator::tend_cells(Context& context) {
  if (state_ != RunPhase::kRunning || !cell_stage() || !cells_.may_name() || !context.stable()) {
    return;
  }
  const bool at_end = cells_.all_ended();
  const bool for_file = cells_wanted_since_ && !cells_are_fresh();
  const bool copies = !at_end && context.view().members.size() > 1 &&
                      cell_desk_.due(context.now(), context.view().epoch.value - 1);
  if (!for_file && !copies) return;
  if (!naming_) {
    naming_ = true;
    cell_desk_.begin();
  }
  name_step(context);
}

void Coordinator::name_step(Context& context) {
  if (!cells_.may_name()) return;
  (void)cells_.name();
  send_step(context);
}

void Coordinator::send_step(Context& context) {
  for (const RankId rank : members_) {
    Writer writer = context.begin(rank, MessageKind::kSnapshotAt);
    writer.put(*cell_stage());
    put(writer, cells_.round());
    writer.put(cells_.pending());
    writer.put(cells_.confirmed());
    context.send();
  }
}

// All have it: what is older is of no use any more.
void Coordinator::cells_kept(Context& context) {
  confirmed_at_ = context.now();
  if (cells_.confirmed() > cell_failed_at_) cell_failures_ = 0;
  if (std::exchange(naming_, false)) {
    cell_desk_.saved(cells_.cost());
    cell_desk_.end(context.now());
  }
  send_step(context);
}

// Copies are due again later; a checkpoint that waits for this has failed, and its breaker counts
// it.
void Coordinator::cells_not_kept(Context& context, const std::string& what) {
  if (std::exchange(naming_, false)) cell_desk_.end(context.now());
  if (!cells_wanted_since_ || checkpoints_.busy()) return;
  cells_wanted_since_.reset();
  checkpoints_.begin(context.now());
  checkpoint_failed(context, what);
}

bool Coordinator::cells_are_fresh() const {
  if (cells_.confirmed() == kNoStep) return false;
  return cells_.end_is_confirmed() || confirmed_at_ >= *cells_wanted_since_;
}

}  // namespace regroup
