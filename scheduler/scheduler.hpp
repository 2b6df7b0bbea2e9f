// The service that a Node carries to run a job: a worker on every rank and, on the coordinator's,
// the coordinator as well. Pure, not thread-safe.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "runtime/protocol/node.hpp"
#include "scheduler/coordinator.hpp"
#include "scheduler/options.hpp"
#include "scheduler/worker.hpp"

namespace regroup {

class Scheduler : public Service {
 public:
  // A rank that only works.
  explicit Scheduler(const ScheduleOptions& options) : worker_(options) {}
  // The coordinator's rank. `job_description` is what every rank's kOpen order gets; `sink`
  // outlives it.
  Scheduler(const ScheduleOptions& options, Buffer job_description, ResultSink& sink)
      : worker_(options) {
    coordinator_.emplace(options, std::move(job_description), sink, worker_);
  }

  void on_start(Context& context) override;
  void on_view(Context& context) override;
  void on_tick(Context& context) override;
  bool on_message(Context& context, RankId from, MessageKind kind,
                  std::span<const std::byte> payload) override;
  void on_work_wanted(Context& context) override { worker_.on_work_wanted(context); }
  void on_work_finished(Context& context, WorkResult& result) override;
  void on_stop(Context& context, const std::string& reason) override;

  // Empty on ranks that only work.
  std::optional<RunProgress> progress() const;
  const Worker& worker() const { return worker_; }

 private:
  Worker worker_;
  std::optional<Coordinator> coordinator_;
  RankId first_coordinator_;  // what it knows is lost with it
};

}  // namespace regroup
