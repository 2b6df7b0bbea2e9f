// Every source proposes each shard of its stage exactly once, and once more for each time it was
// given back, whoever asks in whatever order; and each keeps the promise of its policy.
#include "scheduler/shard_source.hpp"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "scheduler/hash_ring.hpp"

namespace regroup {
namespace {

const std::vector<RankId> kWorkers{RankId{1}, RankId{2}, RankId{5}};
constexpr RankId kStranger{3};

std::unique_ptr<ShardSource> source_of(Policy policy, std::uint64_t shards,
                                       StageKind kind = StageKind::kBag) {
  return make_shard_source({kind, shards}, policy, kWorkers, partition_owners(kWorkers, shards));
}

struct Case {
  Policy policy;
  StageKind kind;
};

class EverySource : public testing::TestWithParam<Case> {};

// Ranks take and give back at random until nothing is left.
TEST_P(EverySource, ProposesEachShardOnceAndOnceMoreForEachReturn) {
  std::mt19937_64 random(7);
  for (const std::uint64_t shards : {0ull, 1ull, 2ull, 7ull, 100ull, 1000ull}) {
    const auto source = source_of(GetParam().policy, shards, GetParam().kind);
    std::map<std::uint64_t, int> owed;  // proposals still to come
    for (std::uint64_t i = 0; i < shards; ++i) owed[i] = 1;
    std::uint64_t left = shards;
    std::uint64_t returns = shards / 2;
    while (source->left() != 0) {
      ASSERT_EQ(source->left(), left);
      const RankId rank = kWorkers[random() % kWorkers.size()];
      const std::uint64_t mine = source->left_for(rank);
      ASSERT_LE(mine, left);
      const std::uint64_t count_max = 1 + random() % 9;
      const ShardRange taken = source->take(rank, count_max);
      ASSERT_LE(taken.count, count_max);
      ASSERT_EQ(taken.count == 0, mine == 0) << "what left_for promises, take gives";
      for (std::uint64_t i = 0; i < taken.count; ++i) {
        ASSERT_EQ(owed[taken.first.value + i]--, 1) << "shard " << taken.first.value + i;
      }
      left -= taken.count;
      if (taken.count == 0 || returns == 0 || random() % 3 != 0) continue;
      const std::uint64_t back = std::min(returns, 1 + random() % taken.count);
      const ShardRange given{ShardId{taken.end().value - back}, back};
      source->give_back(given);
      for (std::uint64_t i = 0; i < back; ++i) ++owed[given.first.value + i];
      left += back;
      returns -= back;
    }
    for (const auto& [shard, count] : owed) ASSERT_EQ(count, 0) << "shard " << shard;
    for (const RankId rank : kWorkers) {
      EXPECT_EQ(source->left_for(rank), 0u);
      EXPECT_EQ(source->take(rank, 5).count, 0u);
    }
  }
}

// A shard given back twice before it was taken again is still one shard.
TEST_P(EverySource, AShardGivenBackTwiceIsProposedOnce) {
  const auto source = source_of(GetParam().policy, 6, GetParam().kind);
  std::uint64_t taken = 0;
  while (source->left() != 0) {
    for (const RankId rank : kWorkers) taken += source->take(rank, 6).count;
  }
  ASSERT_EQ(taken, 6u);
  source->give_back({ShardId{2}, 1});
  source->give_back({ShardId{2}, 1});
  EXPECT_EQ(source->left(), 1u);
  std::uint64_t proposals = 0;
  for (int round = 0; round < 3; ++round) {
    for (const RankId rank : kWorkers) proposals += source->take(rank, 6).count;
  }
  EXPECT_EQ(proposals, 1u);
  EXPECT_EQ(source->left(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Policies, EverySource,
                         testing::Values(Case{Policy::kDynamic, StageKind::kBag},
                                         Case{Policy::kAffinity, StageKind::kBag},
                                         Case{Policy::kStatic, StageKind::kBag},
                                         Case{Policy::kPeer, StageKind::kBag},
                                         Case{Policy::kDynamic, StageKind::kReduce}),
                         [](const auto& test) {
                           return test.param.kind == StageKind::kReduce
                                      ? std::string("reduce")
                                      : std::string(name_of(test.param.policy));
                         });

// ---- dynamic ----

TEST(DynamicSource, GivesNeighboursInOrderAndReturnedOnesFirst) {
  const auto source = source_of(Policy::kDynamic, 10);
  EXPECT_EQ(source->take(RankId{1}, 4), (ShardRange{ShardId{0}, 4}));
  EXPECT_EQ(source->take(RankId{2}, 4), (ShardRange{ShardId{4}, 4}));
  source->give_back({ShardId{1}, 2});
  EXPECT_EQ(source->take(RankId{5}, 9), (ShardRange{ShardId{1}, 2}));
  EXPECT_EQ(source->take(RankId{5}, 9), (ShardRange{ShardId{8}, 2}));
  EXPECT_TRUE(source->recalls());
  EXPECT_FALSE(source->whole_share_at_once());
  EXPECT_FALSE(source->peers_steal());
}

// ---- static and peer ----

TEST(BlockSource, CutsOneBlockARankEqualToWithinOne) {
  for (const Policy policy : {Policy::kStatic, Policy::kPeer}) {
    const auto source = source_of(policy, 11);
    EXPECT_TRUE(source->whole_share_at_once());
    EXPECT_FALSE(source->recalls());
    EXPECT_EQ(source->peers_steal(), policy == Policy::kPeer);
    EXPECT_EQ(source->take(RankId{2}, 100), (ShardRange{ShardId{4}, 4}));
    EXPECT_EQ(source->take(RankId{1}, 100), (ShardRange{ShardId{0}, 4}));
    EXPECT_EQ(source->take(RankId{5}, 100), (ShardRange{ShardId{8}, 3}));
  }
}

TEST(BlockSource, ARankBeyondTheShardsHasNoShare) {
  const auto source = source_of(Policy::kPeer, 2);
  EXPECT_EQ(source->left_for(RankId{5}), 0u);
  EXPECT_EQ(source->take(RankId{5}, 9).count, 0u);
}

// ---- affinity ----

TEST(AffinitySource, GivesHomesFirstThenFromTheRichest) {
  constexpr std::uint64_t kShards = 300;
  const auto source = source_of(Policy::kAffinity, kShards);
  const auto homes = HashRing(kWorkers).place(kShards);
  std::map<RankId, std::uint64_t> home_count;
  for (const RankId home : homes) ++home_count[home];

  for (std::uint64_t i = 0; i < home_count[RankId{1}]; ++i) {
    const ShardRange taken = source->take(RankId{1}, 1);
    ASSERT_EQ(homes[taken.first.value], RankId{1}) << "still at home";
  }
  const RankId richest = home_count[RankId{2}] >= home_count[RankId{5}] ? RankId{2} : RankId{5};
  const ShardRange stolen = source->take(RankId{1}, 1);
  EXPECT_EQ(homes[stolen.first.value], richest);
}

TEST(AffinitySource, StagesOfMoreShardsThanKeysAreCutIntoRuns) {
  constexpr std::uint64_t kShards = 1'000'003;
  const auto source = source_of(Policy::kAffinity, kShards);
  std::uint64_t taken = 0;
  for (ShardRange run; (run = source->take(RankId{2}, kShards)).count != 0;) {
    ASSERT_LE(run.end(), ShardId{kShards});
    taken += run.count;
  }
  EXPECT_EQ(taken, kShards);
}

// ---- reduce ----

TEST(OwnerSource, AReduceShardRunsOnlyWhereItsPartitionIs) {
  constexpr std::uint64_t kPartitions = 50;
  const auto owners = partition_owners(kWorkers, kPartitions);
  for (const Policy policy :
       {Policy::kDynamic, Policy::kStatic, Policy::kPeer, Policy::kAffinity}) {
    const auto source = source_of(policy, kPartitions, StageKind::kReduce);
    EXPECT_FALSE(source->recalls());
    EXPECT_FALSE(source->peers_steal());
    EXPECT_EQ(source->left_for(kStranger), 0u);
    for (const RankId rank : kWorkers) {
      while (source->left_for(rank) != 0) {
        const ShardRange taken = source->take(rank, 8);
        ASSERT_EQ(taken.count, 1u);
        ASSERT_EQ(owners[taken.first.value], rank);
      }
    }
    source->give_back({ShardId{7}, 1});
    EXPECT_EQ(source->left_for(owners[7]), 1u);
    EXPECT_EQ(source->take(owners[7], 1), (ShardRange{ShardId{7}, 1}));
  }
}

// A partition that was reduced needs no owner any more.
TEST(OwnerSource, PartitionsOfOthersAreNotProposed) {
  const std::vector<RankId> owners{kWorkers[0], kStranger, kWorkers[1], kNobody};
  const auto source =
      make_shard_source({StageKind::kReduce, owners.size()}, Policy::kDynamic, kWorkers, owners);
  EXPECT_EQ(source->left(), 2u);
  source->give_back({ShardId{0}, 4});
  EXPECT_EQ(source->left(), 2u);
  EXPECT_EQ(source->take(kWorkers[0], 8), (ShardRange{ShardId{0}, 1}));
  EXPECT_EQ(source->take(kWorkers[1], 8), (ShardRange{ShardId{2}, 1}));
}

TEST(PartitionOwners, AreAPureFunctionOfTheMembers) {
  EXPECT_EQ(partition_owners(kWorkers, 20), partition_owners(kWorkers, 20));
  const auto owners = partition_owners(kWorkers, 30);
  for (const RankId rank : kWorkers) EXPECT_GT(std::ranges::count(owners, rank), 0);
}

// ---- who computes ----

TEST(ComputingRanks, LeavesTheCoordinatorOutOnlyIfToldToAndNotAlone) {
  const View view{
      .epoch = Epoch{1}, .members = {RankId{0}, RankId{1}, RankId{2}}, .coordinator = RankId{0}};
  const View lone{.epoch = Epoch{1}, .members = {RankId{4}}, .coordinator = RankId{4}};
  ScheduleOptions options;
  EXPECT_EQ(computing_ranks(view, options), view.members.list());
  options.coordinator_computes = false;
  EXPECT_EQ(computing_ranks(view, options), (std::vector{RankId{1}, RankId{2}}));
  EXPECT_EQ(computing_ranks(lone, options), lone.members.list());
}

}  // namespace
}  // namespace regroup
