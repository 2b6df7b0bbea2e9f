#include "runtime/protocol/dead_links.hpp"

#include <gtest/gtest.h>

namespace regroup {
namespace {

constexpr RankId kZero{0};
constexpr RankId kOne{1};
constexpr RankId kTwo{2};
constexpr RankId kThree{3};

DeadLinks links(std::initializer_list<std::pair<RankId, RankId>> ends) {
  DeadLinks links;
  for (const auto& [a, b] : ends) links.insert(a, b);
  return links;
}

TEST(DeadLinks, AreHeldOnceWhicheverEndTells) {
  DeadLinks links;
  EXPECT_TRUE(links.insert(kTwo, kOne));
  EXPECT_FALSE(links.insert(kOne, kTwo));
  EXPECT_FALSE(links.insert(kOne, kOne)) << "no link to oneself";
  EXPECT_TRUE(links.insert(kZero, kOne));
  DeadLinks others;
  EXPECT_TRUE(others.insert_all(links));
  EXPECT_FALSE(others.insert_all(links));
  EXPECT_EQ(others, links);
}

TEST(DeadLinks, TheHigherEndIsTheWorstOfOneLink) {
  const RankSet all{kZero, kOne, kTwo, kThree};
  EXPECT_EQ(links({{kThree, kOne}}).worst_end(all, kZero), kThree);
  EXPECT_EQ(DeadLinks{}.worst_end(all, kZero), std::nullopt);
}

TEST(DeadLinks, TheEndOfMostIsTheWorst) {
  const RankSet all{kZero, kOne, kTwo, kThree};
  const DeadLinks hub = links({{kOne, kTwo}, {kOne, kThree}});
  EXPECT_EQ(hub.worst_end(all, kZero), kOne);
  EXPECT_EQ(hub.worst_end({kZero, kOne, kThree}, kZero), kThree) << "those outside do not count";
  EXPECT_EQ(hub.worst_end({kZero, kTwo, kThree}, kZero), std::nullopt);
}

TEST(DeadLinks, WhoIsToBeKeptIsNotNamed) {
  const RankSet all{kZero, kOne, kTwo};
  const DeadLinks hub = links({{kTwo, kZero}, {kTwo, kOne}});
  EXPECT_EQ(hub.worst_end(all, kTwo), kOne);
}

TEST(DeadLinks, AreBounded) {
  DeadLinks links;
  for (std::uint32_t i = 1; i <= DeadLinks::kLinksMax; ++i) {
    EXPECT_TRUE(links.insert(kZero, RankId{i}));
  }
  EXPECT_FALSE(links.insert(kZero, RankId{1000}));
}

TEST(DeadLinks, CrossTheWire) {
  const DeadLinks sent = links({{kThree, kOne}, {kZero, kTwo}});
  Buffer bytes;
  Writer writer(bytes);
  sent.put(writer);
  Reader reader(bytes.view());
  EXPECT_EQ(DeadLinks::get(reader, 4), sent);
  EXPECT_TRUE(reader.complete());
  Reader of_fewer(bytes.view());
  EXPECT_FALSE(DeadLinks::get(of_fewer, 3)) << "a rank that is none of the run's";
  Reader cut_short(bytes.view().first(bytes.size() - 1));
  EXPECT_FALSE(DeadLinks::get(cut_short, 4));
}

std::optional<DeadLinks> read(std::initializer_list<std::uint32_t> words) {
  Buffer bytes;
  Writer writer(bytes);
  for (const std::uint32_t word : words) writer.put(word);
  Reader reader(bytes.view());
  return DeadLinks::get(reader, 1000);
}

TEST(DeadLinks, NonsenseIsRefused) {
  EXPECT_TRUE(read({1, 0, 1}));
  EXPECT_FALSE(read({1, 1, 1})) << "a link to oneself";
  EXPECT_FALSE(read({1, 2, 1})) << "the higher end first";
  EXPECT_FALSE(read({2, 0, 2, 0, 1})) << "out of order";
  EXPECT_FALSE(read({2, 0, 1, 0, 1})) << "twice";
  EXPECT_FALSE(read({2, 0, 1})) << "fewer than it says";
  Buffer bytes;
  Writer writer(bytes);
  writer.put(static_cast<std::uint32_t>(DeadLinks::kLinksMax + 1));
  for (std::uint32_t i = 1; i <= DeadLinks::kLinksMax + 1; ++i) {
    writer.put(kZero);
    writer.put(RankId{i});
  }
  Reader reader(bytes.view());
  EXPECT_FALSE(DeadLinks::get(reader, 1000)) << "too many";
}

}  // namespace
}  // namespace regroup
