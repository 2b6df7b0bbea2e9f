#include "runtime/host/shrink_talk.hpp"

#include <deque>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace regroup {
namespace {

using Word = ShrinkTalk::Word;

View view_of(std::uint64_t epoch, RankSet members) {
  const RankId first = members.front();
  return {.epoch = Epoch{epoch},
          .members = std::move(members),
          .coordinator = first,
          .joined = {},
          .ledger_holder = first,
          .ledger = 0};
}

constexpr RankId kFirst{0};
constexpr RankId kSecond{1};
constexpr RankId kThird{2};
constexpr RankId kFourth{3};
const RankSet kAll = {kFirst, kSecond, kThird, kFourth};
const RankSet kWithoutFourth = {kFirst, kSecond, kThird};

// Four ranks whose messages wait until they are delivered.
class Cluster {
 public:
  Cluster() {
    for (const RankId rank : kAll) talks_.emplace_back(rank, kAll);
  }

  ShrinkTalk& operator[](RankId rank) { return talks_[rank.value]; }
  void learn_dead(const RankSet& who, RankId dead) {
    for (const RankId rank : who) (*this)[rank].learn_dead(dead);
  }
  void enter(const View& view) {
    for (const RankId rank : view.members) (*this)[rank].enter(view);
  }
  // Messages to and from the lost ranks are lost as well.
  void deliver(const RankSet& lost = {}) {
    for (bool some = true; some;) {
      some = false;
      for (const RankId from : kAll) {
        for (const auto& [to, message] : (*this)[from].take_outgoing()) {
          some = true;
          if (!lost.contains(from) && !lost.contains(to)) (*this)[to].hear(from, message);
        }
      }
    }
  }
  RankSet shrinking() const {
    RankSet ranks;
    for (const RankId rank : kAll) {
      if (talks_[rank.value].may_shrink()) ranks.insert(rank);
    }
    return ranks;
  }

 private:
  std::deque<ShrinkTalk> talks_;
};

TEST(ShrinkTalk, NobodyShrinksWithoutADeath) {
  Cluster ranks;

  ranks.enter(view_of(2, kAll));
  ranks.deliver();

  EXPECT_EQ(ranks.shrinking(), RankSet{});
}

TEST(ShrinkTalk, AllShrinkOnceAllAreReady) {
  Cluster ranks;

  ranks.learn_dead({kFirst, kSecond}, kFourth);
  ranks.enter(view_of(2, kWithoutFourth));
  ranks.deliver();
  EXPECT_EQ(ranks.shrinking(), RankSet{}) << "the third does not know of the death yet";
  ranks.learn_dead({kThird}, kFourth);
  ranks.deliver();

  EXPECT_EQ(ranks.shrinking(), kWithoutFourth);
}

TEST(ShrinkTalk, WaitsForTheViewWithoutTheDead) {
  Cluster ranks;

  ranks.enter(view_of(2, kAll));
  ranks.learn_dead(kWithoutFourth, kFourth);
  ranks.deliver();

  EXPECT_EQ(ranks.shrinking(), RankSet{});
}

TEST(ShrinkTalk, NobodyShrinksWhileALivingRankIsLeftOut) {
  Cluster ranks;
  const RankSet pair = {kFirst, kSecond};

  ranks.learn_dead(kWithoutFourth, kFourth);
  ranks.enter(view_of(2, pair));  // the third was silent for too long
  ranks.deliver();
  EXPECT_EQ(ranks.shrinking(), RankSet{});

  ranks.enter(view_of(3, kWithoutFourth));  // and has come back
  ranks.deliver();
  EXPECT_EQ(ranks.shrinking(), kWithoutFourth);
}

TEST(ShrinkTalk, ShrinksWhenTheOneLeftOutHasDied) {
  Cluster ranks;
  const RankSet pair = {kFirst, kSecond};

  ranks.learn_dead(pair, kFourth);
  ranks.enter(view_of(2, pair));
  ranks.deliver();
  ranks.learn_dead(pair, kThird);
  ranks.deliver();

  EXPECT_EQ(ranks.shrinking(), pair);
}

TEST(ShrinkTalk, AnotherCoordinatorIsToldAgain) {
  Cluster ranks;
  const RankSet left = {kSecond, kThird};

  ranks.learn_dead(kWithoutFourth, kFourth);
  ranks.enter(view_of(2, kWithoutFourth));
  ranks.deliver({kFirst});  // it dies before it says go
  ranks.learn_dead(left, kFirst);
  ranks.enter(view_of(3, left));
  ranks.deliver({kFirst});

  EXPECT_EQ(ranks.shrinking().contains_all(left), true);
}

TEST(ShrinkTalk, APromiseDoesNotBindWhoIsLeftOutBeforeTheGo) {
  Cluster ranks;
  const RankSet pair = {kFirst, kSecond};

  ranks.learn_dead(kWithoutFourth, kFourth);
  ranks.enter(view_of(2, kWithoutFourth));
  for (const auto& [to, message] : ranks[kThird].take_outgoing()) {
    ranks[to].hear(kThird, message);
  }
  ranks.enter(view_of(3, pair));  // the third has promised, and stands still
  ranks.deliver({kThird});

  EXPECT_EQ(ranks.shrinking(), RankSet{}) << "the third was not told, so they would wait for it";
}

TEST(ShrinkTalk, AWordOfAnotherGenerationIsNotHeard) {
  Cluster ranks;
  ranks.learn_dead(kWithoutFourth, kFourth);
  ranks.enter(view_of(2, kWithoutFourth));
  ranks.deliver();
  for (const RankId rank : kWithoutFourth) ranks[rank].has_shrunk(kWithoutFourth);

  ranks[kThird].hear(kFirst, {Word::kGo, 0});
  ranks[kThird].hear(kFirst, {Word::kGo, 1});

  EXPECT_EQ(ranks.shrinking(), RankSet{}) << "the third has promised nothing yet";
  EXPECT_EQ(ranks[kThird].generation(), 1u);
}

TEST(ShrinkTalk, EveryDeathShrinksAgain) {
  Cluster ranks;
  const RankSet pair = {kFirst, kSecond};
  ranks.learn_dead(kWithoutFourth, kFourth);
  ranks.enter(view_of(2, kWithoutFourth));
  ranks.deliver();
  for (const RankId rank : kWithoutFourth) ranks[rank].has_shrunk(kWithoutFourth);

  ranks.learn_dead(pair, kThird);
  ranks.enter(view_of(3, pair));
  ranks.deliver();

  EXPECT_EQ(ranks.shrinking(), pair);
}

// A rank that dies in the middle is missing from the new communicator, or dead in it: the next view
// sees to it.
TEST(ShrinkTalk, ADeathInTheMiddleLeavesTheNextViewToShrinkAgain) {
  Cluster ranks;
  const RankSet pair = {kFirst, kSecond};
  ranks.learn_dead(kWithoutFourth, kFourth);
  ranks.enter(view_of(2, kWithoutFourth));
  ranks.deliver();
  ranks.learn_dead(pair, kThird);
  for (const RankId rank : kWithoutFourth) ranks[rank].has_shrunk(kWithoutFourth);
  EXPECT_EQ(ranks.shrinking(), RankSet{});

  ranks.enter(view_of(3, pair));
  ranks.deliver();

  EXPECT_EQ(ranks.shrinking(), pair);
}

}  // namespace
}  // namespace regroup
