// Whole runs: real nodes and schedulers of several ranks, wired directly with random delays on
// virtual time, and computing that takes random time and fails at random. Whatever the schedule,
// each shard counts once (I7) and the result is that of a serial oracle (I8).
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "scheduler/scheduler.hpp"
#include "scheduler/shard_source.hpp"
#include "tests/scheduler/lone_rank.hpp"

namespace regroup {
namespace {

using namespace testing_roles;  // NOLINT: the vocabulary of these tests

constexpr Nanoseconds kStep = 10 * kMicrosecond;
constexpr Nanoseconds kDeadline = 100 * kSecond;

struct Scenario {
  std::uint32_t ranks = 3;
  std::vector<StagePlan> stages{bag(200)};
  ScheduleOptions options;
  std::uint64_t seed = 1;
  Nanoseconds cost_max = kMillisecond;  // of one shard, of opening the job, of taking in a part
  double failure_probability = 0;
  std::uint64_t shard_that_always_fails = ~std::uint64_t{0};
};

// What map shard `shard` has for partition `p`.
std::uint64_t part_of(std::uint64_t shard, std::uint64_t p) {
  return value_of(shard * 1000 + p) | 1;
}

class WiredRanks {
 public:
  RecordingSink sink;
  std::uint64_t frames = 0;

  explicit WiredRanks(const Scenario& scenario) : scenario_(scenario), random_(scenario.seed) {
    for (std::uint32_t i = 0; i < scenario.ranks; ++i) {
      ranks_.push_back(std::make_unique<Rank>());
      Rank& rank = *ranks_.back();
      auto scheduler =
          std::make_unique<Scheduler>(scenario.options, i == 0 ? sink : rank.sink,
                                      i == 0 ? Buffer(LoneRank::text("job")) : Buffer());
      rank.scheduler = scheduler.get();
      rank.node = std::make_unique<Node>(NodeOptions{.self = RankId{i}, .ranks = scenario.ranks},
                                         std::move(scheduler), rank.pool);
      rank.node->start(0, rank.output);
    }
  }

  // Runs to the end; the exit status of each rank.
  std::vector<int> run() {
    for (Nanoseconds now = 0; now < kDeadline && !all_over(); now += kStep) {
      for (std::uint32_t i = 0; i < ranks_.size(); ++i) advance(i, now);
    }
    std::vector<int> statuses;
    for (const auto& rank : ranks_) {
      statuses.push_back(rank->output.outcome ? rank->output.outcome->exit_status : -1);
      EXPECT_EQ(rank->node->drops().total(), 0u) << "no honest rank says what another refuses";
    }
    return statuses;
  }
  RunProgress progress() const { return *ranks_[0]->scheduler->progress(); }

 private:
  struct InFlight {
    Nanoseconds due;
    RankId from;
    Buffer bytes;
  };
  struct Rank {
    RecordingSink sink;  // of a standby: never used
    BufferPool pool;
    std::unique_ptr<Node> node;
    Scheduler* scheduler = nullptr;
    Output output;
    std::deque<InFlight> inbox;  // in any order: links are FIFO, the network is not
    std::optional<WorkOrder> order;
    Nanoseconds busy_from = 0;
    Nanoseconds busy_until = 0;
    // By map stage and partition: sums of the parts absorbed.
    std::map<std::pair<std::uint16_t, std::uint64_t>, std::uint64_t> partitions;
  };

  bool all_over() const {
    for (const auto& rank : ranks_) {
      if (!rank->output.outcome) return false;
    }
    return true;
  }

  void advance(std::uint32_t i, Nanoseconds now) {
    Rank& rank = *ranks_[i];
    for (std::size_t n = rank.inbox.size(); n-- > 0;) {
      InFlight frame = std::move(rank.inbox.front());
      rank.inbox.pop_front();
      if (frame.due > now) {
        rank.inbox.push_back(std::move(frame));
        continue;
      }
      rank.node->step(FrameArrived{frame.from, frame.bytes.view()}, rank.output);
      ++frames;
    }
    rank.node->step(Tick{now}, rank.output);
    if (rank.order && rank.busy_until <= now) {
      WorkResult result;
      execute(rank, *rank.order, result);
      rank.order.reset();
      rank.node->step(WorkFinished{&result}, rank.output);
    }
    if (!rank.order) {
      rank.node->step(WorkWanted{}, rank.output);
      take_order(rank, now);
    }
    for (OutgoingFrame& frame : std::exchange(rank.output.frames, {})) {
      const Nanoseconds delay = static_cast<Nanoseconds>(random_() % 5) * kStep;
      ranks_[frame.to.value]->inbox.push_back({now + delay, RankId{i}, std::move(frame.bytes)});
    }
  }

  void take_order(Rank& rank, Nanoseconds now) {
    if (rank.output.orders.empty()) return;
    ASSERT_EQ(rank.output.orders.size(), 1u);
    rank.order = std::move(rank.output.orders.front());
    rank.output.orders.clear();
    rank.busy_until = now;
    // Opening and absorbing take their time as well.
    const std::uint64_t steps = std::max<std::uint64_t>(1, rank.order->shards.count);
    for (std::uint64_t i = 0; i < steps; ++i) {
      rank.busy_until +=
          static_cast<Nanoseconds>(random_() % static_cast<std::uint64_t>(scenario_.cost_max + 1));
    }
    rank.busy_from = now;
  }

  void execute(Rank& rank, WorkOrder& order, WorkResult& result) {
    result.restart(order);
    result.elapsed = std::max<Nanoseconds>(1, rank.busy_until - rank.busy_from);
    switch (order.kind) {
      case WorkKind::kDescribe:
        ADD_FAILURE() << "the first coordinator knows what the job is";
        return;
      case WorkKind::kOpen:
        result.stages = scenario_.stages;
        return;
      case WorkKind::kAbsorb:
        return absorb(rank, order);
      case WorkKind::kSave:
      case WorkKind::kRestore:
      case WorkKind::kForget:
      case WorkKind::kFinalize:
      case WorkKind::kBegin:
      case WorkKind::kStep:
        return;
      case WorkKind::kRun:
        break;
    }
    for (ShardId shard = order.shards.first; shard < order.shards.end(); ++shard.value) {
      if (fails(order, shard)) {
        result.failures.push_back({shard, "bad luck"});
      } else {
        compute(rank, order, shard, result);
      }
    }
  }

  bool fails(const WorkOrder& order, ShardId shard) {
    if (shard.value == scenario_.shard_that_always_fails) return true;
    if (order.attempt.value >= scenario_.options.attempts_max) return false;
    return std::uniform_real_distribution<>()(random_) < scenario_.failure_probability;
  }

  void compute(Rank& rank, const WorkOrder& order, ShardId shard, WorkResult& result) {
    const StageKind kind = scenario_.stages[order.stage.value].kind;
    std::uint64_t value = value_of(shard.value);
    if (kind == StageKind::kReduce) {
      value = rank.partitions[{static_cast<std::uint16_t>(order.stage.value - 1), shard.value}];
    }
    if (kind == StageKind::kMap) {
      const std::uint64_t partitions = scenario_.stages[order.stage.value + 1u].shards;
      result.partitions.resize(partitions);
      for (std::uint64_t p = 0; p < partitions; ++p) {
        if ((shard.value + p) % 3 != 0) Writer(result.partitions[p]).put(part_of(shard.value, p));
      }
    }
    std::memcpy(result.results.add(shard, 8), &value, 8);
  }

  void absorb(Rank& rank, const WorkOrder& order) {
    Reader reader(order.input.view());
    while (!reader.complete()) {
      const auto partition = reader.get<std::uint32_t>();
      Reader part(reader.get_bytes());
      ASSERT_FALSE(reader.failed());
      if (part.rest().empty()) continue;
      rank.partitions[{order.stage.value, partition}] += part.get<std::uint64_t>();
      ASSERT_TRUE(part.complete());
    }
  }

  Scenario scenario_;
  std::mt19937_64 random_;
  std::vector<std::unique_ptr<Rank>> ranks_;
};

std::vector<int> all(std::uint32_t ranks, int status) {
  return std::vector<int>(ranks, status);
}

// ---- every policy ----

class EveryPolicy : public testing::TestWithParam<std::tuple<Policy, std::uint32_t>> {
 protected:
  Scenario scenario() const {
    Scenario scenario;
    scenario.options.policy = std::get<0>(GetParam());
    scenario.ranks = std::get<1>(GetParam());
    return scenario;
  }
};

TEST_P(EveryPolicy, EachShardCountsOnceWithTheRightValue) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    Scenario scenario = this->scenario();
    scenario.seed = seed;
    scenario.stages = {bag(300), bag(0), bag(1), bag(50)};
    WiredRanks ranks(scenario);
    ASSERT_EQ(ranks.run(), all(scenario.ranks, 0)) << "seed " << seed;
    EXPECT_TRUE(ranks.sink.holds_exactly({0, 300}, 0));
    EXPECT_TRUE(ranks.sink.holds_exactly({0, 1}, 2));
    EXPECT_TRUE(ranks.sink.holds_exactly({0, 50}, 3));
    EXPECT_EQ(ranks.progress().duplicates, 0u);
  }
}

TEST_P(EveryPolicy, FailuresAreTriedAgainAndQuarantinedOnlyAtTheLast) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    Scenario scenario = this->scenario();
    scenario.seed = seed;
    scenario.stages = {bag(100)};
    scenario.failure_probability = 0.1;
    scenario.shard_that_always_fails = 42;
    WiredRanks ranks(scenario);
    ASSERT_EQ(ranks.run(), all(scenario.ranks, 1)) << "seed " << seed;
    EXPECT_EQ(ranks.sink.values.size(), 99u);
    EXPECT_EQ(ranks.sink.skipped.size(), 1u);
    EXPECT_TRUE((ranks.sink.skipped.contains({0, 42})));
    EXPECT_GT(ranks.progress().retries, 2u);
  }
}

TEST_P(EveryPolicy, MapReduceBringsEveryPartToItsPartitionOnce) {
  constexpr std::uint64_t kPartitions = 7;
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    Scenario scenario = this->scenario();
    scenario.seed = seed;
    scenario.stages = {map_stage(40), reduce_stage(kPartitions), map_stage(60),
                       reduce_stage(kPartitions)};
    scenario.failure_probability = seed == 1 ? 0 : 0.1;
    WiredRanks ranks(scenario);
    ASSERT_EQ(ranks.run(), all(scenario.ranks, 0)) << "seed " << seed;
    for (const std::uint16_t reduce : {std::uint16_t{1}, std::uint16_t{3}}) {
      for (std::uint64_t p = 0; p < kPartitions; ++p) {
        std::uint64_t expected = 0;
        for (std::uint64_t shard = 0; shard < scenario.stages[reduce - 1u].shards; ++shard) {
          if ((shard + p) % 3 != 0) expected += part_of(shard, p);
        }
        std::uint64_t value = 0;
        const auto& bytes = ranks.sink.values[{reduce, p}];
        ASSERT_EQ(bytes.size(), 8u) << p;
        std::memcpy(&value, bytes.data(), 8);
        EXPECT_EQ(value, expected) << "stage " << reduce << " partition " << p;  // I8
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, EveryPolicy,
                         testing::Combine(testing::Values(Policy::kDynamic, Policy::kAffinity,
                                                          Policy::kStatic, Policy::kPeer),
                                          testing::Values(1u, 2u, 3u, 7u)),
                         [](const auto& test) {
                           return std::string(name_of(std::get<0>(test.param))) + "_" +
                                  std::to_string(std::get<1>(test.param));
                         });

// ---- corners ----

TEST(WiredRanks, FixedBatchesAndPrefetchGiveTheSameResult) {
  for (const std::uint32_t batch : {1u, 3u, 1000u}) {
    for (const std::uint32_t prefetch : {1u, 2u, 50u}) {
      Scenario scenario;
      scenario.options.batch = batch;
      scenario.options.prefetch = prefetch;
      WiredRanks ranks(scenario);
      ASSERT_EQ(ranks.run(), all(3, 0));
      EXPECT_TRUE(ranks.sink.holds_exactly({0, 200}));
    }
  }
}

TEST(WiredRanks, RanksWithoutAShareStealTheirs) {
  Scenario scenario;
  scenario.ranks = 6;
  scenario.options.policy = Policy::kPeer;
  scenario.stages = {bag(4)};
  WiredRanks ranks(scenario);
  ASSERT_EQ(ranks.run(), all(6, 0));
  EXPECT_TRUE(ranks.sink.holds_exactly({0, 4}));
}

// A thief asks again and again only with pauses: the traffic of an idle rank is bounded.
TEST(WiredRanks, ThievesDoNotFloodTheirVictims) {
  Scenario scenario;
  scenario.ranks = 4;
  scenario.options.policy = Policy::kPeer;
  scenario.stages = {bag(1)};
  scenario.cost_max = 20 * kSecond;
  WiredRanks ranks(scenario);
  ASSERT_EQ(ranks.run(), all(4, 0));
  const double seconds = 3 * 20;  // opening, computing, writing
  EXPECT_LT(static_cast<double>(ranks.frames),
            3 * 2 * seconds * static_cast<double>(kSecond / Worker::kStealPauseMax) + 1000);
}

TEST(WiredRanks, ACoordinatorThatOnlyCoordinatesComputesNothing) {
  Scenario scenario;
  scenario.options.coordinator_computes = false;
  scenario.stages = {map_stage(20), reduce_stage(5)};
  WiredRanks ranks(scenario);
  ASSERT_EQ(ranks.run(), all(3, 0));
}

TEST(WiredRanks, TheSameSeedGivesTheSameRun) {  // I14
  Scenario scenario;
  scenario.failure_probability = 0.1;
  WiredRanks once(scenario);
  WiredRanks again(scenario);
  EXPECT_EQ(once.run(), again.run());
  EXPECT_EQ(once.frames, again.frames);
  EXPECT_EQ(once.sink.values, again.sink.values);
}

}  // namespace
}  // namespace regroup
