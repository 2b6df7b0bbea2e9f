#include "scheduler/scheduler.hpp"

#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {
constexpr int kExitNotRecovered = 3;
}

void Scheduler::on_start(Context& context) {
  REGROUP_CHECK(coordinator_.has_value() == context.is_coordinator(),
                "a coordinator on the wrong rank");
  first_coordinator_ = context.view().coordinator;
  if (coordinator_) coordinator_->on_start(context);
}

void Scheduler::on_view(Context& context) {
  if (context.view().coordinator != first_coordinator_) {
    return context.finish({kExitNotRecovered,
                           "rank " + std::to_string(first_coordinator_.value) +
                               ", the coordinator, was lost in the middle of the run",
                           true});
  }
  if (coordinator_) coordinator_->on_view(context);
  worker_.on_view(context);
}

void Scheduler::on_tick(Context& context) {
  worker_.on_tick(context);
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
    case MessageKind::kGoodbye:
      return coordinator_ && coordinator_->on_message(context, from, kind, reader);
    case MessageKind::kOpen:
    case MessageKind::kLease:
    case MessageKind::kRecall:
    case MessageKind::kAcknowledge:
    case MessageKind::kFinish:
      return from == context.view().coordinator && worker_.on_message(context, from, kind, reader);
    default:
      return worker_.on_message(context, from, kind, reader);
  }
}

void Scheduler::on_work_finished(Context& context, WorkResult& result) {
  if (result.kind != WorkKind::kFinalize) return worker_.on_work_finished(context, result);
  REGROUP_CHECK(coordinator_.has_value(), "finalizing is the coordinator's");
  coordinator_->on_finalized(context, result);
}

void Scheduler::on_stop(Context& context, const std::string& reason) {
  if (coordinator_) coordinator_->on_stop(context, reason);
}

std::optional<RunProgress> Scheduler::progress() const {
  if (!coordinator_) return std::nullopt;
  return coordinator_->progress();
}

}  // namespace regroup
