// The worker's transcripts: a real worker from frame to order, and a coordinator and peers that are
// the test. One case a rule: what is computed next, when results go out, what is given away, who
// takes parts.
#include "scheduler/worker.hpp"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scheduler/shard_source.hpp"
#include "tests/scheduler/lone_rank.hpp"

namespace regroup {
namespace {

using namespace testing_roles;  // NOLINT: the vocabulary of these tests
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

using Lines = std::vector<std::string>;

constexpr std::uint32_t kSelf = 1;

// Rank 1 of a run, with the job open; the transcript begins after that.
class Opened : public LoneRank {
 public:
  explicit Opened(const std::vector<StagePlan>& stages, const ScheduleOptions& options = {},
                  std::uint32_t ranks = 3)
      : LoneRank(kSelf, ranks, options) {
    open(stages);
    sent();
  }
  void lease(const std::vector<LeaseEntry>& leases, std::uint16_t stage = 0, bool steal = false) {
    receive(0, MessageKind::kLease, lease_message(stage, leases, steal));
  }
  // Computes the next order; the shards it was for.
  Shards run_next(Nanoseconds each = kWorthKeeping, std::uint32_t value_bytes = 8) {
    const auto order = want();
    EXPECT_TRUE(order && order->kind == WorkKind::kRun);
    if (!order) return {};
    finish_run(*order, each, value_bytes);
    return {order->shards.first.value, order->shards.count};
  }
};

ScheduleOptions fixed_batch(std::uint32_t batch) {
  ScheduleOptions options;
  options.batch = batch;
  return options;
}

// ---- opening ----

TEST(Worker, OpensTheJobAndReportsItsStages) {
  LoneRank worker(kSelf, 2);
  EXPECT_FALSE(worker.want());
  worker.receive(0, MessageKind::kOpen, open_message("wordcount a.txt"));
  const auto order = worker.want();
  ASSERT_TRUE(order && order->kind == WorkKind::kOpen);
  EXPECT_EQ(order->input.size(), std::string("wordcount a.txt").size());
  WorkResult result;
  result.restart(*order);
  result.stages = {map_stage(7), reduce_stage(3)};
  worker.finish(result);
  EXPECT_THAT(worker.sent(), ElementsAre("0 ready kind1*7 kind2*3"));
}

// After a change of view the coordinator asks those whom it has not heard: one job, opened once.
TEST(Worker, AskedToOpenAgainItAnswersWithoutOpeningTwice) {
  LoneRank worker(kSelf, 2);
  worker.receive(0, MessageKind::kOpen, open_message("job"));
  worker.receive(0, MessageKind::kOpen, open_message("job"));
  const auto order = worker.want();
  ASSERT_TRUE(order && order->kind == WorkKind::kOpen);
  EXPECT_FALSE(worker.want()) << "one order is enough";
  worker.receive(0, MessageKind::kOpen, open_message("job"));
  EXPECT_THAT(worker.sent(), testing::Each("0 announce")) << "it does not know yet";
  WorkResult result;
  result.restart(*order);
  result.stages = {bag(3)};
  worker.finish(result);
  EXPECT_THAT(worker.sent(), ElementsAre("0 ready kind0*3"));

  worker.receive(0, MessageKind::kOpen, open_message("another job"));

  EXPECT_THAT(worker.sent(), ElementsAre("0 ready kind0*3", "0 announce"))
      << "of the job that is open";
  EXPECT_FALSE(worker.want());
  EXPECT_EQ(worker.refused(), 0u);
}

TEST(Worker, ReportsThatItCannotOpenTheJob) {
  LoneRank worker(kSelf, 2);
  worker.open({bag(3)}, "no such file");
  EXPECT_THAT(worker.sent(), ElementsAre("0 ready error: no such file"));
}

TEST(Worker, StagesThatAreNoJobAreAnError) {
  const auto answer_to = [](const std::vector<StagePlan>& stages) {
    LoneRank worker(kSelf, 2);
    worker.open(stages);
    return worker.sent();
  };
  EXPECT_THAT(answer_to({}), ElementsAre(HasSubstr("error: the job has no stages")));
  EXPECT_THAT(answer_to({map_stage(3)}), ElementsAre(HasSubstr("no reduce stage after it")));
  EXPECT_THAT(answer_to({map_stage(3), bag(3)}),
              ElementsAre(HasSubstr("no reduce stage after it")));
  EXPECT_THAT(answer_to(std::vector(65'536, bag(0))), ElementsAre(HasSubstr("more than 65535")));
}

// ---- leases and orders ----

TEST(Worker, ComputesWhatIsLeasedInOrder) {
  Opened worker({bag(100)});
  worker.lease({{{10, 1}}, {{20, 1}, 3}});
  EXPECT_EQ(worker.worker().shards_queued(), 2u);
  const auto first = worker.want();
  const auto second = worker.want();
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->shards, (ShardRange{ShardId{10}, 1}));
  EXPECT_EQ(first->attempt, Attempt{1});
  EXPECT_EQ(second->shards, (ShardRange{ShardId{20}, 1}));
  EXPECT_EQ(second->attempt, Attempt{3});
  EXPECT_FALSE(worker.want());
}

TEST(Worker, OrdersGrowToTheirTimeAndNoFurther) {
  Opened worker({bag(1'000'000)});
  worker.lease({{{0, 100'000}}});
  EXPECT_EQ(worker.run_next(kMicrosecond).second, 1u) << "the cost of a shard is not known";
  EXPECT_EQ(worker.run_next(kMicrosecond).second,
            static_cast<std::uint64_t>(Worker::kOrderTime / kMicrosecond));
  for (int i = 0; i < 50; ++i) worker.run_next(0);
  EXPECT_EQ(worker.run_next(0).second, Worker::kOrderShardsMax);
  for (int i = 0; i < 50; ++i) worker.run_next(kSecond);
  EXPECT_EQ(worker.run_next(kSecond).second, 1u) << "and shrink again";
}

// ---- results ----

TEST(Worker, ASlowShardIsNotHeldUpForCompany) {
  Opened worker({bag(100)});
  worker.lease({{{0, 5}}});
  worker.tick_after(kSecond);
  worker.run_next(kSecond);
  EXPECT_THAT(worker.sent(), ElementsAre("0 results 0: 0+1"));
}

TEST(Worker, ResultsWaitForCompanyButNotLong) {
  Opened worker({bag(100)});
  worker.lease({{{0, 90}}});
  worker.tick_at(kSecond);
  worker.run_next(100 * kMicrosecond);  // goes out: the last message was long ago
  worker.sent();
  worker.run_next(100 * kMicrosecond);
  worker.tick_after(Worker::kResultDelayMax - 1);
  EXPECT_THAT(worker.sent(), IsEmpty());
  worker.tick_after(1);
  EXPECT_THAT(worker.sent(), ElementsAre("0 results 0: 1+2"));
}

TEST(Worker, ResultsGoOutWhenTheQueueRunsLow) {
  Opened worker({bag(100)});
  worker.lease({{{0, 3}}});
  worker.run_next(kMillisecond);
  worker.run_next(kMillisecond);
  EXPECT_THAT(worker.sent(), IsEmpty());
  worker.run_next(kMillisecond);
  EXPECT_THAT(worker.sent(), ElementsAre("0 results 0: 0+3"));
}

TEST(Worker, AMessageOfResultsIsFullAtItsBound) {
  for (const std::uint32_t value_bytes : {8u, 24u, 100u, 1000u, 3563u}) {
    Opened worker({bag(100'000)});
    worker.lease({{{0, 3000}}, {{5000, 3000}}});
    std::uint64_t messages = 0;
    while (worker.worker().shards_queued() != 0) worker.run_next(kMicrosecond, value_bytes);
    for (const auto& message : worker.messages()) {
      ASSERT_EQ(message.kind, MessageKind::kResults);
      ASSERT_LE(message.payload.size(), Worker::kResultBytesMax + kResultsHeadBytes) << value_bytes;
      ++messages;
    }
    EXPECT_GE(messages, 6000u * value_bytes / Worker::kResultBytesMax);
  }
}

TEST(Worker, AValueLargerThanTheBoundTravelsAlone) {
  Opened worker({bag(10)});
  worker.lease({{{0, 2}}});
  worker.run_next(kMicrosecond, 200'000);
  worker.run_next(kMicrosecond, 200'000);
  EXPECT_THAT(worker.sent(), ElementsAre("0 results 0: 0+1", "0 results 0: 1+1"));
}

TEST(Worker, AFixedBatchBoundsEveryMessageOfResults) {
  Opened worker({bag(1000)}, fixed_batch(4));
  worker.lease({{{0, 500}}});
  while (worker.worker().shards_queued() != 0) worker.run_next(kMicrosecond);
  std::uint64_t shards = 0;
  for (const auto& message : worker.messages()) {
    Reader reader(message.payload.view().subspan(kResultsHeadBytes - 4));
    ASSERT_EQ(reader.get<std::uint32_t>(), 1u) << "entries";
    reader.get<ShardId>();
    const auto count = reader.get<std::uint32_t>();
    EXPECT_LE(count, 4u);
    shards += count;
  }
  EXPECT_EQ(shards, 500u);
}

TEST(Worker, ResultsOfSeveralAttemptsAndSizesKeepApart) {
  Opened worker({bag(100)});
  worker.lease({{{0, 1}}, {{1, 1}, 2}, {{2, 1}, 3}});
  worker.run_next(kMicrosecond, 8);
  worker.run_next(kMicrosecond, 8);
  worker.run_next(kMicrosecond, 4);
  EXPECT_THAT(worker.sent(), ElementsAre("0 results 0: 0+1 1+1#2 2+1#3"));
}

// 0 would say that nothing is known, and keep the batches at one shard.
TEST(Worker, ReportsTheCostOfTheCheapestShards) {
  Opened worker({bag(100)});
  worker.lease({{{0, 1}}});
  worker.run_next(0);
  const auto messages = worker.messages();
  ASSERT_THAT(messages, SizeIs(1));
  Reader reader(messages[0].payload.view());
  reader.get<StageId>();
  reader.get<std::uint32_t>();  // round
  reader.get<std::uint64_t>();  // report
  EXPECT_EQ(reader.get<std::uint64_t>(), 1u);
}

TEST(Worker, ReportsFailuresBesideResults) {
  Opened worker({bag(100)});
  worker.lease({{{7, 1}, 2}});
  const auto order = worker.want();
  ASSERT_TRUE(order);
  worker.finish_failed(*order, "division by zero");
  EXPECT_THAT(worker.sent(), ElementsAre("0 failures 0: 7#2 'division by zero'"));
}

TEST(Worker, WhatAFailureSaysIsBounded) {
  Opened worker({bag(100)});
  worker.lease({{{7, 1}}});
  const auto order = worker.want();
  ASSERT_TRUE(order);
  worker.finish_failed(*order, std::string(1'000'000, 'x'));
  const auto messages = worker.messages();
  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_LT(messages[0].payload.size(), Worker::kFailureTextBytesMax + 100);
}

TEST(Worker, AValueThatNoMessageCanCarryIsAFailure) {
  Opened worker({bag(100)});
  worker.lease({{{7, 1}}});
  const auto order = worker.want();
  ASSERT_TRUE(order);
  WorkResult result;
  result.restart(*order);
  result.results.add(ShardId{7}, Worker::kPayloadBytesMax + 1);
  worker.finish(result);
  EXPECT_THAT(worker.sent(), ElementsAre(HasSubstr("failures 0: 7#1 'gave ")));
}

// ---- stages ----

TEST(Worker, ANewStageLeavesTheOldOneBehind) {
  Opened worker({bag(100), bag(100)});
  worker.lease({{{0, 50}}});
  worker.run_next(kMicrosecond);  // its result is unsent when the stage turns out to have settled
  worker.sent();
  const auto old_order = worker.want();
  worker.lease({{{0, 2}}}, 1);
  EXPECT_EQ(worker.worker().shards_queued(), 2u);
  worker.finish_run(*old_order);
  worker.tick_after(kSecond);
  EXPECT_THAT(worker.sent(), IsEmpty()) << "nothing of the stage before";
  worker.run_next();
  worker.run_next();
  EXPECT_THAT(worker.sent(), ElementsAre("0 results 1: 0+1", "0 results 1: 1+1"));
}

// ---- giving away ----

TEST(Worker, GivesTheTailOfItsQueueBack) {
  Opened worker({bag(100)});
  worker.lease({{{0, 5}}, {{50, 3}, 2}});
  worker.run_next();
  worker.sent();
  worker.receive(0, MessageKind::kRecall, recall_message(0, 5));
  EXPECT_THAT(worker.sent(), ElementsAre("0 returned 0: 50+3#2 3+2"));
  EXPECT_EQ(worker.worker().shards_queued(), 2u);
  worker.receive(0, MessageKind::kRecall, recall_message(0, ~0ull));
  EXPECT_THAT(worker.sent(), ElementsAre("0 returned 0: 1+2"));
  EXPECT_FALSE(worker.want());
}

TEST(Worker, ARecallOfAnotherStageGetsNothing) {
  Opened worker({bag(100), bag(100)});
  worker.lease({{{0, 5}}}, 1);
  worker.receive(0, MessageKind::kRecall, recall_message(0, 5));
  EXPECT_THAT(worker.sent(), ElementsAre("0 returned 0:"));
  EXPECT_EQ(worker.worker().shards_queued(), 5u);
}

TEST(Worker, GivesAThiefHalfOfWhatWaits) {
  Opened worker({bag(100)});
  worker.lease({{{0, 7}}}, 0, true);
  worker.receive(2, MessageKind::kStealRequest, steal_request_message(0));
  EXPECT_THAT(worker.sent(), ElementsAre("2 loot 0: 3+4"));
  EXPECT_EQ(worker.worker().shards_queued(), 3u);
}

TEST(Worker, AThiefOfAnotherStageGetsNothingForItsOwn) {
  Opened worker({bag(100), bag(100)});
  worker.lease({{{0, 7}}}, 1, true);
  worker.receive(2, MessageKind::kStealRequest, steal_request_message(0));
  EXPECT_THAT(worker.sent(), ElementsAre("2 loot 0:"));
  LoneRank unopened(kSelf, 3);
  unopened.receive(2, MessageKind::kStealRequest, steal_request_message(0));
  EXPECT_THAT(unopened.sent(), ElementsAre("2 loot 0:"));
}

// ---- stealing ----

TEST(Worker, StealsWhenItsQueueRunsDry) {
  Opened worker({bag(100)}, {}, 4);
  worker.lease({}, 0, true);  // no share, but the news that there is a stage
  EXPECT_FALSE(worker.want());
  const Lines asked = worker.sent();
  ASSERT_THAT(asked, ElementsAre(HasSubstr("steal 0")));
  EXPECT_FALSE(worker.want());
  EXPECT_THAT(worker.sent(), IsEmpty()) << "one question at a time";
  const auto victim = static_cast<std::uint32_t>(asked[0][0] - '0');
  EXPECT_NE(victim, kSelf);

  worker.receive(victim, MessageKind::kStealReply, leases_back_message(0, {{{40, 2}, 2}}));

  EXPECT_EQ(worker.run_next(), (Shards{40, 1}));
  EXPECT_EQ(worker.run_next(), (Shards{41, 1}));
  EXPECT_THAT(worker.sent(), ElementsAre("0 results 0: 40+2#2"));
}

TEST(Worker, AsksEveryPeerInTurnThenPausesLongerEachRound) {
  constexpr std::uint32_t kRanks = 4;
  Opened worker({bag(100)}, {}, kRanks);
  worker.lease({}, 0, true);
  std::vector<std::uint32_t> asked;
  Nanoseconds waited = 0;
  Nanoseconds pause_max = 0;
  for (int i = 0; i < 60; ++i) {
    Nanoseconds pause = 0;
    Lines lines;
    while (lines.empty() && pause <= 2 * Worker::kStealPauseMax) {
      worker.want();
      lines = worker.sent();
      if (!lines.empty()) break;
      worker.tick_after(10 * kMicrosecond);
      pause += 10 * kMicrosecond;
    }
    ASSERT_THAT(lines, SizeIs(1));
    waited += pause;
    pause_max = std::max(pause_max, pause);
    asked.push_back(static_cast<std::uint32_t>(lines[0][0] - '0'));
    worker.receive(asked.back(), MessageKind::kStealReply, leases_back_message(0, {}));
  }
  for (const std::uint32_t peer : {0u, 2u, 3u}) {
    EXPECT_GE(std::count(asked.begin(), asked.end(), peer), 15) << peer;
  }
  EXPECT_EQ(std::count(asked.begin(), asked.end(), kSelf), 0);
  EXPECT_GT(waited, 100 * kMillisecond);
  EXPECT_LE(pause_max, Worker::kStealPauseMax + 10 * kMicrosecond);
}

TEST(Worker, DoesNotStealUnderOtherPolicies) {
  Opened worker({bag(100)});
  worker.lease({{{0, 1}}});
  worker.run_next();
  worker.sent();
  worker.want();
  EXPECT_THAT(worker.sent(), IsEmpty());
}

TEST(Worker, LootOfASettledStageIsLeftAlone) {
  Opened worker({bag(100), bag(100)});
  worker.lease({}, 0, true);
  worker.want();
  worker.sent();
  worker.lease({}, 1, true);
  worker.receive(0, MessageKind::kStealReply, leases_back_message(0, {{{0, 5}}}));
  EXPECT_EQ(worker.worker().shards_queued(), 0u);
  EXPECT_EQ(worker.refused(), 0u) << "it is merely late";
}

// ---- views ----

const RankSet kAll{RankId{0}, RankId{1}, RankId{2}};
const RankSet kWithoutTwo{RankId{0}, RankId{1}};

TEST(WorkerViews, AnnouncesThatItIsReadyAndIdle) {
  Opened worker({bag(100)});
  worker.lease({{{0, 5}}});
  worker.enter_view(kWithoutTwo);
  EXPECT_THAT(worker.sent(), ElementsAre("0 ready kind0*100", "0 announce"));
  EXPECT_EQ(worker.worker().shards_queued(), 0u) << "its leases are the coordinator's again";
  EXPECT_FALSE(worker.want());
}

TEST(WorkerViews, ARankThatHasNotOpenedTheJobAnnouncesAllTheSame) {
  LoneRank worker(kSelf, 3);
  worker.enter_view(kWithoutTwo);
  EXPECT_THAT(worker.sent(), ElementsAre("0 announce"));
}

TEST(WorkerViews, AnnouncesWhatItComputesAndGoesOnWithIt) {
  Opened worker({bag(100)});
  worker.lease({{{7, 1}, 2}, {{20, 5}}});
  const auto order = worker.want();
  ASSERT_TRUE(order);
  worker.enter_view(kWithoutTwo);
  EXPECT_THAT(worker.sent(), ElementsAre("0 ready kind0*100", "0 announce running 0: 7+1#2"));

  worker.lease({{{30, 1}}});
  worker.finish_run(*order);
  worker.run_next();
  worker.tick_after(kSecond);

  EXPECT_THAT(worker.sent(), ElementsAre(HasSubstr("results 0: 7+1#2 30+1")));
}

TEST(WorkerViews, ReportsThatWereNotAcknowledgedAreRepeated) {
  Opened worker({bag(100)});
  worker.lease({{{0, 1}}});
  worker.run_next();
  worker.lease({{{5, 1}}});
  worker.run_next();
  EXPECT_THAT(worker.sent(), ElementsAre("0 results 0: 0+1", "0 results 0: 5+1"));

  for (int again = 0; again < 2; ++again) {
    worker.enter_view(kWithoutTwo);
    EXPECT_THAT(worker.sent(), ElementsAre("0 ready kind0*100", "0 announce", "0 results 0: 0+1",
                                           "0 results 0: 5+1"));
  }
}

TEST(WorkerViews, ReportsThatTookLittleWorkAreNotKept) {
  Opened worker({bag(100)});
  worker.lease({{{0, 1}}});
  worker.run_next(kWorthKeeping - 1);
  worker.enter_view(kWithoutTwo);
  EXPECT_THAT(worker.sent(), ElementsAre("0 results 0: 0+1", "0 ready kind0*100", "0 announce"))
      << "the coordinator leases it again";
}

TEST(WorkerViews, ReportsThatTookMoreWorkAreKept) {
  Opened worker({bag(100)});
  worker.lease({{{0, 1}}});
  worker.run_next(kWorthKeeping);
  worker.enter_view(kWithoutTwo);
  EXPECT_THAT(worker.sent(), ElementsAre("0 results 0: 0+1", "0 ready kind0*100", "0 announce",
                                         "0 results 0: 0+1"));
}

TEST(WorkerViews, RepeatedReportsKeepTheirNumbers) {
  Opened worker({bag(100)});
  const auto numbers = [&] {
    std::vector<std::uint64_t> found;
    for (const auto& message : worker.messages()) {
      if (message.kind != MessageKind::kResults) continue;
      Reader reader(message.payload.view().subspan(2 + 4));
      found.push_back(reader.get<std::uint64_t>());
    }
    return found;
  };
  for (std::uint64_t shard = 0; shard < 3; ++shard) {
    worker.lease({{{shard, 1}}});
    worker.run_next();
  }
  EXPECT_THAT(numbers(), ElementsAre(1, 2, 3));
  worker.receive(0, MessageKind::kAcknowledge, acknowledge_message(1));
  worker.enter_view(kWithoutTwo);
  EXPECT_THAT(numbers(), ElementsAre(2, 3));
  worker.lease({{{50, 1}}});
  worker.run_next();
  EXPECT_THAT(numbers(), ElementsAre(4)) << "no number is given twice";
}

TEST(WorkerViews, AcknowledgedReportsAreNotRepeated) {
  for (const bool by_lease : {false, true}) {
    Opened worker({bag(100)});
    worker.lease({{{0, 1}}});
    worker.run_next();
    if (by_lease) {
      worker.receive(0, MessageKind::kLease, lease_message(0, {}, false, 0, 1));
    } else {
      worker.receive(0, MessageKind::kAcknowledge, acknowledge_message(1));
    }
    worker.sent();
    worker.enter_view(kWithoutTwo);
    EXPECT_THAT(worker.sent(), ElementsAre("0 ready kind0*100", "0 announce"));
  }
}

TEST(WorkerViews, ResultsThatWaitForCompanyGoOutWithTheAnnouncement) {
  Opened worker({bag(100)});
  worker.lease({{{0, 5}}});
  worker.run_next();
  ASSERT_THAT(worker.sent(), IsEmpty());
  worker.enter_view(kWithoutTwo);
  EXPECT_THAT(worker.sent(), ElementsAre("0 ready kind0*100", "0 announce", "0 results 0: 0+1"));
}

TEST(WorkerViews, AThiefWhoseVictimIsGoneAsksAgain) {
  Opened worker({bag(100)});
  worker.lease({}, 0, true);
  worker.want();
  ASSERT_THAT(worker.sent(), ElementsAre(HasSubstr("steal 0")));
  worker.enter_view(kWithoutTwo);
  worker.sent();
  worker.lease({}, 0, true);
  worker.want();
  EXPECT_THAT(worker.sent(), ElementsAre("0 steal 0"));
}

TEST(WorkerViews, AfterTheEndAViewChangesNothing) {
  Opened worker({bag(100)});
  worker.receive(0, MessageKind::kFinish, finish_message(0, ""));
  worker.sent();
  worker.enter_view(kWithoutTwo);
  EXPECT_THAT(worker.sent(), IsEmpty());
}

// ---- partitions ----

constexpr std::uint64_t kPartitions = 12;

// A partition of the three ranks' that this rank owns.
std::uint32_t partition_of(std::uint32_t rank, std::uint32_t nth = 0) {
  const auto owners = partition_owners(std::vector{RankId{0}, RankId{1}, RankId{2}}, kPartitions);
  for (std::uint32_t p = 0; p < kPartitions; ++p) {
    if (owners[p] == RankId{rank} && nth-- == 0) return p;
  }
  ADD_FAILURE() << "rank " << rank << " owns too few partitions";
  return 0;
}

class MapReduce : public Opened {
 public:
  MapReduce()
      : Opened(
            {map_stage(50), reduce_stage(kPartitions), map_stage(70), reduce_stage(kPartitions)}) {
    tell_owners(dealt_to({0, 2}));
  }

  void tell_owners(const std::vector<std::uint32_t>& owners, std::uint32_t round = 0,
                   bool asks = false) {
    receive(0, MessageKind::kOwners, owners_message(0, owners, round, asks));
  }
  // Its partitions are dealt to these ranks in turns.
  static std::vector<std::uint32_t> dealt_to(const std::vector<std::uint32_t>& ranks) {
    std::vector<std::uint32_t> owners(kPartitions, kNobody.value);
    for (std::size_t p = 0; p < kPartitions && !ranks.empty(); ++p)
      owners[p] = ranks[p % ranks.size()];
    return owners;
  }
  // Maps the next shard; partitions are with these ranks, and the first alone gets something.
  std::uint64_t map_next(const std::vector<std::uint32_t>& ranks, std::uint32_t round = 0) {
    tell_owners(dealt_to(ranks), round);
    const auto order = want();
    EXPECT_TRUE(order && order->kind == WorkKind::kRun && order->shards.count == 1);
    WorkResult result;
    result.restart(*order);
    result.results.add(order->shards.first, 0);
    result.partitions.resize(kPartitions);
    result.partitions[0] = Buffer(text("x"));
    finish(result);
    return order->shards.first.value;
  }
  void taken(std::uint32_t by, std::uint64_t shard, std::uint32_t attempt = 1,
             std::string_view error = "") {
    receive(by, MessageKind::kPartitionsTaken, partitions_taken_message(0, shard, attempt, error));
  }
  void parts(std::uint32_t from, std::uint64_t shard, std::uint32_t attempt = 1,
             std::uint16_t stage = 0) {
    receive(from, MessageKind::kPartitions,
            partitions_message(stage, shard, attempt, {{partition_of(kSelf), "y"}}));
  }
  // Absorbs the parts that wait first.
  void absorb_next(std::uint64_t shard, std::string error = "") {
    const auto order = want();
    ASSERT_TRUE(order && order->kind == WorkKind::kAbsorb);
    EXPECT_EQ(order->shards, (ShardRange{ShardId{shard}, 1}));
    WorkResult result;
    result.restart(*order);
    result.error = std::move(error);
    finish(result);
  }
};

TEST(Worker, AMapShardCountsWhenEveryOwnerHasItsParts) {
  MapReduce worker;
  worker.lease({{{5, 1}}});
  worker.map_next({0, 2});
  EXPECT_THAT(worker.sent(), ElementsAre("0 parts 0: shard 5 p0=x p2= p4= p6= p8= p10=",
                                         "2 parts 0: shard 5 p1= p3= p5= p7= p9= p11="))
      << "be they empty, so that an owner knows what its partitions have";
  worker.taken(2, 5);
  EXPECT_THAT(worker.sent(), IsEmpty()) << "rank 0 has not taken its part";
  worker.taken(0, 5);
  EXPECT_THAT(worker.sent(), ElementsAre("0 results 0: 5+1"));
}

TEST(Worker, AMapShardWhosePartsNobodyNeedsCountsAtOnce) {
  MapReduce worker;
  worker.lease({{{5, 1}}});
  worker.map_next({});
  EXPECT_THAT(worker.sent(), ElementsAre("0 results 0: 5+1"));
}

TEST(Worker, AnOwnerCannotAnswerForAnother) {
  MapReduce worker;
  worker.lease({{{5, 1}}});
  worker.map_next({0, 2});
  worker.sent();
  worker.taken(2, 5);
  worker.taken(2, 5);
  EXPECT_THAT(worker.sent(), IsEmpty());
  worker.taken(0, 5, 2);  // of another attempt
  EXPECT_THAT(worker.sent(), IsEmpty());
}

TEST(Worker, MapShardsInFlightAreBounded) {
  MapReduce worker;
  worker.lease({{{0, 20}}});
  for (std::size_t i = 0; i < Worker::kMapShardsInFlightMax; ++i) worker.map_next({2});
  EXPECT_FALSE(worker.want());
  worker.taken(2, 1);
  EXPECT_EQ(worker.map_next({2}), Worker::kMapShardsInFlightMax);
  EXPECT_FALSE(worker.want());
}

TEST(Worker, PartsAreAbsorbedBeforeTheyAreAcknowledged) {
  MapReduce worker;
  worker.parts(2, 9);
  EXPECT_THAT(worker.sent(), IsEmpty());
  worker.absorb_next(9);
  EXPECT_THAT(worker.sent(), ElementsAre("2 taken 0: shard 9"));
}

TEST(Worker, PartsOfASecondAttemptAreDroppedButAcknowledged) {  // I7
  MapReduce worker;
  worker.parts(2, 9);
  worker.parts(0, 9, 2);
  EXPECT_THAT(worker.sent(), IsEmpty()) << "neither is absorbed yet";
  worker.absorb_next(9);
  EXPECT_FALSE(worker.want()) << "once is enough";
  EXPECT_THAT(worker.sent(), ElementsAre("2 taken 0: shard 9", "0 taken 0: shard 9#2"));
  worker.parts(2, 9, 3);
  EXPECT_THAT(worker.sent(), ElementsAre("2 taken 0: shard 9#3"));
}

// Each map stage has parts of its own, whatever was taken in the one before.
TEST(Worker, ASecondMapStageStartsAnew) {
  MapReduce worker;
  worker.parts(2, 9);
  worker.absorb_next(9);
  worker.parts(2, 9, 1, 2);
  worker.parts(2, 60, 1, 2);  // there was no such shard in the stage before
  worker.absorb_next(9);
  worker.absorb_next(60);
  worker.sent();
  worker.parts(2, 9);
  EXPECT_FALSE(worker.want());
  EXPECT_THAT(worker.sent(), ElementsAre("2 taken 0: shard 9")) << "the first stage's is there";
}

TEST(Worker, PartsThatCannotBeAbsorbedFailTheirShard) {
  MapReduce owner;
  owner.parts(2, 9);
  owner.absorb_next(9, "not a table of words");
  EXPECT_THAT(owner.sent(), ElementsAre("2 taken 0: shard 9 error: not a table of words"));
  owner.parts(0, 9, 2);
  owner.absorb_next(9);
  EXPECT_THAT(owner.sent(), ElementsAre("0 taken 0: shard 9#2")) << "another attempt may";

  MapReduce mapper;
  mapper.lease({{{9, 5}}});
  for (std::size_t i = 0; i < Worker::kMapShardsInFlightMax; ++i) mapper.map_next({0, 2});
  mapper.sent();
  mapper.taken(2, 9, 1, "not a table of words");
  EXPECT_THAT(mapper.sent(), ElementsAre("0 failures 0: 9#1 'not a table of words'"));
  mapper.taken(0, 9);
  EXPECT_THAT(mapper.sent(), IsEmpty());
  EXPECT_EQ(mapper.map_next({2}), 13u) << "its place is free again";
}

TEST(Worker, PartsThatNoMessageCanCarryFailTheirShard) {
  MapReduce worker;
  worker.lease({{{9, 1}}});
  const auto order = worker.want();
  ASSERT_TRUE(order);
  WorkResult result;
  result.restart(*order);
  result.partitions.resize(kPartitions);
  result.partitions[1].resize(Worker::kPayloadBytesMax / 2);
  result.partitions[3].resize(Worker::kPayloadBytesMax / 2 + 1);
  worker.finish(result);
  EXPECT_THAT(worker.sent(), ElementsAre(HasSubstr("failures 0: 9#1 'gave ")));
}

// ---- views and rounds ----

// The parts of the round before went to owners that are gone.
TEST(WorkerViews, WhatWasMadeOfLostPartsIsNotAnnounced) {
  MapReduce worker;
  worker.lease({{{5, 2}}});
  worker.map_next({2});
  const auto order = worker.want();
  ASSERT_TRUE(order);
  worker.sent();

  worker.enter_view(kWithoutTwo);

  EXPECT_THAT(worker.sent(), ElementsAre(HasSubstr("0 ready"), "0 announce"));
  worker.taken(0, 5);
  WorkResult result;
  result.restart(*order);
  result.partitions.resize(kPartitions);
  worker.finish(result);
  worker.tick_after(kSecond);
  EXPECT_THAT(worker.sent(), IsEmpty());
}

TEST(WorkerViews, ANewRoundKeepsThePartsOfTheOneBefore) {  // I7
  MapReduce worker;
  worker.parts(2, 9);
  worker.absorb_next(9);
  worker.parts(2, 10);  // waits to be absorbed, and will come again
  worker.sent();
  worker.enter_view(kAll);
  worker.sent();

  worker.tell_owners(MapReduce::dealt_to({0, 2}), 1);
  worker.receive(0, MessageKind::kLease, lease_message(0, {{{0, 1}}}, false, 1));

  const auto next = worker.want();
  ASSERT_TRUE(next && next->kind == WorkKind::kRun) << "nothing of the round before is absorbed";
  worker.receive(2, MessageKind::kPartitions,
                 partitions_message(0, 9, 1, {{partition_of(kSelf), "y"}}, 1));
  EXPECT_FALSE(worker.want());
  EXPECT_THAT(worker.sent(), ElementsAre("2 taken 0: shard 9 round 1")) << "they are there";
}

// Of a shard that runs again only what went to lost partitions is new.
TEST(WorkerViews, OfPartsThatComeAgainTheMissingAreAbsorbed) {
  MapReduce worker;
  worker.receive(2, MessageKind::kPartitions, partitions_message(0, 9, 1, {{3, "y"}}));
  worker.absorb_next(9);
  worker.enter_view(kWithoutTwo);
  worker.sent();
  worker.receive(0, MessageKind::kPartitions, partitions_message(0, 9, 1, {{3, "y"}, {4, "z"}}, 2));
  const auto order = worker.want();
  ASSERT_TRUE(order && order->kind == WorkKind::kAbsorb);
  Reader reader(order->input.view());
  EXPECT_EQ(reader.get<std::uint32_t>(), 4u);
  EXPECT_EQ(reader.get_string(), "z");
  EXPECT_TRUE(reader.complete());
}

TEST(WorkerViews, AnOwnerSaysWhatAllItsPartitionsHold) {
  MapReduce worker;
  const auto take = [&](std::uint64_t shard,
                        const std::vector<std::pair<std::uint32_t, std::string>>& parts) {
    worker.receive(2, MessageKind::kPartitions, partitions_message(0, shard, 1, parts));
    worker.absorb_next(shard);
  };
  take(9, {{3, "y"}, {4, "z"}});
  take(10, {{3, "y"}, {4, ""}});
  take(11, {{3, "y"}});
  worker.sent();
  std::vector<std::uint32_t> owners(kPartitions, 0);
  owners[3] = owners[4] = kSelf;

  worker.tell_owners(owners, 1, true);
  EXPECT_THAT(worker.sent(), ElementsAre("0 holdings 0: round 1 9 2 39")) << "shards 9 and 10";

  owners[5] = kSelf;  // was another's
  worker.tell_owners(owners, 2, true);
  EXPECT_THAT(worker.sent(), ElementsAre("0 holdings 0: round 2 50"));

  worker.tell_owners(owners, 3);
  EXPECT_THAT(worker.sent(), IsEmpty()) << "nobody asks";
}

TEST(WorkerViews, PartsOfARoundBeforeAreLeftAlone) {
  MapReduce worker;
  worker.enter_view(kAll);
  worker.tell_owners(MapReduce::dealt_to({0, 2}), 2);
  worker.sent();
  worker.parts(2, 9);
  EXPECT_FALSE(worker.want());
  EXPECT_THAT(worker.sent(), IsEmpty());
  EXPECT_EQ(worker.refused(), 0u) << "its sender has yet to hear";
}

// Parts may come before the coordinator says who owns what: the sender was told.
TEST(WorkerViews, PartsOfANewRoundBeginIt) {
  MapReduce worker;
  worker.enter_view(kAll);
  worker.sent();
  worker.receive(2, MessageKind::kPartitions,
                 partitions_message(0, 9, 1, {{partition_of(kSelf), "y"}}, 1));
  worker.absorb_next(9);
  EXPECT_THAT(worker.sent(), ElementsAre("2 taken 0: shard 9 round 1"));
}

// It counts, but nobody waits to hear of it.
TEST(WorkerViews, WhatIsAbsorbedAcrossARoundIsKept) {
  MapReduce worker;
  worker.parts(2, 9);
  const auto order = worker.want();
  ASSERT_TRUE(order && order->kind == WorkKind::kAbsorb);
  worker.enter_view(kAll);
  worker.sent();
  std::vector<std::uint32_t> owners(kPartitions, 0);
  owners[partition_of(kSelf)] = kSelf;
  worker.tell_owners(owners, 1);
  WorkResult result;
  result.restart(*order);
  worker.finish(result);
  EXPECT_THAT(worker.sent(), IsEmpty());
  worker.tell_owners(owners, 1, true);
  EXPECT_THAT(worker.sent(), ElementsAre("0 holdings 0: round 1 9 1 40"));
}

// An owner that has yet to hear of the round answers for partitions that it had then.
TEST(WorkerViews, AnAnswerOfARoundBeforeDoesNotCount) {
  MapReduce worker;
  worker.tell_owners(MapReduce::dealt_to({2}), 1);
  worker.receive(0, MessageKind::kLease, lease_message(0, {{{5, 1}}}, false, 1));
  worker.map_next({2}, 1);
  worker.sent();

  worker.taken(2, 5);

  EXPECT_THAT(worker.sent(), IsEmpty());
  EXPECT_EQ(worker.refused(), 0u);
  worker.receive(2, MessageKind::kPartitionsTaken, partitions_taken_message(0, 5, 1, "", 1));
  EXPECT_THAT(worker.sent(), ElementsAre("0 results 0: round 1 5+1"));
}

TEST(WorkerViews, ALeaseOfARoundBeforeIsRefused) {
  MapReduce worker;
  worker.tell_owners(MapReduce::dealt_to({0, 2}), 3);
  worker.receive(0, MessageKind::kLease, lease_message(0, {}, false, 3));
  worker.lease({{{0, 1}}});
  EXPECT_EQ(worker.refused(), 1u);
  EXPECT_EQ(worker.worker().shards_queued(), 0u);
}

TEST(WorkerViews, ANewRoundGoesBackAStage) {
  MapReduce worker;
  worker.lease({}, 1);
  worker.tell_owners(MapReduce::dealt_to({0, 2}), 1);
  worker.receive(0, MessageKind::kLease, lease_message(0, {{{3, 2}}}, false, 1));
  EXPECT_EQ(worker.refused(), 0u);
  EXPECT_EQ(worker.worker().shards_queued(), 2u);
}

// Where its parts go is for the coordinator to say, in each view anew.
TEST(WorkerViews, AMapShardIsNotLeasedBeforeItsOwnersAreKnown) {
  MapReduce worker;
  worker.enter_view(kWithoutTwo);
  worker.sent();
  worker.receive(0, MessageKind::kLease, lease_message(0, {{{5, 1}}}, false, 1));
  EXPECT_EQ(worker.refused(), 1u);
  EXPECT_EQ(worker.worker().shards_queued(), 0u);
}

// ---- checkpoints ----

// Partition 3 holds shards 9 and 10, partition 4 shard 9, partition 5 nothing.
class Owning : public MapReduce {
 public:
  Owning() {
    have_disk();
    take(9, {{3, "y"}, {4, "z"}});
    take(10, {{3, "y"}});
    sent();
  }
  void take(std::uint64_t shard, const std::vector<std::pair<std::uint32_t, std::string>>& parts) {
    receive(2, MessageKind::kPartitions, partitions_message(0, shard, 1, parts));
    absorb_next(shard);
  }
  void asked_for_part(std::uint64_t number, const std::vector<std::uint32_t>& partitions) {
    receive(0, MessageKind::kSnapshot, snapshot_message(number, 0, partitions));
  }
  // The job says what a partition holds.
  void save_next(std::uint32_t partition, std::string_view content, std::string error = "") {
    auto order = want();
    ASSERT_TRUE(order && order->kind == WorkKind::kSave);
    EXPECT_EQ(order->shards, (ShardRange{ShardId{partition}, 1}));
    WorkResult result;
    result.restart(*order);
    result.partitions.push_back(std::move(order->input));
    result.partitions.back().append(text(content));
    result.error = std::move(error);
    finish(result);
  }
};

TEST(WorkerCheckpoints, APartHasEachPartitionWithItsShards) {
  Owning worker;
  worker.asked_for_part(7, {3, 4, 5});
  worker.save_next(3, "three");
  EXPECT_THAT(worker.disk(), IsEmpty()) << "not all are there";
  worker.save_next(4, "four");
  const auto requests = worker.disk();
  ASSERT_THAT(requests, SizeIs(1));
  EXPECT_EQ(requests[0].task, DiskTask::kWritePart);
  EXPECT_EQ(requests[0].checkpoint, CheckpointNumber{7});
  ASSERT_THAT(requests[0].pieces, SizeIs(2)) << "of one that holds nothing there is nothing";
  EXPECT_EQ(requests[0].pieces[0].dataset, "partitions/stage_0/3");
  EXPECT_EQ(requests[0].pieces[1].dataset, "partitions/stage_0/4");
  Reader piece(requests[0].pieces[0].view());
  for (const std::uint64_t run : {9u, 2u, 39u}) EXPECT_EQ(piece.get_varint(), run);
  EXPECT_EQ(piece.rest().size(), 5u);

  worker.answer_disk(
      {.task = DiskTask::kWritePart, .checkpoint = CheckpointNumber{7}, .part = "p"});
  EXPECT_THAT(worker.sent(),
              ElementsAre("2 copy 0/3*2 8 bytes", "2 copy 0/4*1 7 bytes", "0 snapshot 7 taken p"))
      << "what was written down goes to the partner";
}

TEST(WorkerCheckpoints, APartThatCannotBeMadeIsSaid) {
  Owning worker;
  worker.asked_for_part(7, {3, 4});
  worker.save_next(3, "", "no memory");
  EXPECT_THAT(worker.sent(), ElementsAre("0 snapshot 7 taken error: no memory"));
  EXPECT_FALSE(worker.want());
}

TEST(WorkerCheckpoints, APartOfAViewBeforeIsDropped) {
  Owning worker;
  worker.asked_for_part(7, {3});
  worker.enter_view(kWithoutTwo);
  worker.sent();
  EXPECT_FALSE(worker.want());
  EXPECT_THAT(worker.disk(), IsEmpty());
}

TEST(WorkerCheckpoints, WhatAnOwnerLacksComesBackBeforeItAnswers) {
  Owning worker;
  std::vector<std::uint32_t> owners(kPartitions, 0);
  owners[3] = owners[5] = owners[6] = kSelf;
  worker.receive(0, MessageKind::kOwners, owners_message(0, owners, 1, true, 4));
  const auto requests = worker.disk();
  ASSERT_THAT(requests, SizeIs(1));
  EXPECT_EQ(requests[0].task, DiskTask::kLoadPieces);
  EXPECT_EQ(requests[0].checkpoint, CheckpointNumber{4});
  ASSERT_THAT(requests[0].pieces, SizeIs(2)) << "partition 3 has more than nothing";
  const auto saved = [](const std::vector<std::uint64_t>& runs, std::string_view content) {
    Buffer bytes;
    Writer writer(bytes);
    for (const std::uint64_t run : runs) writer.put_varint(run);
    writer.put_raw(LoneRank::text(content));
    return bytes;
  };
  DiskAnswer answer{.task = DiskTask::kLoadPieces, .checkpoint = CheckpointNumber{4}};
  answer.pieces.push_back({"partitions/stage_0/5", 0, saved({0, 10, 40}, "five")});
  answer.pieces.push_back({"partitions/stage_0/6", 0, saved({8, 42}, "six")});
  worker.answer_disk(std::move(answer));
  EXPECT_THAT(worker.sent(), IsEmpty());
  for (const std::string content : {"five", "six"}) {
    const auto order = worker.want();
    ASSERT_TRUE(order && order->kind == WorkKind::kRestore);
    EXPECT_TRUE(std::ranges::equal(order->saved(), LoneRank::text(content)));
    WorkResult result;
    result.restart(*order);
    worker.finish(result);
  }
  EXPECT_THAT(worker.sent(), ElementsAre("0 holdings 0: round 1 file*2 9 1 40"))
      << "shard 9, in all three";
}

TEST(WorkerCheckpoints, WhatCannotBeReadBeginsEmpty) {
  Owning worker;
  std::vector<std::uint32_t> owners(kPartitions, 0);
  owners[5] = kSelf;
  worker.receive(0, MessageKind::kOwners, owners_message(0, owners, 1, true, 4));
  worker.answer_disk({.task = DiskTask::kLoadPieces, .error = "no such checkpoint"});
  EXPECT_THAT(worker.sent(), ElementsAre("0 holdings 0: round 1 50"));
}

// The others have gone on without it: nothing that it did since counts.
TEST(WorkerViews, ARankThatComesBackDiscardsWhatItHas) {
  Opened worker({bag(100)});
  worker.lease({{{0, 1}}});
  worker.run_next();
  worker.lease({{{7, 5}}});
  const auto order = worker.want();
  ASSERT_TRUE(order);
  worker.sent();

  worker.enter_view(kWithoutTwo, {RankId{kSelf}});
  EXPECT_THAT(worker.sent(), IsEmpty()) << "until it is asked";
  worker.receive(0, MessageKind::kOpen, open_message("job"));

  EXPECT_THAT(worker.sent(), ElementsAre("0 ready kind0*100", "0 announce"))
      << "no reports, nothing running";
  worker.finish_run(*order);
  worker.tick_after(kSecond);
  EXPECT_THAT(worker.sent(), IsEmpty());
  EXPECT_EQ(worker.worker().shards_queued(), 0u);
  const auto forget = worker.want();
  ASSERT_TRUE(forget && forget->kind == WorkKind::kForget);
  worker.lease({{{20, 1}}});
  worker.run_next();
  EXPECT_THAT(worker.sent(), ElementsAre("0 results 0: 20+1")) << "and works like any other";
}

// ---- the end ----

TEST(Worker, LeavesWithAGoodbyeAndTheRunsVerdict) {
  Opened worker({bag(100)});
  worker.lease({{{0, 50}}});
  worker.run_next();
  worker.sent();
  worker.receive(0, MessageKind::kFinish, finish_message(3, "disk full"));
  EXPECT_THAT(worker.sent(), ElementsAre("0 goodbye"));
  EXPECT_EQ(worker.exit_status(), 3);
  EXPECT_EQ(worker.output.outcome->message, "disk full");
  EXPECT_FALSE(worker.want());
  worker.tick_after(kSecond);
  EXPECT_THAT(worker.sent(), IsEmpty()) << "nothing after the goodbye";
}

TEST(Worker, AfterTheEndNothingBegins) {
  MapReduce worker;
  worker.receive(0, MessageKind::kFinish, finish_message(0, ""));
  worker.sent();
  worker.lease({{{0, 5}}});
  EXPECT_EQ(worker.refused(), 1u);
  worker.receive(0, MessageKind::kFinish, finish_message(1, ""));
  EXPECT_EQ(worker.refused(), 2u);
  worker.parts(2, 9);
  EXPECT_EQ(worker.refused(), 2u) << "a peer may not have heard yet";
  worker.receive(2, MessageKind::kStealRequest, steal_request_message(0));
  EXPECT_FALSE(worker.want());
  EXPECT_THAT(worker.sent(), ElementsAre("2 loot 0:"));
}

// ---- what others may say ----

class MalformedToWorker : public testing::Test {
 protected:
  MalformedToWorker() {
    worker.lease({{{0, 1}}}, 0, true);
    worker.map_next({0, 2});
    worker.want();  // asks a peer to be stolen from
    worker.sent();
  }
  void refuses(std::uint32_t from, MessageKind kind, const Buffer& payload, std::string_view what) {
    const std::uint64_t before = worker.refused();
    worker.receive(from, kind, payload);
    EXPECT_EQ(worker.refused(), before + 1) << what;
    EXPECT_THAT(worker.sent(), IsEmpty()) << what;
    EXPECT_FALSE(worker.want()) << what;
    EXPECT_THAT(worker.sent(), IsEmpty()) << what;
    EXPECT_EQ(worker.worker().shards_queued(), 0u) << what;
    EXPECT_EQ(worker.exit_status(), std::nullopt) << what;
  }
  // Every truncation, and a byte too many.
  void refuses_cuts_of(std::uint32_t from, MessageKind kind, const Buffer& whole) {
    for (std::size_t length = 0; length < whole.size(); ++length) {
      refuses(from, kind, Buffer(whole.view().first(length)), "cut to " + std::to_string(length));
    }
    Buffer longer(whole.view());
    Writer(longer).put(std::uint8_t{0});
    refuses(from, kind, longer, "a byte too many");
  }
  MapReduce worker;
};

TEST_F(MalformedToWorker, OpenIsRefused) {
  refuses_cuts_of(0, MessageKind::kOpen, open_message("another job"));
}

TEST_F(MalformedToWorker, LeasesAreRefusedWhole) {
  refuses_cuts_of(0, MessageKind::kLease, lease_message(0, {{{1, 2}}, {{7, 1}}}));
  const auto refuses_entry = [&](LeaseEntry entry, std::string_view what) {
    refuses(0, MessageKind::kLease, lease_message(0, {{{1, 2}}, entry}), what);
  };
  refuses_entry({{50, 1}}, "beyond the stage");
  refuses_entry({{49, 2}}, "partly beyond the stage");
  refuses_entry({{~0ull, 2}}, "a range that wraps");
  refuses_entry({{3, 0}}, "no shard");
  refuses_entry({{3, 1}, 0}, "attempt 0");
  refuses(0, MessageKind::kLease, lease_message(4, {}), "no such stage");
  worker.lease({}, 1);
  refuses(0, MessageKind::kLease, lease_message(0, {{{1, 2}}}), "a stage that has settled");
  refuses(0, MessageKind::kLease, lease_message(2, {{{1, 2}}}), "whose owners are not known");
}

TEST_F(MalformedToWorker, RecallAndFinishAreRefused) {
  refuses_cuts_of(0, MessageKind::kRecall, recall_message(0, 4));
  refuses_cuts_of(0, MessageKind::kFinish, finish_message(0, "done"));
}

TEST_F(MalformedToWorker, AcknowledgementsOfReportsAreRefused) {
  refuses_cuts_of(0, MessageKind::kAcknowledge, acknowledge_message(3));
  refuses(2, MessageKind::kAcknowledge, acknowledge_message(3), "only the coordinator's count");
}

TEST_F(MalformedToWorker, StealMessagesAreRefused) {
  refuses_cuts_of(2, MessageKind::kStealRequest, steal_request_message(0));
  refuses_cuts_of(2, MessageKind::kStealReply, leases_back_message(0, {{{1, 2}}, {{7, 1}}}));
  refuses(2, MessageKind::kStealReply, leases_back_message(0, {{{1, 2}}, {{50, 1}}}), "beyond");
  refuses(2, MessageKind::kStealReply, leases_back_message(9, {}), "no such stage");
}

TEST(Worker, LootNobodyAskedForIsRefused) {
  Opened worker({bag(100)});
  worker.lease({{{0, 1}}});
  worker.receive(2, MessageKind::kStealReply, leases_back_message(0, {{{1, 2}}}));
  EXPECT_EQ(worker.refused(), 1u);
  EXPECT_EQ(worker.worker().shards_queued(), 1u);
}

TEST_F(MalformedToWorker, PartsAreRefused) {
  const std::uint32_t own = partition_of(kSelf);
  refuses_cuts_of(2, MessageKind::kPartitions, partitions_message(0, 9, 1, {{own, "y"}}));
  const auto refuses_parts = [&](std::uint16_t stage, std::uint64_t shard, std::uint32_t attempt,
                                 const std::vector<std::pair<std::uint32_t, std::string>>& parts,
                                 std::string_view what) {
    refuses(2, MessageKind::kPartitions, partitions_message(stage, shard, attempt, parts), what);
  };
  refuses_parts(0, 9, 1, {}, "no part");
  refuses_parts(0, 9, 1, {{own, "y"}, {own, "y"}}, "a partition twice");
  refuses_parts(0, 9, 1, {{kPartitions, "y"}}, "no such partition");
  refuses_parts(0, 9, 0, {{own, "y"}}, "attempt 0");
  refuses_parts(0, 50, 1, {{own, "y"}}, "no such shard");
  refuses_parts(1, 0, 1, {{own, "y"}}, "not a map stage");
  refuses_parts(4, 0, 1, {{own, "y"}}, "no such stage");
}

TEST_F(MalformedToWorker, OwnersAreRefused) {
  const std::vector<std::uint32_t> owners(kPartitions, 2);
  refuses_cuts_of(0, MessageKind::kOwners, owners_message(0, owners, 1));
  const auto refuses_owners = [&](std::uint16_t stage, std::vector<std::uint32_t> list,
                                  std::string_view what) {
    refuses(0, MessageKind::kOwners, owners_message(stage, list, 1), what);
  };
  refuses_owners(0, std::vector<std::uint32_t>(kPartitions - 1, 2), "too few");
  refuses_owners(0, std::vector<std::uint32_t>(kPartitions, 3), "no member");
  refuses_owners(1, owners, "not a map stage");
  refuses_owners(4, owners, "no such stage");
  refuses(2, MessageKind::kOwners, owners_message(0, owners, 1), "not the coordinator's");
}

TEST_F(MalformedToWorker, AcknowledgementsAreRefused) {
  refuses_cuts_of(2, MessageKind::kPartitionsTaken, partitions_taken_message(0, 0, 1, "error"));
  refuses(2, MessageKind::kPartitionsTaken, partitions_taken_message(1, 0), "not begun");
  refuses(2, MessageKind::kPartitionsTaken, partitions_taken_message(9, 0), "no such stage");
}

TEST_F(MalformedToWorker, OnlyTheCoordinatorCommands) {
  refuses(2, MessageKind::kOpen, open_message("x"), "open");
  refuses(2, MessageKind::kLease, lease_message(0, {{{1, 2}}}), "lease");
  refuses(2, MessageKind::kRecall, recall_message(0, 1), "recall");
  refuses(2, MessageKind::kFinish, finish_message(0, ""), "finish");
}

TEST_F(MalformedToWorker, MessagesForACoordinatorAreRefusedElsewhere) {
  refuses(2, MessageKind::kReady, ready_message({bag(1)}), "ready");
  refuses(2, MessageKind::kResults, results_message(0, 1, {}), "results");
  refuses(2, MessageKind::kFailures, failures_message(0, {}), "failures");
  refuses(2, MessageKind::kReturned, leases_back_message(0, {}), "returned");
  refuses(2, MessageKind::kGoodbye, Buffer(), "goodbye");
  refuses(2, static_cast<MessageKind>(0), Buffer(), "kind 0");
  refuses(2, static_cast<MessageKind>(255), Buffer(), "kind 255");
}

TEST(Worker, NothingMakesSenseBeforeTheJobIsOpen) {
  LoneRank worker(kSelf, 3);
  worker.receive(0, MessageKind::kLease, lease_message(0, {{{0, 1}}}));
  worker.receive(2, MessageKind::kPartitions, partitions_message(0, 0, 1, {{0, "y"}}));
  worker.receive(2, MessageKind::kPartitionsTaken, partitions_taken_message(0, 0));
  worker.receive(2, MessageKind::kStealReply, leases_back_message(0, {{{0, 1}}}));
  EXPECT_EQ(worker.refused(), 4u);
  EXPECT_FALSE(worker.want());
}

}  // namespace
}  // namespace regroup
