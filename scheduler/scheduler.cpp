#include "scheduler/scheduler.hpp"

#include <utility>

#include "runtime/protocol/check.hpp"
#include "runtime/protocol/planted.hpp"

namespace regroup {

void Scheduler::on_start(Context& context) {
  if (!context.is_coordinator()) return;
  coordinator_.emplace(options_, Buffer(job_description_.view()), *sink_, worker_);
  coordinator_->on_start(context);
}

// ---- views ----

void Scheduler::on_view(Context& context) {
  if (context.view().joined.contains(context.self())) {  // the others have gone on from elsewhere
    ledger_.clear();
    context.set_ledger(0);
  }
  const bool leads = context.is_coordinator();
  if (!leads) coordinator_.reset();
  if (coordinator_) coordinator_->on_view(context);
  worker_.on_view(context);
  if (!worker_.finished()) registry_.go_on();
  if (!worker_.awaits_question()) registry_.send_all(context);
  if (wish_ && !leads) pass_on(context, wish_->wish, wish_->reason);
  if (!leads || coordinator_) return;
  const bool caught_up = ledger_.position() >= context.view().ledger;
  if (caught_up || planted(PlantedBug::kSkipCatchUp)) return become_coordinator(context);
  context.begin(context.view().ledger_holder, MessageKind::kLedgerWanted);
  context.send();
}

void Scheduler::become_coordinator(Context& context) {
  coordinator_.emplace(options_, Buffer(job_description_.view()), *sink_, worker_);
  // Of an earlier time as the coordinator there may be something in the sink.
  if (ledger_.position() == 0 && !sink_at_open_.empty()) {
    Reader reader(sink_at_open_.view());
    (void)sink_->load_state(reader);
  }
  coordinator_->take_over(context, ledger_);
  if (wish_) coordinator_->on_wish(context, wish_->wish, wish_->reason);
}

// At the end all leave. Before it, what a rank has or does is lost with it, however it goes.
void Scheduler::on_left(Context& context, RankId rank) {
  const bool ending = coordinator_ ? coordinator_->ending() : worker_.finished();
  const bool matters = context.is_coordinator() || rank == context.view().coordinator;
  if (matters && !ending) context.request_new_view();
}

// ---- the ledger ----

bool Scheduler::on_ledger(Context& context, RankId from, Reader& reader) {
  const auto entry = get_entry(reader);
  if (!entry || from != context.view().coordinator || !ledger_.append(*entry)) return false;
  context.set_ledger(ledger_.position());
  context.begin(from, MessageKind::kLedgerHeld).put(ledger_.position());
  context.send();
  return true;
}

bool Scheduler::on_ledger_wanted(Context& context, RankId from, Reader& reader) {
  if (!reader.complete() || from != context.view().coordinator) return false;
  Writer writer = context.begin(from, MessageKind::kLedgerCopy);
  ledger_.put(writer);
  context.send();
  return true;
}

bool Scheduler::on_ledger_copy(Context& context, RankId from, Reader& reader) {
  const View& view = context.view();
  if (from != view.ledger_holder || !context.is_coordinator() || coordinator_) return false;
  LedgerCopy copy;
  const bool loaded = copy.load(reader);
  if (loaded && copy.position() > ledger_.position()) ledger_ = std::move(copy);
  context.set_ledger(ledger_.position());
  become_coordinator(context);  // there is no better copy to be had
  return loaded;
}

// ---- what else happens ----

void Scheduler::on_tick(Context& context) {
  worker_.on_tick(context);
  registry_.on_tick(context);
  if (coordinator_) coordinator_->on_tick(context);
}

bool Scheduler::on_message(Context& context, RankId from, MessageKind kind,
                           std::span<const std::byte> payload) {
  Reader reader(payload);
  switch (kind) {
    case MessageKind::kReady:
    case MessageKind::kResults:
    case MessageKind::kFailures:
    case MessageKind::kReturned:
    case MessageKind::kAnnounce:
    case MessageKind::kHoldings:
    case MessageKind::kSnapshotTaken:
    case MessageKind::kCopiesMade:
    case MessageKind::kCellNews:
    case MessageKind::kPartials:
    case MessageKind::kLedgerHeld:
    case MessageKind::kRegistryRequest:
    case MessageKind::kGoodbye:
      return coordinator_ && coordinator_->on_message(context, from, kind, reader);
    case MessageKind::kOpen:
      if (from == context.view().coordinator) keep_description(payload);
      [[fallthrough]];
    case MessageKind::kOwners:
    case MessageKind::kSnapshot:
    case MessageKind::kCells:
    case MessageKind::kSnapshotAt:
    case MessageKind::kTotals:
    case MessageKind::kLease:
    case MessageKind::kRecall:
    case MessageKind::kAcknowledge:
    case MessageKind::kFinish:
      return from == context.view().coordinator && to_worker(context, from, kind, reader);
    case MessageKind::kWish:
      return on_wish_of_peer(context, reader);
    case MessageKind::kRegistryAnswer:
      return from == context.view().coordinator && registry_.on_answer(context, reader);
    case MessageKind::kLedger:
      return on_ledger(context, from, reader);
    case MessageKind::kLedgerWanted:
      return on_ledger_wanted(context, from, reader);
    case MessageKind::kLedgerCopy:
      return on_ledger_copy(context, from, reader);
    default:
      return worker_.on_message(context, from, kind, reader);
  }
}

void Scheduler::on_bulk(Context& context, RankId from, MessageKind kind,
                        std::span<const std::byte> header, Buffer bytes, const BulkHash& hash) {
  worker_.on_bulk(context, from, kind, Reader(header), std::move(bytes), hash);
}

void Scheduler::on_bulk_damaged(Context& context, RankId from, MessageKind kind,
                                std::span<const std::byte> header) {
  worker_.on_bulk(context, from, kind, Reader(header), {}, {});
}

// The registry's calls go where the worker's reports go, and when.
bool Scheduler::to_worker(Context& context, RankId from, MessageKind kind, Reader& reader) {
  const bool awaited = worker_.awaits_question();
  const bool taken = worker_.on_message(context, from, kind, reader);
  if (awaited && !worker_.awaits_question()) registry_.send_all(context);
  if (kind == MessageKind::kFinish && taken) registry_.end(context);
  return taken;
}

void Scheduler::on_registry_call(Context& context, RegistryCall& call) {
  using enum RegistryClient::Line;
  registry_.ask(context, call, worker_.awaits_question() ? kClosed : kOpen);
}

void Scheduler::keep_description(std::span<const std::byte> payload) {
  if (!job_description_.empty()) return;
  Reader reader(payload);
  job_description_ = Buffer(reader.get_bytes());
}

// What a coordinator of an earlier view had ordered is of no use any more.
void Scheduler::on_work_finished(Context& context, WorkResult& result) {
  switch (result.kind) {
    case WorkKind::kFinalize:
      if (coordinator_) coordinator_->on_finalized(context, result);
      return;
    case WorkKind::kDescribe:
      if (coordinator_) coordinator_->on_described(context, result);
      return;
    case WorkKind::kOpen:
      if (result.error.empty()) {
        sink_at_open_.clear();
        Writer writer(sink_at_open_);
        sink_->save_state(writer);
      }
      [[fallthrough]];
    default:
      return worker_.on_work_finished(context, result);
  }
}

void Scheduler::on_disk(Context& context, DiskAnswer& answer) {
  const bool of_worker =
      answer.task == DiskTask::kWritePart || answer.task == DiskTask::kLoadPieces;
  if (of_worker) return worker_.on_disk(context, answer);
  if (coordinator_) coordinator_->on_disk(context, answer);
}

// ---- wishes ----

// Whichever rank the user asks.
void Scheduler::on_wish(Context& context, Wish wish, const std::string& reason) {
  const bool to_end = wish != Wish::kCheckpoint;
  if (to_end && (!wish_ || wish > wish_->wish)) wish_ = {wish, reason};
  pass_on(context, wish, reason);
}

// A coordinator that is about to take over hears of it when it has.
void Scheduler::pass_on(Context& context, Wish wish, const std::string& reason) {
  if (coordinator_) return coordinator_->on_wish(context, wish, reason);
  if (context.is_coordinator() || worker_.finished()) return;
  Writer writer = context.begin(context.view().coordinator, MessageKind::kWish);
  writer.put(wish);
  writer.put_string(reason);
  context.send();
}

bool Scheduler::on_wish_of_peer(Context& context, Reader& reader) {
  const auto wish = reader.get<Wish>();
  const std::string reason(reader.get_string());
  if (!reader.complete() || wish > Wish::kStop || !context.is_coordinator()) return false;
  on_wish(context, wish, reason);
  return true;
}

std::optional<RunProgress> Scheduler::progress() const {
  if (!coordinator_) return std::nullopt;
  return coordinator_->progress();
}

}  // namespace regroup
