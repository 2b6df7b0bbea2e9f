// What a tree of ranks says, as values: branches, merged answers, and how ranks cross the wire.
#include "runtime/protocol/agreement.hpp"

#include <gtest/gtest.h>

namespace regroup {
namespace {

RankSet from_to(std::uint32_t first, std::uint32_t end) {
  RankSet set;
  for (; first < end; ++first) set.insert(RankId{first});
  return set;
}

View view_of(RankSet members) {
  return {.epoch = Epoch{2},
          .members = members,
          .coordinator = members.front(),
          .joined = {},
          .ledger_holder = members.front(),
          .ledger = 0};
}

// How many messages in a row it takes to reach the last.
std::size_t depth(const RankSet& ranks, std::uint32_t fanout) {
  std::size_t deepest = 0;
  for (const Branch& branch : make_branches(ranks, fanout)) {
    deepest = std::max(deepest, 1 + depth(branch.charge, fanout));
  }
  return deepest;
}

TEST(Agreement, BranchesAreOfTheSameSizeAndHoldEveryRankOnce) {
  for (const std::uint32_t fanout : {1u, 2u, 3u, 8u, 1000u}) {
    for (const std::uint32_t count : {0u, 1u, 2u, 3u, 7u, 8u, 9u, 63u, 999u}) {
      const RankSet ranks = from_to(5, 5 + count);
      const auto branches = make_branches(ranks, fanout);
      EXPECT_EQ(branches.size(), std::min(fanout, count));
      RankSet all;
      for (const Branch& branch : branches) {
        EXPECT_TRUE(all.insert(branch.head));
        for (const RankId rank : branch.charge) EXPECT_TRUE(all.insert(rank));
        EXPECT_LE(branches.front().charge.size(), branch.charge.size() + 1);
      }
      EXPECT_EQ(all, ranks);
    }
  }
}

TEST(Agreement, ATreeIsLogarithmicInDepth) {
  EXPECT_EQ(depth(from_to(0, 8), 8), 1u);
  EXPECT_EQ(depth(from_to(0, 999), 8), 4u);
  EXPECT_EQ(depth(from_to(0, 999), 2), 9u);
  EXPECT_EQ(depth(from_to(0, 50), 1), 50u) << "a chain";
}

TEST(Agreement, MergedAnswersAreThoseOfAll) {
  Answers all{.ranks = {RankId{1}}, .ledgers = {{RankId{1}, 7}}, .best_ballot = {}, .value = {}};
  all.add({.ranks = {RankId{2}, RankId{3}},
           .ledgers = {{RankId{3}, 9}},
           .best_ballot = Ballot{20},
           .value = view_of({RankId{2}})});
  all.add({.ranks = {RankId{4}},
           .ledgers = {},
           .best_ballot = Ballot{10},
           .value = view_of({RankId{4}})});
  all.add({.ranks = {RankId{3}}, .ledgers = {{RankId{3}, 9}}, .best_ballot = {}, .value = {}});

  EXPECT_EQ(all.ranks, from_to(1, 5));
  EXPECT_EQ(all.best_ballot, Ballot{20}) << "the highest, whoever comes last";
  EXPECT_EQ(all.value, view_of({RankId{2}}));
  const std::vector<std::pair<RankId, LedgerPosition>> ledgers{{RankId{1}, 7}, {RankId{3}, 9}};
  EXPECT_EQ(all.ledgers, ledgers) << "of each rank once";
}

TEST(Agreement, ThoseWhoWereToBeAskedByTheLostAreOrphans) {
  Round round;
  round.branches = {{RankId{1}, from_to(2, 5)}, {RankId{5}, from_to(6, 9)}};
  round.answers.ranks = {RankId{3}};

  EXPECT_TRUE(round.take_orphans({RankId{2}}).empty()) << "it asks nobody";
  EXPECT_EQ(round.take_orphans({RankId{1}}), (RankSet{RankId{2}, RankId{4}}));
  EXPECT_TRUE(round.take_orphans({RankId{1}}).empty()) << "once";
  EXPECT_EQ(round.branches.size(), 1u);
}

TEST(Agreement, RunsOfRanksCrossTheWire) {
  const RankSet gaps{RankId{0}, RankId{2}, RankId{3}, RankId{4}, RankId{999}};
  for (const RankSet& set : {RankSet{}, from_to(0, 1000), gaps}) {
    Buffer bytes;
    Writer writer(bytes);
    put_rank_runs(writer, set);
    Reader reader(bytes.view());
    EXPECT_EQ(get_rank_runs(reader, 1000), set);
    EXPECT_TRUE(reader.complete());
    for (std::size_t length = 0; length < bytes.size(); ++length) {
      Reader cut(bytes.view().first(length));
      EXPECT_FALSE(get_rank_runs(cut, 1000)) << "cut to " << length;
    }
  }
}

TEST(Agreement, RunsThatAreNoneAreRefused) {
  const auto reads = [](const std::vector<std::uint32_t>& words) {
    Buffer bytes;
    Writer writer(bytes);
    for (const std::uint32_t word : words) writer.put(word);
    Reader reader(bytes.view());
    return get_rank_runs(reader, 10).has_value();
  };
  EXPECT_TRUE(reads({2, 0, 3, 4, 6}));
  EXPECT_FALSE(reads({2, 4, 2, 0, 3})) << "not in order";
  EXPECT_FALSE(reads({2, 0, 3, 2, 3})) << "they overlap";
  EXPECT_FALSE(reads({2, 0, 3, 3, 3})) << "one run in two pieces";
  EXPECT_FALSE(reads({1, 4, 0})) << "of nobody";
  EXPECT_FALSE(reads({1, 4, 7})) << "beyond the run's ranks";
  EXPECT_FALSE(reads({1, 4, ~0u})) << "beyond the run's ranks";
  EXPECT_FALSE(reads({1, ~0u, 2})) << "beyond the run's ranks";
  EXPECT_FALSE(reads({~0u, 0, 1})) << "more than is there";
}

TEST(Agreement, OtherRanksAreSomeOrNotThere) {
  Buffer none;
  Writer writer(none);
  put_other_ranks(writer, {});
  EXPECT_TRUE(none.empty());
  Reader nothing(none.view());
  EXPECT_EQ(get_other_ranks(nothing, 10), RankSet());
  put_rank_runs(writer, {});
  Reader no_run(none.view());
  EXPECT_FALSE(get_other_ranks(no_run, 10)) << "said, and nobody meant";
}

}  // namespace
}  // namespace regroup
