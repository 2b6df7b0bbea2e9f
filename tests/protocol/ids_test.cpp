// Ids are numbers that cannot be mixed up, and nothing more.
#include "runtime/protocol/ids.hpp"

#include <concepts>
#include <type_traits>
#include <unordered_set>

#include <gtest/gtest.h>

namespace regroup {
namespace {

static_assert(!std::convertible_to<std::uint32_t, RankId>, "a bare number is no rank");
static_assert(!std::convertible_to<RankId, std::uint32_t>);
static_assert(!std::convertible_to<ShardId, Epoch>, "a shard is not an epoch");
static_assert(!std::equality_comparable_with<ShardId, Epoch>);
static_assert(std::is_trivially_copyable_v<ShardId> && sizeof(ShardId) == 8);
static_assert(sizeof(RankId) == 4 && sizeof(StageId) == 2 && sizeof(Attempt) == 4);

TEST(Ids, AreOrderedLikeTheirNumbers) {
  EXPECT_EQ(RankId{}, RankId{0});
  EXPECT_LT(Epoch{1}, Epoch{2});
  EXPECT_GT(ShardId{~std::uint64_t{0}}, ShardId{1});
}

TEST(Ids, AreKeysOfHashedContainers) {
  const std::unordered_set<ShardId> shards{ShardId{1}, ShardId{2}, ShardId{1}};

  EXPECT_EQ(shards.size(), 2u);
  EXPECT_TRUE(shards.contains(ShardId{2}));
  EXPECT_FALSE(shards.contains(ShardId{3}));
}

TEST(Ids, ARangeIsHalfOpen) {
  const ShardRange range{ShardId{5}, 3};

  EXPECT_EQ(range.end(), ShardId{8});
  EXPECT_EQ(range, (ShardRange{ShardId{5}, 3}));
  EXPECT_NE(range, (ShardRange{ShardId{5}, 4}));
  EXPECT_EQ(ShardRange{}.end(), ShardId{0});
}

}  // namespace
}  // namespace regroup
