// Memberships that agree through a tree, one case a rule: who dies or falls silent in it, what
// comes up and what goes down. Net holds in every case that there is one view an epoch.
#include <algorithm>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/protocol/membership.hpp"
#include "tests/protocol/membership_net.hpp"

namespace regroup {
namespace {

using testing_membership::Net;
using Sent = Net::Sent;

constexpr Epoch kNext{2};
constexpr Nanoseconds kGiveUpAfter = 60 * kSecond;

RankSet all_but(std::uint32_t count, std::initializer_list<std::uint32_t> without) {
  RankSet set;
  for (std::uint32_t rank = 0; rank < count; ++rank) set.insert(RankId{rank});
  for (const std::uint32_t rank : without) set.erase(RankId{rank});
  return set;
}

Net::Filter is(MessageKind kind) {
  return [kind](const Sent& sent) { return sent.kind == kind; };
}
Net::Filter is(MessageKind kind, std::uint32_t from, std::uint32_t to) {
  return [=](const Sent& sent) {
    return sent.kind == kind && sent.from == RankId{from} && sent.to == RankId{to};
  };
}

// Seven ranks, of which the last is dead and all know it. Rank 0 asks 1 and 4; 1 asks 2 and 3; 4
// asks 5.
class Tree : public testing::Test {
 protected:
  Tree() : net(7, kGiveUpAfter, {.star_ranks_max = 0, .fanout = 2}) {
    net.kill(6);
    net.all_learn(6, EvidenceKind::kConfirmed);
    net.drop(is(MessageKind::kRevoke));
  }
  void deliver(MessageKind kind, std::uint32_t from, std::uint32_t to) {
    ASSERT_TRUE(net.deliver_one(is(kind, from, to))) << from << " says nothing to " << to;
  }
  void prepare() {
    for (int level = 0; level < 2; ++level) net.deliver(MessageKind::kPrepare);
    for (int level = 0; level < 2; ++level) net.deliver(MessageKind::kPromise);
    ASSERT_EQ(net.in_flight.size(), 2u);
    ASSERT_EQ(net.count(MessageKind::kAccept), 2u) << "to ranks 1 and 4";
  }
  void accept() {
    prepare();
    for (int level = 0; level < 2; ++level) net.deliver(MessageKind::kAccept);
    for (int level = 0; level < 2; ++level) net.deliver(MessageKind::kAccepted);
    ASSERT_EQ(net.token_wanted(0), kNext);
  }
  Net net;
};

TEST_F(Tree, AskedByOneAnotherTheyGoOn) {
  EXPECT_EQ(net.in_flight.size(), 2u) << "rank 0 asks two";
  net.deliver(MessageKind::kPrepare);
  EXPECT_EQ(net.count(MessageKind::kPrepare), 3u) << "who ask the others";
  EXPECT_EQ(net.count(MessageKind::kPromise), 0u) << "and answer with them";
  net.settle();
  EXPECT_TRUE(net.go_on(kNext, all_but(7, {6}), RankId{0}));
}

TEST(AgreementTree, NoRankOfManySaysOrHearsMuch) {
  constexpr std::uint32_t kRanks = 600, kDead = 300;
  const TreeOptions tree;
  Net net(kRanks);
  std::vector<std::size_t> heard(kRanks), said(kRanks);
  net.lost = [&](const Sent& sent) {
    if (sent.kind == MessageKind::kRevoke) return false;
    ++said[sent.from.value];
    ++heard[sent.to.value];
    return false;
  };
  net.kill(kDead);
  net.learn(kDead + 1, kDead, EvidenceKind::kConfirmed);
  net.settle();
  EXPECT_TRUE(net.go_on(kNext, all_but(kRanks, {kDead}), RankId{0}));
  // Prepare, accept and decide go down, promise and accepted come up.
  EXPECT_LE(*std::ranges::max_element(said), 3 * tree.fanout + 2);
  EXPECT_LE(*std::ranges::max_element(heard), 2 * tree.fanout + 3);
}

TEST(AgreementTree, FewRanksAreAskedByTheProposerItself) {
  const std::uint32_t few = TreeOptions{}.star_ranks_max;
  Net net(few);
  net.request_new_view(0);
  net.tick_at(kMillisecond);
  EXPECT_EQ(net.count(MessageKind::kPrepare), few - 1);
  net.settle();
  EXPECT_TRUE(net.go_on(kNext, all_but(few, {}), RankId{0}));
}

// ---- what comes up ----

TEST_F(Tree, TheLongestLedgerIsNamedWhereverItIs) {
  for (std::uint32_t holder = 0; holder < 6; ++holder) {
    Net other(7, kGiveUpAfter, {.star_ranks_max = 0, .fanout = 2});
    for (std::uint32_t rank = 0; rank < 6; ++rank) {
      other.at(rank).set_ledger(rank == holder ? 90 : 80);
    }
    other.kill(6);
    other.all_learn(6, EvidenceKind::kConfirmed);
    other.settle();
    EXPECT_EQ(other.at(5).view().ledger_holder, RankId{holder});
    EXPECT_EQ(other.at(5).view().ledger, 90u);
  }
}

// It may have been decided, and only a leaf knows (I5).
TEST_F(Tree, AProposerTakesUpWhatALeafHasAccepted) {
  prepare();
  deliver(MessageKind::kAccept, 0, 4);  // whom rank 2 is to ask through rank 3
  net.drop_all();
  net.kill(0);
  net.kill(1);
  for (const std::uint32_t dead : {0u, 1u}) net.all_learn(dead, EvidenceKind::kConfirmed);
  net.drop(is(MessageKind::kRevoke));
  while (net.count(MessageKind::kAccept) == 0) {
    ASSERT_NE(net.count(MessageKind::kPrepare) + net.count(MessageKind::kPromise), 0u);
    net.deliver(MessageKind::kPrepare);
    net.deliver(MessageKind::kPromise);
  }
  const Sent accept = net.take(is(MessageKind::kAccept));
  ASSERT_EQ(accept.from, RankId{2});
  Reader reader(accept.payload);
  reader.get<Epoch>();
  reader.get<Ballot>();
  const auto view = get_view(reader, 7);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->members, all_but(7, {6})) << "with ranks 0 and 1, who go in the view after";
}

TEST_F(Tree, ARankAnswersWithThoseWhoHaveAnsweredWhenOthersTakeTooLong) {
  net.lost = [](const Sent& sent) { return sent.from == RankId{3}; };
  for (int level = 0; level < 2; ++level) net.deliver(MessageKind::kPrepare);
  net.deliver(MessageKind::kPromise);
  net.drop([](const Sent& sent) { return sent.to == RankId{0} && sent.from == RankId{4}; });
  net.tick_at(Membership::kGatherPatience - kMillisecond);
  EXPECT_EQ(net.count(MessageKind::kPromise), 0u) << "rank 3 may be slow";
  net.tick_at(Membership::kGatherPatience);
  const Sent promise = net.take(is(MessageKind::kPromise, 1, 0));
  net.lost = [](const Sent&) { return false; };
  net.learn(0, 3, EvidenceKind::kSuspected);
  net.drop_all();
  EXPECT_TRUE(net.receive(0, promise));
  EXPECT_EQ(net.count(MessageKind::kAccept), 0u) << "of ranks 4 and 5 nothing was heard";
  net.learn(0, 4, EvidenceKind::kSuspected);
  net.learn(0, 5, EvidenceKind::kSuspected);
  EXPECT_NE(net.count(MessageKind::kAccept), 0u) << "ranks 0, 1 and 2 are a quorum of six";
}

TEST_F(Tree, WhatComesLateIsPassedOnAsWell) {
  for (int level = 0; level < 2; ++level) net.deliver(MessageKind::kPrepare);
  const Sent late = net.take(is(MessageKind::kPromise, 3, 1));
  net.deliver(MessageKind::kPromise);
  net.tick_at(Membership::kGatherPatience);
  net.deliver(MessageKind::kPromise);
  ASSERT_EQ(net.count(MessageKind::kAccept), 0u);
  EXPECT_TRUE(net.receive(1, late));
  deliver(MessageKind::kPromise, 1, 0);
  EXPECT_NE(net.count(MessageKind::kAccept), 0u) << "at once: all have answered";
}

// ---- deaths in the tree ----

TEST_F(Tree, WhoSeesADeathTakesOverWhomTheDeadRankWasToAsk) {
  net.kill(1);
  net.deliver(MessageKind::kPrepare);
  net.learn(0, 1, EvidenceKind::kConfirmed);
  net.settle();  // no time passes
  EXPECT_TRUE(net.go_on(kNext, all_but(7, {1, 6}), RankId{0}));
}

TEST_F(Tree, WhoseHeadSeemsSilentIsAskedByAnother) {
  net.lost = [](const Sent& sent) { return sent.to == RankId{1} || sent.from == RankId{1}; };
  net.deliver(MessageKind::kPrepare);
  net.learn(0, 1, EvidenceKind::kSuspected);
  net.settle();
  EXPECT_TRUE(net.go_on(kNext, all_but(7, {1, 6}), RankId{0}));
}

TEST(AgreementTree, WhoSeemsSilentAsksNobody) {
  Net net(7, kGiveUpAfter, {.star_ranks_max = 0, .fanout = 2});
  net.lost = [](const Sent& sent) { return sent.to == RankId{1} || sent.from == RankId{1}; };
  net.learn(0, 1, EvidenceKind::kSuspected);
  EXPECT_EQ(net.count(MessageKind::kPrepare), 3u) << "to the heads of two branches, and to rank 1";
  net.settle();  // no time passes
  EXPECT_TRUE(net.go_on(kNext, all_but(7, {1}), RankId{0}));
}

// Nobody knows that it is dead: the proposer goes round it, and waits for it alone.
TEST_F(Tree, OneThatFallsSilentInTheTreeIsGoneRound) {
  net.kill(1);
  net.pass(Membership::kResendMin + kMillisecond, kMillisecond);
  EXPECT_EQ(net.count(MessageKind::kAccept), 0u);
  EXPECT_EQ(net.at(0).state(), Membership::State::kRevoked);
  net.learn(0, 1, EvidenceKind::kConfirmed);
  EXPECT_NE(net.count(MessageKind::kAccept), 0u) << "all the others have answered";
  net.settle();
  EXPECT_TRUE(net.go_on(kNext, all_but(7, {1, 6}), RankId{0}));
}

class ADeathInTheTree : public testing::TestWithParam<std::tuple<int, EvidenceKind, bool>> {};

// After so many messages, oldest first, rank 1 or rank 4, which ask others, is gone.
TEST_P(ADeathInTheTree, HoldsNobodyUp) {
  const auto [messages, evidence, proposer_too] = GetParam();
  for (const std::uint32_t victim : {1u, 4u}) {
    Net net(7, kGiveUpAfter, {.star_ranks_max = 0, .fanout = 2});
    net.kill(6);
    net.all_learn(6, EvidenceKind::kConfirmed);
    net.drop(is(MessageKind::kRevoke));
    for (int left = messages; left > 0; --left) {
      if (!net.deliver_one([](const Sent&) { return true; })) net.answer_tokens();
    }
    net.drop([&](const Sent& sent) { return sent.from == RankId{victim} && messages % 2 == 1; });
    net.kill(victim);
    net.all_learn(victim, evidence);
    if (proposer_too) {
      net.kill(0);
      net.all_learn(0, evidence);
    }
    // A suspect that took part in a view is waited for until it is another's turn to propose.
    net.pass(2 * Membership::kTakeover + 3 * Membership::kPatience);
    RankSet left = all_but(7, {victim, 6});
    if (proposer_too) left.erase(RankId{0});
    const View& view = net.at(2).view();
    EXPECT_LE(view.epoch.value, 4u);
    EXPECT_TRUE(net.go_on(view.epoch, left, left.front())) << "without rank " << victim;
  }
}

INSTANTIATE_TEST_SUITE_P(AfterMessages, ADeathInTheTree,
                         testing::Combine(testing::Range(0, 30),
                                          testing::Values(EvidenceKind::kConfirmed,
                                                          EvidenceKind::kSuspected),
                                          testing::Bool()));

// ---- what goes down ----

TEST_F(Tree, ADecisionThatOneKeepsToItselfIsAskedFor) {
  accept();
  net.answer_tokens();
  ASSERT_EQ(net.count(MessageKind::kDecide), 2u) << "to ranks 1 and 4";
  net.drop(is(MessageKind::kDecide, 0, 1));
  net.settle();
  for (const std::uint32_t rank : {1u, 2u, 3u}) ASSERT_EQ(net.at(rank).view().epoch, Epoch{1});
  net.pass(Membership::kAskAfter - kMillisecond, kMillisecond);
  for (const std::uint32_t rank : {1u, 2u, 3u}) EXPECT_EQ(net.at(rank).view().epoch, Epoch{1});
  net.pass(2 * kMillisecond, kMillisecond);
  EXPECT_TRUE(net.go_on(kNext, all_but(7, {6}), RankId{0}));
}

TEST_F(Tree, ADecisionIsPassedOnOnce) {
  accept();
  net.answer_tokens();
  const Sent decide = net.take(is(MessageKind::kDecide, 0, 1));
  EXPECT_TRUE(net.receive(1, decide));
  EXPECT_EQ(net.count(MessageKind::kDecide), 3u) << "rank 0 to 4, rank 1 to 2 and 3";
  EXPECT_TRUE(net.receive(1, decide));
  EXPECT_EQ(net.count(MessageKind::kDecide), 3u) << "a copy";
}

// Who knows the decision already has heard it alone.
TEST_F(Tree, ADecisionIsPassedOnAlsoByOneThatKnowsIt) {
  accept();
  net.answer_tokens();
  net.tell(0, 1);
  const auto alone = [](const Sent& sent) {
    return sent.to == RankId{1} && sent.kind == MessageKind::kDecide;
  };
  const Sent through = net.take(alone);
  deliver(MessageKind::kDecide, 0, 1);
  ASSERT_EQ(net.at(1).view().epoch, kNext);
  EXPECT_TRUE(net.receive(1, through));
  net.settle();
  EXPECT_TRUE(net.go_on(kNext, all_but(7, {6}), RankId{0}));
}

TEST_F(Tree, ARequestHeardAgainIsAnsweredAgainAndNotPassedOnAgain) {
  const Sent prepare = net.take(is(MessageKind::kPrepare, 0, 1));
  EXPECT_TRUE(net.receive(1, prepare));
  EXPECT_EQ(net.count(MessageKind::kPrepare), 3u) << "rank 0 to 4, rank 1 to 2 and 3";
  EXPECT_TRUE(net.receive(1, prepare));
  EXPECT_EQ(net.count(MessageKind::kPrepare), 3u);
  deliver(MessageKind::kPrepare, 1, 2);
  deliver(MessageKind::kPrepare, 1, 3);
  net.deliver(MessageKind::kPromise);
  EXPECT_EQ(net.count(MessageKind::kPromise), 1u);
  EXPECT_TRUE(net.receive(1, prepare));
  EXPECT_EQ(net.count(MessageKind::kPromise), 2u);
}

// ---- rivals ----

// Rank 3 has promised a higher ballot: the proposer hears that, through rank 1.
TEST_F(Tree, ARefusalGoesUpAndEndsTheBallot) {
  Buffer rival;
  Writer writer(rival);
  writer.put(Epoch{1});
  writer.put(Ballot{std::uint64_t{9} << kBallotRoundShift | 5});
  testing_membership::put_no_knowledge(writer);
  const auto bytes = rival.view();
  EXPECT_TRUE(
      net.receive(3, {RankId{5}, RankId{3}, MessageKind::kPrepare, {bytes.begin(), bytes.end()}}));
  net.drop(is(MessageKind::kPromise));
  deliver(MessageKind::kPrepare, 0, 1);
  deliver(MessageKind::kPrepare, 1, 3);
  deliver(MessageKind::kRefuse, 3, 1);
  deliver(MessageKind::kRefuse, 1, 0);
  net.drop_all();
  net.tick_at(Membership::kResendMin);
  EXPECT_EQ(net.count(MessageKind::kPrepare), 0u) << "rank 5 is left to it";
}

// ---- what others may say ----

TEST_F(Tree, AnAnswerForStrangersIsRefused) {
  net.settle();
  ASSERT_EQ(net.at(0).view().members, all_but(7, {6}));
  net.request_new_view(0);
  net.drop(is(MessageKind::kRevoke));
  net.tick_at(kMillisecond);
  Sent accepted{RankId{1}, RankId{0}, MessageKind::kAccepted, {}};
  for (const RankSet& others : {RankSet{RankId{2}}, RankSet{RankId{6}}}) {
    Buffer bytes;
    Writer writer(bytes);
    writer.put(kNext);
    writer.put(Ballot{std::uint64_t{1} << kBallotRoundShift});
    put_other_ranks(writer, others);
    accepted.payload.assign(bytes.view().begin(), bytes.view().end());
    EXPECT_EQ(net.receive(0, accepted), !others.contains(RankId{6}));
  }
}

TEST_F(Tree, ALedgerOfARankThatDoesNotAnswerIsRefused) {
  for (const RankId holder : {RankId{2}, RankId{5}}) {
    Buffer bytes;
    Writer writer(bytes);
    writer.put(Epoch{1});
    writer.put(Ballot{std::uint64_t{1} << kBallotRoundShift});
    testing_membership::put_no_knowledge(writer);
    writer.put(LedgerPosition{0});
    writer.put(Ballot{});
    writer.put(std::uint8_t{0});
    put_rank_runs(writer, {RankId{2}, RankId{3}});
    writer.put(std::uint32_t{1});
    writer.put(holder);
    writer.put(LedgerPosition{8});
    Sent promise{RankId{1}, RankId{0}, MessageKind::kPromise, {}};
    promise.payload.assign(bytes.view().begin(), bytes.view().end());
    EXPECT_EQ(net.receive(0, promise), holder == RankId{2});
  }
}

}  // namespace
}  // namespace regroup
