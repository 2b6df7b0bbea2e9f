// One rank of a run, real from frame to scheduler, whose peers are the test: it says what they
// send, and reads what the rank answers, as text. Time moves only when the test says so.
#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "scheduler/scheduler.hpp"
#include "tests/protocol/membership_net.hpp"
#include "tests/scheduler/transcript.hpp"

namespace regroup::testing_roles {

// Work on a shard whose report a worker keeps until it is safe, a value of 8 bytes with a head
// of 20.
inline constexpr Nanoseconds kWorthKeeping = 28 * Worker::kWorkPerByteKept;

// Notes what is committed, and holds I7: each shard is handed over exactly once.
class RecordingSink : public ResultSink {
 public:
  std::map<std::pair<std::uint16_t, std::uint64_t>, std::vector<std::byte>> values;
  std::map<std::pair<std::uint16_t, std::uint64_t>, std::string> skipped;

  void commit(StageId stage, ShardRange shards, std::uint32_t value_bytes,
              std::span<const std::byte> bytes) override {
    ASSERT_EQ(bytes.size(), shards.count * value_bytes);
    for (std::uint64_t i = 0; i < shards.count; ++i) {
      const std::pair key{stage.value, shards.first.value + i};
      const auto value = bytes.subspan(i * value_bytes, value_bytes);
      const bool fresh = values.emplace(key, std::vector(value.begin(), value.end())).second;
      EXPECT_TRUE(fresh && !skipped.contains(key)) << "shard " << key.second << " again";  // I7
    }
  }
  void skip(StageId stage, ShardId shard, Attempt attempts, RankId rank,
            const std::string& what) override {
    const std::pair key{stage.value, shard.value};
    const std::string note =
        what + " on " + std::to_string(rank.value) + " at " + std::to_string(attempts.value);
    const bool fresh = skipped.emplace(key, note).second;
    EXPECT_TRUE(fresh && !values.contains(key)) << "shard " << key.second << " again";  // I7
  }

  void save_state(Writer& writer) const override {
    writer.put(static_cast<std::uint32_t>(values.size()));
    for (const auto& [key, value] : values) {
      writer.put(key.first);
      writer.put(key.second);
      writer.put_bytes(value);
    }
    writer.put(static_cast<std::uint32_t>(skipped.size()));
    for (const auto& [key, note] : skipped) {
      writer.put(key.first);
      writer.put(key.second);
      writer.put_string(note);
    }
  }
  std::expected<void, std::string> load_state(Reader& reader) override {
    const auto get_key = [&] {
      const auto stage = reader.get<std::uint16_t>();
      return std::pair(stage, reader.get<std::uint64_t>());
    };
    values.clear();
    skipped.clear();
    for (std::size_t left = reader.get_count(kSavedBytesMin); left != 0; --left) {
      const auto key = get_key();
      const auto value = reader.get_bytes();
      values[key].assign(value.begin(), value.end());
    }
    for (std::size_t left = reader.get_count(kSavedBytesMin); left != 0; --left) {
      const auto key = get_key();
      skipped[key] = reader.get_string();
    }
    if (reader.failed()) return std::unexpected("the saved values are cut short");
    return {};
  }
  // Small in every test, so simply counted; what a test adds, it only claims to have.
  std::size_t claimed_bytes = 0;
  std::size_t state_bytes() const override {
    std::size_t bytes = claimed_bytes + 2 * sizeof(std::uint32_t);
    for (const auto& one : values) bytes += kSavedBytesMin + one.second.size();
    for (const auto& one : skipped) bytes += kSavedBytesMin + one.second.size();
    return bytes;
  }

  bool has(std::uint64_t shard, std::uint16_t stage = 0) const {
    return values.contains({stage, shard});
  }
  // Whether these shards of the stage, and no others, are there with the value each must have.
  bool holds_exactly(Shards shards, std::uint16_t stage = 0) const {
    std::uint64_t found = 0;
    for (const auto& [key, bytes] : values) {
      if (key.first != stage) continue;
      const std::uint64_t expected = value_of(key.second);
      if (bytes.size() != 8 || std::memcmp(bytes.data(), &expected, 8) != 0) return false;
      if (key.second < shards.first || key.second - shards.first >= shards.second) return false;
      ++found;
    }
    return found == shards.second;
  }

 private:
  static constexpr std::size_t kSavedBytesMin = 14;  // stage, shard, length
};

class LoneRank {
 public:
  RecordingSink sink;
  Output output;

  // Without standbys, unless the test is about them: what it sends is about the job alone then.
  LoneRank(std::uint32_t self, std::uint32_t ranks, ScheduleOptions options = {},
           std::uint32_t standbys = 0)
      : self_(self), ranks_(ranks), sequences_(ranks, 0) {
    options.standbys = standbys;
    auto scheduler =
        std::make_unique<Scheduler>(options, sink, self == 0 ? Buffer(text("job")) : Buffer());
    scheduler_ = scheduler.get();
    node_ = std::make_unique<Node>(
        NodeOptions{.self = RankId{self}, .ranks = ranks, .vector_clocks = false},
        std::move(scheduler), pool_);
    node_->start(0, output);
  }

  // ---- what happens to it ----

  // A message with this payload, in well-formed frames, the next ones on its link. A control
  // message is one frame outside the links.
  // Who is asked what its partitions hold says that there is nothing, until have_holdings().
  void receive(std::uint32_t from, MessageKind kind, const Buffer& payload) {
    deliver(from, kind, payload);
    answer_owners();
  }
  void deliver(std::uint32_t from, MessageKind kind, const Buffer& payload) {
    constexpr std::size_t kPartMax = kFrameBytesMax - kFrameHeaderBytes;
    auto left = payload.view();
    do {
      const auto part = left.first(std::min(left.size(), kPartMax));
      left = left.subspan(part.size());
      Buffer frame;
      frame.resize(kFrameHeaderBytes);
      frame.append(part);
      seal_frame(frame, {.kind = kind,
                         .flags = static_cast<std::uint8_t>(left.empty() ? 0 : kFlagMoreFollows),
                         .from = RankId{from},
                         .epoch = epoch_,
                         .sequence = is_control(kind) ? 0 : ++sequences_[from],
                         .lamport = ++lamport_});
      node_->step(FrameArrived{RankId{from}, frame.view()}, output);
    } while (!left.empty());
    if (!disk_answers_itself_) return;
    for (DiskRequest& request : disk()) answer_disk({.task = request.task});
  }
  // The others have agreed on the next view, and it is told. `joined` are members as well.
  // `ledger` is the longest among them, and `holder` has it: the coordinator unless named.
  void enter_view(RankSet members, const RankSet& joined = {}, RankId coordinator = RankId{0},
                  LedgerPosition ledger = 0, std::optional<RankId> holder = {}) {
    members.insert_all(joined);
    ++epoch_.value;
    const View view{.epoch = epoch_,
                    .members = members,
                    .coordinator = coordinator,
                    .joined = joined,
                    .ledger_holder = holder.value_or(coordinator),
                    .ledger = ledger};
    Buffer payload;
    Writer writer(payload);
    put_view(writer, view);
    std::ranges::fill(sequences_, 0);
    parts_.clear();
    receive(self_ == 0 ? 1 : 0, MessageKind::kDecide, payload);
    EXPECT_EQ(node_->view(), view);
  }
  // Another rank says that this view is over.
  void revoke() {
    Buffer payload;
    Writer writer(payload);
    writer.put(epoch_);
    testing_membership::put_no_knowledge(writer);
    receive(self_ == 0 ? 1 : 0, MessageKind::kRevoke, payload);
  }
  void tick_at(Nanoseconds now) { node_->step(Tick{now}, output); }
  void tick_after(Nanoseconds time) { tick_at(node_->now() + time); }
  void stop(std::string reason) { wish(Wish::kStop, std::move(reason)); }
  void wish(Wish wish, std::string reason) {
    node_->step(WishArrived{wish, std::move(reason)}, output);
  }

  // What it has asked of its disk since the last call. Until have_disk() it finds nothing there.
  std::vector<DiskRequest> disk() { return std::exchange(output.disk, {}); }
  void have_disk() { disk_answers_itself_ = false; }
  void have_holdings() { holds_nothing_ = false; }
  void answer_disk(DiskAnswer answer) { node_->step(DiskAnswered{&answer}, output); }

  // The order it gives its computing part now, if any.
  std::optional<WorkOrder> want() {
    node_->step(WorkWanted{}, output);
    if (output.orders.empty()) return std::nullopt;
    EXPECT_EQ(output.orders.size(), 1u) << "one order at a time";
    WorkOrder order = std::move(output.orders.front());
    output.orders.clear();
    return order;
  }
  void finish(WorkResult& result) { node_->step(WorkFinished{&result}, output); }
  // Every shard of the order gave its value, after `each` of computing a shard.
  void finish_run(const WorkOrder& order, Nanoseconds each = kWorthKeeping,
                  std::uint32_t value_bytes = 8) {
    WorkResult result;
    result.restart(order);
    for (std::uint64_t i = 0; i < order.shards.count; ++i) {
      const std::uint64_t shard = order.shards.first.value + i;
      const std::uint64_t value = value_of(shard);
      std::byte* out = result.results.add(ShardId{shard}, value_bytes);
      std::memset(out, 0, value_bytes);
      std::memcpy(out, &value, std::min<std::size_t>(value_bytes, 8));
    }
    result.elapsed = each * static_cast<Nanoseconds>(order.shards.count);
    finish(result);
  }
  void finish_failed(const WorkOrder& order, std::string what) {
    WorkResult result;
    result.restart(order);
    result.failures.push_back({order.shards.first, std::move(what)});
    finish(result);
  }
  // Takes the order to open the job and answers it.
  void open(const std::vector<StagePlan>& stages, std::string error = "") {
    stages_ = stages;
    if (self_ != 0) receive(0, MessageKind::kOpen, open_message("job"));
    const auto order = want();
    ASSERT_TRUE(order && order->kind == WorkKind::kOpen);
    WorkResult result;
    result.restart(*order);
    result.stages = stages;
    result.error = std::move(error);
    finish(result);
    answer_owners();
  }
  // The coordinator's order to write the result, answered.
  void finalize(std::string error = "") {
    const auto order = want();
    ASSERT_TRUE(order && order->kind == WorkKind::kFinalize);
    WorkResult result;
    result.restart(*order);
    result.error = std::move(error);
    finish(result);
  }

  // ---- what it did ----

  // "1 lease 0: 0+4" for each message since the last call: to whom, and what.
  std::vector<std::string> sent() {
    std::vector<std::string> lines;
    for (const auto& [to, kind, payload] : messages()) {
      lines.push_back(std::to_string(to) + ' ' + show(kind, payload.view()));
    }
    return lines;
  }
  struct Message {
    std::uint32_t to;
    MessageKind kind;
    Buffer payload;
  };
  // The job's; what the rank says of views and links since then, see controls().
  std::vector<Message> messages() {
    std::vector<Message> whole;
    for (const OutgoingFrame& sent : std::exchange(output.frames, {})) {
      const auto frame = open_frame(sent.bytes.view());
      EXPECT_TRUE(frame.has_value());
      if (is_control(frame->header.kind)) {
        controls_.push_back({sent.to.value, frame->header.kind, Buffer(frame->body)});
        continue;
      }
      Buffer& part = parts_[sent.to.value];
      part.append(frame->body);
      if (frame->header.flags & kFlagMoreFollows) continue;
      whole.push_back({sent.to.value, frame->header.kind, std::move(part)});
    }
    return whole;
  }
  // Where it said that partitions are since the last call; messages() and sent() do not have it.
  std::vector<Message> owners() { return std::exchange(owners_, {}); }
  // The control messages that messages() and sent() have passed over since the last call.
  std::vector<Message> controls() {
    EXPECT_TRUE(output.frames.empty()) << "read the job's messages first";
    return std::exchange(controls_, {});
  }
  std::optional<int> exit_status() const {
    if (!output.outcome) return std::nullopt;
    return output.outcome->exit_status;
  }
  std::uint64_t refused() const { return node_->drops().payloads; }
  RunProgress progress() const { return *scheduler_->progress(); }
  bool coordinates() const { return scheduler_->progress().has_value(); }
  const Worker& worker() const { return scheduler_->worker(); }
  Node& node() { return *node_; }
  std::uint32_t ranks() const { return ranks_; }

  static std::span<const std::byte> text(std::string_view text) {
    return std::as_bytes(std::span(text));
  }

 private:
  void answer_owners() {
    const auto says_owners = [](const OutgoingFrame& sent) {
      const auto frame = open_frame(sent.bytes.view());
      return frame && frame->header.kind == MessageKind::kOwners;
    };
    for (auto at = std::ranges::find_if(output.frames, says_owners); at != output.frames.end();
         at = std::ranges::find_if(output.frames, says_owners)) {
      const Buffer bytes = std::move(at->bytes);
      const Buffer payload(open_frame(bytes.view())->body);
      const std::uint32_t to = at->to.value;
      output.frames.erase(at);
      Reader reader(payload.view());
      const auto stage = reader.get<std::uint16_t>();
      const auto round = reader.get<std::uint32_t>();
      const bool asks = reader.get<std::uint8_t>() != 0;
      owners_.push_back({to, MessageKind::kOwners, Buffer(payload.view())});
      if (!asks || !holds_nothing_) continue;
      deliver(to, MessageKind::kHoldings, holdings_message(stage, round, {stages_[stage].shards}));
    }
  }

  std::uint32_t self_;
  std::uint32_t ranks_;
  BufferPool pool_;
  std::unique_ptr<Node> node_;
  Scheduler* scheduler_ = nullptr;
  Epoch epoch_{1};
  std::vector<std::uint64_t> sequences_;
  std::uint64_t lamport_ = 0;
  std::map<std::uint32_t, Buffer> parts_;
  std::vector<Message> controls_;
  std::vector<Message> owners_;
  std::vector<StagePlan> stages_;
  bool disk_answers_itself_ = true;
  bool holds_nothing_ = true;
};

inline StagePlan bag(std::uint64_t shards) {
  return {StageKind::kBag, shards};
}
inline StagePlan map_stage(std::uint64_t shards) {
  return {StageKind::kMap, shards};
}
inline StagePlan reduce_stage(std::uint64_t partitions) {
  return {StageKind::kReduce, partitions};
}

}  // namespace regroup::testing_roles
