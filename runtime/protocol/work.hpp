// What passes between the protocol, which decides, and the computing part of a rank, which runs
// user code: orders out, results back. The host loop executes orders for real; the simulator
// pretends to.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/protocol/buffer.hpp"
#include "runtime/protocol/field.hpp"
#include "runtime/protocol/ids.hpp"

namespace regroup {

// How the shards of a stage turn into results.
enum class StageKind : std::uint8_t {
  kBag,     // a shard gives a value; values merge in shard order at the coordinator
  kMap,     // a shard gives a part for each partition; parts go to the partitions' owners
  kReduce,  // shard p turns partition p, or cell p, into a value, on the rank that owns p
  // A shard is a cell, which a rank owns: it goes on step by step, and before each gets what its
  // neighbours show of themselves (halos) and, if the job wants that, totals over all cells.
  kIterate,
};

struct StagePlan {
  StageKind kind = StageKind::kBag;
  std::uint64_t shards = 0;
  friend bool operator==(const StagePlan&, const StagePlan&) = default;
};

enum class WorkKind : std::uint8_t {
  kDescribe,  // coordinator: look at the inputs and say what the job is, for kOpen
  kOpen,      // read the job's description (input) and say what its stages are
  kRun,       // compute the shards
  kAbsorb,    // take in the parts (input) that map shard `shards.first` made for this rank
  kSave,  // add to `input`, and make it partitions[0], what that partition of the map stage holds
  kRestore,   // have that partition, which holds nothing, hold what was said (saved())
  kForget,    // drop all parts that were taken in: this rank was given up by the others
  kFinalize,  // coordinator: every shard has settled; write the result
  kBegin,     // have the cell stand at step 0
  // Take the cell from `step` to the next, or say that there is none (at_end). kSave and kRestore
  // are of a cell as of a partition, but that a cell is restored whatever it was.
  kStep,
};

// By cell: its neighbours, ascending. Whoever is another cell's neighbour has it as its own.
using Neighbours = std::vector<std::vector<std::uint32_t>>;

// The cells of an iterate stage.
struct CellPlan {
  Neighbours neighbours;
  std::optional<CellField> field = {};
};

// What a cell shows a neighbour of itself at some step.
struct Halo {
  std::uint32_t cell = 0;  // the other one
  Buffer bytes;
};

struct WorkOrder {
  WorkKind kind = WorkKind::kRun;
  StageId stage;
  ShardRange shards;
  Attempt attempt;
  RankId from;   // kAbsorb: who ran the map shard
  Buffer input;  // kOpen, kAbsorb, kSave, kRestore
  // kRestore: instead of the input these bytes, from `shared_begin` on, which others read as well.
  std::shared_ptr<const Buffer> shared = {};
  std::size_t shared_begin = 0;
  std::uint64_t step = 0;                          // kStep, kSave, kRestore of a cell
  std::vector<Halo> halos = {};                    // kStep: of all neighbours, ascending
  std::shared_ptr<const Buffer> totals = nullptr;  // kStep: of that step, if they were asked for

  std::span<const std::byte> saved() const {
    return shared ? shared->view().subspan(shared_begin) : input.view();
  }
};

// Values of consecutive shards, all of one size.
struct ResultSegment {
  ShardRange shards;
  std::uint32_t value_bytes = 0;
  std::size_t offset = 0;  // of the first value in ResultBlock::bytes
};

struct ResultBlock {
  Buffer bytes;
  std::vector<ResultSegment> segments;

  // Where to write the value of `shard`. Shards are added in ascending order.
  std::byte* add(ShardId shard, std::uint32_t value_bytes) {
    if (!segments.empty()) {
      ResultSegment& last = segments.back();
      if (last.shards.end() == shard && last.value_bytes == value_bytes) {
        ++last.shards.count;
        return bytes.extend(value_bytes);
      }
    }
    segments.push_back({{shard, 1}, value_bytes, bytes.size()});
    return bytes.extend(value_bytes);
  }
  std::span<const std::byte> values(const ResultSegment& segment) const {
    return bytes.view().subspan(segment.offset, segment.shards.count * segment.value_bytes);
  }
  void clear() {
    bytes.clear();
    segments.clear();
  }
};

// A shard whose code threw, with what it said.
struct ShardFailure {
  ShardId shard;
  std::string what;
};

struct WorkResult {
  WorkKind kind = WorkKind::kRun;
  StageId stage;
  ShardRange shards;
  Attempt attempt;
  RankId from;
  ResultBlock results;                 // kRun: of the shards that did not fail
  std::vector<ShardFailure> failures;  // kRun: of the others
  std::vector<Buffer> partitions;  // kRun of a map stage (one shard): one part a partition; kSave
  std::vector<StagePlan> stages;   // kOpen
  std::vector<CellPlan> cells;     // kOpen: of each iterate stage
  // kBegin, kStep, kRestore of a cell: of the step that it stands at then.
  std::vector<Halo> halos;  // one for each neighbour
  Buffer partial;           // what it adds to the totals
  bool wants_totals = false;
  bool at_end = false;      // kStep: there is no next step, and nothing was changed
  Buffer description;       // kDescribe
  std::string error;        // all but kRun: why it failed, else empty
  Nanoseconds elapsed = 0;  // time spent computing

  // Empties it for the next order, keeping memory.
  void restart(const WorkOrder& order) {
    kind = order.kind;
    stage = order.stage;
    shards = order.shards;
    attempt = order.attempt;
    from = order.from;
    results.clear();
    failures.clear();
    partitions.clear();
    stages.clear();
    cells.clear();
    halos.clear();
    partial.clear();
    wants_totals = false;
    at_end = false;
    description.clear();
    error.clear();
    elapsed = 0;
  }
};

// Runs user code. Called by one thread at a time, never while the rank's protocol state is locked.
class Executor {
 public:
  virtual ~Executor() = default;
  // `result` was restarted with this order. Must not throw: user errors go into `result`.
  virtual void execute(WorkOrder& order, WorkResult& result) = 0;
};

}  // namespace regroup
