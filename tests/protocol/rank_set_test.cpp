#include "runtime/protocol/rank_set.hpp"

#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace regroup {
namespace {

constexpr RankId kZero{0};
constexpr RankId kOne{1};
constexpr RankId kTwo{2};

TEST(RankSet, KeepsRanksOnceAndInOrder) {
  const RankSet set{kTwo, kZero, kTwo};
  EXPECT_EQ(set.list(), (std::vector{kZero, kTwo}));
  EXPECT_EQ(set.front(), kZero);
  EXPECT_EQ(set.size(), 2u);
  EXPECT_TRUE(set.contains(kTwo));
  EXPECT_FALSE(set.contains(kOne));
  EXPECT_TRUE(RankSet{}.empty());
}

TEST(RankSet, SaysWhetherAChangeChangedIt) {
  RankSet set;
  EXPECT_TRUE(set.insert(kOne));
  EXPECT_FALSE(set.insert(kOne));
  EXPECT_TRUE(set.insert_all({kZero, kOne}));
  EXPECT_FALSE(set.insert_all({kZero, kOne}));
  EXPECT_TRUE(set.erase(kZero));
  EXPECT_FALSE(set.erase(kZero));
  EXPECT_EQ(set, RankSet{kOne});
}

TEST(RankSet, TakesOthersAwayAndHoldsThemAll) {
  RankSet set{kZero, kOne, kTwo};
  EXPECT_TRUE(set.contains_all({kZero, kTwo}));
  EXPECT_TRUE(set.contains_all({}));
  set.erase_all({kZero, RankId{9}});
  EXPECT_EQ(set, (RankSet{kOne, kTwo}));
  EXPECT_FALSE(set.contains_all({kZero}));
  set.clear();
  EXPECT_TRUE(set.empty());
}

TEST(RankSet, IsWhatASetOfTheLibraryIs) {
  std::mt19937_64 random(6);
  RankSet set;
  std::set<std::uint32_t> oracle;
  for (int i = 0; i < 5000; ++i) {
    const auto rank = static_cast<std::uint32_t>(random() % 40);
    if (random() % 2 == 0) {
      ASSERT_EQ(set.insert(RankId{rank}), oracle.insert(rank).second);
    } else {
      ASSERT_EQ(set.erase(RankId{rank}), oracle.erase(rank) == 1);
    }
    ASSERT_EQ(set.size(), oracle.size());
    ASSERT_TRUE(std::ranges::equal(set, oracle, {}, &RankId::value));
  }
}

TEST(RankSet, CrossesTheWire) {
  for (const RankSet& set : {RankSet{}, RankSet{kZero}, RankSet{kZero, kTwo, RankId{999}}}) {
    Buffer bytes;
    Writer writer(bytes);
    put_ranks(writer, set);
    Reader reader(bytes.view());
    EXPECT_EQ(get_ranks(reader, 1000), set);
    EXPECT_TRUE(reader.complete());
    for (std::size_t length = 0; length < bytes.size(); ++length) {
      Reader cut(bytes.view().first(length));
      EXPECT_FALSE(get_ranks(cut, 1000)) << "cut to " << length;
    }
  }
}

TEST(RankSet, RefusesWhatIsNoSetOfRanksOfTheRun) {
  const auto reads = [](const std::vector<std::uint32_t>& words) {
    Buffer bytes;
    Writer writer(bytes);
    for (const std::uint32_t word : words) writer.put(word);
    Reader reader(bytes.view());
    return get_ranks(reader, 3).has_value();
  };
  EXPECT_TRUE(reads({2, 0, 2}));
  EXPECT_FALSE(reads({2, 2, 0})) << "not in order";
  EXPECT_FALSE(reads({2, 1, 1})) << "twice";
  EXPECT_FALSE(reads({1, 3})) << "no rank of the run";
  EXPECT_FALSE(reads({2, 0, ~0u})) << "no rank of the run";
  EXPECT_FALSE(reads({~0u, 0})) << "more than is there";
}

}  // namespace
}  // namespace regroup
