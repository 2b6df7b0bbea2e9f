#include "scheduler/cell_worker.hpp"

#include <algorithm>
#include <utility>

#include "runtime/protocol/check.hpp"
#include "runtime/protocol/planted.hpp"
#include "scheduler/checkpoint_desk.hpp"

namespace regroup {
namespace {

constexpr std::size_t kTextBytesMax = 4096;
constexpr std::size_t kHaloHeadBytes = 4 + 4 + 4;

std::size_t parity(std::uint64_t step) {
  return step % 2;
}

bool makes_sense(const CellField& field, std::size_t cells) {
  std::uint64_t elements = 1;
  for (const std::uint64_t extent : field.field.shape) {
    if (extent > kFieldElementsMax / elements) return false;
    elements *= std::max<std::uint64_t>(1, extent);
  }
  return field.places.size() == cells &&
         std::ranges::all_of(field.places, [&](const CellField::Place& place) {
           return lies_inside(field.field, place.start, place.extent);
         });
}

bool make_sense(const Neighbours& neighbours) {
  for (std::uint32_t cell = 0; cell < neighbours.size(); ++cell) {
    const auto& others = neighbours[cell];
    for (std::size_t i = 0; i < others.size(); ++i) {
      const std::uint32_t other = others[i];
      if (other >= neighbours.size() || other == cell) return false;
      if (i != 0 && other <= others[i - 1]) return false;
      if (!std::ranges::binary_search(neighbours[other], cell)) return false;
    }
  }
  return true;
}

}  // namespace

// Neighbours need not be sorted in cells further on for the search: those would be refused, too.
std::string_view CellWorker::open(const std::vector<StagePlan>& stages,
                                  std::vector<CellPlan> plans) {
  stages_ = stages;
  plans_.clear();
  auto next = plans.begin();
  for (std::uint16_t s = 0; s < stages.size(); ++s) {
    if (stages[s].kind != StageKind::kIterate) continue;
    const bool reduced = s + 1u < stages.size() && stages[s + 1u].kind == StageKind::kReduce &&
                         stages[s + 1u].shards == stages[s].shards;
    if (!reduced) {
      return "an iterate stage of the job has no reduce stage of as many shards after it";
    }
    if (next == plans.end() || next->neighbours.size() != stages[s].shards) {
      return "an iterate stage of the job does not say who is whose neighbour";
    }
    for (const auto& others : next->neighbours) {
      if (!std::ranges::is_sorted(others)) return "neighbours of a cell are not in ascending order";
    }
    if (!make_sense(next->neighbours)) {
      return "a cell of the job has a neighbour that does not have it, or is none";
    }
    if (next->field && !makes_sense(*next->field, stages[s].shards)) {
      return "cells of the job do not lie in the field that they are blocks of";
    }
    Plan& plan = plans_[StageId{s}] = Plan{std::move(*next++), {}};
    for (std::uint64_t c = 0, row = 0; plan.field && c < stages[s].shards; ++c) {
      plan.first_rows.push_back(row);
      row += plan.field->elements(c);
    }
  }
  return {};
}

bool CellWorker::is_cells(StageId stage) const {
  return stage.value < stages_.size() && stages_[stage.value].kind == StageKind::kIterate;
}

CellWorker::Cell* CellWorker::own(std::uint32_t cell) {
  const auto found = cells_.find(cell);
  return found == cells_.end() ? nullptr : &found->second;
}

bool CellWorker::on_message(Context& context, RankId from, MessageKind kind, Reader& reader) {
  switch (kind) {
    case MessageKind::kHalos:
      return on_halos(from, reader);
    case MessageKind::kTotals:
      return on_totals(reader);
    case MessageKind::kSnapshotAt:
      return on_snapshot_at(context, reader);
    case MessageKind::kCellCopy:
      return on_copy(context, from, reader, nullptr);
    case MessageKind::kCellCopyKept:
      return on_copy_kept(context, from, reader);
    case MessageKind::kCellCopyWanted:
      return on_copy_wanted(context, from, reader);
    default:
      return false;
  }
}

// ---- rounds ----

bool CellWorker::begin(Context& context, Reader& reader) {
  const auto stage = reader.get<StageId>();
  const CellRound round = get_cell_round(reader);
  const auto start = reader.get<CellStart>();
  const auto step = reader.get<std::uint64_t>();
  const auto checkpoint = reader.get<CheckpointNumber>();
  std::vector<RankId> owners(reader.get_count(sizeof(RankId::rep)));
  for (RankId& owner : owners) owner = reader.get<RankId>();
  std::vector<RankId> holders(start == CellStart::kMemory ? owners.size() : 0);
  for (RankId& holder : holders) holder = reader.get<RankId>();
  if (!reader.complete() || !is_cells(stage) || start > CellStart::kFile) return false;
  if (round <= round_ || owners.size() != stages_[stage.value].shards) return false;
  for (const RankId owner : owners) {
    if (!context.view().members.contains(owner)) return false;
  }
  forget_before(stage);
  drop();
  active_ = true;
  round_ = round;
  owners_ = std::move(owners);
  find_partner(context);
  set_out(context, start, step, checkpoint, holders);
  take_early();
  return true;
}

void CellWorker::forget_before(StageId stage) {
  copies_.drop_before(stage);
  if (stage == stage_) return;
  drop();
  stage_ = stage;
  named_ = confirmed_ = kNoStep;
  copied_.clear();
}

void CellWorker::on_view() {
  drop();
  early_.clear();
}

// What is computed goes on to its end, for nothing.
void CellWorker::drop() {
  active_ = false;
  cells_.clear();
  tasks_.clear();
  outgoing_.clear();
  from_disk_.clear();
  partials_.clear();
  partials_here_ = 0;
  totals_.reset();
  totals_step_ = save_at_ = kept_ = told_first_ = kNoStep;
  away_ = ended_ = 0;
  failed_ = false;
  came_from_partner_ = came_from_file_ = 0;
  snapshot_.reset();
}

void CellWorker::end() {
  on_view();
  copies_.clear();
}

void CellWorker::set_out(Context& context, CellStart start, std::uint64_t step,
                         CheckpointNumber checkpoint, const std::vector<RankId>& holders) {
  checkpoint_ = checkpoint;
  from_file_ = start == CellStart::kFile;
  const Neighbours& neighbours = plans_[stage_].neighbours;
  for (std::uint32_t c = 0; c < owners_.size(); ++c) {
    if (owners_[c] != context.self()) continue;
    Cell& cell = cells_[c];
    cell.neighbours = &neighbours[c];
    for (auto& slots : cell.halos) slots.resize(neighbours[c].size());
    if (start != CellStart::kFile) cell.step = start == CellStart::kBegin ? 0 : step;
    for (const std::uint32_t other : neighbours[c]) {
      if (owners_[other] != context.self()) ++outgoing_[owners_[other]].edges;
    }
  }
  away_ = cells_.size();
  for (auto& [number, cell] : cells_) {
    switch (start) {
      case CellStart::kBegin:
        tasks_.push_back({number, WorkKind::kBegin});
        break;
      case CellStart::kMemory:
        cell.holder = holders[number];
        seek_copy(context, number, cell, cell.holder);
        break;
      case CellStart::kFile:
        from_disk_.push_back(number);
        break;
    }
  }
  if (from_disk_.empty()) return;
  DiskRequest request{
      .task = DiskTask::kLoadPieces, .checkpoint = checkpoint, .epoch = context.view().epoch};
  const auto& field = plans_[stage_].field;
  for (const std::uint32_t number : from_disk_) {
    request.pieces.push_back({partition_dataset(stage_, number), 0, {}});
    if (!field) continue;
    request.pieces.push_back({.dataset = field_dataset(field->field),
                              .type = field->type,
                              .block = field->block(number)});
  }
  context.ask_disk(std::move(request));
}

// Here, or where the coordinator says.
void CellWorker::seek_copy(Context& context, std::uint32_t number, Cell& cell, RankId holder) {
  const bool uneven = planted(PlantedBug::kGoBackUnevenly);
  if (uneven && copies_.find({stage_, number, named_}) != nullptr) cell.step = named_;
  const CellAt at{stage_, number, cell.step};
  if (const CellCopy* const copy = copies_.find(at)) {
    const bool mine = copy->of == context.self();
    return restore_from(context, number, cell, copy->bytes,
                        mine ? RegainedFrom::kSnapshot : RegainedFrom::kPartner);
  }
  if (holder == context.self() || !context.view().members.contains(holder)) {
    return fail(context, number, cell.step, "its copy in memory is gone");
  }
  cell.sought_from = holder;
  Writer writer = context.begin(holder, MessageKind::kCellCopyWanted);
  writer.put(stage_);
  writer.put(number);
  writer.put(cell.step);
  context.send();
}

// What lay in memory for a while may have changed. Looked at when its turn comes, so that nobody
// waits for what is not needed yet.
bool CellWorker::copy_is_right(Context& context, std::uint32_t number, Cell& cell) {
  const CellAt at{stage_, number, cell.step};
  const CellCopy* const copy = copies_.find(at);
  const bool is_it = copy != nullptr && copy->bytes == cell.restored && copy->hash != 0;
  if (!is_it || hash_of_copy(copy->bytes->view()) == copy->hash) return true;
  copies_.drop(at);
  cell.restored.reset();
  seek_copy(context, number, cell, cell.holder);
  return false;
}

void CellWorker::restore_from(Context& context, std::uint32_t number, Cell& cell,
                              std::shared_ptr<Buffer> bytes, RegainedFrom from) {
  Reader reader(bytes->view());
  const auto step = reader.get<std::uint64_t>();
  if (reader.failed() || step == kNoStep || (cell.step != kNoStep && step != cell.step)) {
    return fail(context, number, cell.step, "its copy is of another step");
  }
  cell.restored = std::move(bytes);
  cell.regained = from;
  tasks_.push_back({number, WorkKind::kRestore});
}

// Blocks of a field come behind what else there is of their cells.
void CellWorker::on_loaded(Context& context, DiskAnswer& answer) {
  if (answer.checkpoint != checkpoint_) return;  // of a round before
  for (const std::uint32_t number : std::exchange(from_disk_, {})) {
    const auto piece =
        std::ranges::find(answer.pieces, partition_dataset(stage_, number), &StatePiece::dataset);
    if (piece == answer.pieces.end() && answer.error.empty()) {
      from_disk_.push_back(number);
      continue;
    }
    auto saved = std::make_shared<Buffer>();
    if (piece != answer.pieces.end()) {
      const auto block = std::next(piece);
      const bool has_block = block != answer.pieces.end() && block->block.has_value();
      *saved = std::move(piece->bytes);
      if (has_block && !saved->empty()) saved->append(block->bytes.view());
    }
    if (saved->empty() || !is_whole(number, *saved)) {
      fail(context, number, kNoStep, "the checkpoint does not have it");
    } else {
      restore_from(context, number, *own(number), std::move(saved), RegainedFrom::kFile);
    }
  }
}

// All of them, and only then is it known that they were set to one step. Some have gone on since.
void CellWorker::restored_one(Context& context) {
  if (--away_ != 0) return;
  const std::uint64_t step = cells_.begin()->second.began_at;
  for (const auto& [number, cell] : cells_) {
    if (from_file_ && cell.began_at != step) {
      return fail(context, number, kNoStep, "the checkpoint has it at another step than others");
    }
  }
  tell(context, CellNews::kRestored, step, came_from_partner_, came_from_file_);
  copy_restored(context);
  take_early();
}

// ---- halos ----

bool CellWorker::on_halos(RankId from, Reader& reader) {
  const auto message = reader.rest();
  const auto stage = reader.get<StageId>();
  const CellRound round = get_cell_round(reader);
  const auto step = reader.get<std::uint64_t>();
  if (reader.failed() || !is_cells(stage)) return false;
  if (round < round_) return true;
  const bool begun = active_ && stage == stage_ && round == round_;
  if (!begun || (from_file_ && away_ != 0)) {
    early_.push_back({from, Buffer(message)});
    return true;
  }
  if (!halos_make_sense(from, step, reader)) return false;
  while (!reader.rest().empty()) {
    const auto other = reader.get<std::uint32_t>();
    const auto number = reader.get<std::uint32_t>();
    Cell& cell = *own(number);
    const auto at = std::ranges::lower_bound(*cell.neighbours, other);
    const auto index = static_cast<std::size_t>(at - cell.neighbours->begin());
    if (cell.halos[parity(step)][index].here) return false;  // twice in the message
    take_halo(cell, index, step, Buffer(reader.get_bytes()));
    make_ready(number, cell);
  }
  return true;
}

// A neighbour is at the step of the cell, or one ahead; and says each thing once.
bool CellWorker::halos_make_sense(RankId from, std::uint64_t step, Reader reader) {
  while (!reader.rest().empty()) {
    const auto other = reader.get<std::uint32_t>();
    const Cell* const cell = own(reader.get<std::uint32_t>());
    reader.get_bytes();
    if (reader.failed() || cell == nullptr || other >= owners_.size()) return false;
    const auto at = std::ranges::lower_bound(*cell->neighbours, other);
    if (at == cell->neighbours->end() || *at != other || owners_[other] != from) return false;
    if (step != cell->step && step != cell->step + 1) return false;
    const auto index = static_cast<std::size_t>(at - cell->neighbours->begin());
    if (cell->halos[parity(step)][index].here) return false;
  }
  return reader.complete();
}

void CellWorker::take_halo(Cell& cell, std::size_t neighbour, std::uint64_t step, Buffer bytes) {
  const std::size_t side = parity(step);
  Slot& slot = cell.halos[side][neighbour];
  REGROUP_CHECK(!slot.here, "a halo for the second time");
  slot = {true, std::move(bytes)};
  ++cell.halos_here[side];
}

// Rounds begin here later than at others, and cells come back later. Of each neighbour of a cell
// there is one halo at most, since none goes on without this rank's.
void CellWorker::take_early() {
  for (Early& early : std::exchange(early_, {})) {
    Reader reader(early.message.view());
    (void)on_halos(early.from, reader);
  }
}

// What the cell shows at its step: here at once, to others with what else goes there.
void CellWorker::show(Context& context, std::uint32_t number, const Cell& cell,
                      std::vector<Halo>& halos) {
  for (Halo& halo : halos) {
    if (Cell* const here = own(halo.cell)) {
      const auto at = std::ranges::lower_bound(*here->neighbours, number);
      take_halo(*here, static_cast<std::size_t>(at - here->neighbours->begin()), cell.step,
                std::move(halo.bytes));
      make_ready(halo.cell, *here);
      continue;
    }
    const RankId owner = owners_[halo.cell];
    Outgoing& outgoing = outgoing_[owner];
    const std::size_t bytes = kHaloHeadBytes + halo.bytes.size();
    if (outgoing.step != cell.step || outgoing.bytes + bytes > kPayloadBytesMax) {
      flush(context, owner, outgoing);
    }
    outgoing.step = cell.step;
    outgoing.bytes += bytes;
    outgoing.halos.push_back({number, std::move(halo)});
    if (outgoing.halos.size() == outgoing.edges) flush(context, owner, outgoing);
  }
}

void CellWorker::flush(Context& context, RankId to, Outgoing& outgoing) {
  if (outgoing.halos.empty()) return;
  Writer writer = context.begin(to, MessageKind::kHalos);
  writer.put(stage_);
  put(writer, round_);
  writer.put(outgoing.step);
  writer.buffer().reserve(writer.buffer().size() + outgoing.bytes);
  for (const auto& [from, halo] : outgoing.halos) {
    writer.put(from);
    writer.put(halo.cell);
    writer.put_bytes(halo.bytes.view());
  }
  context.send();
  outgoing.halos.clear();
  outgoing.bytes = 0;
}

void CellWorker::flush_all(Context& context) {
  for (auto& [to, outgoing] : outgoing_) flush(context, to, outgoing);
}

// ---- totals ----

// With those of all cells here. None goes on before the totals are there, so that they are all of
// one step.
void CellWorker::add_partial(Context& context, std::uint32_t number, const Cell& cell,
                             const Buffer& partial) {
  Writer entries(partials_);
  entries.put(number);
  entries.put_bytes(partial.view());
  if (++partials_here_ != cells_.size()) return;
  Writer writer = context.begin(context.view().coordinator, MessageKind::kPartials);
  writer.put(stage_);
  put(writer, round_);
  writer.put(cell.step);
  writer.put_raw(partials_.view());
  context.send();
  partials_.clear();
  partials_here_ = 0;
}

bool CellWorker::on_totals(Reader& reader) {
  const auto stage = reader.get<StageId>();
  const CellRound round = get_cell_round(reader);
  const auto step = reader.get<std::uint64_t>();
  if (reader.failed() || !is_cells(stage)) return false;
  if (!active_ || stage != stage_ || round != round_) return true;
  totals_ = std::make_shared<Buffer>(reader.rest());
  totals_step_ = step;
  for (auto& [number, cell] : cells_) make_ready(number, cell);
  return true;
}

// ---- computing ----

void CellWorker::make_ready(std::uint32_t number, Cell& cell) {
  if (cell.state != State::kWaits || cell.saving) return;
  const std::size_t missing = cell.neighbours->size() - cell.halos_here[parity(cell.step)];
  if (missing > (planted(PlantedBug::kMissHalo) ? 1u : 0u)) return;
  const bool old_totals = planted(PlantedBug::kUseOldTotals) && totals_ != nullptr;
  if (cell.wants_totals && totals_step_ != cell.step && !old_totals) return;
  cell.state = State::kReady;
  tasks_.push_back({number, WorkKind::kStep});
}

bool CellWorker::on_work_wanted(Context& context) {
  if (!active_) return false;
  while (!tasks_.empty()) {
    const Task task = tasks_.front();
    tasks_.pop_front();
    Cell& cell = *own(task.cell);
    if (task.kind == WorkKind::kRestore && !copy_is_right(context, task.cell, cell)) continue;
    running_ = Running{round_, task, nullptr};
    context.order(order_of(task, cell));
    return true;
  }
  flush_all(context);
  return false;
}

WorkOrder CellWorker::order_of(const Task& task, Cell& cell) {
  WorkOrder order{.kind = task.kind, .stage = stage_, .shards = {ShardId{task.cell}, 1}};
  order.attempt = Attempt{round_.attempt};
  order.step = cell.step;
  switch (task.kind) {
    case WorkKind::kRestore:
      order.shared = cell.restored;
      order.shared_begin = sizeof(std::uint64_t);
      order.step = Reader(cell.restored->view()).get<std::uint64_t>();
      break;
    case WorkKind::kSave: {
      running_->bytes = copies_.spares().take();
      Writer(*running_->bytes).put(cell.step);
      order.input = std::move(*running_->bytes);
      break;
    }
    case WorkKind::kStep: {
      cell.state = State::kRuns;
      const std::size_t side = parity(cell.step);
      for (std::size_t i = 0; i < cell.neighbours->size(); ++i) {
        Slot& slot = cell.halos[side][i];
        order.halos.push_back({(*cell.neighbours)[i], std::move(slot.bytes)});
        slot.here = false;
      }
      cell.halos_here[side] = 0;
      if (cell.wants_totals) order.totals = totals_;
      break;
    }
    default:
      break;
  }
  return order;
}

void CellWorker::on_work_finished(Context& context, WorkResult& result) {
  auto running = std::exchange(running_, {});
  if (!running || !active_ || running->round != round_ || result.stage != stage_) return;
  const std::uint32_t number = running->task.cell;
  Cell& cell = *own(number);
  if (result.kind == WorkKind::kSave) {
    return saved(context, number, cell, result, std::move(running->bytes));
  }
  if (!result.error.empty()) return fail(context, number, cell.step, result.error);
  if (result.at_end) {
    cell.state = State::kEnded;
    if (cell.step == cell.began_at) went_on(context);
    return ended_one(context, cell.step);
  }
  const bool was_away = cell.state == State::kAway;
  if (result.kind == WorkKind::kBegin) cell.began_at = cell.step;
  if (result.kind == WorkKind::kRestore) {
    cell.step = cell.began_at = Reader(cell.restored->view()).get<std::uint64_t>();
    came_from_partner_ += cell.regained == RegainedFrom::kPartner ? 1 : 0;
    came_from_file_ += cell.regained == RegainedFrom::kFile ? 1 : 0;
    if (cell.regained != RegainedFrom::kSnapshot) {
      context.event(EventKind::kRegain, context.self(), stage_, number,
                    static_cast<std::uint64_t>(*cell.regained));
    }
  } else if (result.kind == WorkKind::kStep) {
    ++cell.step;
  }
  stands(context, number, cell, result);
  if (was_away) restored_one(context);
  if (result.kind == WorkKind::kStep && cell.step == cell.began_at + 1) went_on(context);
}

// The cell has come to a step.
void CellWorker::stands(Context& context, std::uint32_t number, Cell& cell, WorkResult& result) {
  const bool all = std::ranges::equal(result.halos, *cell.neighbours, {}, &Halo::cell);
  if (!all) return fail(context, number, cell.step, "it does not show something to each neighbour");
  for (const Halo& halo : result.halos) {
    if (halo.bytes.size() <= kPayloadBytesMax) continue;
    return fail(context, number, cell.step, "a halo is too large: make the cells smaller");
  }
  if (partials_.size() + result.partial.size() > kPayloadBytesMax) {
    return fail(context, number, cell.step, "what cells add to the totals is too large");
  }
  cell.state = State::kWaits;
  cell.wants_totals = result.wants_totals;
  show(context, number, cell, result.halos);
  if (cell.wants_totals) add_partial(context, number, cell, result.partial);
  if (cell.step == save_at_) save(context, number, cell);
  make_ready(number, cell);
  if (tasks_.empty()) flush_all(context);
}

void CellWorker::ended_one(Context& context, std::uint64_t step) {
  if (++ended_ != cells_.size()) return;
  tell(context, CellNews::kEnded, step);
  if (save_at_ != kNoStep || copies_on()) save_all_at_end(context, step);
}

// ---- what the coordinator hears ----

void CellWorker::tell(Context& context, CellNews news, std::uint64_t step, std::uint64_t a,
                      std::uint64_t b, std::string_view text) {
  Writer writer = context.begin(context.view().coordinator, MessageKind::kCellNews);
  writer.put(stage_);
  put(writer, round_);
  writer.put(news);
  writer.put(step);
  writer.put(a);
  writer.put(b);
  writer.put_string(text.substr(0, kTextBytesMax));
  context.send();
}

void CellWorker::fail(Context& context, std::uint32_t number, std::uint64_t step,
                      std::string_view what) {
  if (std::exchange(failed_, true)) return;  // all go back, and once is enough
  tell(context, CellNews::kFailed, step, number, 0, what);
}

void CellWorker::on_tick(Context& context) {
  if (!active_ || away_ != 0 || cells_.empty() || !context.stable()) return;
  flush_all(context);
  if (context.now() - told_at_ >= kTellPeriod) tell_steps(context);
}

void CellWorker::tell_steps(Context& context) {
  told_at_ = context.now();
  std::uint64_t first = 0, last = kNoStep;
  for (const auto& [number, cell] : cells_) {
    first = std::max(first, cell.step);
    last = std::min(last, cell.step);
  }
  if (std::exchange(told_first_, first) == first) return;
  tell(context, CellNews::kSteps, last, first);
}

}  // namespace regroup
