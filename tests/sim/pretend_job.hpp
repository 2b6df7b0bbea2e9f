// Jobs that exist only in the simulator. What a shard costs, gives, sends and how often it fails
// are pure functions of the job's seed, so that the whole result is known beforehand, without the
// runtime: that is the serial oracle of I8. A PretendExecutor is the computing part of one rank; it
// takes no time itself but says how much virtual time the order takes. Nothing here looks at the
// protocol's state.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/protocol/work.hpp"
#include "tests/sim/random.hpp"

namespace regroup::sim {

enum class JobKind : std::uint8_t {
  kSmallBag,   // results of 8 bytes
  kVariedBag,  // results of 0 to 100 KB: messages that take several frames
  kMapReduce,  // counts synthetic keys
  kChain,      // bag, map, reduce, map, reduce
  kIterate,    // a bag or a map-reduce before it or not; then cells go on step by step
};

struct JobOptions {
  JobKind kind = JobKind::kSmallBag;
  std::uint64_t seed = 0;
  std::uint64_t shards = 100;         // of a bag or map stage
  std::uint64_t partitions = 8;       // of a map stage, so shards of a reduce stage
  std::uint32_t map_value_bytes = 8;  // what a map shard gives besides its parts: 0 or 8
  Spread cost_spread = Spread::kConstant;
  Nanoseconds cost = 100 * kMicrosecond;
  double flaky = 0;     // share of shards that throw on their first tries
  double hopeless = 0;  // share of shards that always throw
  double registry = 0;  // share of shards that ask the registry
  // Of an iterate stage.
  std::uint64_t cells = 8;
  std::uint64_t steps = 10;         // at most: totals may end it before
  std::uint64_t totals_every = 1;   // steps; 0: there are none
  std::uint32_t cell_bytes = 0;     // of a cell, beyond what it computes with
  bool cells_in_field = false;      // that, which is whole words
  std::uint32_t cell_failures = 0;  // how often one throws in the run, whatever the rank
  WorkKind failing_order{};         // kStep or kSave; that one does
  std::uint64_t failing_cell = 0;
  std::uint64_t failing_step = 0;  // or the first one after it
};

using Bytes = std::vector<std::byte>;

// A part of the totals: joined in order, whatever the tree.
struct PretendTotals {
  std::uint64_t hash = 0;
  std::uint64_t shift = 1;
  void join(const PretendTotals& next) {
    hash = hash * next.shift + next.hash;
    shift *= next.shift;
  }
};

// What the coordinator tells every rank.
inline constexpr std::string_view kDescription = "a pretend job";
// What a cell says that fails because it was told to.
inline constexpr std::string_view kCellFailure = "a cell that fails";

class PretendJob {
 public:
  static constexpr std::uint32_t kValueBytesMax = 100'000;
  static constexpr Nanoseconds kCostMax = 20 * kMillisecond;
  static constexpr std::uint32_t kAlways = 1'000'000;

  // `attempts_max`: as the run's schedule has it, since it decides which shards are given up.
  PretendJob(const JobOptions& options, std::uint32_t attempts_max);

  const std::vector<StagePlan>& stages() const { return stages_; }
  // Computing time on a rank of normal speed.
  Nanoseconds cost(StageId stage, ShardId shard) const;
  // It throws on this many tries before it succeeds.
  std::uint32_t failing_tries(StageId stage, ShardId shard) const;
  bool given_up(StageId stage, ShardId shard) const {
    return failing_tries(stage, shard) >= attempts_max_;
  }
  // The oracle: what the shard gives, if it is not given up.
  Bytes value(StageId stage, ShardId shard) const;
  // The keys that a map shard meets, in its own order.
  std::vector<std::uint32_t> keys(StageId stage, ShardId shard) const;
  std::uint64_t partition_of(StageId map, std::uint32_t key) const {
    return key % stages_[map.value + 1u].shards;
  }
  const JobOptions& options() const { return options_; }

  // ---- cells: some rule that takes in all that a cell is given ----
  const Neighbours& neighbours() const { return neighbours_; }
  CellPlan cells() const;
  // What else there is of a cell of that value, and lies in a field if cells do.
  Bytes cell_elements(std::uint64_t value) const;
  std::uint64_t cell_at_begin(std::uint32_t cell) const;
  // What a cell of this value shows its neighbour.
  static std::uint64_t shown(std::uint64_t value, std::uint32_t to);
  bool wants_totals(std::uint64_t step) const {
    return options_.totals_every != 0 && step % options_.totals_every == 0;
  }
  static PretendTotals partial(std::uint64_t value, std::uint64_t step);
  bool at_end(std::uint64_t step, const PretendTotals& totals) const;
  // `halos`: of its neighbours, ascending.
  static std::uint64_t next(std::uint64_t value, std::uint64_t step,
                            std::span<const std::uint64_t> halos, const PretendTotals& totals);
  static Bytes cell_value(std::uint64_t value, std::uint64_t step);
  bool asks_registry(StageId stage, ShardId shard) const;

 private:
  std::uint64_t hash(StageId stage, ShardId shard, std::uint64_t purpose) const;
  std::uint32_t value_bytes(StageId stage, ShardId shard) const;
  void reduce_serially();
  void make_neighbours();
  void iterate_serially(std::size_t stage);

  JobOptions options_;
  std::uint32_t attempts_max_;
  std::vector<StagePlan> stages_;
  std::vector<std::vector<Bytes>> reduced_;  // by stage and partition; empty for other stages
  Neighbours neighbours_;
};

// The value of a partition with these keys, each with how often it was met, in ascending order.
Bytes count_list(const std::map<std::uint32_t, std::uint32_t>& counts);

// What goes wrong on purpose beyond shards that throw.
enum class Upset : std::uint8_t { kNone, kStop, kOpenFails, kOtherJob, kFinalizeFails };

class PretendExecutor : public Executor {
 public:
  static constexpr Nanoseconds kAbsorbTime = 5 * kMicrosecond;
  static constexpr Nanoseconds kFinalizeTime = kMillisecond;

  // `slowness` multiplies all computing times; `upset` is for this rank. `cell_failures`: those
  // that are left to all ranks together.
  PretendExecutor(const PretendJob& job, RankId self, std::uint32_t slowness, Nanoseconds open_time,
                  Upset upset, std::uint32_t& cell_failures)
      : job_(&job),
        self_(self),
        slowness_(slowness),
        open_time_(open_time),
        upset_(upset),
        cell_failures_(&cell_failures) {}

  // Sets result.elapsed to the virtual time that the order takes.
  void execute(WorkOrder& order, WorkResult& result) override;

 private:
  using Parts = std::map<std::uint64_t, std::map<ShardId, Bytes>>;  // by partition and map shard

  void open(WorkResult& result);
  void run_shard(StageId stage, ShardId shard, WorkResult& result);
  void absorb(const WorkOrder& order, WorkResult& result);
  void save(WorkOrder& order, WorkResult& result);
  void restore(const WorkOrder& order, WorkResult& result);
  Bytes reduce(StageId stage, ShardId partition) const;
  struct Cell {
    std::uint64_t step = 0;
    std::uint64_t value = 0;
  };
  void set_cell(const WorkOrder& order, WorkResult& result);
  void step_cell(const WorkOrder& order, WorkResult& result);
  void show_cell(const WorkOrder& order, WorkResult& result);
  bool cell_fails(const WorkOrder& order);

  const PretendJob* job_;
  RankId self_;
  std::uint32_t slowness_;
  Nanoseconds open_time_;
  Upset upset_;
  std::uint32_t* cell_failures_;
  std::map<StageId, Parts> parts_;  // by map stage
  std::map<std::pair<StageId, std::uint64_t>, Cell> cells_;
};

}  // namespace regroup::sim
