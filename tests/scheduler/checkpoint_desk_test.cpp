#include "scheduler/checkpoint_desk.hpp"

#include <cmath>

#include <gtest/gtest.h>

namespace regroup {
namespace {

constexpr CheckpointNumber kFirst{1};
constexpr RankSet kNobody{};

CheckpointOptions every(Nanoseconds period) {
  CheckpointOptions options;
  options.every = CheckpointOptions::Every::kPeriod;
  options.period = period;
  return options;
}

CheckpointOptions off() {
  CheckpointOptions options;
  options.every = CheckpointOptions::Every::kOff;
  return options;
}

// One that takes `cost` from `begin` on.
void take_one(CheckpointDesk& desk, Nanoseconds begin, Nanoseconds cost, std::uint64_t number = 1) {
  desk.begin(begin);
  desk.write(CheckpointNumber{number}, RankSet{RankId{0}});
  ASSERT_TRUE(desk.take_part(RankId{0}, CheckpointNumber{number}, "part"));
  ASSERT_TRUE(desk.all_written());
  (void)desk.seal();
  desk.record(7, 100);
  desk.sealed(begin + cost);
}

// ---- the interval ----

TEST(DalyInterval, IsYoungsForShortCostsAndBoundedForLongOnes) {
  const Nanoseconds cost = kSecond;
  const Nanoseconds mean = 20'000 * kSecond;
  const double young = std::sqrt(2.0 * 20'000) - 1;  // seconds
  EXPECT_NEAR(static_cast<double>(daly_interval(cost, mean)) / 1e9, young, 0.01 * young);
  EXPECT_EQ(daly_interval(2 * mean, mean), mean);
  EXPECT_GT(daly_interval(cost, mean), daly_interval(cost, mean / 2));
  EXPECT_GT(daly_interval(2 * cost, mean), daly_interval(cost, mean));
}

TEST(CheckpointDesk, AFixedPeriodCountsFromTheEndOfTheLastOne) {
  CheckpointDesk desk(every(10 * kSecond));
  desk.begin_run(0);
  EXPECT_FALSE(desk.due(10 * kSecond - 1, 0, 0));
  EXPECT_TRUE(desk.due(10 * kSecond + kMillisecond, 0, 0));
  take_one(desk, 11 * kSecond, kSecond);
  EXPECT_FALSE(desk.due(21 * kSecond, 0, 0));
  EXPECT_TRUE(desk.due(22 * kSecond, 0, 0));
}

TEST(CheckpointDesk, AnAutomaticIntervalGrowsWithTheCostAndShrinksWithFailures) {
  const auto interval = [](Nanoseconds cost, std::uint64_t failures, Nanoseconds now) {
    CheckpointDesk desk{CheckpointOptions{}};
    desk.begin_run(0);
    take_one(desk, 0, cost);
    (void)desk.due(now, 0, failures);
    return desk.progress().interval;
  };
  const Nanoseconds hour = 3600 * kSecond;
  const Nanoseconds calm = interval(kSecond, 0, hour);
  EXPECT_GT(interval(4 * kSecond, 0, hour), calm);
  EXPECT_LT(interval(kSecond, 9, hour), calm);
  EXPECT_GE(interval(kSecond, 1'000'000, hour), kCheckpointCostShare * kSecond)
      << "no more than one part in a hundred goes into checkpoints";
  EXPECT_GE(interval(1, 1'000'000, hour), CheckpointDesk::kIntervalMin);
}

TEST(CheckpointDesk, TheFirstOneIsDueByTheSizeOfTheState) {
  CheckpointDesk small{CheckpointOptions{}};
  CheckpointDesk large{CheckpointOptions{}};
  (void)small.due(kSecond, 1'000, 0);
  (void)large.due(kSecond, std::size_t{1} << 30, 0);
  EXPECT_LT(small.progress().interval, large.progress().interval);
}

TEST(CheckpointDesk, OffTakesOnlyWhatIsAskedFor) {
  CheckpointDesk desk(off());
  desk.begin_run(0);
  EXPECT_FALSE(desk.due(1'000'000 * kSecond, 0, 0));
  desk.want();
  EXPECT_TRUE(desk.due(1'000'001 * kSecond, 0, 0));
  take_one(desk, 1'000'001 * kSecond, kSecond);
  EXPECT_FALSE(desk.due(2'000'000 * kSecond, 0, 0));
}

// ---- one checkpoint ----

TEST(CheckpointDesk, WaitsForEveryPartAndTakesEachOnce) {
  CheckpointDesk desk(off());
  desk.begin(0);
  EXPECT_FALSE(desk.take_part(RankId{0}, kFirst, "too early"));
  desk.write(kFirst, RankSet{RankId{0}, RankId{2}});
  EXPECT_FALSE(desk.take_part(RankId{1}, kFirst, "of a stranger"));
  EXPECT_FALSE(desk.take_part(RankId{0}, CheckpointNumber{9}, "of another"));
  EXPECT_TRUE(desk.take_part(RankId{2}, kFirst, "two"));
  EXPECT_FALSE(desk.take_part(RankId{2}, kFirst, "again"));
  EXPECT_FALSE(desk.all_written());
  EXPECT_TRUE(desk.take_part(RankId{0}, kFirst, "zero"));
  EXPECT_TRUE(desk.all_written());
  EXPECT_EQ(desk.seal(), (std::vector<std::string>{"two", "zero"}));
  EXPECT_EQ(desk.step(), CheckpointStep::kSealing);
}

TEST(CheckpointDesk, KnowsASealedOneAndWhatItTook) {
  CheckpointDesk desk(off());
  take_one(desk, 5 * kSecond, 2 * kSecond, 4);
  EXPECT_FALSE(desk.busy());
  EXPECT_EQ(desk.newest(), CheckpointNumber{4});
  EXPECT_EQ(desk.progress().sealed, 1u);
  EXPECT_EQ(desk.progress().newest, 4u);
  EXPECT_EQ(desk.progress().cost, 2 * kSecond);
  EXPECT_EQ(desk.progress().bytes, 100u);
}

TEST(CheckpointDesk, AViewEndsOneThatIsNotToBeSealedYetAndWantsAnother) {
  CheckpointDesk desk(off());
  desk.begin(0);
  desk.write(kFirst, RankSet{RankId{0}});
  desk.begin_view(1);
  EXPECT_FALSE(desk.busy());
  EXPECT_EQ(desk.progress().failed, 0u);
  EXPECT_TRUE(desk.due(2, 0, 0));

  desk.begin(2);
  desk.write(kFirst, kNobody);
  (void)desk.seal();
  desk.begin_view(3);
  EXPECT_EQ(desk.step(), CheckpointStep::kSealing) << "the disk may have sealed it";
}

TEST(CheckpointDesk, IsOverdueAfterItsTimeout) {
  CheckpointOptions options = off();
  options.timeout = 10 * kSecond;
  CheckpointDesk desk(options);
  EXPECT_FALSE(desk.overdue(1'000 * kSecond)) << "nothing is under way";
  desk.begin(kSecond);
  EXPECT_FALSE(desk.overdue(11 * kSecond));
  EXPECT_TRUE(desk.overdue(11 * kSecond + 1));
}

// ---- failures ----

TEST(CheckpointDesk, AfterAFailureItTriesAgainSoonAndThenLessOften) {
  CheckpointDesk desk(every(3600 * kSecond));
  desk.begin_run(0);
  Nanoseconds now = 3601 * kSecond;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(desk.due(now, 0, 0)) << i;
    desk.begin(now);
    desk.failed(now, "disk full");
    EXPECT_FALSE(desk.due(now + kMillisecond, 0, 0)) << i;
    now += CheckpointDesk::kRetryPause;
  }
  EXPECT_EQ(desk.progress().storage, BreakerState::kOpen);
  EXPECT_EQ(desk.progress().error, "disk full");
  EXPECT_EQ(desk.progress().failed, 3u);
  ASSERT_TRUE(desk.due(now, 0, 0)) << "one try, half-open";
  EXPECT_EQ(desk.progress().storage, BreakerState::kHalfOpen);
  desk.begin(now);
  desk.failed(now, "disk full");
  EXPECT_FALSE(desk.due(now + CheckpointDesk::kRetryPause, 0, 0)) << "its pause has doubled";
  now += 2 * CheckpointDesk::kRetryPause;
  ASSERT_TRUE(desk.due(now, 0, 0));
  take_one(desk, now, kSecond);
  EXPECT_EQ(desk.progress().storage, BreakerState::kClosed);
  EXPECT_EQ(desk.progress().error, "");
  EXPECT_FALSE(desk.due(now + 60 * kSecond, 0, 0));
}

TEST(CheckpointDesk, WhatIsAskedForIsTriedWhateverTheStorageDid) {
  CheckpointDesk desk(every(3600 * kSecond));
  for (int i = 0; i < 5; ++i) {
    desk.begin(i);
    desk.failed(i, "disk full");
  }
  EXPECT_FALSE(desk.due(5 * kMillisecond, 0, 0));
  desk.want();
  EXPECT_TRUE(desk.due(5 * kMillisecond, 0, 0));
}

// ---- stopping ----

TEST(CheckpointDesk, AStopWantsOneUnlessOneIsUnderWay) {
  CheckpointDesk idle(off());
  idle.want_stop("stopped by signal 15", kSecond);
  EXPECT_TRUE(idle.due(kSecond, 0, 0));
  EXPECT_EQ(idle.stop_reason(), "stopped by signal 15");
  idle.want_stop("again", 2 * kSecond);
  EXPECT_EQ(idle.stop_reason(), "stopped by signal 15");

  CheckpointDesk busy(off());
  busy.begin(0);
  busy.want_stop("stopped", kSecond);
  busy.cancel(kSecond);
  EXPECT_FALSE(busy.due(2 * kSecond, 0, 0));
}

TEST(CheckpointDesk, TheGraceEnds) {
  CheckpointOptions options = off();
  options.grace = 5 * kSecond;
  CheckpointDesk desk(options);
  EXPECT_FALSE(desk.grace_over(1'000 * kSecond));
  desk.want_stop("stopped", kSecond);
  EXPECT_FALSE(desk.grace_over(6 * kSecond));
  EXPECT_TRUE(desk.grace_over(6 * kSecond + 1));
}

}  // namespace
}  // namespace regroup
