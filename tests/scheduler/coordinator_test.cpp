// The coordinator's transcripts: a real coordinator from frame to decision, and peers that are the
// test. One case a rule: what is leased to whom, what counts, what is tried again, and how the run
// ends.
#include "scheduler/coordinator.hpp"

#include <functional>
#include <map>
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

using Lines = std::vector<std::string>;

// Only ranks 1 and up compute, so that every lease shows on the wire.
ScheduleOptions only_others(Policy policy = Policy::kDynamic) {
  ScheduleOptions options;
  options.policy = policy;
  options.coordinator_computes = false;
  return options;
}

// A coordinator whose ranks have all opened the job; the transcript begins after that.
class OpenedRun : public LoneRank {
 public:
  OpenedRun(std::uint32_t ranks, const std::vector<StagePlan>& stages,
            const ScheduleOptions& options)
      : LoneRank(0, ranks, options) {
    open(stages);
    sent();
    for (std::uint32_t rank = 1; rank < ranks; ++rank) ready(rank, stages);
  }
  void ready(std::uint32_t rank, const std::vector<StagePlan>& stages,
             std::string_view error = "") {
    receive(rank, MessageKind::kReady, ready_message(stages, error));
  }
  void results(std::uint32_t rank, const std::vector<ResultEntry>& entries,
               std::uint64_t shard_nanoseconds = kMillisecond, std::uint16_t stage = 0,
               std::uint32_t round = 0, std::uint64_t report = 1) {
    receive(rank, MessageKind::kResults,
            results_message(stage, shard_nanoseconds, entries, round, report));
  }
  void announce(std::uint32_t rank, const LeaseEntry& running = {{0, 0}, 0},
                std::uint16_t stage = 0) {
    receive(rank, MessageKind::kAnnounce, announce_message(stage, running));
  }
  void failure(std::uint32_t rank, const FailureEntry& failure) {
    receive(rank, MessageKind::kFailures, failures_message(0, {failure}));
  }
  void returned(std::uint32_t rank, const std::vector<LeaseEntry>& leases) {
    receive(rank, MessageKind::kReturned, leases_back_message(0, leases));
  }
  // Answers for a rank until it holds nothing more: every shard leased to it gives its value.
  void complete_all(std::uint32_t rank, Nanoseconds cost, std::uint32_t value_bytes = 8) {
    while (collect(), !held_[rank].empty()) {
      auto entries = std::exchange(held_[rank], {});
      for (ResultEntry& entry : entries) entry.value_bytes = value_bytes;
      results(rank, entries, static_cast<std::uint64_t>(cost));
    }
  }
  // What it sent but leases while complete_all went on.
  const Lines& asides() const { return asides_; }
  void goodbye(std::uint32_t rank) { receive(rank, MessageKind::kGoodbye, Buffer()); }

 private:
  void collect() {
    for (const auto& message : messages()) {
      if (message.kind != MessageKind::kLease) {
        asides_.push_back(std::to_string(message.to) + ' ' +
                          show(message.kind, message.payload.view()));
        continue;
      }
      Reader reader(message.payload.view().subspan(kLeaseHeadBytes));
      for (auto count = reader.get<std::uint32_t>(); count-- > 0;) {
        const ShardRange range = reader.get_range();
        held_[message.to].push_back(
            {{range.first.value, range.count}, reader.get<std::uint32_t>()});
      }
    }
  }
  std::map<std::uint32_t, std::vector<ResultEntry>> held_;  // by rank: leased and not done
  Lines asides_;
};

// Adds up the shards of all leases to a rank in a transcript.
std::uint64_t leased_to(std::uint32_t rank, const Lines& lines) {
  std::uint64_t shards = 0;
  const std::string prefix = std::to_string(rank) + " lease ";
  for (const std::string& line : lines) {
    if (!line.starts_with(prefix)) continue;
    for (std::size_t at = line.find('+'); at != std::string::npos; at = line.find('+', at + 1)) {
      shards += std::stoull(line.substr(at + 1));
    }
  }
  return shards;
}

// ---- opening ----

TEST(Coordinator, AsksEveryRankToOpenTheJob) {
  LoneRank coordinator(0, 3, only_others());
  EXPECT_THAT(coordinator.sent(), ElementsAre("1 open: job", "2 open: job"));
  EXPECT_EQ(coordinator.progress().phase, RunPhase::kOpening);
}

TEST(Coordinator, LeasesNothingBeforeARankIsReady) {
  LoneRank coordinator(0, 3, only_others());
  coordinator.open({bag(10)});
  coordinator.sent();
  EXPECT_EQ(coordinator.progress().phase, RunPhase::kRunning);

  coordinator.receive(2, MessageKind::kReady, ready_message({bag(10)}));

  const Lines lines = coordinator.sent();
  EXPECT_GT(leased_to(2, lines), 0u);
  EXPECT_EQ(leased_to(1, lines), 0u);
}

TEST(Coordinator, ARankMayBeReadyBeforeTheCoordinatorItself) {
  LoneRank coordinator(0, 2, only_others());
  coordinator.sent();
  coordinator.receive(1, MessageKind::kReady, ready_message({bag(1)}));
  EXPECT_THAT(coordinator.sent(), IsEmpty());
  coordinator.open({bag(1)});
  EXPECT_THAT(coordinator.sent(), ElementsAre("1 lease 0: 0+1"));
}

TEST(Coordinator, ARankThatSeesAnotherJobEndsTheRunAsBadInput) {
  for (const std::vector<StagePlan>& other :
       {std::vector{bag(11)}, std::vector{bag(10), bag(1)}, std::vector{reduce_stage(10)},
        std::vector<StagePlan>{}}) {
    LoneRank coordinator(0, 2, only_others());
    coordinator.open({bag(10)});
    coordinator.sent();
    coordinator.receive(1, MessageKind::kReady, ready_message(other));
    const Lines lines = coordinator.sent();
    ASSERT_THAT(lines, ElementsAre(HasSubstr("1 finish 2: rank 1 sees another job")));
    EXPECT_THAT(lines[0], HasSubstr("give every rank the same arguments and files"));
  }
}

TEST(Coordinator, ARankThatCannotOpenTheJobEndsTheRunAsBadInput) {
  LoneRank coordinator(0, 3, only_others());
  coordinator.sent();
  coordinator.receive(2, MessageKind::kReady, ready_message({}, "no such file"));
  EXPECT_THAT(coordinator.sent(),
              ElementsAre("1 finish 2: rank 2: no such file", "2 finish 2: rank 2: no such file"));
}

TEST(Coordinator, ItsOwnErrorsInOpeningEndTheRunAsBadInput) {
  LoneRank coordinator(0, 2, only_others());
  coordinator.sent();
  coordinator.open({}, "cannot read words.txt");
  EXPECT_THAT(coordinator.sent(), ElementsAre("1 finish 2: rank 0: cannot read words.txt"));
}

TEST(Coordinator, ARankThatNeverOpensEndsTheRunAfterTheTimeout) {
  ScheduleOptions options = only_others();
  options.open_timeout = 10 * kSecond;
  LoneRank coordinator(0, 3, options);
  coordinator.open({bag(10)});
  coordinator.receive(2, MessageKind::kReady, ready_message({bag(10)}));
  coordinator.sent();

  coordinator.tick_at(10 * kSecond);
  EXPECT_THAT(coordinator.sent(), IsEmpty()) << "the timeout has not passed";
  coordinator.tick_at(10 * kSecond + 1);
  EXPECT_THAT(coordinator.sent(), ElementsAre("1 finish 3: rank 1 did not open the job in time",
                                              "2 finish 3: rank 1 did not open the job in time"));
}

TEST(Coordinator, ACoordinatorThatNeverOpensEndsTheRunAfterTheTimeout) {
  ScheduleOptions options = only_others();
  options.open_timeout = 10 * kSecond;
  LoneRank coordinator(0, 2, options);
  coordinator.sent();
  coordinator.tick_at(10 * kSecond + 1);
  EXPECT_THAT(coordinator.sent(),
              ElementsAre("1 finish 3: the coordinator could not open the job in time"));
}

TEST(Coordinator, OneThatIsInNoViewDoesNotRunOutOfTimeToOpen) {
  ScheduleOptions options = only_others();
  options.open_timeout = 10 * kSecond;
  LoneRank coordinator(0, 2, options);
  coordinator.revoke();
  coordinator.sent();
  coordinator.tick_at(10 * kSecond + 1);
  EXPECT_THAT(coordinator.sent(), IsEmpty()) << "nothing is opened now, whoever's fault that is";

  coordinator.enter_view({RankId{0}, RankId{1}});
  coordinator.sent();
  coordinator.tick_at(20 * kSecond + 1);
  EXPECT_THAT(coordinator.sent(), IsEmpty()) << "the time begins anew with the view";
  coordinator.tick_at(20 * kSecond + 2);
  EXPECT_THAT(coordinator.sent(),
              ElementsAre("1 finish 3: the coordinator could not open the job in time"));
}

// ---- leases ----

TEST(Coordinator, StartsWithSingleShardsAndGrowsBatchesToTheCostOfAShard) {
  OpenedRun run(2, {bag(100'000)}, only_others());
  EXPECT_THAT(run.sent(), ElementsAre("1 lease 0: 0+1", "1 lease 0: 1+1"))
      << "nothing is known of the cost: one shard a lease, one lease ahead";

  run.results(1, {{{0, 1}}}, kMicrosecond);

  const Lines lines = run.sent();
  const auto fitting = static_cast<std::uint64_t>(Coordinator::kLeaseTime / kMicrosecond);
  ASSERT_FALSE(lines.empty());
  EXPECT_EQ(lines[0], "1 lease 0: 2+" + std::to_string(fitting));
  const auto latency_worth = static_cast<std::uint64_t>(Coordinator::kLatencyHidden / kMicrosecond);
  EXPECT_LE(leased_to(1, lines), latency_worth) << "no more ahead than the latency is worth";
}

TEST(Coordinator, AFixedBatchIsTheMostOfOneLease) {
  ScheduleOptions options = only_others();
  options.batch = 5;
  options.prefetch = 3;
  OpenedRun run(2, {bag(100)}, options);
  EXPECT_THAT(run.sent(), ElementsAre("1 lease 0: 0+5", "1 lease 0: 5+5", "1 lease 0: 10+5"));

  run.results(1, {{{0, 4}}});
  EXPECT_THAT(run.sent(), IsEmpty()) << "a whole lease must be free";
  run.results(1, {{{4, 1}}});
  EXPECT_THAT(run.sent(), ElementsAre("1 lease 0: 15+5"));
}

TEST(Coordinator, APrefetchOfOneHoldsNothingAhead) {
  ScheduleOptions options = only_others();
  options.batch = 2;
  options.prefetch = 1;
  OpenedRun run(2, {bag(100)}, options);
  EXPECT_THAT(run.sent(), ElementsAre("1 lease 0: 0+2"));
  run.results(1, {{{0, 1}}});
  EXPECT_THAT(run.sent(), IsEmpty());
  run.results(1, {{{1, 1}}});
  EXPECT_THAT(run.sent(), ElementsAre("1 lease 0: 2+2"));
}

TEST(Coordinator, PrefetchHidesLatencyOfCheapShardsWithinBounds) {
  ScheduleOptions options = only_others();
  options.batch = 1;
  OpenedRun run(2, {bag(1'000'000)}, options);
  EXPECT_EQ(leased_to(1, run.sent()), Coordinator::kPrefetchMin);
  run.results(1, {{{0, 1}}}, Coordinator::kLatencyHidden / 10);
  EXPECT_EQ(leased_to(1, run.sent()), 10u - (Coordinator::kPrefetchMin - 1))
      << "ten shards of a tenth of it make up the latency";
  run.results(1, {{{1, 1}}}, 1);
  EXPECT_EQ(leased_to(1, run.sent()), Coordinator::kPrefetchMax - 9u);
}

TEST(Coordinator, BatchesShrinkTowardsTheEnd) {
  OpenedRun run(3, {bag(1000)}, only_others());
  run.results(1, {{{0, 1}}}, 1);
  run.results(2, {{{2, 1}}}, 1);
  std::map<std::uint32_t, std::vector<ResultEntry>> held;
  std::uint64_t left = 1000 - 4;
  std::uint64_t committed = 0;
  // Every lease is at most half an even share of what is left.
  const auto take = [&](std::vector<LoneRank::Message> messages) {
    for (const auto& message : messages) {
      ASSERT_EQ(message.kind, MessageKind::kLease);
      Reader reader(message.payload.view().subspan(kLeaseHeadBytes));
      for (auto count = reader.get<std::uint32_t>(); count-- > 0;) {
        const ShardRange range = reader.get_range();
        reader.get<Attempt>();
        held[message.to].push_back({{range.first.value, range.count}});
        if (range.first.value >= 4) {
          EXPECT_LE(range.count, std::max<std::uint64_t>(1, left / 4)) << "of " << left;
          left -= range.count;
        }
      }
    }
  };
  take(run.messages());
  for (int round = 0; round < 1000 && committed < 1000; ++round) {
    for (const std::uint32_t rank : {1u, 2u}) {
      const auto entries = std::exchange(held[rank], {});
      for (const ResultEntry& entry : entries) committed += entry.shards.second;
      if (!entries.empty()) run.results(rank, entries, 1);
      take(run.messages());
      if (run.progress().phase != RunPhase::kRunning) return SUCCEED();
    }
  }
  EXPECT_EQ(run.progress().phase, RunPhase::kFinalizing);
}

TEST(Coordinator, ComputesItselfIfItMay) {
  LoneRank lone(0, 1, only_others());
  lone.open({bag(3)});
  for (int i = 0; i < 3; ++i) {
    const auto order = lone.want();
    ASSERT_TRUE(order);
    lone.finish_run(*order);
  }
  lone.want();
  EXPECT_TRUE(lone.sink.holds_exactly({0, 3})) << "a lone rank always computes";
}

// ---- static shares, peers, homes ----

TEST(Coordinator, StaticSharesGoOutWholeAndOnce) {
  OpenedRun run(4, {bag(10)}, only_others(Policy::kStatic));
  EXPECT_THAT(run.sent(), ElementsAre("1 lease 0: 0+4", "2 lease 0: 4+3", "3 lease 0: 7+3"));
  run.results(1, {{{0, 4}}});
  EXPECT_THAT(run.sent(), IsEmpty()) << "nobody gets more, and nobody is asked to give";
}

TEST(Coordinator, PeersLearnOfTheStageEvenWithoutAShare) {
  OpenedRun run(4, {bag(2)}, only_others(Policy::kPeer));
  EXPECT_THAT(run.sent(),
              ElementsAre("1 lease 0 steal: 0+1", "2 lease 0 steal: 1+1", "3 lease 0 steal:"));
}

TEST(Coordinator, ResultsCountWhoeverComputedThem) {
  OpenedRun run(3, {bag(10)}, only_others(Policy::kPeer));
  run.results(2, {{{0, 10}}});  // rank 2 stole the half of rank 1
  EXPECT_TRUE(run.sink.holds_exactly({0, 10}));
  EXPECT_EQ(run.progress().phase, RunPhase::kFinalizing);
}

TEST(Coordinator, AffinityLeasesHomesFirst) {
  constexpr std::uint64_t kShards = 64;
  ScheduleOptions options = only_others(Policy::kAffinity);
  options.batch = 1;
  OpenedRun run(3, {bag(kShards)}, options);
  const auto homes = partition_owners(std::vector{RankId{1}, RankId{2}}, kShards);
  for (const auto& message : run.messages()) {
    Reader reader(message.payload.view().subspan(kLeaseHeadBytes));
    for (auto count = reader.get<std::uint32_t>(); count-- > 0;) {
      const ShardRange range = reader.get_range();
      reader.get<Attempt>();
      EXPECT_EQ(homes[range.first.value], RankId{message.to});
    }
  }
}

// ---- commits ----

TEST(Coordinator, CommitsEachResultOnce) {  // I7
  OpenedRun run(3, {bag(100)}, only_others());
  run.results(1, {{{0, 3}}, {{5, 2}}});
  run.results(2, {{{2, 4}}});  // 2 and 5 are there already
  EXPECT_TRUE(run.sink.has(3) && run.sink.has(4));
  EXPECT_EQ(run.sink.values.size(), 7u);
  EXPECT_EQ(run.progress().duplicates, 2u);
  EXPECT_EQ(run.progress().stage_done, 7u);
}

TEST(Coordinator, ValuesGoToTheirShards) {
  OpenedRun run(2, {bag(8)}, only_others());
  run.results(1, {{{3, 1}}});
  run.results(1, {{{0, 8}}});
  EXPECT_TRUE(run.sink.holds_exactly({0, 8})) << "also around a shard that was committed before";
}

TEST(Coordinator, ValuesMayBeEmptyOrOfManySizes) {
  OpenedRun run(2, {bag(4)}, only_others());
  run.results(1, {{{0, 2}, 1, 0}, {{2, 1}, 1, 3}, {{3, 1}, 1, 100'000}});
  EXPECT_EQ((run.sink.values[{0, 0}].size()), 0u);
  EXPECT_EQ((run.sink.values[{0, 2}].size()), 3u);
  EXPECT_EQ((run.sink.values[{0, 3}].size()), 100'000u);
  EXPECT_EQ(run.progress().phase, RunPhase::kFinalizing);
}

TEST(Coordinator, ResultsOfASettledStageAreDuplicates) {
  OpenedRun run(2, {bag(1), bag(1)}, only_others());
  run.results(1, {{{0, 1}}});
  EXPECT_EQ(run.progress().stage, 1u);
  run.results(1, {{{0, 1}}});
  EXPECT_EQ(run.progress().duplicates, 1u);
  EXPECT_EQ(run.refused(), 0u);
  EXPECT_FALSE(run.sink.has(0, 1));
}

// ---- failures ----

TEST(Coordinator, AFailedShardIsTriedAgainAfterAPauseThatDoubles) {
  OpenedRun run(2, {bag(1)}, only_others());
  EXPECT_THAT(run.sent(), ElementsAre("1 lease 0: 0+1"));

  run.failure(1, {0, 1, "first"});
  EXPECT_THAT(run.sent(), IsEmpty());
  run.tick_after(Coordinator::kRetryPauseMin - 1);
  EXPECT_THAT(run.sent(), IsEmpty());
  run.tick_after(1);
  EXPECT_THAT(run.sent(), ElementsAre("1 lease 0: 0+1#2"));

  run.failure(1, {0, 2, "second"});
  run.tick_after(2 * Coordinator::kRetryPauseMin - 1);
  EXPECT_THAT(run.sent(), IsEmpty());
  run.tick_after(1);
  EXPECT_THAT(run.sent(), ElementsAre("1 lease 0: 0+1#3"));
  EXPECT_EQ(run.progress().retries, 2u);

  run.results(1, {{{0, 1}, 3}});
  EXPECT_TRUE(run.sink.holds_exactly({0, 1}));
}

TEST(Coordinator, AShardThatKeepsFailingIsQuarantinedAndTheRunGoesOn) {
  ScheduleOptions options = only_others();
  options.attempts_max = 2;
  OpenedRun run(2, {bag(2)}, options);
  run.failure(1, {0, 1, "first"});
  run.results(1, {{{1, 1}}});
  run.tick_after(Coordinator::kRetryPauseMin);
  run.failure(1, {0, 2, "last words"});
  EXPECT_EQ((run.sink.skipped[{0, 0}]), "last words on 1 at 2");
  EXPECT_EQ(run.progress().quarantined, 1u);
  EXPECT_EQ(run.progress().phase, RunPhase::kFinalizing);
  run.sent();
  run.finalize();
  EXPECT_THAT(run.sent(), ElementsAre("1 finish 1: 1 shards were given up"));
}

TEST(Coordinator, TheSameFailureHeardAgainIsChargedOnce) {
  OpenedRun run(2, {bag(1)}, only_others());
  run.failure(1, {0, 1});
  run.failure(1, {0, 1});
  EXPECT_EQ(run.progress().retries, 1u);
  run.sent();
  run.tick_after(Coordinator::kRetryPauseMin);
  EXPECT_THAT(run.sent(), ElementsAre("1 lease 0: 0+1#2"));
  run.failure(1, {0, 1});
  run.tick_after(kSecond);
  EXPECT_THAT(run.sent(), IsEmpty()) << "the second attempt is under way";
}

TEST(Coordinator, AResultThatComesAfterItsFailureCountsAndEndsTheRetry) {
  OpenedRun run(2, {bag(5), bag(2)}, only_others());
  run.sent();
  run.failure(1, {4, 1});
  EXPECT_EQ(run.progress().retries, 0u) << "shard 4 was not leased: nothing of it can have failed";
  run.failure(1, {0, 1});
  run.results(1, {{{0, 1}}});
  run.sent();
  run.tick_after(kSecond);
  EXPECT_THAT(run.sent(), IsEmpty());
}

TEST(Coordinator, ARetryOfASettledStageIsForgotten) {
  OpenedRun run(2, {bag(5), bag(2)}, only_others());
  run.results(1, {{{0, 4}}});  // shard 4 is leased
  run.failure(1, {4, 1});
  ASSERT_EQ(run.progress().retries, 1u);
  run.results(1, {{{4, 1}}});
  ASSERT_EQ(run.progress().stage, 1u);
  run.sent();
  run.tick_after(kSecond);  // shard 4 is no shard of the second stage
  EXPECT_THAT(run.sent(), IsEmpty());
}

// ---- the tail ----

// A run of 40 shards in which rank 1 holds ten, says nothing, and rank 2 has done all others.
class Tail : public OpenedRun {
 public:
  Tail() : OpenedRun(3, {bag(40)}, only_others()) {
    results(1, {{{0, 1}}}, kMicrosecond);
    complete_all(2, kMicrosecond);
  }
};

TEST(Coordinator, TakesHalfOfTheTailBackForAnIdleRank) {
  Tail run;
  ASSERT_EQ(run.progress().stage_done, 30u);
  run.tick_at(Coordinator::kRecallWorth);
  EXPECT_THAT(run.sent(), IsEmpty()) << "they have not waited long enough";
  run.tick_at(2 * Coordinator::kRecallWorth);
  EXPECT_THAT(run.sent(), ElementsAre("1 recall 0: 5"));
  run.tick_after(kSecond);
  EXPECT_THAT(run.sent(), IsEmpty()) << "one question at a time";

  run.returned(1, {{{8, 5}}});

  EXPECT_GT(leased_to(2, run.sent()), 0u);
  run.results(2, {{{8, 5}}});
  run.results(1, {{{1, 1}}, {{4, 4}}});
  EXPECT_TRUE(run.sink.holds_exactly({0, 40}));
  EXPECT_EQ(run.progress().duplicates, 0u);
}

// By what a rank reports of its shards, and not by its silence alone.
TEST(Coordinator, TakesTheTailBackFromTheRankThatWouldKeepItWaitingLongest) {
  OpenedRun run(4, {bag(400)}, only_others());
  run.results(1, {{{0, 1}}}, kMicrosecond);
  run.results(2, {{{2, 1}}}, kMicrosecond);
  run.results(2, {{{3, 1}}}, kMillisecond);  // rank 2 has become slow
  run.complete_all(3, kMicrosecond);
  EXPECT_THAT(run.asides(), ElementsAre(HasSubstr("2 recall 0: ")));
}

// Shards that are being computed cannot be given back; asking for them again would go on for ever.
TEST(Coordinator, ARankWithNothingToGiveIsNotAskedAgainUntilItReports) {
  Tail run;
  run.tick_at(Coordinator::kRecallWorth + 1);
  ASSERT_THAT(run.sent(), ElementsAre("1 recall 0: 5"));
  run.returned(1, {});
  for (int i = 0; i < 5; ++i) run.tick_after(kSecond);
  EXPECT_THAT(run.sent(), IsEmpty());

  run.results(1, {{{1, 1}}});
  run.tick_after(kSecond);
  EXPECT_THAT(run.sent(), ElementsAre("1 recall 0: 4"));
}

// The same for the coordinator's own worker, where question and answer meet within one step.
TEST(Coordinator, DoesNotTalkToItselfForEverAboutShardsInFlight) {
  constexpr std::uint64_t kPartitions = 8;
  const auto owners = partition_owners(std::vector{RankId{0}, RankId{1}}, kPartitions);
  OpenedRun run(2, {map_stage(40), reduce_stage(kPartitions)}, ScheduleOptions{});
  const auto map_once = [&](bool with_parts) {
    const auto order = run.want();
    ASSERT_TRUE(order.has_value());
    WorkResult result;
    result.restart(*order);
    result.results.add(order->shards.first, 0);
    result.elapsed = 3 * Coordinator::kRecallWorth / 4;
    result.partitions.resize(kPartitions);
    for (std::size_t p = 0; with_parts && p < kPartitions; ++p) {
      if (owners[p] == RankId{1}) result.partitions[p] = Buffer(LoneRank::text("part"));
    }
    run.finish(result);
  };
  map_once(false);  // now the coordinator knows what a shard costs here
  map_once(false);
  map_once(true);
  map_once(true);  // both wait for rank 1 to take their parts

  run.complete_all(1, kMicrosecond, 0);

  EXPECT_EQ(run.progress().stage_done, 38u);
  for (int i = 0; i < 10; ++i) run.tick_after(kSecond);
  EXPECT_THAT(run.sent(), IsEmpty());
}

TEST(Coordinator, ReturnedShardsAreOfferedOnce) {
  for (const Policy policy : {Policy::kDynamic, Policy::kAffinity}) {
    ScheduleOptions options = only_others(policy);
    options.batch = 1;
    options.prefetch = 1;
    OpenedRun run(3, {bag(4)}, options);
    Lines lines = run.sent();
    ASSERT_EQ(lines.size(), 2u);  // a shard each
    const std::uint64_t first = std::stoull(lines[0].substr(lines[0].find(": ") + 2));
    run.returned(1, {{{first, 1}}, {{first, 1}}});
    run.returned(1, {{{first, 1}}});
    run.sent();
    for (std::uint64_t shard = 0; shard < 4; ++shard) run.results(2, {{{shard, 1}}});
    EXPECT_TRUE(run.sink.holds_exactly({0, 4}));
    EXPECT_EQ(run.progress().phase, RunPhase::kFinalizing);
    EXPECT_LT(run.sent().size(), 10u);
  }
}

TEST(Coordinator, ReturningWhatIsDoneChangesNothing) {
  OpenedRun run(2, {bag(4)}, only_others());
  run.results(1, {{{0, 2}}});
  const std::uint64_t done = run.progress().stage_done;
  run.sent();
  run.returned(1, {{{0, 2}}});
  EXPECT_EQ(run.progress().stage_done, done);
  EXPECT_EQ(leased_to(1, run.sent()), 0u);
}

// ---- stages ----

TEST(Coordinator, AStageBeginsWhenTheOneBeforeHasSettled) {
  OpenedRun run(2, {bag(1), bag(0), bag(2)}, only_others());
  EXPECT_THAT(run.sent(), ElementsAre("1 lease 0: 0+1"));
  run.results(1, {{{0, 1}}});
  EXPECT_EQ(run.progress().stage, 2u) << "an empty stage settles at once";
  EXPECT_THAT(run.sent(), ElementsAre("1 lease 2: 0+1"));
  run.results(1, {{{0, 2}}}, kMillisecond, 2);
  EXPECT_EQ(run.progress().phase, RunPhase::kFinalizing);
  EXPECT_EQ(run.progress().done, 3u);
}

TEST(Coordinator, AJobOfEmptyStagesIsFinalizedAtOnce) {
  LoneRank coordinator(0, 2, only_others());
  coordinator.open({bag(0), bag(0)});
  EXPECT_EQ(coordinator.progress().phase, RunPhase::kFinalizing);
}

// A part of a partition that reaches a rank before the job is open there could not be taken.
TEST(Coordinator, AMapStageWaitsForEveryOwnerToBeReady) {
  const std::vector<StagePlan> stages{map_stage(4), reduce_stage(2)};
  LoneRank coordinator(0, 3, only_others());
  coordinator.open(stages);
  coordinator.sent();
  coordinator.receive(1, MessageKind::kReady, ready_message(stages));
  EXPECT_THAT(coordinator.sent(), IsEmpty());
  coordinator.receive(2, MessageKind::kReady, ready_message(stages));
  const Lines lines = coordinator.sent();
  EXPECT_GT(leased_to(1, lines), 0u);
  EXPECT_GT(leased_to(2, lines), 0u);
}

TEST(Coordinator, ReduceShardsGoToTheirOwners) {
  constexpr std::uint64_t kPartitions = 6;
  OpenedRun run(3, {map_stage(1), reduce_stage(kPartitions)}, only_others());
  run.sent();
  run.results(1, {{{0, 1}}});
  const auto owners = partition_owners(std::vector{RankId{1}, RankId{2}}, kPartitions);
  std::uint64_t seen = 0;
  for (const auto& message : run.messages()) {
    Reader reader(message.payload.view().subspan(kLeaseHeadBytes));
    for (auto count = reader.get<std::uint32_t>(); count-- > 0; ++seen) {
      const ShardRange range = reader.get_range();
      reader.get<Attempt>();
      EXPECT_EQ(range.count, 1u);
      EXPECT_EQ(owners[range.first.value], RankId{message.to});
    }
  }
  EXPECT_GT(seen, 0u);
}

// ---- views ----

constexpr RankId kZero{0};
constexpr RankId kOne{1};
constexpr RankId kTwo{2};

// Every shard that is leased to a rank in these messages, in order.
std::vector<std::uint64_t> shards_leased_to(std::uint32_t rank,
                                            const std::vector<LoneRank::Message>& messages) {
  std::vector<std::uint64_t> shards;
  for (const auto& message : messages) {
    if (message.kind != MessageKind::kLease || message.to != rank) continue;
    Reader reader(message.payload.view().subspan(kLeaseHeadBytes));
    for (auto count = reader.get<std::uint32_t>(); count-- > 0;) {
      const ShardRange range = reader.get_range();
      reader.get<Attempt>();
      for (std::uint64_t i = 0; i < range.count; ++i) shards.push_back(range.first.value + i);
    }
  }
  std::ranges::sort(shards);
  return shards;
}

// Every rank is given its share at once.
ScheduleOptions in_one_lease() {
  return only_others(Policy::kStatic);
}

TEST(CoordinatorViews, WhatALostRankHeldGoesToTheOthers) {
  OpenedRun run(3, {bag(8)}, in_one_lease());
  EXPECT_THAT(shards_leased_to(2, run.messages()), ElementsAre(4, 5, 6, 7));
  run.results(2, {{{4, 1}}});

  run.enter_view({kZero, kOne});
  EXPECT_THAT(run.sent(), IsEmpty()) << "nobody has said what it holds";
  run.announce(1);

  EXPECT_THAT(shards_leased_to(1, run.messages()), ElementsAre(0, 1, 2, 3, 5, 6, 7));
  run.results(1, {{{0, 4}}, {{5, 3}}});
  EXPECT_TRUE(run.sink.holds_exactly({0, 8}));
  EXPECT_EQ(run.progress().phase, RunPhase::kFinalizing);
  EXPECT_EQ(run.progress().retries, 0u) << "no attempt is charged";
}

TEST(CoordinatorViews, ARankIsGivenNothingUntilItAnnounces) {
  OpenedRun run(3, {bag(100)}, only_others());
  run.sent();
  run.enter_view({kZero, kOne, kTwo});
  run.announce(1);
  const auto first = run.messages();
  EXPECT_FALSE(shards_leased_to(1, first).empty());
  EXPECT_TRUE(shards_leased_to(2, first).empty());
  run.results(2, {{{50, 1}}});
  EXPECT_TRUE(shards_leased_to(2, run.messages()).empty()) << "results say nothing of the rest";
  run.announce(2);
  EXPECT_FALSE(shards_leased_to(2, run.messages()).empty());
}

TEST(CoordinatorViews, ShardsThatRunOnAreNotLeasedAgain) {
  OpenedRun run(3, {bag(8)}, in_one_lease());
  run.sent();
  run.enter_view({kZero, kOne, kTwo});
  run.announce(2, {{5, 2}});
  run.announce(1);
  auto messages = run.messages();
  std::vector<std::uint64_t> leased = shards_leased_to(1, messages);
  const auto of_two = shards_leased_to(2, messages);
  leased.insert(leased.end(), of_two.begin(), of_two.end());
  std::ranges::sort(leased);
  EXPECT_THAT(leased, ElementsAre(0, 1, 2, 3, 4, 7));

  run.results(2, {{{5, 2}}});
  EXPECT_TRUE(run.sink.has(5) && run.sink.has(6));
  EXPECT_EQ(run.progress().duplicates, 0u);
}

TEST(CoordinatorViews, ARunningShardThatIsDoneOrAnothersIsNotTakenTwice) {
  OpenedRun run(3, {bag(8)}, in_one_lease());
  run.results(1, {{{1, 1}}});
  run.sent();
  run.enter_view({kZero, kOne, kTwo});
  run.announce(1, {{0, 3}});  // 1 is done
  run.announce(2, {{2, 2}});  // 2 runs on rank 1 as well
  run.results(1, {{{0, 3}}});
  run.results(2, {{{2, 6}}});
  EXPECT_TRUE(run.sink.holds_exactly({0, 8}));
  EXPECT_EQ(run.progress().duplicates, 2u);
}

TEST(CoordinatorViews, AReportHeardAgainCountsOnce) {  // I7
  OpenedRun run(3, {bag(100)}, only_others());
  run.results(1, {{{0, 1}}, {{10, 2}}});
  run.enter_view({kZero, kOne});
  run.announce(1);
  run.results(1, {{{0, 1}}, {{10, 2}}});
  EXPECT_EQ(run.progress().stage_done, 3u);
  EXPECT_EQ(run.progress().duplicates, 3u);
  EXPECT_EQ(run.sink.values.size(), 3u);
  EXPECT_EQ(run.refused(), 0u);
}

TEST(CoordinatorViews, LeasesSayHowManyReportsWereTakenIn) {
  OpenedRun run(2, {bag(100)}, only_others());
  run.messages();
  const auto acknowledged = [&] {
    std::uint64_t most = 0;
    for (const auto& message : run.messages()) {
      if (message.kind != MessageKind::kLease) continue;
      Reader reader(message.payload.view().subspan(2 + 1 + 4));
      most = std::max(most, reader.get<std::uint64_t>());
    }
    return most;
  };
  run.results(1, {{{0, 1}}}, kMillisecond, 0, 0, 1);
  EXPECT_EQ(acknowledged(), 1u);
  run.results(1, {{{1, 1}}}, kMillisecond, 0, 0, 2);
  EXPECT_EQ(acknowledged(), 2u);
  run.results(1, {{{2, 1}}}, kMillisecond, 0, 0, 1);
  EXPECT_LE(acknowledged(), 2u) << "and take nothing back";
}

TEST(CoordinatorViews, ReportsAreAcknowledgedAlsoWithoutALease) {
  constexpr std::uint64_t kMany = Coordinator::kReportsUntoldMax;
  OpenedRun run(2, {bag(1000)}, in_one_lease());
  run.sent();
  for (std::uint64_t i = 1; i < kMany; ++i) {
    run.results(1, {{{i, 1}}}, kMillisecond, 0, 0, i);
    ASSERT_THAT(run.sent(), IsEmpty());
  }
  run.results(1, {{{kMany, 1}}}, kMillisecond, 0, 0, kMany);
  EXPECT_THAT(run.sent(), ElementsAre("1 acknowledge " + std::to_string(kMany)));
}

TEST(CoordinatorViews, ARetryOfALostViewIsNotForgotten) {
  OpenedRun run(2, {bag(1)}, only_others());
  run.failure(1, {0, 1});
  run.sent();
  run.enter_view({kZero, kOne});
  run.announce(1);
  EXPECT_THAT(run.sent(), ElementsAre("1 lease 0: 0+1#2")) << "the attempt stays charged";
}

// Its own worker announces as well, and asks for nothing.
TEST(CoordinatorViews, ACoordinatorThatOnlyCoordinatesIsGivenNothingAfterAView) {
  OpenedRun run(3, {bag(100)}, only_others());
  run.enter_view({kZero, kOne, kTwo});
  EXPECT_FALSE(run.want());
  run.announce(1);
  run.announce(2);
  EXPECT_FALSE(run.want());
  EXPECT_EQ(run.worker().shards_queued(), 0u);
}

constexpr std::uint64_t kMapShards = 4;
constexpr std::uint64_t kReduced = 6;

// Two ranks that compute, map shards and partitions.
class MapRounds : public OpenedRun {
 public:
  MapRounds() : OpenedRun(3, {map_stage(kMapShards), reduce_stage(kReduced)}, options()) {}
  static ScheduleOptions options() { return in_one_lease(); }
  void map_all(std::uint32_t rank, std::uint32_t round) {
    results(rank, {{{0, kMapShards}}}, kMillisecond, 0, round);
  }
  // What the rank is leased from now on until it has nothing more; all of it gives its value.
  std::vector<std::uint64_t> compute_all(std::uint32_t rank, std::uint16_t stage,
                                         std::uint32_t round) {
    std::vector<std::uint64_t> all;
    for (auto now = shards_leased_to(rank, messages()); !now.empty();
         now = shards_leased_to(rank, messages())) {
      all.insert(all.end(), now.begin(), now.end());
      if (progress().stage != stage) break;
      for (const std::uint64_t shard : now) {
        results(rank, {{{shard, 1}}}, kMillisecond, stage, round);
      }
    }
    std::ranges::sort(all);
    return all;
  }
  // A partition of each rank that computes.
  std::uint64_t partition_of(RankId rank) const {
    const auto owners = partition_owners(std::vector{kOne, kTwo}, kReduced);
    return static_cast<std::uint64_t>(std::ranges::find(owners, rank) - owners.begin());
  }
};

TEST(CoordinatorViews, AMapStageThatLostPartsBeginsARound) {
  MapRounds run;
  run.sent();
  run.results(1, {{{0, 2}}});  // with parts that rank 2 took
  ASSERT_EQ(run.sink.values.size(), 2u);
  run.sent();

  run.enter_view({kZero, kOne});
  run.announce(1);

  const Lines leases = run.sent();
  EXPECT_THAT(leases, testing::Each(HasSubstr("lease 0: round 2 ")));
  EXPECT_EQ(leased_to(1, leases), kMapShards) << "nobody holds all of a shard's parts";
  EXPECT_EQ(run.progress().stage_done, 0u);

  run.results(1, {{{2, 2}}});
  EXPECT_EQ(run.progress().stage_done, 0u) << "of the round before: their parts went to the lost";
  EXPECT_EQ(run.refused(), 0u);

  run.map_all(1, 2);  // the sink would refuse shards 0 and 1 again
  EXPECT_TRUE(run.sink.holds_exactly({0, kMapShards}));
  EXPECT_EQ(run.progress().stage, 1u);
}

// The owners of now, by partition, as each rank was told last.
std::map<std::uint32_t, std::vector<std::uint32_t>> owners_told(LoneRank& run) {
  std::map<std::uint32_t, std::vector<std::uint32_t>> told;
  for (const auto& message : run.owners()) {
    Reader reader(message.payload.view());
    reader.get_raw(2 + 4 + 1 + 8);  // stage, round, whether it asks, checkpoint
    std::vector<std::uint32_t> owners(reader.get<std::uint32_t>());
    for (std::uint32_t& owner : owners) owner = reader.get<std::uint32_t>();
    told[message.to] = owners;
  }
  return told;
}

bool before_was_lost(const std::vector<std::uint32_t>& owners, std::size_t partition) {
  return owners[partition] == 3;
}

// Three ranks that compute; one of them is lost when two of four map shards are done.
class LostOwner : public OpenedRun {
 public:
  static constexpr RankId kThree{3};
  LostOwner() : OpenedRun(4, {map_stage(kMapShards), reduce_stage(kReduced)}, in_one_lease()) {
    have_holdings();
    results(1, {{{0, 2}}});
    told = owners_told(*this);
    sent();
    enter_view({kZero, kOne, kTwo});
    announce(1);
    announce(2);
  }
  void hold(std::uint32_t rank, const std::vector<std::uint64_t>& runs, std::uint32_t round = 2) {
    receive(rank, MessageKind::kHoldings, holdings_message(0, round, runs));
  }
  // Everything that is leased now, to whomever.
  std::vector<std::uint64_t> leased_now() {
    const auto sent = messages();
    std::vector<std::uint64_t> shards = shards_leased_to(1, sent);
    for (const std::uint64_t shard : shards_leased_to(2, sent)) shards.push_back(shard);
    std::ranges::sort(shards);
    return shards;
  }
  std::map<std::uint32_t, std::vector<std::uint32_t>> told;
};

TEST(CoordinatorViews, OnlyPartitionsOfLostOwnersAreDealtAnew) {  // I9
  LostOwner run;
  ASSERT_TRUE(run.told.contains(1));
  const std::vector<std::uint32_t> before = run.told[1];
  auto after = owners_told(run);
  ASSERT_EQ(after[1].size(), kReduced);
  EXPECT_EQ(after[1], after[2]);
  for (std::size_t p = 0; p < kReduced; ++p) {
    if (before[p] == LostOwner::kThree.value) {
      EXPECT_THAT(after[1][p], testing::AnyOf(1u, 2u));
    } else {
      EXPECT_EQ(after[1][p], before[p]);
    }
  }
}

// Rank 1 has copies of all that rank 3 had, rank 2 better ones of some.
class LostOwnerWithCopies : public OpenedRun {
 public:
  LostOwnerWithCopies()
      : OpenedRun(4, {map_stage(kMapShards), reduce_stage(kReduced)}, in_one_lease()) {
    have_holdings();
    results(1, {{{0, 2}}});
    before = owners_told(*this)[1];
    sent();
    enter_view({kZero, kOne, kTwo});
  }
  void offer(std::uint32_t rank, std::uint64_t held, std::uint32_t first_partition = 0) {
    std::vector<OfferEntry> copies{{9, 0, 1000}, {0, 1u << 30, 1000}};  // of what is not
    for (std::uint32_t p = first_partition; p < kReduced; ++p) copies.emplace_back(0, p, held);
    receive(rank, MessageKind::kAnnounce, announce_message(0, {{0, 0}, 0}, copies));
  }
  std::vector<std::uint32_t> before;
};

TEST(CoordinatorViews, LostPartitionsAreDealtOnceAllHaveSaidWhatTheyKeep) {
  LostOwnerWithCopies run;
  run.offer(1, 2);
  EXPECT_THAT(run.owners(), IsEmpty());
  run.offer(2, 1);
  EXPECT_FALSE(run.owners().empty());
  EXPECT_EQ(run.refused(), 0u);
}

TEST(CoordinatorViews, ALostPartitionGoesToWhoHasTheBestCopyAndRoom) {
  LostOwnerWithCopies run;
  run.offer(1, 1);
  run.offer(2, 2, kReduced / 2);
  const auto messages = run.owners();
  ASSERT_FALSE(messages.empty());
  Reader reader(messages.front().payload.view());
  reader.get_raw(2 + 4 + 1 + 8);
  std::vector<std::uint32_t> owners(reader.get<std::uint32_t>());
  for (std::uint32_t& owner : owners) owner = reader.get<std::uint32_t>();
  std::vector<std::uint32_t> load(4, 0);
  for (const std::uint32_t owner : owners) ++load[owner];
  const std::uint64_t most = (kReduced + kReduced / 4 + 1) / 2;
  for (std::uint32_t p = 0; p < kReduced; ++p) {
    const auto holder = reader.get<std::uint32_t>();
    EXPECT_EQ(holder, p < kReduced / 2 ? 1u : 2u);
    if (before_was_lost(run.before, p) && owners[p] != holder) {
      EXPECT_GE(load[holder], most) << "partition " << p;
    }
  }
  EXPECT_TRUE(reader.complete());
}

TEST(CoordinatorViews, WhatCameBackFromWhereIsCounted) {
  LostOwnerWithCopies run;
  run.offer(1, 1);
  run.offer(2, 1);
  run.receive(1, MessageKind::kHoldings, holdings_message(0, 2, {0, 4}, {1, 2, 0}));
  run.receive(2, MessageKind::kHoldings, holdings_message(0, 2, {0, 4}, {0, 3, 5}));
  EXPECT_THAT(run.progress().regained, ElementsAre(1, 5, 5));
}

TEST(CoordinatorViews, CopiesThatRanksHaveMadeAreAddedUp) {
  LostOwnerWithCopies run;
  run.offer(1, 1);
  run.offer(2, 1);
  run.receive(1, MessageKind::kCopiesMade,
              copies_made_message({.partitions = 3,
                                   .bytes = 100,
                                   .refused = 1,
                                   .cost = 7,
                                   .interval = 70,
                                   .sent = 80,
                                   .sending = 5}));
  run.receive(
      2, MessageKind::kCopiesMade,
      copies_made_message(
          {.partitions = 4, .bytes = 200, .cost = 9, .interval = 60, .sent = 20, .sending = 4}));
  const CopyProgress copies = run.progress().copies;
  EXPECT_EQ(copies.rounds, 2u);
  EXPECT_EQ(copies.partitions, 7u);
  EXPECT_EQ(copies.bytes, 300u);
  EXPECT_EQ(copies.refused, 1u);
  EXPECT_EQ(copies.cost, 9);
  EXPECT_EQ(copies.interval, 70);
  EXPECT_EQ(copies.sent, 100u);
  EXPECT_EQ(copies.sending, 5);
}

TEST(CoordinatorViews, AMapShardIsDoneIfEveryOwnerHoldsIt) {
  LostOwner run;
  run.hold(1, {0, 4});
  EXPECT_THAT(run.leased_now(), IsEmpty()) << "one is yet to say";
  EXPECT_EQ(run.progress().stage_done, 0u);

  run.hold(2, {0, 1, 2, 1});  // shards 0 and 3

  EXPECT_EQ(run.progress().stage_done, 1u) << "the job was never given shard 3";
  EXPECT_THAT(run.leased_now(), ElementsAre(1, 2, 3));
  run.results(1, {{{1, 3}}}, kMillisecond, 0, 2);
  EXPECT_TRUE(run.sink.holds_exactly({0, kMapShards}));
  EXPECT_EQ(run.progress().stage, 1u);
  EXPECT_EQ(run.progress().repeated, 1u);
}

TEST(CoordinatorViews, NothingRunsAgainIfAllIsHeld) {
  LostOwner run;
  run.hold(1, {0, 2, 2});
  run.hold(2, {0, 2, 2});
  EXPECT_EQ(run.progress().stage_done, 2u);
  EXPECT_THAT(run.leased_now(), ElementsAre(2, 3));
}

TEST(CoordinatorViews, WhoHasNotSaidWhatItHoldsIsAskedAgainInTheNextView) {
  LostOwner run;
  run.hold(1, {0, 4});
  run.owners();
  run.enter_view({kZero, kOne, kTwo});
  run.announce(1);
  run.announce(2);
  EXPECT_EQ(run.owners().size(), 2u);
  run.hold(2, {0, 4});  // in the round before
  EXPECT_EQ(run.progress().stage_done, 0u);
  run.hold(1, {0, 4}, 3);
  run.hold(2, {0, 4}, 3);
  EXPECT_EQ(run.progress().stage_done, 2u);
  EXPECT_EQ(run.refused(), 0u);
}

TEST(CoordinatorViews, HoldingsThatAreNoneAreRefused) {
  LostOwner run;
  run.hold(1, {0, 5});
  run.hold(1, {0, 3});
  run.hold(1, {2, 0, 2});
  run.hold(1, {0, 4}, 3);
  run.receive(1, MessageKind::kHoldings, holdings_message(7, 2, {4}));
  EXPECT_EQ(run.refused(), 5u);
}

TEST(CoordinatorViews, AViewThatLosesNobodyKeepsTheRound) {
  MapRounds run;
  run.results(1, {{{0, 2}}});
  run.sent();
  run.enter_view({kZero, kOne, kTwo});
  run.announce(1);
  run.announce(2);
  EXPECT_EQ(run.progress().stage_done, 2u);
  for (const std::string& line : run.sent()) EXPECT_THAT(line, testing::Not(HasSubstr("round")));
}

TEST(CoordinatorViews, AReduceStageGoesBackToItsMapAndKeepsWhatIsReduced) {
  MapRounds run;
  run.map_all(1, 0);
  ASSERT_EQ(run.progress().stage, 1u);
  const std::uint64_t reduced = run.partition_of(kTwo);
  run.results(2, {{{reduced, 1}}}, kMillisecond, 1);
  ASSERT_TRUE(run.sink.has(reduced, 1));
  run.sent();

  run.enter_view({kZero, kOne});
  run.announce(1);
  EXPECT_EQ(run.progress().stage, 0u);
  EXPECT_EQ(leased_to(1, run.sent()), kMapShards);
  run.results(1, {{{reduced == 0 ? 1u : 0u, 1}}}, kMillisecond, 1);
  EXPECT_EQ(run.refused(), 1u) << "partitions have not begun again";

  run.map_all(1, 2);
  EXPECT_EQ(run.progress().stage, 1u);
  const auto leased = run.compute_all(1, 1, 2);
  EXPECT_EQ(leased.size(), kReduced - 1);
  EXPECT_EQ(std::ranges::count(leased, reduced), 0) << "it is reduced already";
  EXPECT_TRUE(run.sink.holds_exactly({0, kReduced}, 1));
  EXPECT_EQ(run.progress().phase, RunPhase::kFinalizing);
  EXPECT_EQ(run.progress().done, kMapShards + kReduced);
}

TEST(CoordinatorViews, AMapShardGivenUpStaysGivenUpInTheNextRound) {
  ScheduleOptions options = MapRounds::options();
  options.attempts_max = 1;
  OpenedRun run(3, {map_stage(kMapShards), reduce_stage(kReduced)}, options);
  run.sent();
  run.failure(1, {0, 1, "no such word"});
  run.failure(2, {0, 1, "no such word"});
  ASSERT_EQ(run.progress().quarantined, 1u);
  run.enter_view({kZero, kOne});
  run.announce(1);
  EXPECT_THAT(shards_leased_to(1, run.messages()), ElementsAre(1, 2, 3));
  run.results(1, {{{1, 3}}}, kMillisecond, 0, 2);
  EXPECT_EQ(run.progress().stage, 1u);
  EXPECT_EQ(run.progress().quarantined, 1u);
}

TEST(CoordinatorViews, ARankThatComesBackIsAskedToOpenAndWaitsForItsTurn) {
  OpenedRun run(3, {bag(100)}, only_others());
  run.enter_view({kZero, kOne});
  run.announce(1);
  run.sent();

  run.enter_view({kZero, kOne}, {kTwo});
  EXPECT_THAT(run.sent(), ElementsAre("2 open: job"));
  run.announce(1);
  run.sent();
  run.announce(2);
  EXPECT_EQ(leased_to(2, run.sent()), 0u) << "it is not ready";
  run.ready(2, {bag(100)});
  EXPECT_GT(leased_to(2, run.sent()), 0u);
}

TEST(CoordinatorViews, ARankThatIsNotReadyIsAskedAgain) {
  LoneRank coordinator(0, 3, only_others());
  coordinator.open({bag(10)});
  coordinator.receive(1, MessageKind::kReady, ready_message({bag(10)}));
  coordinator.sent();
  coordinator.enter_view({kZero, kOne, kTwo});
  EXPECT_THAT(coordinator.sent(), ElementsAre("2 open: job"));
}

TEST(CoordinatorViews, ALostRankIsNotWaitedForToOpen) {
  const std::vector<StagePlan> stages{map_stage(4), reduce_stage(2)};
  LoneRank coordinator(0, 3, only_others());
  coordinator.open(stages);
  coordinator.receive(1, MessageKind::kReady, ready_message(stages));
  coordinator.sent();
  coordinator.enter_view({kZero, kOne});
  coordinator.receive(1, MessageKind::kAnnounce, announce_message());
  EXPECT_GT(leased_to(1, coordinator.sent()), 0u);
}

TEST(CoordinatorViews, WhileClosingItSendsTheEndAgain) {
  OpenedRun run(3, {bag(1)}, only_others());
  run.results(1, {{{0, 1}}});
  run.finalize();
  run.sent();
  run.enter_view({kZero, kOne, kTwo});
  EXPECT_THAT(run.sent(), ElementsAre("1 finish 0", "2 finish 0"));
  run.goodbye(1);
  run.enter_view({kZero, kTwo});
  EXPECT_THAT(run.sent(), ElementsAre("2 finish 0")) << "rank 1 has left";
  run.goodbye(2);
  run.tick_after(1);
  EXPECT_EQ(run.exit_status(), 0);
}

TEST(CoordinatorViews, WhileClosingTheLostNeedNotSayGoodbye) {
  OpenedRun run(3, {bag(1)}, only_others());
  run.results(1, {{{0, 1}}});
  run.finalize();
  run.goodbye(1);
  run.enter_view({kZero, kOne});
  run.tick_after(1);
  EXPECT_EQ(run.exit_status(), 0);
}

TEST(CoordinatorViews, AGoodbyeIsNoFailure) {
  OpenedRun run(3, {bag(1)}, only_others());
  run.results(1, {{{0, 1}}});
  run.finalize();
  run.goodbye(1);
  EXPECT_EQ(run.node().membership().confirmed(), RankSet{kOne});
  run.node().step(PeerEvidence{kOne, EvidenceKind::kConfirmed}, run.output);
  EXPECT_TRUE(run.node().stable()) << "it has left";
  run.node().step(PeerEvidence{kTwo, EvidenceKind::kConfirmed}, run.output);
  EXPECT_FALSE(run.node().stable()) << "it has not";
}

TEST(CoordinatorViews, WhereAnotherCoordinatesItOnlyWorks) {
  OpenedRun run(3, {bag(10)}, only_others());
  run.enter_view({kZero, kOne, kTwo}, {}, kOne);
  run.sent();
  run.results(2, {{{0, 1}}});
  EXPECT_EQ(run.refused(), 1u) << "it does not take results any more";
  EXPECT_TRUE(run.sink.values.empty());
  EXPECT_EQ(run.exit_status(), std::nullopt);
}

// ---- the end ----

TEST(Coordinator, WritesTheResultThenSaysGoodbye) {
  OpenedRun run(3, {bag(1)}, only_others());
  run.results(1, {{{0, 1}}});
  run.sent();
  run.finalize();
  EXPECT_THAT(run.sent(), ElementsAre("1 finish 0", "2 finish 0"));
  EXPECT_EQ(run.exit_status(), std::nullopt);
  run.goodbye(1);
  run.tick_after(1);
  EXPECT_EQ(run.exit_status(), std::nullopt) << "rank 2 has not answered";
  run.goodbye(2);
  run.tick_after(1);
  EXPECT_EQ(run.exit_status(), 0);
  EXPECT_EQ(run.progress().phase, RunPhase::kOver);
}

TEST(Coordinator, EndsWithoutTheGoodbyeOfARankAfterTheTimeout) {
  OpenedRun run(2, {bag(1)}, only_others());
  run.results(1, {{{0, 1}}});
  run.tick_at(kSecond);
  run.finalize();
  run.tick_at(kSecond + Coordinator::kGoodbyeTimeout - 1);
  EXPECT_EQ(run.exit_status(), std::nullopt);
  run.tick_at(kSecond + Coordinator::kGoodbyeTimeout);
  EXPECT_EQ(run.exit_status(), 0);
}

TEST(Coordinator, AResultThatCannotBeWrittenIsNoSuccess) {
  OpenedRun run(2, {bag(1)}, only_others());
  run.results(1, {{{0, 1}}});
  run.sent();
  run.finalize("disk full");
  EXPECT_THAT(run.sent(), ElementsAre("1 finish 3: disk full"));
}

TEST(Coordinator, StopsAtOnceWhenAsked) {
  OpenedRun run(2, {bag(10)}, only_others());
  run.sent();
  run.stop("stopped by signal 15");
  EXPECT_THAT(run.sent(), ElementsAre("1 finish 3: stopped by signal 15"));
  run.results(1, {{{0, 1}}});
  EXPECT_FALSE(run.sink.has(0)) << "nothing counts once the run is closing";
  run.stop("again");
  EXPECT_THAT(run.sent(), IsEmpty());
  run.goodbye(1);
  run.tick_after(1);
  EXPECT_EQ(run.exit_status(), 3);
}

// Ranks have been told how the run ended: that does not change any more.
TEST(Coordinator, AStopWhileTheResultIsWrittenStands) {
  OpenedRun run(2, {bag(1)}, only_others());
  run.results(1, {{{0, 1}}});
  const auto order = run.want();
  ASSERT_TRUE(order && order->kind == WorkKind::kFinalize);
  run.sent();
  run.stop("stopped");
  EXPECT_THAT(run.sent(), ElementsAre("1 finish 3: stopped"));
  WorkResult result;
  result.restart(*order);
  run.finish(result);
  EXPECT_THAT(run.sent(), IsEmpty());
  run.goodbye(1);
  run.tick_after(1);
  EXPECT_EQ(run.exit_status(), 3);
}

TEST(Coordinator, ARankThatOpensAfterTheEndChangesNothing) {
  LoneRank coordinator(0, 2, only_others());
  coordinator.stop("stopped");
  coordinator.tick_after(Coordinator::kGoodbyeTimeout);
  ASSERT_EQ(coordinator.exit_status(), 3);
  coordinator.sent();
  coordinator.receive(1, MessageKind::kReady, ready_message({}, "no such file"));
  EXPECT_THAT(coordinator.sent(), IsEmpty());
}

// ---- what peers may say ----

// A coordinator in the middle of a stage, to which nothing malformed may mean anything.
class MalformedToCoordinator : public testing::Test {
 protected:
  MalformedToCoordinator() : run(3, {bag(10), bag(10)}, only_others()) {
    run.results(2, {{{9, 1}}});
    run.sent();
  }
  void refuses(MessageKind kind, const Buffer& payload, std::string_view what) {
    const std::uint64_t before = run.refused();
    run.receive(1, kind, payload);
    EXPECT_EQ(run.refused(), before + 1) << what;
    EXPECT_THAT(run.sent(), IsEmpty()) << what;
    EXPECT_EQ(run.sink.values.size(), 1u) << what;
    EXPECT_EQ(run.progress().retries, 0u) << what;
    EXPECT_EQ(run.progress().phase, RunPhase::kRunning) << what;
  }
  // Every truncation, and a byte too many.
  void refuses_cuts_of(MessageKind kind, const Buffer& whole) {
    for (std::size_t length = 0; length < whole.size(); ++length) {
      refuses(kind, Buffer(whole.view().first(length)), "cut to " + std::to_string(length));
    }
    Buffer longer(whole.view());
    Writer(longer).put(std::uint8_t{0});
    refuses(kind, longer, "a byte too many");
  }
  OpenedRun run;
};

TEST_F(MalformedToCoordinator, ReadyIsRefused) {
  refuses_cuts_of(MessageKind::kReady, ready_message({bag(10), bag(10)}, "error"));
  refuses(MessageKind::kReady, ready_message({{static_cast<StageKind>(4), 10}}), "no such kind");
}

TEST_F(MalformedToCoordinator, ResultsAreRefusedWhole) {
  refuses_cuts_of(MessageKind::kResults, results_message(0, 1, {{{0, 2}}, {{4, 1}}}));
  const auto refuses_entry = [&](ResultEntry entry, std::string_view what) {
    refuses(MessageKind::kResults, results_message(0, 1, {{{0, 1}}, entry}), what);
  };
  refuses_entry({{1, 0}}, "no shard");
  refuses_entry({{10, 1}}, "beyond the stage");
  refuses_entry({{8, 3}}, "partly beyond the stage");
  refuses_entry({{~0ull, 2}}, "a range that wraps");
  refuses_entry({{1, 1}, 0}, "attempt 0");
  refuses_entry({{1, 1}, 2}, "an attempt that was never made");
  refuses(MessageKind::kResults, results_message(1, 1, {{{0, 1}}}), "a stage that has not begun");
  refuses(MessageKind::kResults, results_message(7, 1, {}), "no such stage");
  refuses(MessageKind::kResults, results_message(0, 1, {{{0, 1}}}, 1), "a round to come");

  Buffer huge;
  Writer writer(huge);
  writer.put(StageId{0});
  writer.put(std::uint32_t{0});  // round
  writer.put(std::uint64_t{1});  // report
  writer.put(std::uint64_t{1});  // cost
  writer.put(std::uint32_t{1});
  writer.put(ShardId{0});
  writer.put(std::uint32_t{10});
  writer.put(Attempt{1});
  writer.put(~std::uint32_t{0});
  refuses(MessageKind::kResults, huge, "values that are not there");
}

TEST_F(MalformedToCoordinator, FailuresAreRefusedWhole) {
  refuses_cuts_of(MessageKind::kFailures, failures_message(0, {{0, 1}, {1, 1}}));
  refuses(MessageKind::kFailures, failures_message(0, {{0, 1}, {10, 1}}), "beyond the stage");
  refuses(MessageKind::kFailures, failures_message(1, {{0, 1}}), "a stage that has not begun");
}

TEST_F(MalformedToCoordinator, ReturnedShardsAreRefusedWhole) {
  refuses_cuts_of(MessageKind::kReturned, leases_back_message(0, {{{0, 1}}, {{1, 1}}}));
  refuses(MessageKind::kReturned, leases_back_message(0, {{{0, 1}}, {{10, 1}}}), "beyond");
  refuses(MessageKind::kReturned, leases_back_message(0, {{{0, 1}}, {{~0ull, 2}}}), "wraps");
  refuses(MessageKind::kReturned, leases_back_message(1, {}), "a stage that has not begun");
}

TEST_F(MalformedToCoordinator, AnnouncementsAreRefused) {
  refuses_cuts_of(MessageKind::kAnnounce, announce_message(0, {{0, 1}}));
  const auto refuses_running = [&](const LeaseEntry& running, std::string_view what) {
    refuses(MessageKind::kAnnounce, announce_message(0, running), what);
  };
  refuses_running({{10, 1}}, "beyond the stage");
  refuses_running({{~0ull, 2}}, "a range that wraps");
  refuses_running({{0, ~0ull}}, "a range that wraps");
  refuses_running({{0, 1}, 0}, "attempt 0");
  refuses(MessageKind::kAnnounce, announce_message(1, {{0, 1}}), "a stage that has not begun");
}

TEST_F(MalformedToCoordinator, AGoodbyeBeforeTheEndIsRefused) {
  refuses(MessageKind::kGoodbye, Buffer(), "the run goes on");
  Buffer surplus;
  Writer(surplus).put(std::uint8_t{0});
  refuses(MessageKind::kGoodbye, surplus, "a byte too many");
}

TEST_F(MalformedToCoordinator, UnknownAndMisdirectedKindsAreRefused) {
  refuses(static_cast<MessageKind>(0), Buffer(), "kind 0");
  refuses(static_cast<MessageKind>(255), open_message("x"), "kind 255");
  refuses(MessageKind::kOpen, open_message("x"), "only the coordinator opens");
  refuses(MessageKind::kLease, lease_message(0, {{{0, 1}}}), "only the coordinator leases");
  refuses(MessageKind::kRecall, recall_message(0, 1), "only the coordinator recalls");
  refuses(MessageKind::kFinish, finish_message(0, ""), "only the coordinator ends the run");
}

TEST(Coordinator, ResultsBeforeTheJobIsOpenAreRefused) {
  LoneRank coordinator(0, 2, only_others());
  coordinator.receive(1, MessageKind::kResults, results_message(0, 1, {{{0, 1}}}));
  coordinator.receive(1, MessageKind::kFailures, failures_message(0, {{0, 1}}));
  coordinator.receive(1, MessageKind::kReturned, leases_back_message(0, {{{0, 1}}}));
  EXPECT_EQ(coordinator.refused(), 3u);
}

// Costs are reports of peers: no value of them may divide by zero or stop the leases.
TEST(Coordinator, AnyReportedCostIsSurvived) {
  for (const std::uint64_t cost : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 32,
                                   std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    for (const std::uint32_t batch : {0u, 2u, ~0u}) {
      ScheduleOptions options = only_others();
      options.batch = batch;
      OpenedRun run(3, {bag(1000)}, options);
      run.results(1, {{{0, 1}}}, cost);
      run.results(2, {{{1, 1}}}, cost);
      run.tick_after(kSecond);
      EXPECT_TRUE(run.sink.has(0) && run.sink.has(1));
      EXPECT_GT(leased_to(1, run.sent()), 0u);
    }
  }
}

}  // namespace
}  // namespace regroup
