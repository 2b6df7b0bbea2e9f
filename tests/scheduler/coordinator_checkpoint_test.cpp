// Checkpoints as the coordinator takes them, ends a run on one and goes on from one. The disk is
// the test.
#include <algorithm>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/scheduler/lone_rank.hpp"

namespace regroup {
namespace {

using namespace testing_roles;  // NOLINT: the vocabulary of these tests
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using Stages = std::vector<StagePlan>;

ScheduleOptions options(CheckpointOptions::Every every = CheckpointOptions::Every::kOff) {
  ScheduleOptions options;
  options.coordinator_computes = false;
  options.checkpoints.every = every;
  options.checkpoints.period = 10 * kSecond;
  options.checkpoints.grace = 5 * kSecond;
  return options;
}

// A coordinator whose ranks have opened the job; the test is its disk.
class Kept : public LoneRank {
 public:
  explicit Kept(const ScheduleOptions& options = regroup::options(), std::uint32_t ranks = 2,
                std::uint32_t standbys = 0, const Stages& stages = {bag(10)})
      : LoneRank(0, ranks, options, standbys) {
    have_disk();
    open(stages);
    for (std::uint32_t rank = 1; rank < ranks; ++rank) {
      receive(rank, MessageKind::kReady, ready_message(stages));
    }
    sent();
  }
  void results(std::uint32_t rank, const std::vector<ResultEntry>& entries, std::uint64_t report) {
    receive(rank, MessageKind::kResults, results_message(0, kMillisecond, entries, 0, report));
  }
  // What it asks of its disk, which is to be one request of this kind.
  DiskRequest asks(DiskTask task) {
    auto requests = disk();
    EXPECT_EQ(requests.size(), 1u);
    if (requests.size() != 1) return {};
    EXPECT_EQ(requests[0].task, task);
    return std::move(requests[0]);
  }
  // Through all steps but the last one; returns what was written.
  DiskRequest write(std::uint64_t number) {
    asks(DiskTask::kNumber);
    answer_disk({.task = DiskTask::kNumber, .checkpoint = CheckpointNumber{number}});
    DiskRequest written = asks(DiskTask::kWritePart);
    EXPECT_EQ(written.checkpoint.value, number);
    answer_disk({.task = DiskTask::kWritePart, .checkpoint = written.checkpoint, .part = "part 0"});
    return written;
  }
  void seal(std::uint64_t number) {
    const DiskRequest sealing = asks(DiskTask::kSeal);
    EXPECT_THAT(sealing.parts, ElementsAre("part 0"));
    answer_disk({.task = DiskTask::kSeal, .checkpoint = CheckpointNumber{number}, .bytes = 9});
  }
};

TEST(Checkpoint, IsNumberedWrittenAndSealedWhenItIsDue) {
  Kept run(options(CheckpointOptions::Every::kPeriod));
  run.tick_after(9 * kSecond);
  EXPECT_THAT(run.disk(), IsEmpty());
  run.tick_after(2 * kSecond);
  const DiskRequest written = run.write(4);
  EXPECT_EQ(written.epoch, Epoch{1});
  ASSERT_EQ(written.pieces.size(), 2u);
  EXPECT_EQ(written.pieces[0].dataset, "coordinator/state");
  EXPECT_EQ(written.pieces[1].dataset, "job/description");
  run.seal(4);
  EXPECT_EQ(run.progress().checkpoints.newest, 4u);
  EXPECT_EQ(run.progress().checkpoints.sealed, 1u);
  run.tick_after(kSecond);
  EXPECT_THAT(run.disk(), IsEmpty());
}

// Three ranks, of which two compute, in a map stage.
class KeptMap : public Kept {
 public:
  KeptMap() : Kept(only_others(), 3, 0, {map_stage(9), reduce_stage(6)}) {
    wish(Wish::kCheckpoint, "");
    asks(DiskTask::kNumber);
    answer_disk({.task = DiskTask::kNumber, .checkpoint = CheckpointNumber{4}});
  }
  static ScheduleOptions only_others() {
    ScheduleOptions options = regroup::options();
    options.coordinator_computes = false;
    return options;
  }
  void part_of(std::uint32_t rank, std::string_view error, std::uint64_t number = 4) {
    Buffer payload;
    Writer writer(payload);
    writer.put(number);
    writer.put_string(error);
    writer.put_string(rank == 1 ? "part 1" : "part 2");
    receive(rank, MessageKind::kSnapshotTaken, payload);
  }
  void own_part() {
    asks(DiskTask::kWritePart);
    answer_disk(
        {.task = DiskTask::kWritePart, .checkpoint = CheckpointNumber{4}, .part = "part 0"});
  }
};

TEST(Checkpoint, AsksEachOwnerForItsPartitions) {
  KeptMap run;
  std::vector<std::uint32_t> partitions;
  for (const auto& message : run.messages()) {
    if (message.kind != MessageKind::kSnapshot) continue;
    Reader reader(message.payload.view());
    EXPECT_EQ(reader.get<std::uint64_t>(), 4u);
    EXPECT_EQ(reader.get<std::uint16_t>(), 0u);
    for (auto left = reader.get<std::uint32_t>(); left-- > 0;) {
      partitions.push_back(reader.get<std::uint32_t>());
    }
    EXPECT_TRUE(reader.complete());
  }
  std::ranges::sort(partitions);
  EXPECT_THAT(partitions, ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST(Checkpoint, IsSealedWhenEveryPartIsDurable) {
  KeptMap run;
  run.part_of(2, "", 3);
  run.part_of(2, "");
  run.own_part();
  EXPECT_THAT(run.disk(), IsEmpty()) << "rank 1 has not written its own";
  run.part_of(1, "");
  EXPECT_THAT(run.asks(DiskTask::kSeal).parts, ElementsAre("part 2", "part 0", "part 1"));
  EXPECT_EQ(run.refused(), 0u);
}

TEST(Checkpoint, FailsWithAnyPart) {
  KeptMap run;
  run.part_of(1, "the disk is full");
  EXPECT_EQ(run.progress().checkpoints.error, "the disk is full");
}

TEST(Checkpoint, CountsOnlyWhenAMajorityKnows) {
  Kept run(options(), 4, 2);
  run.wish(Wish::kCheckpoint, "");
  run.write(1);
  run.seal(1);
  EXPECT_EQ(run.progress().checkpoints.sealed, 0u);
  LedgerPosition position = 0;
  for (const auto& message : run.messages()) {
    if (message.kind != MessageKind::kLedger) continue;
    Reader reader(message.payload.view());
    position = get_entry(reader)->position;
  }
  ASSERT_NE(position, 0u);
  run.receive(1, MessageKind::kLedgerHeld, ledger_held_message(position));
  run.tick_after(kMillisecond);
  EXPECT_EQ(run.progress().checkpoints.sealed, 1u);
}

TEST(Checkpoint, ThatFailsIsToldAndTheRunGoesOn) {
  Kept run;
  run.wish(Wish::kCheckpoint, "");
  run.asks(DiskTask::kNumber);
  run.answer_disk({.task = DiskTask::kNumber, .error = "no such directory"});
  EXPECT_EQ(run.progress().checkpoints.error, "no such directory");
  EXPECT_EQ(run.progress().checkpoints.failed, 1u);
  EXPECT_FALSE(run.exit_status());
}

TEST(Checkpoint, TheNextNumberIsGreaterThanThatOfTheNewest) {
  Kept run;
  run.wish(Wish::kCheckpoint, "");
  EXPECT_EQ(run.asks(DiskTask::kNumber).checkpoint, CheckpointNumber{0});
  run.answer_disk({.task = DiskTask::kNumber, .checkpoint = CheckpointNumber{3}});
  run.asks(DiskTask::kWritePart);
  run.answer_disk({.task = DiskTask::kWritePart, .checkpoint = CheckpointNumber{3}});
  run.asks(DiskTask::kSeal);
  run.answer_disk({.task = DiskTask::kSeal, .checkpoint = CheckpointNumber{3}});
  run.wish(Wish::kCheckpoint, "");
  EXPECT_EQ(run.asks(DiskTask::kNumber).checkpoint, CheckpointNumber{3});
}

TEST(Checkpoint, AnswersToAnotherOneAreOfThePast) {
  Kept run;
  run.wish(Wish::kCheckpoint, "");
  run.asks(DiskTask::kNumber);
  run.answer_disk({.task = DiskTask::kSeal, .checkpoint = CheckpointNumber{1}});
  run.answer_disk({.task = DiskTask::kWritePart, .checkpoint = CheckpointNumber{1}});
  EXPECT_THAT(run.disk(), IsEmpty());
  run.answer_disk({.task = DiskTask::kNumber, .checkpoint = CheckpointNumber{3}});
  run.asks(DiskTask::kWritePart);
  run.answer_disk({.task = DiskTask::kWritePart, .checkpoint = CheckpointNumber{2}});
  EXPECT_THAT(run.disk(), IsEmpty());
}

TEST(Checkpoint, IsBegunAnewInANewView) {
  Kept run(options(), 3);
  run.wish(Wish::kCheckpoint, "");
  run.asks(DiskTask::kNumber);
  run.answer_disk({.task = DiskTask::kNumber, .checkpoint = CheckpointNumber{1}});
  run.asks(DiskTask::kWritePart);
  run.enter_view({RankId{0}, RankId{1}});
  run.answer_disk(
      {.task = DiskTask::kWritePart, .checkpoint = CheckpointNumber{1}, .part = "part 0"});
  EXPECT_THAT(run.disk(), IsEmpty());
  run.tick_after(kMillisecond);
  const DiskRequest again = run.asks(DiskTask::kNumber);
  EXPECT_EQ(again.epoch, Epoch{2});
}

TEST(Checkpoint, AStopEndsTheRunOnIt) {
  Kept run;
  run.wish(Wish::kCheckpointAndStop, "stopped by signal 10");
  run.write(1);
  EXPECT_THAT(run.sent(), IsEmpty());
  run.seal(1);
  EXPECT_THAT(run.sent(), ElementsAre("1 finish 75: stopped by signal 10; checkpoint 1 is sealed"));
}

TEST(Checkpoint, AStopWithoutOneSaysWhy) {
  Kept failing;
  failing.wish(Wish::kCheckpointAndStop, "stopped by signal 10");
  failing.asks(DiskTask::kNumber);
  failing.answer_disk({.task = DiskTask::kNumber, .error = "disk full"});
  EXPECT_THAT(failing.sent(), ElementsAre("1 finish 3: stopped by signal 10; no checkpoint was "
                                          "taken: disk full"));

  Kept slow;
  slow.wish(Wish::kCheckpointAndStop, "stopped by signal 10");
  slow.tick_after(5 * kSecond + 1);
  EXPECT_THAT(slow.sent(), ElementsAre(HasSubstr("finish 3: stopped by signal 10; no checkpoint "
                                                 "was taken: there was not enough time")));
}

TEST(Checkpoint, AStopAtOnceEndsOnAnOlderOne) {
  Kept run;
  run.wish(Wish::kCheckpoint, "");
  run.write(6);
  run.seal(6);
  run.wish(Wish::kStop, "stopped by signal 2");
  EXPECT_THAT(run.sent(), ElementsAre("1 finish 75: stopped by signal 2; checkpoint 6 is sealed"));
}

TEST(Checkpoint, AWishOfAnotherRankCounts) {
  Kept run;
  Buffer payload;
  Writer writer(payload);
  writer.put(Wish::kCheckpointAndStop);
  writer.put_string("stopped by signal 15");
  run.receive(1, MessageKind::kWish, payload);
  run.asks(DiskTask::kNumber);

  Buffer bad;
  Writer(bad).put(std::uint8_t{9});
  run.receive(1, MessageKind::kWish, bad);
  EXPECT_EQ(run.refused(), 1u);
}

TEST(Checkpoint, OtherRanksPassWishesOn) {
  LoneRank worker(1, 3);
  worker.wish(Wish::kCheckpoint, "");
  worker.wish(Wish::kCheckpointAndStop, "stopped by signal 15");
  EXPECT_EQ(worker.messages().size(), 2u);
  worker.enter_view({RankId{1}, RankId{2}}, {}, RankId{2});
  const auto again = worker.messages();
  ASSERT_EQ(again.size(), 1u) << "that the run is to end is said to each coordinator";
  EXPECT_EQ(again[0].to, 2u);
  EXPECT_EQ(again[0].kind, MessageKind::kWish);
}

// What is kept from then on was saved before, and would not know of it.
TEST(Checkpoint, IsGivenUpWhenTheResultIsWritten) {
  Kept run;
  run.wish(Wish::kCheckpoint, "");
  run.asks(DiskTask::kNumber);
  run.answer_disk({.task = DiskTask::kNumber, .checkpoint = CheckpointNumber{1}});
  run.asks(DiskTask::kWritePart);
  run.results(1, {{{0, 10}}}, 1);
  ASSERT_EQ(run.progress().phase, RunPhase::kFinalizing);
  run.answer_disk(
      {.task = DiskTask::kWritePart, .checkpoint = CheckpointNumber{1}, .part = "part 0"});
  EXPECT_THAT(run.disk(), IsEmpty());
  EXPECT_EQ(run.progress().checkpoints.newest, 0u);
}

// ---- going on ----

class Resumed : public LoneRank {
 public:
  explicit Resumed(std::uint32_t ranks = 2) : LoneRank(0, ranks, resuming()) { have_disk(); }
  static ScheduleOptions resuming() {
    ScheduleOptions resuming = options();
    resuming.checkpoints.resume = true;
    return resuming;
  }
  void load(DiskRequest& saved, std::uint64_t number) {
    DiskAnswer answer{.task = DiskTask::kLoad, .checkpoint = CheckpointNumber{number}};
    for (StatePiece& piece : saved.pieces) {
      answer.pieces.push_back({piece.dataset, 0, Buffer(piece.bytes.view())});
    }
    answer_disk(std::move(answer));
  }
};

TEST(Resume, GoesOnWithWhatWasDoneAndLeasesTheRest) {
  Kept before;
  before.results(1, {{{2, 5}}}, 1);
  before.wish(Wish::kCheckpoint, "");
  DiskRequest saved = before.write(3);

  Resumed run;
  EXPECT_THAT(run.sent(), IsEmpty()) << "nobody opens the job before it is known what it is";
  auto requests = run.disk();
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(requests[0].task, DiskTask::kLoad);
  run.load(saved, 3);
  run.open({bag(10)});
  for (std::uint64_t shard = 0; shard < 10; ++shard) {
    EXPECT_EQ(run.sink.has(shard), shard >= 2 && shard < 7) << shard;
  }
  EXPECT_EQ(run.progress().done, 5u);
  EXPECT_EQ(run.progress().checkpoints.newest, 3u);
  run.sent();
  run.receive(1, MessageKind::kReady, ready_message({bag(10)}));
  const auto lines = run.sent();
  ASSERT_FALSE(lines.empty());
  EXPECT_THAT(lines.front(), HasSubstr("1 lease 0: 0+"));
}

std::vector<std::byte> states(std::initializer_list<std::pair<ShardState, std::uint64_t>> runs) {
  Buffer bytes;
  Writer writer(bytes);
  for (const auto& [state, count] : runs) {
    writer.put_varint(count << 3 | static_cast<std::uint64_t>(state));
  }
  return std::vector(bytes.view().begin(), bytes.view().end());
}

// In a state that was saved when none was done, and some had been leased.
void pretend_done(Buffer& saved, std::uint64_t shards, std::uint64_t done) {
  std::vector<std::byte> bytes(saved.view().begin(), saved.view().end());
  const auto mixed = states({{ShardState::kDone, done}, {ShardState::kPending, shards - done}});
  for (std::uint64_t leased = 1; leased < 100; ++leased) {
    const auto fresh =
        states({{ShardState::kLeased, leased}, {ShardState::kPending, shards - leased}});
    const auto found = std::ranges::search(bytes, fresh);
    if (found.empty()) continue;
    const auto gap = bytes.erase(found.begin(), found.end());
    bytes.insert(gap, mixed.begin(), mixed.end());
    saved = Buffer(bytes);
    return;
  }
  FAIL() << "no state of a stage that has begun";
}

// So many that whoever looked at each of them would not come to an end.
TEST(Resume, PassesOverWhatIsDoneInFewSteps) {
  constexpr std::uint64_t kShards = 10'000'000'000'000;
  constexpr std::uint64_t kDone = kShards / 3;
  Kept before(options(), 2, 0, {bag(kShards)});
  before.wish(Wish::kCheckpoint, "");
  DiskRequest saved = before.write(3);
  pretend_done(saved.pieces[0].bytes, kShards, kDone);

  Resumed run;
  run.disk();
  run.load(saved, 3);
  run.open({bag(kShards)});
  run.sent();
  run.receive(1, MessageKind::kReady, ready_message({bag(kShards)}));
  EXPECT_EQ(run.progress().done, kDone);
  const auto lines = run.sent();
  ASSERT_FALSE(lines.empty());
  EXPECT_THAT(lines.front(), HasSubstr("1 lease 0: " + std::to_string(kDone) + "+"));
}

TEST(Resume, ReadsAgainAndThenGivesUp) {
  Resumed run;
  for (std::uint32_t i = 0; i < Coordinator::kLoadsMax; ++i) {
    ASSERT_EQ(run.disk().size(), 1u) << i;
    run.answer_disk({.task = DiskTask::kLoad, .error = "damaged"});
  }
  EXPECT_THAT(run.disk(), IsEmpty());
  EXPECT_THAT(run.sent(), ElementsAre("1 finish 3: damaged"));
}

TEST(Resume, WithoutACheckpointThereIsNothingToGoOnWith) {
  Resumed run;
  run.disk();
  run.answer_disk({.task = DiskTask::kLoad});
  EXPECT_THAT(run.sent(), ElementsAre("1 finish 3: there is no checkpoint to go on from"));
}

TEST(Resume, AStateOfAnotherJobIsRefused) {
  Kept before;
  before.wish(Wish::kCheckpoint, "");
  DiskRequest saved = before.write(3);
  Resumed run;
  run.disk();
  run.load(saved, 3);
  run.sent();
  run.open({bag(11)});
  EXPECT_THAT(run.sent(), ElementsAre(HasSubstr("1 finish 3: the checkpoint cannot be used: ")));
}

}  // namespace
}  // namespace regroup
