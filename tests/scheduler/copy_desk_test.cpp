// Who keeps a rank's copies, and when they are due.
#include "scheduler/copy_desk.hpp"

#include <gtest/gtest.h>

#include "scheduler/checkpoint_desk.hpp"
#include "scheduler/shard_source.hpp"

namespace regroup {
namespace {

constexpr Nanoseconds kHour = 3600 * kSecond;

View view_of(std::initializer_list<std::uint32_t> ranks) {
  View view{.epoch = Epoch{1}, .coordinator = RankId{*ranks.begin()}};
  for (const std::uint32_t rank : ranks) view.members.insert(RankId{rank});
  return view;
}

ScheduleOptions on_hosts(std::vector<std::uint32_t> hosts) {
  ScheduleOptions options;
  options.hosts = std::move(hosts);
  return options;
}

TEST(Partner, IsTheNextRankOnAnotherHost) {
  const ScheduleOptions options = on_hosts({0, 0, 1, 1});
  const View view = view_of({0, 1, 2, 3});
  EXPECT_EQ(partner_of(RankId{0}, view, options), RankId{2});
  EXPECT_EQ(partner_of(RankId{1}, view, options), RankId{2});
  EXPECT_EQ(partner_of(RankId{2}, view, options), RankId{0}) << "the ring closes";
}

TEST(Partner, IsTheNextRankWhereThereIsOneHost) {
  const View view = view_of({0, 2, 5});
  EXPECT_EQ(partner_of(RankId{0}, view, {}), RankId{2});
  EXPECT_EQ(partner_of(RankId{5}, view, {}), RankId{0});
  EXPECT_EQ(partner_of(RankId{0}, view, on_hosts({0, 0, 1, 0, 0, 0})), RankId{2});
}

TEST(Partner, MayOwnPartitionsIfThereIsSuchARank) {
  ScheduleOptions options;
  options.coordinator_computes = false;
  EXPECT_EQ(partner_of(RankId{2}, view_of({0, 1, 2}), options), RankId{1});
  EXPECT_EQ(partner_of(RankId{1}, view_of({0, 1}), options), RankId{0}) << "better than none";
  EXPECT_EQ(partner_of(RankId{1}, view_of({1}), options), kNobody);
}

CopyOptions every(CopyOptions::Every when, Nanoseconds period = 0) {
  return {.every = when, .period = period};
}

TEST(CopyDesk, OffNeverCopies) {
  CopyDesk desk(every(CopyOptions::Every::kOff), kHour);
  desk.want();
  EXPECT_FALSE(desk.due(0, 0));
  EXPECT_FALSE(desk.due(kHour, 9));
}

TEST(CopyDesk, APeriodCountsFromTheEndOfTheRoundBefore) {
  CopyDesk desk(every(CopyOptions::Every::kPeriod, 2 * kSecond), kHour);
  EXPECT_FALSE(desk.due(5 * kSecond, 0)) << "the first look";
  EXPECT_FALSE(desk.due(6 * kSecond, 0));
  EXPECT_TRUE(desk.due(7 * kSecond, 0));
  desk.begin();
  EXPECT_FALSE(desk.due(20 * kSecond, 0)) << "one is under way";
  desk.end(20 * kSecond);
  EXPECT_FALSE(desk.due(21 * kSecond, 0));
  EXPECT_TRUE(desk.due(22 * kSecond, 0));
}

TEST(CopyDesk, TheIntervalIsThatOfCheckpointsAtItsOwnCost) {
  CopyDesk desk(every(CopyOptions::Every::kAuto), kHour);
  (void)desk.due(0, 0);
  desk.begin();
  desk.saved(30 * kMillisecond);
  desk.sent(10'000'000);
  desk.end(0);
  const Nanoseconds cost = 30 * kMillisecond + CopyDesk::kSendingPerByte * 10'000'000;
  EXPECT_EQ(desk.cost(), cost);
  (void)desk.due(kSecond, 0);
  EXPECT_EQ(desk.interval(), checkpoint_interval(cost, kHour + kSecond));
  EXPECT_GE(desk.interval(), 100 * cost) << "below 1 %";
  const Nanoseconds before = desk.interval();
  (void)desk.due(2 * kSecond, 50);
  EXPECT_LT(desk.interval(), before) << "after failures more often";
}

TEST(CopyDesk, AnotherPartnerIsGivenCopiesAtOnce) {
  CopyDesk desk(every(CopyOptions::Every::kAuto), kHour);
  EXPECT_FALSE(desk.due(0, 0));
  desk.want();
  EXPECT_TRUE(desk.due(1, 0));
  desk.pass(1);
  EXPECT_FALSE(desk.due(2 * kMillisecond, 0)) << "there was nothing to copy";
}

}  // namespace
}  // namespace regroup
