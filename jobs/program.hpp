// A job as the runtime sees it, whatever its own types are: Bag and MapReduce turn a user's job
// into one. Each rank has its own instance; `run` and `absorb` are called by the computing thread,
// those of the sink by whoever makes progress, never for a stage that `run` reads at the same time.
#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "jobs/option_set.hpp"
#include "jobs/shard_context.hpp"
#include "runtime/protocol/wire.hpp"
#include "runtime/protocol/work.hpp"
#include "scheduler/sink.hpp"

namespace regroup {

class Report;

// The state of its sink is that of a job that is open: load_state comes after load.
class Program : public ResultSink {
 public:
  virtual std::string_view name() const = 0;
  virtual std::string_view summary() const = 0;
  // What a user should know beyond the summary, or "".
  virtual std::string_view description() const { return ""; }
  virtual OptionSet& options() = 0;

  // Coordinator, before anything is written: looks at the inputs. The error is one line for the
  // user.
  virtual std::expected<void, std::string> prepare() = 0;
  // What prepare() found out, beyond the options, to every rank.
  virtual void save(Writer& writer) const = 0;
  virtual std::expected<void, std::string> load(Reader& reader) = 0;
  // Valid after load().
  virtual std::vector<StagePlan> stages() const = 0;

  // May throw: the whole order has then failed, unless it named the shards in result.failures.
  virtual void run(const WorkOrder& order, std::uint64_t seed, const RankResources& resources,
                   WorkResult& result) = 0;
  virtual std::expected<void, std::string> absorb(const WorkOrder& order) = 0;
  // What a partition of the map stage holds, and the same to one that holds nothing, on another
  // rank or in another run of the job. Never trusts its input; a failed restore leaves it empty.
  virtual std::expected<void, std::string> save_partition(StageId stage, std::uint32_t partition,
                                                          Buffer& content) = 0;
  virtual std::expected<void, std::string> restore_partition(
      StageId stage, std::uint32_t partition, std::span<const std::byte> content) = 0;
  // After how many steps an iterate stage ends, if that is known; 0: it is not. For displays.
  virtual std::uint64_t steps() const { return 0; }
  // How many of those it has taken at a step of the runtime's, which may be several, or a part of
  // one.
  virtual std::uint64_t steps_done(std::uint64_t step) const { return step; }
  // Of each iterate stage, in order.
  virtual std::vector<CellPlan> cells() const { return {}; }
  // Sets a cell to step 0, or to what save_partition() wrote of it, or takes it on to the next
  // step; then says what it shows, as the order's kind has it. May throw: then the cell has failed.
  virtual std::expected<void, std::string> compute_cell(WorkOrder&, std::uint64_t /*seed*/,
                                                        const RankResources&, WorkResult&) {
    return std::unexpected("the job has no cells");
  }
  // What was absorbed is void: this rank's partitions are others' now, or begin anew.
  virtual void forget_parts() = 0;

  // Coordinator: every shard was committed or skipped.
  virtual void report(Report& report) = 0;
};

}  // namespace regroup
