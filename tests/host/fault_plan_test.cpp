#include "runtime/host/fault_plan.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace regroup {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

Fault only(const std::string& text) {
  const auto plan = parse_fault_plan({text});
  EXPECT_TRUE(plan) << plan.error();
  EXPECT_EQ(plan ? plan->faults.size() : 0, 1U) << text;
  return plan && plan->faults.size() == 1 ? plan->faults.front() : Fault{};
}

std::string error_of(const std::vector<std::string>& texts) {
  const auto plan = parse_fault_plan(texts);
  EXPECT_FALSE(plan) << texts.front();
  return plan ? "" : plan.error();
}

TEST(FaultPlan, NothingIsAnEmptyPlan) {
  const auto plan = parse_fault_plan({});
  ASSERT_TRUE(plan);
  EXPECT_TRUE(plan->empty());
  EXPECT_FALSE(plan->needs_run_directory());
}

TEST(FaultPlan, KillsARankAfterItsShards) {
  const Fault fault = only("kill:rank=2,after-shards=10");
  EXPECT_EQ(fault.action, FaultAction::kKill);
  EXPECT_EQ(fault.target, FaultTarget::kRank);
  EXPECT_EQ(fault.rank, RankId{2});
  EXPECT_EQ(fault.point, FaultPoint::kAfterShards);
  EXPECT_EQ(fault.shards, 10U);
  EXPECT_EQ(fault.text, "kill:rank=2,after-shards=10");
  EXPECT_FALSE(fault.is_floating());
}

TEST(FaultPlan, StopsForATime) {
  const Fault fault = only("stop:rank=1,at=1s,for=3s");
  EXPECT_EQ(fault.action, FaultAction::kStop);
  EXPECT_EQ(fault.point, FaultPoint::kTime);
  EXPECT_EQ(fault.time, kSecond);
  EXPECT_EQ(fault.duration, 3 * kSecond);
}

TEST(FaultPlan, WedgesOnce) {
  const Fault fault = only("wedge:rank=2,after-shards=5");
  EXPECT_EQ(fault.action, FaultAction::kWedge);
  EXPECT_EQ(fault.point, FaultPoint::kAfterShards);
  EXPECT_TRUE(fault.is_single());
  EXPECT_TRUE(parse_fault_plan({"wedge:coordinator,at=1s"})->needs_run_directory());
}

TEST(FaultPlan, ARankAloneHasNothingToBeWedgedIn) {
  const auto plan = parse_fault_plan({"wedge:rank=0,at=1s"});
  EXPECT_TRUE(check_ranks(*plan, 2));
  const auto alone = check_ranks(*plan, 1);
  ASSERT_FALSE(alone);
  EXPECT_THAT(alone.error(), HasSubstr("start more"));
}

TEST(FaultPlan, SlowsAndMeddlesWithMessagesFromTheStartOn) {
  const Fault slow = only("slow:rank=1,factor=2.5");
  EXPECT_EQ(slow.action, FaultAction::kSlow);
  EXPECT_EQ(slow.factor, 2.5);
  EXPECT_FALSE(slow.is_single());
  EXPECT_EQ(only("duplicate-results:all-but=0").action, FaultAction::kDuplicateResults);
  const Fault late = only("late-results:rank=0,by=200ms");
  EXPECT_EQ(late.action, FaultAction::kLateResults);
  EXPECT_EQ(late.duration, 200 * kMillisecond);
}

TEST(FaultPlan, StrikesWhomItIsTold) {
  EXPECT_EQ(only("kill:coordinator,at=2s").target, FaultTarget::kCoordinator);
  EXPECT_EQ(only("kill:successor,at=2s").target, FaultTarget::kSuccessor);
  const Fault all = only("kill:all-but=3,at=2s");
  EXPECT_EQ(all.target, FaultTarget::kAllBut);
  EXPECT_EQ(all.rank, RankId{3});
  EXPECT_EQ(only("slow:coordinator,factor=3").target, FaultTarget::kCoordinator);
}

TEST(FaultPlan, StrikesWhenItIsTold) {
  EXPECT_EQ(only("kill:rank=0,at=start").point, FaultPoint::kStart);
  EXPECT_EQ(only("kill:rank=0,at=end").point, FaultPoint::kEnd);
  EXPECT_EQ(only("kill:rank=0,at=election").point, FaultPoint::kElection);
  EXPECT_EQ(only("kill:rank=0,at=agreement").point, FaultPoint::kAgreement);
  EXPECT_EQ(only("kill:rank=0,at=shrink").point, FaultPoint::kShrink);
  EXPECT_EQ(only("kill:rank=0,at=1.5s").time, kSecond + 500 * kMillisecond);
  EXPECT_EQ(only("kill:rank=0,at=20ms").time, 20 * kMillisecond);
}

TEST(FaultPlan, StrikesAtTheStepsOfACheckpoint) {
  EXPECT_EQ(only("kill:coordinator,at=part").point, FaultPoint::kPart);
  EXPECT_EQ(only("kill:coordinator,at=manifest").point, FaultPoint::kManifest);
  EXPECT_EQ(only("kill:coordinator,at=seal").point, FaultPoint::kSeal);
  EXPECT_EQ(only("kill:coordinator,at=sealed").point, FaultPoint::kSealed);
}

TEST(FaultPlan, BreaksTheDiskOfEachRankOrOfOne) {
  const Fault full = only("disk-full:after=3");
  EXPECT_EQ(full.action, FaultAction::kDiskFull);
  EXPECT_EQ(full.target, FaultTarget::kEvery);
  EXPECT_EQ(full.point, FaultPoint::kCheckpointWrites);
  EXPECT_EQ(full.writes, 3U);
  EXPECT_EQ(full.duration, 0);
  const Fault broken = only("disk-error:for=2s,rank=1,after=1");
  EXPECT_EQ(broken.action, FaultAction::kDiskError);
  EXPECT_EQ(broken.target, FaultTarget::kRank);
  EXPECT_EQ(broken.rank, RankId{1});
  EXPECT_EQ(broken.duration, 2 * kSecond);
  EXPECT_FALSE(parse_fault_plan({"disk-full:after=3"})->needs_run_directory());
  EXPECT_TRUE(check_ranks(*parse_fault_plan({"disk-full:after=3"}), 1));
  EXPECT_FALSE(check_ranks(*parse_fault_plan({"disk-full:after=3,rank=2"}), 2));
}

TEST(FaultPlan, WordsComeInAnyOrder) {
  const Fault fault = only("stop:for=2s,at=end,coordinator");
  EXPECT_EQ(fault.target, FaultTarget::kCoordinator);
  EXPECT_EQ(fault.point, FaultPoint::kEnd);
  EXPECT_EQ(fault.duration, 2 * kSecond);
}

TEST(FaultPlan, AWordWithAColonBeginsTheNextFault) {
  const auto plan =
      parse_fault_plan({"kill:rank=2,at=1s,stop:rank=1,at=2s,for=3s", "slow:rank=0,factor=2"});
  ASSERT_TRUE(plan) << plan.error();
  ASSERT_EQ(plan->faults.size(), 3U);
  EXPECT_EQ(plan->faults[0].text, "kill:rank=2,at=1s");
  EXPECT_EQ(plan->faults[1].text, "stop:rank=1,at=2s,for=3s");
  EXPECT_EQ(plan->faults[2].text, "slow:rank=0,factor=2");
}

TEST(FaultPlan, NeedsTheRunDirectoryWhereOnlyTheMomentTellsTheVictim) {
  EXPECT_TRUE(
      parse_fault_plan({"kill:rank=1,at=1s", "kill:successor,at=1s"})->needs_run_directory());
  EXPECT_FALSE(parse_fault_plan({"slow:coordinator,factor=2"})->needs_run_directory());
  EXPECT_FALSE(parse_fault_plan({"kill:all-but=1,at=1s"})->needs_run_directory());
}

TEST(FaultPlan, BreaksADeviceFromTheStartOnOrForATime) {
  const auto plan = parse_fault_plan({"gpu-error:rank=0", "gpu-hang:all-but=1,for=2s"});
  ASSERT_TRUE(plan) << plan.error();
  ASSERT_EQ(plan->faults.size(), 2U);
  EXPECT_EQ(plan->faults[0].action, FaultAction::kGpuError);
  EXPECT_EQ(plan->faults[0].point, FaultPoint::kAlways);
  EXPECT_EQ(plan->faults[0].duration, 0);
  EXPECT_EQ(plan->faults[1].action, FaultAction::kGpuHang);
  EXPECT_EQ(plan->faults[1].target, FaultTarget::kAllBut);
  EXPECT_EQ(plan->faults[1].duration, 2 * kSecond);
}

struct Bad {
  std::string text;
  std::vector<std::string> says;
};

TEST(FaultPlan, RefusesWhatMakesNoSenseOnOneLine) {
  const std::vector<Bad> cases = {
      {"", {"''", "kill:rank=2", "choose kill, stop"}},
      {"kill", {"'kill'", "':'"}},
      {"rank=1,kill:at=1s", {"does not begin with a fault"}},
      {"explode:rank=1", {"unknown fault 'explode'", "kill, stop, wedge, slow", "or gpu-hang"}},
      {"gpu-error:", {"''", "rank=N"}},
      {"gpu-error:for=1s", {"whom"}},
      {"gpu-hang:coordinator", {"gpu-hang", "rank=N or all-but=N"}},
      {"gpu-error:rank=0,at=1s", {"gpu-error", "leave out at="}},
      {"gpu-error:rank=0,for=1", {"for=", "'1'"}},
      {"gpu-error:rank=0,by=1s", {"'by=1s'", "for=TIME"}},
      {"kill:", {"''", "rank=N"}},
      {"kill:at=1s", {"whom", "rank=N, all-but=N, coordinator or successor"}},
      {"kill:rank=1", {"when", "after-shards=N, at=TIME", "at=shrink"}},
      {"kill:rank=1,at=1s,", {"''"}},
      {"kill:rank=1,at=1s,rank=2", {"twice whom"}},
      {"kill:rank=1,coordinator,at=1s", {"twice whom"}},
      {"kill:rank=1,at=1s,after-shards=2", {"twice when"}},
      {"kill:rank=x,at=1s", {"rank=", "'x'"}},
      {"kill:rank=-1,at=1s", {"'-1'"}},
      {"kill:rank=,at=1s", {"''"}},
      {"kill:all-but=1.5,at=1s", {"all-but=", "'1.5'"}},
      {"kill:rank=1,after-shards=0", {"after-shards=", "'0'"}},
      {"kill:rank=1,after-shards=ten", {"'ten'"}},
      {"kill:rank=1,at=2", {"at=", "'2'", "2s", "election"}},
      {"kill:rank=1,at=s", {"'s'"}},
      {"kill:rank=1,at=-1s", {"'-1s'"}},
      {"kill:rank=1,at=nans", {"'nans'"}},
      {"kill:rank=1,at=0s", {"'0s'"}},
      {"kill:rank=1,at=2h", {"'2h'"}},
      {"kill:rank=1,at=1e99s", {"'1e99s'"}},
      {"kill:rank=1,at=lunch", {"'lunch'"}},
      {"kill:rank=1,at=1s,for=2s", {"'for=2s'", "kill"}},
      {"kill:rank=1,at=1s,loudly", {"'loudly'"}},
      {"kill:coordinator=1,at=1s", {"'coordinator=1'"}},
      {"kill:coordinator,after-shards=3", {"after-shards=", "rank=N"}},
      {"stop:rank=1,at=1s", {"how long", "for=2s"}},
      {"stop:rank=1,at=1s,for=2", {"for=", "'2'"}},
      {"stop:rank=1,at=1s,for=2s,for=3s", {"for= is given twice"}},
      {"wedge:rank=1", {"when", "after-shards=N"}},
      {"wedge:rank=1,at=1s,for=2s", {"'for=2s'", "wedge"}},
      {"wedge:rank=1,at=end", {"calls MPI no more"}},
      {"wedge:coordinator,after-shards=3", {"after-shards=", "rank=N"}},
      {"slow:rank=1", {"how slow", "factor=10"}},
      {"slow:rank=1,factor=0.5", {"factor=", "'0.5'"}},
      {"slow:rank=1,factor=inf", {"'inf'"}},
      {"slow:rank=1,factor=2,at=1s", {"from start to end", "at="}},
      {"duplicate-results:coordinator", {"duplicate-results", "rank=N"}},
      {"late-results:rank=1", {"by=TIME"}},
      {"late-results:rank=1,by=6s", {"at most 5 s"}},
      {"late-results:successor,by=1s", {"late-results", "rank=N"}},
      {"disk-full:rank=1", {"when", "after=N"}},
      {"disk-full:", {"''", "after=N", "if wanted, rank=N or all-but=N, and for=TIME"}},
      {"disk-full:after=0", {"after=", "'0'"}},
      {"disk-full:after=few", {"after=", "'few'"}},
      {"disk-full:after=1,after=2", {"twice when", "after=N once"}},
      {"disk-full:after=1,at=2s", {"'at=2s'", "disk-full", "after=N"}},
      {"disk-full:after-shards=3", {"'after-shards=3'", "after=N"}},
      {"disk-full:after=1,coordinator", {"disk-full", "rank=N"}},
      {"disk-error:after=1,for=2", {"for=", "'2'"}},
      {"disk-error:after=1,for=1s,for=2s", {"for= is given twice"}},
      {"disk-error:after=1,rank=x", {"rank=", "'x'"}},
      {"kill:rank=1,after=3", {"'after=3'", "after-shards=N"}},
  };
  for (const Bad& bad : cases) {
    const std::string error = error_of({bad.text});
    EXPECT_THAT(error, Not(HasSubstr("\n")));
    for (const std::string& part : bad.says) EXPECT_THAT(error, HasSubstr(part)) << bad.text;
  }
}

TEST(FaultPlan, NamesTheFaultThatIsWrong) {
  EXPECT_THAT(error_of({"kill:rank=1,at=1s,stop:rank=2,at=1s"}),
              AllOf(HasSubstr("'stop:rank=2,at=1s'"), Not(HasSubstr("kill"))));
}

TEST(FaultPlan, HasABound) {
  const std::vector<std::string> most(FaultPlan::kFaultsMax, "kill:rank=0,at=1s");
  EXPECT_TRUE(parse_fault_plan(most));
  std::vector<std::string> more = most;
  more.push_back(most.front());
  EXPECT_THAT(error_of(more), HasSubstr("more than 64 faults"));
}

TEST(FaultPlan, KnowsTheRanksOfTheRun) {
  const auto plan = parse_fault_plan({"kill:rank=3,at=1s"});
  EXPECT_TRUE(check_ranks(*plan, 4));
  EXPECT_THAT(check_ranks(*plan, 3).error(), HasSubstr("no rank 3; ranks are 0 to 2"));
  EXPECT_THAT(check_ranks(*plan, 1).error(), HasSubstr("rank 0"));
  EXPECT_TRUE(check_ranks(*parse_fault_plan({"kill:coordinator,at=1s"}), 1));
}

TEST(FaultPlan, TimesAreTextForPeople) {
  EXPECT_EQ(time_text(2 * kSecond), "2 s");
  EXPECT_EQ(time_text(1500 * kMillisecond), "1.5 s");
  EXPECT_EQ(time_text(250 * kMillisecond), "250 ms");
}

}  // namespace
}  // namespace regroup
