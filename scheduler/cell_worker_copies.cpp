// A worker's part in copies of cells: it writes its cells down at the step that the coordinator
// names, and at the last one, keeps that, and gives a copy to its partner; keeps copies for others;
// and gives them to whoever owns the cells next.
#include <algorithm>
#include <utility>

#include "runtime/protocol/check.hpp"
#include "runtime/protocol/planted.hpp"
#include "scheduler/cell_worker.hpp"
#include "scheduler/checkpoint_desk.hpp"
#include "scheduler/copy_desk.hpp"

namespace regroup {
namespace {

CellAt get_cell_at(Reader& reader) {
  CellAt at;
  at.stage = reader.get<StageId>();
  at.cell = reader.get<std::uint32_t>();
  at.step = reader.get<std::uint64_t>();
  return at;
}

void put(Writer& writer, const CellAt& at) {
  writer.put(at.stage);
  writer.put(at.cell);
  writer.put(at.step);
}

}  // namespace

// Once a view. What the one of before has is of no use to the next one.
void CellWorker::find_partner(Context& context) {
  const View& view = context.view();
  if (partner_since_ == view.epoch) return;
  partner_since_ = view.epoch;
  const RankId before = std::exchange(partner_, partner_of(context.self(), view, options_));
  copies_.begin(context.self(), options_.copies.bytes_for_others_max);
  if (partner_ != before || view.joined.contains(partner_)) copied_.clear();
}

bool CellWorker::copies_on() const {
  return options_.copies.every != CopyOptions::Every::kOff && partner_ != kNobody;
}

// ---- snapshots ----

// The steps before one that is complete are of no use any more, nor is one that was given up.
bool CellWorker::on_snapshot_at(Context& context, Reader& reader) {
  const auto stage = reader.get<StageId>();
  const CellRound round = get_cell_round(reader);
  const auto step = reader.get<std::uint64_t>();
  const auto confirmed = reader.get<std::uint64_t>();
  if (!reader.complete() || !is_cells(stage)) return false;
  forget_before(stage);
  if (confirmed != kNoStep) copies_.drop_steps_before(stage, confirmed);
  confirmed_ = confirmed;
  if (step == kNoStep) return true;
  const std::uint64_t given_up = std::exchange(named_, step);
  if (given_up != kNoStep && given_up != step && given_up != confirmed) {
    copies_.drop_step(stage, given_up);
  }
  if (!active_ || round != round_ || cells_.empty()) return true;
  if (ended_ == cells_.size()) {
    save_all_at_end(context, cells_.begin()->second.step);
    return true;
  }
  std::uint64_t first = 0;
  bool missed = false;
  for (const auto& [number, cell] : cells_) {
    first = std::max(first, cell.step);
    missed |= cell.step > step || (cell.step == step && cell.state == State::kRuns);
  }
  if (missed) {
    tell(context, CellNews::kMissed, step, first);
    return true;
  }
  save_at_ = step;
  begin_snapshot(step);
  for (auto& [number, cell] : cells_) {
    if (cell.step == step) save(context, number, cell);
  }
  return true;
}

void CellWorker::begin_snapshot(std::uint64_t step) {
  snapshot_ = Snapshot{.step = step, .saves_left = cells_.size()};
}

void CellWorker::save_all_at_end(Context& context, std::uint64_t step) {
  if (kept_ == step || (snapshot_ && snapshot_->step == step)) return;
  begin_snapshot(step);
  for (auto& [number, cell] : cells_) save(context, number, cell);
}

// What cells were set to lies here, and is to be with the partner as well: once all have gone on,
// since the partner may still be restoring its own.
void CellWorker::copy_restored(Context& context) {
  const bool restored =
      std::ranges::all_of(cells_, [](const auto& one) { return one.second.restored != nullptr; });
  if (!restored) return;
  begin_snapshot(cells_.begin()->second.began_at);
  for (auto& [number, cell] : cells_) {
    (void)copies_.keep({stage_, number, snapshot_->step},
                       {std::move(cell.restored), 0, context.self()});
    is_kept_here(number);
    const bool goes_on = cell.step == snapshot_->step && cell.state != State::kEnded;
    if (goes_on && copies_on()) ++snapshot_->to_go_on;
  }
  send_next_copy(context);
}

// One of them took its first step, or there is none to take.
void CellWorker::went_on(Context& context) {
  if (!snapshot_ || snapshot_->to_go_on == 0) return;
  --snapshot_->to_go_on;
  send_next_copy(context);
}

void CellWorker::save(Context& context, std::uint32_t number, Cell& cell) {
  if (cell.saving) return;
  const CellAt at{stage_, number, cell.step};
  if (const CellCopy* const there = copies_.find(at)) {
    (void)copies_.keep(at, {there->bytes, there->hash, context.self()});
    is_kept_here(number);
    return send_next_copy(context);
  }
  cell.saving = true;
  tasks_.push_front({number, WorkKind::kSave});
}

void CellWorker::saved(Context& context, std::uint32_t number, Cell& cell, WorkResult& result,
                       std::shared_ptr<Buffer> bytes) {
  cell.saving = false;
  const bool meant = snapshot_ && snapshot_->step == cell.step;
  if (result.error.empty() && !is_whole(number, result.partitions.front())) {
    result.error = "what is saved of a cell does not end with its block of the field";
  }
  if (meant && !result.error.empty()) {
    snapshot_.reset();
    save_at_ = kNoStep;
    tell(context, CellNews::kMissed, named_, cell.step, 0, result.error);
  } else if (meant) {
    *bytes = std::move(result.partitions.front());
    (void)copies_.keep({stage_, number, cell.step}, {std::move(bytes), 0, context.self()});
    snapshot_->cost += result.elapsed;
    is_kept_here(number);
  }
  make_ready(number, cell);
  send_next_copy(context);
}

void CellWorker::is_kept_here(std::uint32_t number) {
  if (!snapshot_ || snapshot_->saves_left == 0) return;
  --snapshot_->saves_left;
  const auto copied = copied_.find(number);
  const bool is_there = copied != copied_.end() && copied->second.step == snapshot_->step;
  if (copies_on() && !is_there) snapshot_->to_send.push_back(number);
}

// When nothing is left to send, and all is answered, the coordinator is told.
void CellWorker::send_next_copy(Context& context) {
  if (!snapshot_ || snapshot_->to_go_on != 0) return;
  while (!snapshot_->to_send.empty()) {
    const std::uint32_t number = snapshot_->to_send.front();
    const CellAt at{stage_, number, snapshot_->step};
    const CellCopy* const copy = copies_.find(at);
    const std::size_t bytes = copy == nullptr ? 0 : copy->bytes->size();
    const bool fits = copy != nullptr && bytes <= kPayloadBytesMax;
    const bool room = snapshot_->under_way.empty() ||
                      (snapshot_->under_way.size() < kCopiesInFlightMax &&
                       snapshot_->bytes_under_way + bytes <= kCopyBytesInFlightMax);
    if (fits && !room) return;
    snapshot_->to_send.pop_front();
    if (!fits) {
      ++snapshot_->refused;
      continue;
    }
    snapshot_->under_way[number] = bytes;
    snapshot_->bytes_under_way += bytes;
    snapshot_->cost += CopyDesk::kSendingPerByte * static_cast<Nanoseconds>(bytes);
    snapshot_->sending.begins(bytes, context.now());
    send_copy(context, partner_, at, *copy);
  }
  if (!snapshot_->under_way.empty() || snapshot_->saves_left != 0) return;
  kept_ = snapshot_->step;
  if (save_at_ == kept_) save_at_ = kNoStep;
  const Snapshot done = *std::exchange(snapshot_, {});
  tell(context, CellNews::kKept, done.step, 0, static_cast<std::uint64_t>(done.cost));
  if (!copies_on()) return;
  CopyProgress made{.partitions = copied_.size(),
                    .refused = done.refused,
                    .cost = done.cost,
                    .sent = done.sending.bytes(),
                    .sending = done.sending.took()};
  for (const auto& [cell, copied] : copied_) made.bytes += copied.bytes;
  Writer writer = context.begin(context.view().coordinator, MessageKind::kCopiesMade);
  put(writer, made);
  context.send();
}

// Of a cell of a field all but its block, and the block as what it is to other readers.
bool CellWorker::add_pieces(StageId stage, const std::vector<std::uint32_t>& cells,
                            DiskRequest& request) const {
  const Plan& plan = plans_.at(stage);
  for (const std::uint32_t cell : cells) {
    const CellCopy* const copy = copies_.find({stage, cell, confirmed_});
    if (copy == nullptr) return false;
    StatePiece& piece = request.pieces.emplace_back(
        StatePiece{.dataset = partition_dataset(stage, cell), .shared = copy->bytes});
    if (!plan.field) continue;
    const std::size_t block_bytes = plan.field->elements(cell) * element_bytes(plan.field->type);
    piece.shared_bytes = copy->bytes->size() - block_bytes;
    request.pieces.push_back({.dataset = field_dataset(plan.field->field),
                              .first_row = plan.first_rows[cell],
                              .shared = copy->bytes,
                              .shared_begin = copy->bytes->size() - block_bytes,
                              .type = plan.field->type,
                              .block = plan.field->block(cell)});
  }
  if (cells.empty()) return true;
  request.step = confirmed_;
  if (plan.field && plan.field->step_time) {
    const double time = static_cast<double>(confirmed_) * *plan.field->step_time;
    request.time = plan.field->end_time ? std::min(time, *plan.field->end_time) : time;
  }
  return true;
}

// Whether there can be a block of the cell in it.
bool CellWorker::is_whole(std::uint32_t number, const Buffer& saved) const {
  const auto& field = plans_.at(stage_).field;
  const std::size_t block = field ? field->elements(number) * element_bytes(field->type) : 0;
  return saved.size() >= sizeof(std::uint64_t) + block;
}

// ---- copies between ranks ----

void CellWorker::send_copy(Context& context, RankId to, const CellAt& at, const CellCopy& copy) {
  regroup::send_copy(context, to, MessageKind::kCellCopy, copy.bytes, copy.hash,
                     options_.copies.bulk_bytes_min, [&](Writer& writer) { put(writer, at); });
}

void CellWorker::on_bulk(Context& context, RankId from, Reader header, BulkCopy& bulk) {
  (void)on_copy(context, from, header, &bulk);
  // What is of no use any more is lent for the next one.
  if (const auto spare = copies_.spares().take(); spare->capacity() != 0) {
    context.give_large(std::move(*spare));
  }
}

// One that was asked for, or one to keep for its owner.
bool CellWorker::on_copy(Context& context, RankId from, Reader& reader, BulkCopy* bulk) {
  const CellAt at = get_cell_at(reader);
  const auto hash = reader.get<std::uint64_t>();
  if (reader.failed()) return false;
  std::shared_ptr<Buffer> bytes =
      bulk != nullptr ? std::make_shared<Buffer>(std::move(bulk->bytes)) : copies_.spares().take();
  if (bulk == nullptr) bytes->append(reader.rest());
  const bool same = !bytes->empty() && hash_is(hash, *bytes, bulk);
  Cell* const sought = active_ && at.stage == stage_ ? own(at.cell) : nullptr;
  if (sought != nullptr && sought->sought_from == from && sought->step == at.step) {
    sought->sought_from = kNobody;
    if (!same) {
      fail(context, at.cell, at.step, "its copy in another rank's memory is gone");
    } else {
      restore_from(context, at.cell, *sought, std::move(bytes), RegainedFrom::kPartner);
    }
    return true;
  }
  if (bytes->empty() && bulk == nullptr) return true;  // an answer that nobody waits for
  const std::uint64_t known = bulk != nullptr ? bulk->hash : hash;
  const CopyVerdict verdict =
      same ? take_copy(context, from, at, known, std::move(bytes)) : CopyVerdict::kDamaged;
  Writer writer = context.begin(from, MessageKind::kCellCopyKept);
  put(writer, at);
  writer.put(verdict);
  context.send();
  return true;
}

CopyVerdict CellWorker::take_copy(Context& context, RankId from, const CellAt& at,
                                  std::uint64_t hash, std::shared_ptr<Buffer> bytes) {
  if (!is_cells(at.stage) || at.stage < stage_) return CopyVerdict::kNotNow;
  if (at.cell >= stages_[at.stage.value].shards) return CopyVerdict::kDamaged;
  if (Reader(bytes->view()).get<std::uint64_t>() != at.step) return CopyVerdict::kDamaged;
  find_partner(context);
  return copies_.keep(at, {std::move(bytes), hash, from}) ? CopyVerdict::kKept
                                                          : CopyVerdict::kNoRoom;
}

bool CellWorker::on_copy_kept(Context& context, RankId from, Reader& reader) {
  const CellAt at = get_cell_at(reader);
  const auto verdict = reader.get<CopyVerdict>();
  if (!reader.complete() || verdict > CopyVerdict::kNotNow) return false;
  const bool meant =
      active_ && snapshot_ && at.stage == stage_ && at.step == snapshot_->step && from == partner_;
  if (!meant) return true;
  const auto under_way = snapshot_->under_way.find(at.cell);
  if (under_way == snapshot_->under_way.end()) return true;
  const std::size_t under_way_bytes = under_way->second;
  snapshot_->bytes_under_way -= under_way_bytes;
  snapshot_->under_way.erase(under_way);
  snapshot_->sending.ends(context.now());
  if (verdict == CopyVerdict::kKept) {
    copied_[at.cell] = {at.step, under_way_bytes};
  } else {
    ++snapshot_->refused;
  }
  send_next_copy(context);
  return true;
}

bool CellWorker::on_copy_wanted(Context& context, RankId from, Reader& reader) {
  const CellAt at = get_cell_at(reader);
  if (!reader.complete()) return false;
  const CellCopy* const copy = copies_.find(at);
  const bool fits = copy != nullptr && copy->bytes->size() <= kPayloadBytesMax;
  send_copy(context, from, at, fits ? *copy : CellCopy{std::make_shared<Buffer>(), 0, kNobody});
  return true;
}

}  // namespace regroup
