// Logical clocks against oracles: stamps carried as differences must equal stamps carried whole,
// for any history over FIFO links; and the order they tell must be the order of cause and effect.
#include "runtime/protocol/clocks.hpp"

#include <algorithm>
#include <deque>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace regroup {
namespace {

using Stamp = std::vector<std::uint64_t>;

Stamp stamp_of(const VectorClock& clock) {
  return {clock.entries().begin(), clock.entries().end()};
}

Buffer trailer_with(std::initializer_list<std::pair<std::uint32_t, std::uint64_t>> entries,
                    std::uint32_t count) {
  Buffer buffer;
  Writer writer(buffer);
  for (const auto& [rank, value] : entries) {
    writer.put(rank);
    writer.put(value);
  }
  writer.put(count);
  return buffer;
}

// ---- Lamport ----

TEST(LamportClock, TicksOnce) {
  LamportClock clock;
  EXPECT_EQ(clock.now(), 0u);
  EXPECT_EQ(clock.tick(), 1u);
  EXPECT_EQ(clock.tick(), 2u);
  EXPECT_EQ(clock.now(), 2u);
}

TEST(LamportClock, AReceiveIsAfterTheSendAndAfterAllBefore) {
  LamportClock clock;
  EXPECT_EQ(clock.observe(10), 11u) << "ahead of the sender";
  EXPECT_EQ(clock.observe(3), 12u) << "a late message does not set it back";
  EXPECT_EQ(clock.observe(12), 13u);
}

// ---- compare ----

TEST(Compare, TellsAllFourOrders) {
  const Stamp low{1, 2, 3};
  const Stamp high{1, 3, 3};
  const Stamp other{2, 2, 2};
  EXPECT_EQ(compare(low, low), ClockOrder::kEqual);
  EXPECT_EQ(compare(low, high), ClockOrder::kBefore);
  EXPECT_EQ(compare(high, low), ClockOrder::kAfter);
  EXPECT_EQ(compare(low, other), ClockOrder::kConcurrent);
  EXPECT_EQ(compare(other, low), ClockOrder::kConcurrent);
  EXPECT_EQ(compare({}, {}), ClockOrder::kEqual);
}

TEST(CompareDeathTest, StampsOfDifferentRunsDoNotCompare) {
  const Stamp two{1, 2};
  const Stamp three{1, 2, 3};
  EXPECT_DEATH(static_cast<void>(compare(two, three)), "vector stamps of different runs");
}

// ---- vector clocks ----

TEST(VectorClock, CarriesOnlyWhatChangedSinceTheLastMessageToThatPeer) {
  VectorClock clock(4, RankId{0});
  Buffer first;
  Buffer second;
  Buffer third;
  Buffer to_other;

  clock.tick();
  clock.put_changes(RankId{1}, first);
  clock.put_changes(RankId{1}, second);
  clock.tick();
  clock.put_changes(RankId{1}, third);
  clock.put_changes(RankId{2}, to_other);

  EXPECT_EQ(first.size(), 12u + 4u);
  EXPECT_EQ(second.size(), 4u) << "nothing changed in between";
  EXPECT_EQ(third.size(), 12u + 4u);
  EXPECT_EQ(to_other.size(), 12u + 4u) << "each peer has a memory of its own";
}

TEST(VectorClock, TheTrailerIsFoundBehindAnyPayload) {
  VectorClock clock(3, RankId{2});
  clock.tick();
  for (const std::size_t payload_bytes : {0u, 1u, 4u, 100u}) {
    Buffer message;
    message.resize(payload_bytes);
    std::ranges::fill(message.writable(), std::byte{0xff});
    VectorClock sender = clock;
    sender.put_changes(RankId{0}, message);
    EXPECT_EQ(VectorClock::trailer(message.view()).size(), message.size() - payload_bytes);
  }
}

TEST(VectorClock, BytesThatCannotBeATrailerGiveNone) {
  EXPECT_TRUE(VectorClock::trailer({}).empty());
  for (std::size_t length = 1; length < 4; ++length) {
    EXPECT_TRUE(VectorClock::trailer(std::vector<std::byte>(length)).empty()) << length;
  }
  const Buffer short_by_one_entry = trailer_with({{0, 1}}, 2);
  EXPECT_TRUE(VectorClock::trailer(short_by_one_entry.view()).empty());
  const Buffer huge = trailer_with({{0, 1}}, 0xffffffff);
  EXPECT_TRUE(VectorClock::trailer(huge.view()).empty());
}

TEST(VectorClock, AMalformedTrailerMergesNothing) {
  VectorClock clock(2, RankId{0});
  clock.tick();
  const Stamp before = stamp_of(clock);

  const Buffer stranger = trailer_with({{1, 9}, {2, 1}}, 2);
  EXPECT_FALSE(clock.merge_changes(stranger.view())) << "the second entry names no rank of the run";
  const Buffer whole = trailer_with({{1, 9}}, 1);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_FALSE(clock.merge_changes(whole.view().first(length))) << length;
  }
  for (const std::uint32_t count : {0u, 2u, 0xffffffffu}) {
    const Buffer miscounted = trailer_with({{1, 9}}, count);
    EXPECT_FALSE(clock.merge_changes(miscounted.view())) << count;
  }

  EXPECT_EQ(stamp_of(clock), before);
}

TEST(VectorClock, MergingTakesTheHigherOfEachAndTicks) {
  VectorClock clock(3, RankId{0});
  const Buffer news = trailer_with({{1, 5}, {2, 7}}, 2);
  const Buffer old = trailer_with({{1, 4}}, 1);

  ASSERT_TRUE(clock.merge_changes(news.view()));
  EXPECT_EQ(stamp_of(clock), (Stamp{1, 5, 7}));
  ASSERT_TRUE(clock.merge_changes(old.view()));
  EXPECT_EQ(stamp_of(clock), (Stamp{2, 5, 7}));
}

// An own entry at the end of its range would turn to 0 at the next tick.
TEST(VectorClock, AStampFromWhichAClockCouldNotGoOnIsRefused) {
  VectorClock clock(2, RankId{0});
  const Buffer beyond = trailer_with({{1, 4}, {0, kStampMax + 1}}, 2);
  EXPECT_FALSE(clock.merge_changes(beyond.view()));
  EXPECT_EQ(stamp_of(clock), (Stamp{0, 0}));

  const Buffer last = trailer_with({{0, kStampMax}}, 1);
  ASSERT_TRUE(clock.merge_changes(last.view()));
  EXPECT_EQ(stamp_of(clock), (Stamp{kStampMax + 1, 0}));
}

TEST(VectorClockDeathTest, ARankOutsideTheRunHasNoClock) {
  EXPECT_DEATH(VectorClock(2, RankId{2}), "a rank outside its own clock");
}

// Random histories of local events, sends and receives over FIFO links. The oracle carries whole
// vectors and takes the maximum; the clock under test carries differences.
class Histories : public testing::TestWithParam<std::uint32_t> {};

struct InFlight {
  Buffer trailer;
  Stamp whole;
  std::uint64_t lamport = 0;
};

TEST_P(Histories, DifferencesEqualWholeVectorsAndOrderFollowsCause) {
  const std::uint32_t ranks = GetParam();
  std::mt19937_64 random(ranks);
  std::vector<VectorClock> clocks;
  std::vector<Stamp> oracle(ranks, Stamp(ranks, 0));
  std::vector<LamportClock> lamports(ranks);
  std::vector<std::deque<InFlight>> links(ranks * ranks);
  for (std::uint32_t rank = 0; rank < ranks; ++rank) clocks.emplace_back(ranks, RankId{rank});

  struct Past {
    Stamp stamp;
    std::uint64_t lamport;
  };
  std::vector<Past> events;
  for (int step = 0; step < 3000; ++step) {
    const auto rank = static_cast<std::uint32_t>(random() % ranks);
    const auto peer = static_cast<std::uint32_t>(random() % ranks);
    auto& inbound = links[peer * ranks + rank];
    const auto action = random() % 3;
    if (action == 0) {
      clocks[rank].tick();
      ++oracle[rank][rank];
      lamports[rank].tick();
    } else if (action == 1 && peer != rank) {
      clocks[rank].tick();
      ++oracle[rank][rank];
      InFlight message{.whole = oracle[rank], .lamport = lamports[rank].tick()};
      clocks[rank].put_changes(RankId{peer}, message.trailer);
      links[rank * ranks + peer].push_back(std::move(message));
    } else if (!inbound.empty()) {
      const InFlight message = std::move(inbound.front());
      inbound.pop_front();
      ASSERT_TRUE(clocks[rank].merge_changes(message.trailer.view()));
      for (std::uint32_t i = 0; i < ranks; ++i) {
        oracle[rank][i] = std::max(oracle[rank][i], message.whole[i]);
      }
      ++oracle[rank][rank];
      ASSERT_GT(lamports[rank].observe(message.lamport), message.lamport);             // I10
      ASSERT_EQ(compare(message.whole, stamp_of(clocks[rank])), ClockOrder::kBefore);  // I10
    } else {
      continue;
    }
    ASSERT_EQ(stamp_of(clocks[rank]), oracle[rank]) << "step " << step;
    events.push_back({stamp_of(clocks[rank]), lamports[rank].now()});
  }
  // Lamport's clock condition, by the vector order, over random pairs.
  for (int pair = 0; pair < 3000; ++pair) {
    const Past& a = events[random() % events.size()];
    const Past& b = events[random() % events.size()];
    const ClockOrder order = compare(a.stamp, b.stamp);
    ASSERT_TRUE(order != ClockOrder::kBefore || a.lamport < b.lamport);
    ASSERT_TRUE(order != ClockOrder::kAfter || a.lamport > b.lamport);
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, Histories, testing::Values(2, 3, 5, 9));

}  // namespace
}  // namespace regroup
