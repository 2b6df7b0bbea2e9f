// The watch over calls by its looks alone: the test plays the kernel that tells of threads, but for
// those cases that ask the real one.
#include "runtime/host/call_watch.hpp"

#include <atomic>
#include <future>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace regroup {
namespace {

using namespace std::chrono_literals;

constexpr auto kDeadline = 60s;

// A thread as the test wants it.
struct CallWatchTest : ::testing::Test {
  // How many of so many looks found a call stuck.
  int stuck_of(int looks) {
    int stuck = 0;
    for (int i = 0; i < looks; ++i) stuck += watch.look() ? 1 : 0;
    return stuck;
  }

  std::optional<ThreadActivity> activity = ThreadActivity{.ran = 0, .is_ready = false};
  pid_t asked_for = 0;
  CallWatch watch{[this](pid_t thread) {
    asked_for = thread;
    return activity;
  }};
};

TEST_F(CallWatchTest, ACallThatNeverReturnsIsStuckAfterTheLooks) {
  watch.begin();
  EXPECT_EQ(stuck_of(CallWatch::kLooks), 0) << "the first one only saw it";
  EXPECT_TRUE(watch.look());
  EXPECT_TRUE(watch.look());
}

TEST_F(CallWatchTest, TheLooksTakeTheTimeout) {
  EXPECT_EQ(CallWatch::look_period(10 * kSecond) * CallWatch::kLooks, 10 * kSecond);
  EXPECT_EQ(CallWatch::look_period(kSecond) * CallWatch::kLooks, kSecond);
}

TEST_F(CallWatchTest, WhereThereIsNoCallNothingIsStuck) {
  EXPECT_EQ(stuck_of(100), 0);
  watch.begin();
  watch.end();
  EXPECT_EQ(stuck_of(100), 0);
  EXPECT_EQ(asked_for, 0) << "an idle rank costs the kernel nothing";
}

TEST_F(CallWatchTest, CallsThatFollowEachOtherAreNotOneCall) {
  for (int i = 0; i < 100; ++i) {
    const WatchedCall call(watch);
    EXPECT_EQ(stuck_of(CallWatch::kLooks), 0);
  }
}

TEST_F(CallWatchTest, ACallThatReturnsLateIsForgiven) {
  watch.begin();
  EXPECT_EQ(stuck_of(CallWatch::kLooks), 0);
  watch.end();
  EXPECT_FALSE(watch.look());
  watch.begin();
  EXPECT_EQ(stuck_of(CallWatch::kLooks), 0);
  EXPECT_TRUE(watch.look());
}

TEST_F(CallWatchTest, WhatACallCallsBackIsNotTheCall) {
  WatchedCall call(watch);
  EXPECT_EQ(stuck_of(CallWatch::kLooks), 0);
  call.outside([&] { EXPECT_EQ(stuck_of(100), 0); });
  EXPECT_EQ(stuck_of(CallWatch::kLooks), 0) << "it counts anew";
  EXPECT_TRUE(watch.look());
}

TEST_F(CallWatchTest, AThreadWithoutACoreIsNotStuck) {
  activity = ThreadActivity{.ran = 5, .is_ready = true};
  watch.begin();
  EXPECT_EQ(stuck_of(1000), 0);
}

TEST_F(CallWatchTest, OnlyLooksBetweenWhichTheThreadRanCount) {
  activity = ThreadActivity{.ran = 5, .is_ready = true};
  watch.begin();
  EXPECT_FALSE(watch.look());
  for (int i = 1; i < CallWatch::kLooks; ++i) {
    activity->ran += 1;
    EXPECT_EQ(stuck_of(10), 0);
  }
  activity->ran += 1;
  EXPECT_TRUE(watch.look());
}

// Asleep in the kernel, or in a loop of its own: both are ways not to return.
TEST_F(CallWatchTest, ASleepingThreadIsAsStuckAsOneThatRuns) {
  watch.begin();
  EXPECT_EQ(stuck_of(CallWatch::kLooks), 0);
  activity = ThreadActivity{.ran = 1, .is_ready = true};
  EXPECT_TRUE(watch.look());
}

TEST_F(CallWatchTest, AThreadThatTheKernelDoesNotTellOfIsJudgedByItsCall) {
  activity.reset();
  watch.begin();
  EXPECT_EQ(stuck_of(CallWatch::kLooks), 0);
  EXPECT_TRUE(watch.look());
}

TEST_F(CallWatchTest, AsksForTheThreadOfTheCall) {
  pid_t caller = 0;
  std::thread([&] {
    caller = gettid();
    watch.begin();
  }).join();
  watch.look();
  EXPECT_EQ(asked_for, caller);
  EXPECT_NE(asked_for, gettid());
}

TEST_F(CallWatchTest, CallsAndLooksMayMeet) {
  activity = ThreadActivity{.ran = 0, .is_ready = true};
  std::atomic<bool> done = false;
  std::thread caller([&] {
    for (int i = 0; i < 100'000; ++i) const WatchedCall call(watch);
    done = true;
  });
  int stuck = 0;
  while (!done) stuck += watch.look() ? 1 : 0;
  caller.join();
  EXPECT_EQ(stuck, 0);
}

// ---- the real kernel ----

TEST(ThreadActivity, AThreadThatComputesRuns) {
  const auto before = activity_of(gettid());
  ASSERT_TRUE(before);
  EXPECT_TRUE(before->is_ready);
  const auto until = std::chrono::steady_clock::now() + kDeadline;
  auto after = before;
  while (after && after->ran == before->ran && std::chrono::steady_clock::now() < until) {
    after = activity_of(gettid());
  }
  ASSERT_TRUE(after);
  EXPECT_GT(after->ran, before->ran);
}

TEST(ThreadActivity, AThreadThatWaitsIsNotReadyAndDoesNotRun) {
  std::promise<pid_t> number;
  std::promise<void> wake;
  std::thread waiting([&] {
    number.set_value(gettid());
    wake.get_future().wait();
  });
  const pid_t thread = number.get_future().get();
  const auto until = std::chrono::steady_clock::now() + kDeadline;
  const auto waits = [&] {  // it may have been asleep for a moment on its way there
    const auto first = activity_of(thread);
    const auto second = activity_of(thread);
    return first && second && !first->is_ready && !second->is_ready && first->ran == second->ran;
  };
  bool has_waited = false;
  while (!has_waited && std::chrono::steady_clock::now() < until) has_waited = waits();
  wake.set_value();
  waiting.join();

  EXPECT_TRUE(has_waited);
  EXPECT_FALSE(activity_of(0));
}

}  // namespace
}  // namespace regroup
