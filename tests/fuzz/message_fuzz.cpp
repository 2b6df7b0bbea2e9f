// Any bytes at all may reach a rank, as whole frames or as payloads in frames that are in order.
// Whatever they are: no crash, no broken invariant, no memory beyond a constant times the message,
// no shard that counts twice (I7), and no honest answer that would not decode.
//
// An input is a head of two bytes (which rank in which run) and then actions, each an opcode and
// its operands; what is missing at the end reads as zero. Kept inputs are in corpus/message/.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "runtime/protocol/check.hpp"
#include "scheduler/cells.hpp"
#include "scheduler/copy_desk.hpp"
#include "scheduler/copy_transfer.hpp"
#include "scheduler/scheduler.hpp"
#include "tests/fuzz/memory_meter.hpp"

namespace regroup::fuzzing {
namespace {

constexpr std::uint32_t kRanks = 4;
constexpr std::size_t kActionsMax = 300;
// Of the actions outside the job.
constexpr std::uint8_t kRegistryChoice = 7;
constexpr std::uint8_t kCellsChoice = 6;
constexpr std::uint32_t kCells = 6;  // in a ring, on two ranks or more
// What one step may allocate: a constant, and a constant times what came in.
constexpr std::size_t kStepBytes = 512 * 1024;
constexpr std::size_t kBytesPerByte = 64;

class Input {
 public:
  explicit Input(std::span<const std::uint8_t> bytes) : left_(bytes) {}
  bool empty() const { return left_.empty(); }
  std::uint8_t byte() {
    if (left_.empty()) return 0;
    const std::uint8_t value = left_.front();
    left_ = left_.subspan(1);
    return value;
  }
  std::uint16_t word() {
    const std::uint16_t low = byte();
    return static_cast<std::uint16_t>(low | byte() << 8);
  }
  std::span<const std::byte> bytes(std::size_t count) {
    const auto taken = left_.first(std::min(count, left_.size()));
    left_ = left_.subspan(taken.size());
    return std::as_bytes(taken);
  }

 private:
  std::span<const std::uint8_t> left_;
};

// Holds I7, and touches every value it is given. A ledger that comes with a valid checksum may tell
// any lie about what was handed over before; from then on each shard counts once all the same.
class CheckingSink : public ResultSink {
 public:
  void commit(StageId stage, ShardRange shards, std::uint32_t value_bytes,
              std::span<const std::byte> values) override {
    REGROUP_CHECK(values.size() == shards.count * value_bytes, "values of another size");
    for (const std::byte value : values) sum_ = sum_ + std::to_integer<std::uint64_t>(value);
    for (ShardId shard = shards.first; shard < shards.end(); ++shard.value) settle(stage, shard);
  }
  void skip(StageId stage, ShardId shard, Attempt, RankId, const std::string&) override {
    settle(stage, shard);
  }
  void save_state(Writer& writer) const override {
    writer.put(static_cast<std::uint32_t>(settled_.size()));
    for (const auto& [stage, shard] : settled_) {
      writer.put(stage);
      writer.put(shard);
    }
  }
  std::expected<void, std::string> load_state(Reader& reader) override {
    settled_.clear();
    for (std::size_t left = reader.get_count(kSavedBytesEach); left != 0; --left) {
      reader.get<StageId>();
      reader.get<ShardId>();
    }
    if (reader.failed()) return std::unexpected("the saved shards are cut short");
    return {};
  }
  void add_to_totals(StageId, Buffer& into, std::span<const std::byte> next) override {
    into.append(next.first(std::min(next.size(), kTotalBytesMax - into.size())));
  }
  std::size_t state_bytes() const override {
    return sizeof(std::uint32_t) + settled_.size() * kSavedBytesEach;
  }

 private:
  static constexpr std::size_t kSavedBytesEach = 10;  // stage, shard
  static constexpr std::size_t kTotalBytesMax = 256;

  void settle(StageId stage, ShardId shard) {
    REGROUP_CHECK(settled_.emplace(stage, shard).second, "a shard counted twice");
  }
  std::set<std::pair<StageId, ShardId>> settled_;
  volatile std::uint64_t sum_ = 0;
};

std::vector<StagePlan> stages_of(std::uint8_t choice) {
  if ((choice & 0x40) != 0) {
    std::vector<StagePlan> stages;
    if ((choice & 1) != 0) stages.push_back({StageKind::kBag, 3});
    stages.push_back({StageKind::kIterate, kCells});
    stages.push_back({StageKind::kReduce, kCells});
    return stages;
  }
  switch (choice % 4) {
    case 0:
      return {{StageKind::kBag, 100}};
    case 1:
      return {{StageKind::kMap, 20}, {StageKind::kReduce, 8}};
    case 2:
      return {{StageKind::kBag, 3}, {StageKind::kBag, 0}, {StageKind::kBag, 1000}};
    default:
      return {{StageKind::kMap, 5},
              {StageKind::kReduce, 8},
              {StageKind::kMap, 9},
              {StageKind::kReduce, 3}};
  }
}

std::vector<std::uint32_t> neighbours_of(std::uint32_t cell) {
  std::vector<std::uint32_t> both{(cell + kCells - 1) % kCells, (cell + 1) % kCells};
  std::ranges::sort(both);
  return both;
}

class FuzzedRank {
 public:
  explicit FuzzedRank(Input& input) : input_(&input) {
    const std::uint8_t role = input.byte();
    const std::uint8_t plan = input.byte();
    self_ = role % 2 == 0 ? RankId{0} : RankId{1 + (role >> 6 & 1u)};
    ScheduleOptions options;
    options.policy = static_cast<Policy>(role >> 1 & 3);
    options.coordinator_computes = (role >> 3 & 1) == 0;
    options.batch = (role >> 4 & 3) == 0 ? 0 : 1u << (3 * (role >> 4 & 3));
    options.attempts_max = 2;
    options.standbys = plan >> 4 & 3;
    stages_ = stages_of(plan);
    Buffer description;
    if (self_ == RankId{0}) Writer(description).put_string("fuzzed");
    auto scheduler = std::make_unique<Scheduler>(options, sink_, std::move(description));
    node_ = std::make_unique<Node>(
        NodeOptions{.self = self_, .ranks = kRanks, .vector_clocks = (plan >> 2 & 1) != 0},
        std::move(scheduler), pool_);
    node_->start(0, output_);
    if ((plan >> 3 & 1) == 0) open();
  }

  void act() {
    const std::uint8_t opcode = input_->byte();
    switch (opcode % 8) {
      case 0:
        return outside_the_job(opcode >> 3);
      case 1:
      case 2:
      case 3:
        return message(input_->byte(), 0);
      case 4:
        return message(input_->byte(), input_->byte());
      case 5:
        return tick();
      case 6:
        return want();
      case 7:
        return finish(opcode >> 3);
    }
  }

 private:
  // The job opens here as it would: so most inputs reach what comes after.
  void open() {
    if (self_ != RankId{0}) {
      Buffer payload;
      Writer(payload).put_string("job");
      deliver(RankId{0}, MessageKind::kOpen, 0, payload.view());
    }
    want();
    finish(0);
  }

  void raw_frame() {
    const RankId from{input_->byte() % kRanks};
    const auto bytes = input_->bytes(input_->word());
    step(FrameArrived{from, bytes}, bytes.size());
  }

  void outside_the_job(std::uint8_t choice) {
    if (choice == 0) return raw_frame();
    if (choice == kRegistryChoice) return registry();
    if (choice == kCellsChoice) return cells();
    switch (choice >> 3) {
      case 0:
        return evidence();
      case 1:
        return token();
      case 2:
        return ledger();
      default:
        return next_view();
    }
  }

  void evidence() {
    const RankId about{input_->byte() % kRanks};
    step(PeerEvidence{about, static_cast<EvidenceKind>(input_->byte() % 4)}, 0);
  }

  // What the others may say of the ledger, in order: a state that makes sense, records, a copy, how
  // much is held. Out of order and at random it is messages like any other.
  void ledger() {
    const std::uint8_t what = input_->byte();
    const View& view = node_->view();
    Buffer payload;
    Writer writer(payload);
    const auto records = what % 4 == 0 ? std::span<const std::byte>{} : input_->bytes(what >> 2);
    switch (what % 4) {
      case 0:
        put_entry_head(writer, ++ledger_, LedgerForm::kState);
        put_state(writer, what >> 2);
        return deliver(view.coordinator, MessageKind::kLedger, 0, payload.view());
      case 1:
        put_entry_head(writer, ++ledger_, LedgerForm::kRecords);
        writer.put_raw(records);
        return deliver(view.coordinator, MessageKind::kLedger, 0, payload.view());
      case 2: {
        Buffer state;
        Writer state_writer(state);
        put_state(state_writer, what >> 2);
        writer.put(view.ledger);
        writer.put(static_cast<std::uint64_t>(state.size()));
        writer.put_raw(state.view());
        writer.put_raw(records);
        return deliver(view.ledger_holder, MessageKind::kLedgerCopy, 0, payload.view());
      }
      default:
        writer.put(view.ledger + (what >> 4));
        return deliver(RankId{(what >> 2 & 3u) % kRanks}, MessageKind::kLedgerHeld, 0,
                       payload.view());
    }
  }

  // User code of this rank asks the registry; or another rank does, or is answered, in order.
  void registry() {
    const std::uint8_t what = input_->byte();
    const std::uint64_t number = 1 + input_->byte();
    const std::uint8_t length = input_->byte();
    const auto key_bytes = input_->bytes(length % 4);
    const auto value_bytes = input_->bytes(length >> 4);
    const auto text = [](std::span<const std::byte> bytes) {
      return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    };
    const std::string key = text(key_bytes), value = text(value_bytes);
    const auto operation = static_cast<RegistryOperation>((what >> 2) % 3);
    const std::uint64_t version = (what >> 4) == 15 ? kAnyVersion : what >> 4;
    const RankId from{static_cast<std::uint32_t>(number % kRanks)};
    Buffer payload;
    Writer writer(payload);
    switch (what % 4) {
      case 0: {
        RegistryCall call{number, operation, key, value, version, Nanoseconds{1} << length % 40};
        return step(RegistryAsked{&call}, key.size() + value.size());
      }
      case 1:
        put_registry_answer(writer,
                            {number, static_cast<RegistryStatus>(what >> 2 & 7), version, value});
        return deliver(node_->view().coordinator, MessageKind::kRegistryAnswer, 0, payload.view());
      default:
        put_registry_request(writer, {.number = number,
                                      .operation = operation,
                                      .key = key,
                                      .value = value,
                                      .version = version,
                                      .write = number,
                                      .answered = number - std::min<std::uint64_t>(number, length),
                                      .left = Nanoseconds{1} << length % 40});
        return deliver(from, MessageKind::kRegistryRequest, 0, payload.view());
    }
  }

  // What others say of cells, in order: owners are dealt in turn over the members, rounds are those
  // of this view, hashes are right.
  void cells() {
    const std::uint8_t what = input_->byte();
    const std::uint32_t cell = input_->byte() % kCells;
    const std::uint64_t step = input_->byte();
    const View& view = node_->view();
    const auto& members = view.members.list();
    const auto is_iterate = [](const StagePlan& plan) { return plan.kind == StageKind::kIterate; };
    const StageId stage{
        static_cast<std::uint16_t>(std::ranges::find_if(stages_, is_iterate) - stages_.begin())};
    const CellRound round{view.epoch.value > 1 ? static_cast<std::uint32_t>(view.epoch.value) : 0,
                          1 + static_cast<std::uint32_t>(what >> 6)};
    const auto owner = [&](std::uint32_t of) { return members[of % members.size()]; };
    Buffer payload;
    Writer writer(payload);
    writer.put(stage);
    const auto put_copy = [&] {
      Buffer copy;
      Writer(copy).put(step);
      copy.append(input_->bytes(what >> 4));
      writer.put(cell);
      writer.put(step);
      writer.put(hash_of_copy(copy.view()));
      writer.put_raw(copy.view());
    };
    switch (what & 15) {
      case 0:
      case 1:
      case 2: {
        const auto start = static_cast<CellStart>(what & 3);
        put(writer, round);
        writer.put(start);
        writer.put(step);
        writer.put(CheckpointNumber{step});
        writer.put(kCells);
        for (std::uint32_t of = 0; of < kCells; ++of) writer.put(owner(of));
        for (std::uint32_t of = 0; start == CellStart::kMemory && of < kCells; ++of) {
          writer.put(owner(of + (what >> 4)));
        }
        return deliver(view.coordinator, MessageKind::kCells, 0, payload.view());
      }
      case 3:
      case 4:
      case 5: {
        const std::uint32_t other = neighbours_of(cell)[what >> 4 & 1u];
        put(writer, round);
        writer.put(step);
        writer.put(other);
        writer.put(cell);
        writer.put_bytes(input_->bytes(what >> 5));
        return deliver(owner(other), MessageKind::kHalos, 0, payload.view());
      }
      case 6:
        put(writer, round);
        writer.put(step);
        writer.put_raw(input_->bytes(what >> 4));
        return deliver(view.coordinator, MessageKind::kTotals, 0, payload.view());
      case 7:
        put(writer, round);
        writer.put(step);
        writer.put((what & 16) != 0 ? kNoStep : step - std::min<std::uint64_t>(step, what >> 5));
        return deliver(view.coordinator, MessageKind::kSnapshotAt, 0, payload.view());
      case 8:
      case 9:
      case 10:
        put(writer, round);
        writer.put(static_cast<CellNews>((what >> 4) % 6));
        writer.put(step);
        writer.put(std::uint64_t{cell});
        writer.put(std::uint64_t{1000});
        writer.put_string((what & 1) != 0 ? "it failed" : "");
        return deliver(owner(cell), MessageKind::kCellNews, 0, payload.view());
      case 11:
        put(writer, round);
        writer.put(step);
        for (std::uint32_t of = 0; of < kCells; ++of) {
          if (owner(of) != owner(cell)) continue;
          writer.put(of);
          writer.put_bytes(input_->bytes(what >> 4));
        }
        return deliver(owner(cell), MessageKind::kPartials, 0, payload.view());
      case 12:
      case 13:
        put_copy();
        return deliver(owner(cell), MessageKind::kCellCopy, 0, payload.view());
      case 14:
        writer.put(cell);
        writer.put(step);
        writer.put(static_cast<CopyVerdict>((what >> 4) % 4));
        return deliver(owner(cell), MessageKind::kCellCopyKept, 0, payload.view());
      default:
        writer.put(cell);
        writer.put(step);
        return deliver(owner(cell), MessageKind::kCellCopyWanted, 0, payload.view());
    }
  }

  // Of a coordinator that has just begun a stage, or has settled the last.
  void put_state(Writer& writer, std::uint8_t choice) {
    const auto stage = static_cast<std::uint16_t>(choice % stages_.size());
    writer.put(static_cast<std::uint8_t>(choice >> 5 & 1));
    writer.put(stage);
    for (int counter = 0; counter < 4; ++counter) writer.put(std::uint64_t{0});
    TaskTable table(stages_[stage].shards);
    if (table.shards() != 0) table.lease({ShardId{0}, 1 + choice % table.shards()});
    table.save(writer);
    writer.put(std::uint32_t{0});                    // tables of stages that run again
    writer.put(std::uint32_t{(choice & 16u) != 0});  // keys of the registry
    if ((choice & 16) != 0) {
      writer.put_string("k");
      writer.put(std::uint64_t{3});
      writer.put_string("v");
    }
    writer.put(std::uint32_t{0});  // ranks that wrote to it
    writer.put(std::uint32_t{0});  // the sink
  }

  // The others have agreed.
  void next_view() {
    const std::uint8_t who = input_->byte();
    const std::uint8_t how = input_->byte();
    View view{.epoch = Epoch{node_->view().epoch.value + 1}, .members = {self_}};
    for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
      if ((who >> rank & 1) != 0) view.members.insert(RankId{rank});
    }
    const auto& members = view.members.list();
    view.coordinator = members[(who >> 4) % members.size()];
    view.ledger_holder = members[how % members.size()];
    view.ledger = how >> 4;
    if ((how >> 2 & 3) == 3 && view.coordinator != self_) view.joined.insert(self_);
    Buffer payload;
    Writer writer(payload);
    put_view(writer, view);
    deliver(RankId{self_ == RankId{0} ? 1u : 0u}, MessageKind::kDecide, 0, payload.view());
    ledger_ = view.ledger;
  }

  // What the token of the epoch that is asked for holds: what was asked, nothing, or anything.
  void token() {
    if (!fence_) return;
    const FenceRequest request = std::move(*std::exchange(fence_, {}));
    FenceAnswer answer{request.epoch, {}};
    const std::uint8_t what = input_->byte();
    if (what % 4 == 1) {
      answer.content.emplace(input_->bytes(input_->word()));
    } else if (what % 4 != 0) {
      answer.content.emplace(request.content.view());
    }
    step(std::move(answer), request.content.size());
  }

  // A frame that is in order but for what `oddity` says.
  void message(std::uint8_t head, std::uint8_t oddity) {
    const RankId from{head % kRanks};
    const auto kind = static_cast<MessageKind>(input_->byte());
    deliver(from, kind, oddity, input_->bytes(input_->word()));
  }

  void deliver(RankId from, MessageKind kind, std::uint8_t oddity,
               std::span<const std::byte> payload) {
    Buffer frame;
    frame.resize(kFrameHeaderBytes);
    frame.append(payload.first(std::min(payload.size(), kFrameBytesMax - kFrameHeaderBytes)));
    FrameHeader header{.kind = kind,
                       .flags = static_cast<std::uint8_t>(oddity & 3),
                       .from = from,
                       .epoch = Epoch{node_->view().epoch.value + ((oddity & 4) != 0 ? 1 : 0)},
                       .sequence = is_control(kind) ? 0 : sequences_[from.value] + 1,
                       .lamport = (oddity & 8) != 0 ? ~std::uint64_t{0} : 1};
    if ((oddity & 16) != 0) {
      header.sequence += oddity >> 5;  // early
    } else if (from != self_ && (oddity & 4) == 0 && !is_control(kind)) {
      ++sequences_[from.value];
    }
    seal_frame(frame, header);
    step(FrameArrived{from, frame.view()}, frame.size());
  }

  void tick() {
    const Nanoseconds step_nanoseconds = Nanoseconds{1} << input_->byte() % 37;
    step(Tick{node_->now() + step_nanoseconds}, 0);
  }

  void want() {
    if (order_) return;  // the computing part has one order at a time
    step(WorkWanted{}, 0);
  }

  void finish(std::uint8_t choice) {
    if (!order_) return;
    WorkOrder order = std::move(*order_);
    order_.reset();
    WorkResult result;
    result.restart(order);
    result.elapsed = Nanoseconds{1} << choice % 30;
    const bool fails = choice % 4 == 3;
    if (fails && order.kind != WorkKind::kRun) result.error = "failed";
    if (order.kind == WorkKind::kOpen) open_with(result);
    if (order.kind == WorkKind::kDescribe) Writer(result.description).put_string("fuzzed");
    if (order.kind == WorkKind::kRun) run(order, fails, result);
    if (order.kind == WorkKind::kSave) result.partitions.push_back(std::move(order.input));
    const bool cell = order.stage.value < stages_.size() &&
                      stages_[order.stage.value].kind == StageKind::kIterate;
    if (cell && order.kind != WorkKind::kSave) take_cell_on(order, choice, result);
    step(WorkFinished{&result}, order.input.size() + result.results.bytes.size());
  }

  void open_with(WorkResult& result) {
    result.stages = stages_;
    for (const StagePlan& plan : stages_) {
      if (plan.kind != StageKind::kIterate) continue;
      Neighbours& neighbours = result.cells.emplace_back().neighbours;
      for (std::uint32_t cell = 0; cell < kCells; ++cell) {
        neighbours.push_back(neighbours_of(cell));
      }
    }
  }

  // Odd choices want totals at even steps; some end it.
  void take_cell_on(const WorkOrder& order, std::uint8_t choice, WorkResult& result) {
    const auto cell = static_cast<std::uint32_t>(order.shards.first.value);
    const auto neighbours = neighbours_of(cell);
    if (order.kind == WorkKind::kStep) {
      REGROUP_CHECK(std::ranges::equal(order.halos, neighbours, {}, &Halo::cell),
                    "a cell goes on without all its halos");
      result.at_end = choice % 8 == 6;
    }
    for (const std::uint32_t other : neighbours) {
      Buffer& bytes = result.halos.emplace_back(Halo{other, {}}).bytes;
      bytes.resize(choice % 5);
    }
    result.wants_totals = choice % 2 == 1 && order.step % 2 == 0;
    if (result.wants_totals) result.partial.resize(choice % 3);
  }

  void run(const WorkOrder& order, bool fails, WorkResult& result) {
    const StagePlan& plan = stages_[order.stage.value];
    REGROUP_CHECK(order.shards.count != 0 && order.shards.end().value <= plan.shards,
                  "an order beyond the stage");
    for (ShardId shard = order.shards.first; shard < order.shards.end(); ++shard.value) {
      if (fails) {
        result.failures.push_back({shard, "failed"});
      } else {
        *result.results.add(shard, 1) = std::byte{7};
      }
    }
    if (fails || plan.kind != StageKind::kMap) return;
    result.partitions.resize(stages_[order.stage.value + 1u].shards);
    for (std::size_t p = 0; p < result.partitions.size(); p += 2) result.partitions[p].resize(3);
  }

  void step(const regroup::Input& input, std::size_t bytes) {
    const std::size_t before = live_bytes;
    peak_bytes = live_bytes;
    const Epoch epoch_before = node_->view().epoch;
    node_->step(input, output_);
    if (node_->view().epoch != epoch_before) {
      REGROUP_CHECK(node_->view().epoch > epoch_before, "an epoch that shrinks");
      REGROUP_CHECK(node_->view().members.contains(self_), "a view that is not this rank's");
      for (std::uint64_t& sequence : sequences_) sequence = 0;
    }
    REGROUP_CHECK(peak_bytes - before <= kStepBytes + kBytesPerByte * bytes,
                  "a step allocated more than its message is worth");
    for (const OutgoingFrame& frame : output_.frames) {
      REGROUP_CHECK(frame.to.value < kRanks && frame.to != self_, "a frame to nobody");
      REGROUP_CHECK(open_frame(frame.bytes.view()).has_value(), "a frame that does not open");
    }
    REGROUP_CHECK(output_.orders.size() <= 1, "more than one order at a time");
    if (!output_.orders.empty()) order_ = std::move(output_.orders.front());
    if (output_.fence) fence_ = std::move(output_.fence);
    output_.clear();
  }

  Input* input_;
  RankId self_;
  std::vector<StagePlan> stages_;
  CheckingSink sink_;
  BufferPool pool_;
  std::unique_ptr<Node> node_;
  Output output_;
  std::optional<WorkOrder> order_;
  std::optional<FenceRequest> fence_;
  std::uint64_t sequences_[kRanks] = {};
  LedgerPosition ledger_ = 0;  // of the latest entry that the others have sent
};

}  // namespace
}  // namespace regroup::fuzzing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace regroup::fuzzing;  // NOLINT
  regroup::fuzzing::Input input({data, size});
  FuzzedRank rank(input);
  for (std::size_t i = 0; i < kActionsMax && !input.empty(); ++i) rank.act();
  return 0;
}
