// The service that a Node carries to run a job: a worker on every rank, on the coordinator's the
// coordinator as well, and on the standbys' a copy of its ledger. When the coordinator is lost, the
// one of the next view catches up with the longest copy and goes on. Pure, not thread-safe.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "runtime/protocol/ledger.hpp"
#include "runtime/protocol/node.hpp"
#include "scheduler/coordinator.hpp"
#include "scheduler/options.hpp"
#include "scheduler/registry_client.hpp"
#include "scheduler/worker.hpp"

namespace regroup {

class Scheduler : public Service {
 public:
  // `sink` is where results go if this rank coordinates; it outlives the scheduler.
  // `job_description` is what every rank's kOpen order gets: the first coordinator's rank has it.
  Scheduler(const ScheduleOptions& options, ResultSink& sink, Buffer job_description = {})
      : options_(options),
        sink_(&sink),
        job_description_(std::move(job_description)),
        worker_(options) {}

  void on_start(Context& context) override;
  void on_view(Context& context) override;
  void on_left(Context& context, RankId rank) override;
  void on_tick(Context& context) override;
  bool on_message(Context& context, RankId from, MessageKind kind,
                  std::span<const std::byte> payload) override;
  void on_bulk(Context& context, RankId from, MessageKind kind, std::span<const std::byte> header,
               Buffer bytes, const BulkHash& hash) override;
  void on_bulk_damaged(Context& context, RankId from, MessageKind kind,
                       std::span<const std::byte> header) override;
  void on_work_wanted(Context& context) override { worker_.on_work_wanted(context); }
  void on_work_finished(Context& context, WorkResult& result) override;
  void on_wish(Context& context, Wish wish, const std::string& reason) override;
  void on_registry_call(Context& context, RegistryCall& call) override;
  void on_disk(Context& context, DiskAnswer& answer) override;

  // Empty on ranks that do not coordinate.
  std::optional<RunProgress> progress() const;
  const Worker& worker() const { return worker_; }

 private:
  bool on_ledger(Context& context, RankId from, Reader& reader);
  bool on_ledger_wanted(Context& context, RankId from, Reader& reader);
  bool on_ledger_copy(Context& context, RankId from, Reader& reader);
  bool on_wish_of_peer(Context& context, Reader& reader);
  void pass_on(Context& context, Wish wish, const std::string& reason);
  void become_coordinator(Context& context);
  void keep_description(std::span<const std::byte> payload);
  bool to_worker(Context& context, RankId from, MessageKind kind, Reader& reader);

  ScheduleOptions options_;
  ResultSink* sink_;
  Buffer job_description_;
  Worker worker_;
  RegistryClient registry_;
  std::optional<Coordinator> coordinator_;
  LedgerCopy ledger_;    // as a standby
  Buffer sink_at_open_;  // what the sink was when nothing had been committed
  // That the run is to end: for each coordinator until one has seen to it.
  std::optional<WishArrived> wish_;
};

}  // namespace regroup
