// The ordered merge: the same bits for any order of arrival, and nothing stored when it is in
// order.
#include "scheduler/ordered_merge.hpp"

#include <bit>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace regroup {
namespace {

struct Sum {
  void operator()(double& into, double&& next) const { into += next; }
};
struct Join {
  void operator()(std::string& into, std::string&& next) const { into += next; }
};
// Writes the tree of merges down.
struct Bracket {
  void operator()(std::string& into, std::string&& next) const { into = "(" + into + next + ")"; }
};

// A batch of consecutive shards, or one that is skipped.
struct Arrival {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  bool skipped = false;
};

template <class T, class Merge>
std::optional<T> merge_all(const std::vector<T>& values, const std::vector<Arrival>& arrivals,
                           std::uint64_t block_shards) {
  OrderedMerge<T, Merge> merge(values.size(), {}, block_shards);
  for (const Arrival& arrival : arrivals) {
    if (arrival.skipped) {
      merge.skip(ShardId{arrival.first});
      continue;
    }
    const auto begin = values.begin() + static_cast<std::ptrdiff_t>(arrival.first);
    std::vector<T> batch(begin, begin + static_cast<std::ptrdiff_t>(arrival.count));
    merge.add(ShardId{arrival.first}, batch);
  }
  return merge.finish();
}

// The definition, as plain as can be: what every order of arrival must give.
template <class T, class Merge>
std::optional<T> oracle(const std::vector<T>& values, const std::vector<bool>& skipped,
                        std::uint64_t block_shards) {
  const Merge merge;
  auto absorb = [&](std::optional<T>& into, T value) {
    if (into) {
      merge(*into, std::move(value));
    } else {
      into = std::move(value);
    }
  };
  std::optional<T> total;
  for (std::size_t begin = 0; begin < values.size(); begin += block_shards) {
    std::optional<T> block;
    for (std::size_t i = begin; i < std::min<std::size_t>(begin + block_shards, values.size());
         ++i) {
      if (!skipped[i]) absorb(block, values[i]);
    }
    if (block) absorb(total, std::move(*block));
  }
  return total;
}

// Cuts the shards into batches of random sizes, some of which are skipped, shard by shard.
std::vector<Arrival> random_arrivals(std::uint64_t shards, std::uint64_t batch_max,
                                     std::vector<bool>& skipped, std::mt19937_64& random) {
  std::vector<Arrival> arrivals;
  skipped.assign(shards, false);
  for (std::uint64_t at = 0; at < shards;) {
    const std::uint64_t count = std::min(shards - at, 1 + random() % batch_max);
    if (random() % 8 == 0) {
      for (std::uint64_t i = 0; i < count; ++i) {
        skipped[at + i] = true;
        arrivals.push_back({at + i, 1, true});
      }
    } else {
      arrivals.push_back({at, count, false});
    }
    at += count;
  }
  return arrivals;
}

double wild_double(std::mt19937_64& random) {
  const double fraction = std::ldexp(static_cast<double>(random() >> 11), -53);
  const int exponent = static_cast<int>(random() % 200) - 100;
  return std::ldexp(random() % 2 == 0 ? fraction : -fraction, exponent);
}

TEST(OrderedMerge, TheTreeIsBlocksOfLeftFolds) {
  OrderedMerge<std::string, Bracket> merge(7, {}, 4);
  std::vector<std::string> values{"a", "b", "c", "d", "e", "f", "g"};

  merge.add(ShardId{0}, values);

  EXPECT_EQ(merge.finish(), "((((ab)c)d)((ef)g))");
}

TEST(OrderedMerge, SkippedShardsLeaveTheTreeAsItIs) {
  OrderedMerge<std::string, Bracket> merge(12, {}, 4);
  std::vector<std::string> a{"a"}, c{"c"}, d{"d"}, i{"i"}, jkl{"j", "k", "l"};

  merge.add(ShardId{9}, jkl);
  for (const std::uint64_t skipped : {7, 5, 4, 1, 6}) merge.skip(ShardId{skipped});
  merge.add(ShardId{3}, d);
  merge.add(ShardId{8}, i);
  merge.add(ShardId{2}, c);
  merge.add(ShardId{0}, a);

  EXPECT_EQ(merge.finish(), "(((ac)d)(((ij)k)l))");
}

TEST(OrderedMerge, IsEmptyWithoutValues) {
  EXPECT_EQ((OrderedMerge<double, Sum>(0).finish()), std::nullopt);

  OrderedMerge<double, Sum> merge(3, {}, 2);
  for (const std::uint64_t shard : {2, 0, 1}) merge.skip(ShardId{shard});

  EXPECT_EQ(merge.settled(), 3U);
  EXPECT_EQ(merge.finish(), std::nullopt);
}

class OrderedMergeRandom : public testing::TestWithParam<std::uint64_t> {};

TEST_P(OrderedMergeRandom, SumsHaveTheSameBitsInAnyOrder) {
  std::mt19937_64 random(GetParam());
  for (const std::uint64_t block_shards : {1UL, 8UL, 1024UL}) {
    std::vector<double> values(1 + random() % 6000);
    for (double& value : values) value = wild_double(random);
    std::vector<bool> skipped;
    auto arrivals = random_arrivals(values.size(), 1 + random() % 2000, skipped, random);
    const auto expected = oracle<double, Sum>(values, skipped, block_shards);

    for (int shuffle = 0; shuffle < 10; ++shuffle) {
      std::shuffle(arrivals.begin(), arrivals.end(), random);

      const auto total = merge_all<double, Sum>(values, arrivals, block_shards);

      ASSERT_EQ(total.has_value(), expected.has_value());
      if (total) {
        ASSERT_EQ(std::bit_cast<std::uint64_t>(*total), std::bit_cast<std::uint64_t>(*expected));
      }
    }
  }
}

TEST_P(OrderedMergeRandom, StringsJoinInShardOrder) {
  std::mt19937_64 random(GetParam());
  for (const std::uint64_t block_shards : {2UL, 64UL, 1024UL}) {
    std::vector<std::string> values(1 + random() % 4000);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::to_string(i) + ",";
    std::vector<bool> skipped;
    auto arrivals = random_arrivals(values.size(), 1 + random() % 300, skipped, random);
    std::shuffle(arrivals.begin(), arrivals.end(), random);

    const auto total = merge_all<std::string, Join>(values, arrivals, block_shards);

    ASSERT_EQ(total, (oracle<std::string, Join>(values, skipped, block_shards)));
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, OrderedMergeRandom, testing::Range<std::uint64_t>(0, 20));

// Guards the test above: with these values a sum in another order does have other bits.
TEST(OrderedMerge, TheValuesOfTheTestAreWild) {
  std::mt19937_64 random(0);
  std::vector<double> values(1000);
  for (double& value : values) value = wild_double(random);
  const double forward = std::accumulate(values.begin(), values.end(), 0.0);

  EXPECT_NE(forward, std::accumulate(values.rbegin(), values.rend(), 0.0));
}

TEST(OrderedMerge, TakesValuesThatCanOnlyMove) {
  using Text = std::unique_ptr<std::string>;
  auto join = [](Text& into, Text&& next) { *into += *next; };
  OrderedMerge<Text, decltype(join)> merge(3, join, 2);

  for (const std::uint64_t shard : {2, 1, 0}) {
    std::vector<Text> one;
    one.push_back(std::make_unique<std::string>(std::to_string(shard)));
    merge.add(ShardId{shard}, one);
  }

  EXPECT_EQ(**merge.finish(), "012");
}

TEST(OrderedMerge, StoresNothingInOrderAndFreesWhatItStored) {
  constexpr std::uint64_t kShards = 1 << 20;
  OrderedMerge<double, Sum> merge(kShards);
  const std::size_t bytes_empty = merge.memory_bytes();
  std::vector<double> batch(64, 1.0);

  std::size_t bytes_max = 0;
  for (std::uint64_t at = 0; at < kShards / 2; at += 64) {
    merge.add(ShardId{at}, batch);
    bytes_max = std::max(bytes_max, merge.memory_bytes());
  }
  EXPECT_LT(bytes_max, bytes_empty + 256);

  // Backwards: each block is stored until it is complete, then only its result is.
  for (std::uint64_t at = kShards; at > kShards / 2 + 64; at -= 64) {
    merge.add(ShardId{at - 64}, batch);
  }
  constexpr std::size_t kBlocks = kShards / 2 / 1024;
  EXPECT_LT(merge.memory_bytes(), bytes_empty + kBlocks * 128 + 1024 * 32);
  merge.add(ShardId{kShards / 2}, batch);
  EXPECT_LE(merge.memory_bytes(), bytes_empty);
  EXPECT_EQ(merge.finish(), static_cast<double>(kShards));
}

TEST(OrderedMergeDeathTest, EveryShardCountsOnce) {
  std::vector<double> two{1, 2};
  OrderedMerge<double, Sum> merge(8, {}, 4);
  merge.add(ShardId{2}, two);
  merge.add(ShardId{4}, two);
  merge.skip(ShardId{7});

  EXPECT_DEATH(merge.add(ShardId{2}, two), "second time");
  EXPECT_DEATH(merge.add(ShardId{1}, two), "second time");
  EXPECT_DEATH(merge.add(ShardId{4}, two), "second time");
  EXPECT_DEATH(merge.add(ShardId{6}, two), "second time");
  EXPECT_DEATH(merge.skip(ShardId{7}), "second time");
  EXPECT_DEATH(merge.skip(ShardId{3}), "second time");
  EXPECT_DEATH(merge.add(ShardId{7}, two), "beyond the stage");
  EXPECT_DEATH(merge.skip(ShardId{8}), "beyond the stage");
  EXPECT_DEATH(merge.finish(), "shards missing");
  merge.add(ShardId{0}, two);
  EXPECT_DEATH(merge.skip(ShardId{0}), "second time");
  EXPECT_DEATH((OrderedMerge<double, Sum>(8, {}, 3)), "power of two");
}

}  // namespace
}  // namespace regroup
