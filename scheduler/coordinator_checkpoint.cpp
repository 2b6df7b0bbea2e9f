// The coordinator's part in checkpoints: what of its state goes into them, when they count, how a
// run ends on one, and how it goes on from one.
#include <algorithm>
#include <utility>

#include "runtime/protocol/check.hpp"
#include "runtime/protocol/planted.hpp"
#include "scheduler/coordinator.hpp"

namespace regroup {
namespace {

constexpr int kExitNotRecovered = 3;
constexpr int kExitResumable = 75;

}  // namespace

// ---- going on from one ----

void Coordinator::load_checkpoint(Context& context) {
  DiskRequest request{.task = DiskTask::kLoad, .epoch = context.view().epoch};
  if (options_.checkpoints.resume) request.checkpoint = options_.checkpoints.from;
  request.pieces.push_back({kStateDataset, 0, {}});
  request.pieces.push_back({kDescriptionDataset, 0, {}});
  context.ask_disk(std::move(request));
}

// Whoever has no copy of the ledger goes on from the newest checkpoint, and where none is to be
// expected begins the job anew.
void Coordinator::on_loaded(Context& context, DiskAnswer& answer) {
  if (state_ != RunPhase::kOpening || !loading_) return;
  const bool there = answer.checkpoint.value != 0 && answer.error.empty();
  if (!answer.error.empty() && ++failed_loads_ < kLoadsMax) return load_checkpoint(context);
  loading_ = false;
  if (!there && options_.checkpoints.resume) {
    if (answer.error.empty()) answer.error = "there is no checkpoint to go on from";
    return close(context, kExitNotRecovered, answer.error);
  }
  if (there) {
    REGROUP_CHECK(answer.pieces.size() == 2, "a disk that answers what it was asked");
    (void)inherited_.append({1, LedgerForm::kState, answer.pieces[0].bytes.view()});
    if (job_description_.empty()) job_description_ = std::move(answer.pieces[1].bytes);
    restored_from_ = answer.checkpoint;
    checkpoints_.know(answer.checkpoint);
  }
  open_job(context);
}

// ---- taking one ----

bool Coordinator::seal_is_known() const {
  return !ledger_.has_standbys() || ledger_.committed() >= checkpoints_.recorded_by() ||
         planted(PlantedBug::kSealUntold);
}

void Coordinator::tend_checkpoint(Context& context) {
  if (checkpoints_.rests(context.now()) || ending()) return;
  if (checkpoints_.overdue(context.now())) {
    return checkpoint_failed(context, "the disks did not answer in time");
  }
  if (checkpoints_.stop_wanted() && state_ == RunPhase::kOpening) {
    return stop_here(context, "the job had not been opened");
  }
  if (checkpoints_.grace_over(context.now())) {
    return stop_here(context, "there was not enough time");
  }
  switch (checkpoints_.step()) {
    case CheckpointStep::kIdle:
      return begin_checkpoint(context);
    case CheckpointStep::kRecording:
      if (!seal_is_known()) return;
      checkpoints_.sealed(context.now());
      context.event(EventKind::kSeal, context.self(), stage_, checkpoints_.newest().value, 0);
      if (checkpoints_.stop_wanted()) stop_here(context, "");
      return;
    case CheckpointStep::kNumbering:
    case CheckpointStep::kWriting:
    case CheckpointStep::kSealing:
      return;
  }
}

// The result is being written: there is nothing to keep any more. While the members agree on a view
// nobody may say anything.
void Coordinator::begin_checkpoint(Context& context) {
  if (state_ != RunPhase::kRunning || !context.stable()) return;
  const bool has_owners = std::ranges::any_of(stages_, [](const StagePlan& stage) {
    return stage.kind == StageKind::kMap || stage.kind == StageKind::kIterate;
  });
  if (has_owners && !(all_ready_ && !dealing_ && asked_.empty()))
    return;  // a map stage may begin any time
  const std::uint64_t failures = context.view().epoch.value - 1;
  if (!checkpoints_.due(context.now(), state_bytes(), failures)) return;
  if (cell_stage()) {  // they are written down first, all at one step
    if (!cells_wanted_since_) cells_wanted_since_ = context.now();
    if (!cells_are_fresh()) return;
  }
  cells_wanted_since_.reset();
  checkpoints_.begin(context.now());
  context.ask_disk({.task = DiskTask::kNumber,
                    .checkpoint = checkpoints_.newest(),
                    .epoch = context.view().epoch});
}

void Coordinator::write_checkpoint(Context& context, CheckpointNumber number) {
  if (state_ != RunPhase::kRunning) return checkpoints_.cancel(context.now());
  if (cell_stage() && cells_.confirmed() == kNoStep) {  // they were set back since it was begun
    checkpoints_.cancel(context.now());
    return checkpoints_.want();
  }
  Buffer state;
  Writer writer(state);
  save_state(writer);
  std::vector<StatePiece> pieces;
  pieces.push_back({kStateDataset, 0, std::move(state)});
  pieces.push_back({kDescriptionDataset, 0, Buffer(job_description_.view())});
  own_worker_->add_to_part(std::move(pieces));
  // Cells that are reduced have neighbours that may not be.
  const std::vector<RankId> owners = cell_stage() ? owners_ : owners_in_need();
  RankSet writers(owners);
  writers.erase(kNobody);
  writers.insert(context.self());
  checkpoints_.write(number, writers);
  const bool reduces = stages_[stage_.value].kind == StageKind::kReduce;
  const StageId map{static_cast<std::uint16_t>(stage_.value - (reduces ? 1u : 0u))};
  for (const RankId rank : writers) {
    std::vector<std::uint32_t> partitions;
    for (std::uint32_t p = 0; p < owners.size(); ++p) {
      if (owners[p] == rank) partitions.push_back(p);
    }
    Writer asked = context.begin(rank, MessageKind::kSnapshot);
    asked.put(number);
    asked.put(map);
    asked.put(static_cast<std::uint32_t>(partitions.size()));
    for (const std::uint32_t partition : partitions) asked.put(partition);
    context.send();
  }
}

// Partitions may hold more by then than the state says, never less.
bool Coordinator::on_snapshot_taken(Context& context, RankId from, Reader& reader) {
  const auto number = reader.get<CheckpointNumber>();
  const std::string error(reader.get_string());
  std::string part(reader.get_string());
  if (!reader.complete()) return false;
  const bool awaited =
      checkpoints_.step() == CheckpointStep::kWriting && number == checkpoints_.number();
  if (ending() || !awaited) return true;
  if (!error.empty()) {
    checkpoint_failed(context, error);
    return true;
  }
  (void)checkpoints_.take_part(from, number, std::move(part));
  if (checkpoints_.all_written()) seal_checkpoint(context);
  return true;
}

void Coordinator::seal_checkpoint(Context& context) {
  DiskRequest request{.task = DiskTask::kSeal,
                      .checkpoint = checkpoints_.number(),
                      .epoch = context.view().epoch,
                      .lamport = context.lamport()};
  request.taken = context.now() - checkpoints_.begun_at();
  request.parts = checkpoints_.seal();
  context.ask_disk(std::move(request));
}

void Coordinator::on_sealed(Context& context, const DiskAnswer& answer) {
  record_seal();
  ledger_.touch();
  checkpoints_.record(ledger_.position() + 1, answer.bytes);
  replicate(context, true);
  tend_checkpoint(context);
}

void Coordinator::checkpoint_failed(Context& context, const std::string& error) {
  checkpoints_.failed(context.now(), error);
  if (checkpoints_.stop_wanted()) stop_here(context, error);
}

// Answers to what is not waited for any more are of the past.
void Coordinator::on_disk(Context& context, DiskAnswer& answer) {
  if (answer.task == DiskTask::kLoad) return on_loaded(context, answer);
  if (ending()) return;
  const CheckpointStep step = checkpoints_.step();
  const bool awaited =
      answer.task == DiskTask::kNumber
          ? step == CheckpointStep::kNumbering
          : answer.checkpoint == checkpoints_.number() && step == CheckpointStep::kSealing;
  if (!awaited) return;
  if (!answer.error.empty()) return checkpoint_failed(context, answer.error);
  if (answer.task == DiskTask::kNumber) return write_checkpoint(context, answer.checkpoint);
  on_sealed(context, answer);
}

// ---- wishes ----

void Coordinator::on_wish(Context& context, Wish wish, const std::string& reason) {
  if (ending()) return;
  if (wish == Wish::kCheckpoint) {
    if (!checkpoints_.busy()) checkpoints_.want();
  } else {
    checkpoints_.want_stop(reason, context.now());
    if (wish == Wish::kStop) return stop_here(context, "");
  }
  tend_checkpoint(context);
}

// A run that can be gone on with says so by its exit status.
void Coordinator::stop_here(Context& context, const std::string& problem) {
  const std::uint64_t newest = checkpoints_.newest().value;
  std::string message = checkpoints_.stop_reason();
  if (!problem.empty()) message += "; no checkpoint was taken: " + problem;
  if (newest == 0) return close(context, kExitNotRecovered, message);
  message += "; checkpoint " + std::to_string(newest) + " is sealed";
  close(context, kExitResumable, message);
}

}  // namespace regroup
