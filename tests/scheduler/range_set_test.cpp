// The range set, against a plain std::set of shard numbers.
#include "scheduler/range_set.hpp"

#include <random>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace regroup {
namespace {

ShardRange range(std::uint64_t first, std::uint64_t count) {
  return {ShardId{first}, count};
}

RangeSet set_of(std::initializer_list<ShardRange> ranges) {
  RangeSet set;
  for (const ShardRange& one : ranges) set.insert(one);
  return set;
}

testing::AssertionResult holds(const RangeSet& set, std::vector<ShardRange> expected) {
  if (std::ranges::equal(set.ranges(), expected)) return testing::AssertionSuccess();
  auto result = testing::AssertionFailure() << "the set holds";
  for (const auto& one : set.ranges())
    result << " [" << one.first.value << " +" << one.count << ")";
  return result;
}

TEST(RangeSet, JoinsNeighboursAndOverlaps) {
  RangeSet set;

  EXPECT_EQ(set.insert(range(10, 5)), 5U);
  EXPECT_EQ(set.insert(range(20, 5)), 5U);
  EXPECT_EQ(set.insert(range(30, 5)), 5U);
  EXPECT_EQ(set.insert(range(15, 5)), 5U);
  EXPECT_TRUE(holds(set, {range(10, 15), range(30, 5)}));
  EXPECT_EQ(set.insert(range(0, 40)), 20U);

  EXPECT_TRUE(holds(set, {range(0, 40)}));
  EXPECT_EQ(set.count(), 40U);
}

TEST(RangeSet, EraseSplits) {
  RangeSet set = set_of({range(0, 10), range(20, 10), range(40, 10)});

  EXPECT_EQ(set.erase(range(3, 2)), 2U);
  EXPECT_TRUE(holds(set, {range(0, 3), range(5, 5), range(20, 10), range(40, 10)}));
  EXPECT_EQ(set.erase(range(8, 37)), 2U + 10U + 5U);

  EXPECT_TRUE(holds(set, {range(0, 3), range(5, 3), range(45, 5)}));
  EXPECT_EQ(set.count(), 11U);
}

TEST(RangeSet, EmptyRangesChangeNothing) {
  RangeSet set = set_of({range(5, 5)});

  EXPECT_EQ(set.insert(range(0, 0)), 0U);
  EXPECT_EQ(set.erase(range(7, 0)), 0U);

  EXPECT_TRUE(holds(set, {range(5, 5)}));
  EXPECT_TRUE(set.contains(range(100, 0)));
}

TEST(RangeSet, TakesFromFrontAndBack) {
  RangeSet set = set_of({range(0, 4), range(10, 4), range(20, 4)});

  const RangeSet front = set.take_front(6);
  const RangeSet back = set.take_back(3);

  EXPECT_TRUE(holds(front, {range(0, 4), range(10, 2)}));
  EXPECT_EQ(front.count(), 6U);
  EXPECT_TRUE(holds(back, {range(21, 3)}));
  EXPECT_EQ(back.count(), 3U);
  EXPECT_TRUE(holds(set, {range(12, 2), range(20, 1)}));
  EXPECT_EQ(set.count(), 3U);
}

TEST(RangeSet, TakesAllWhenAskedForMore) {
  RangeSet set = set_of({range(0, 4), range(10, 4)});

  const RangeSet all = set.take_back(100);

  EXPECT_EQ(all.count(), 8U);
  EXPECT_TRUE(set.empty());
  EXPECT_TRUE(set.take_front(1).empty());
  EXPECT_EQ(set.pop_front(1).count, 0U);
}

TEST(RangeSet, PopsOneRunAtATime) {
  RangeSet set = set_of({range(0, 4), range(10, 4)});

  EXPECT_EQ(set.pop_front(3), range(0, 3));
  EXPECT_EQ(set.pop_front(3), range(3, 1));
  EXPECT_EQ(set.pop_front(9), range(10, 4));
  EXPECT_TRUE(set.empty());
}

TEST(RangeSet, WorksUpToTheLargestShardNumber) {
  const std::uint64_t top = ~std::uint64_t{0};
  RangeSet set = set_of({range(top - 4, 4)});

  EXPECT_TRUE(set.contains(ShardId{top - 1}));
  EXPECT_DEATH(set.insert(range(top - 1, 2)), "largest shard number");
}

TEST(RangeSet, OutgrowingItsBoundIsABrokenInvariant) {
  RangeSet set(2);
  set.insert(range(0, 10));
  set.insert(range(20, 1));

  EXPECT_DEATH(set.insert(range(30, 1)), "outgrew");
  EXPECT_DEATH(set.erase(range(5, 1)), "outgrew");
}

class RangeSetRandom : public testing::TestWithParam<std::uint64_t> {
 protected:
  static constexpr std::uint64_t kShards = 300;

  std::uint64_t below(std::uint64_t bound) { return random_() % bound; }

  void expect_matches_model() {
    std::vector<ShardRange> expected;
    for (const std::uint64_t shard : model_) {
      if (!expected.empty() && expected.back().end().value == shard) {
        ++expected.back().count;
      } else {
        expected.push_back(range(shard, 1));
      }
    }
    ASSERT_TRUE(holds(set_, expected));
    ASSERT_EQ(set_.count(), model_.size());
  }

  // What take_front and take_back return, against the model's lowest or highest shards.
  void expect_taken(const RangeSet& taken, std::uint64_t count, bool front) {
    ASSERT_EQ(taken.count(), std::min<std::uint64_t>(count, model_.size()));
    for (std::uint64_t i = 0; i < taken.count(); ++i) {
      const auto at = front ? model_.begin() : std::prev(model_.end());
      ASSERT_TRUE(taken.contains(ShardId{*at}));
      model_.erase(at);
    }
  }

  void step() {
    const std::uint64_t first = below(kShards);
    const ShardRange touched = range(first, below(std::min<std::uint64_t>(40, kShards - first)));
    std::uint64_t changed = 0;
    switch (below(8)) {
      case 0:
      case 1:
      case 2:
        for (std::uint64_t i = 0; i < touched.count; ++i)
          changed += model_.insert(first + i).second;
        ASSERT_EQ(set_.insert(touched), changed);
        break;
      case 3:
      case 4:
        for (std::uint64_t i = 0; i < touched.count; ++i) changed += model_.erase(first + i);
        ASSERT_EQ(set_.erase(touched), changed);
        break;
      case 5: {
        const std::uint64_t count = below(30);
        expect_taken(set_.take_front(count), count, true);
        break;
      }
      case 6: {
        const std::uint64_t count = below(30);
        expect_taken(set_.take_back(count), count, false);
        break;
      }
      default:
        for (std::uint64_t i = 0; i < touched.count; ++i) changed += model_.count(first + i);
        ASSERT_EQ(set_.contains(touched), changed == touched.count);
        ASSERT_EQ(set_.contains(touched.first), model_.contains(first));
        break;
    }
  }

  std::mt19937_64 random_{GetParam()};
  RangeSet set_;
  std::set<std::uint64_t> model_;
};

TEST_P(RangeSetRandom, MatchesTheModel) {
  for (int i = 0; i < 3000; ++i) {
    step();
    if (HasFatalFailure()) return;
    expect_matches_model();
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, RangeSetRandom, testing::Range<std::uint64_t>(0, 10));

}  // namespace
}  // namespace regroup
