#include "runtime/host/run_pulse.hpp"

#include <gtest/gtest.h>

namespace regroup {
namespace {

using namespace std::chrono_literals;

// A watcher that looks every 100 ms unless it is held up.
class Watched : public testing::Test {
 protected:
  void looks_for(RunPulse::Clock::duration time, const std::string& seen) {
    for (const auto end = now_ + time; now_ < end;) pulse_.look(now_ += 100ms, seen);
  }

  RunPulse::Clock::time_point now_{1h};
  RunPulse pulse_{10s};
};

TEST_F(Watched, IsSilentOnceNothingHasChangedForSoLong) {
  looks_for(1h, "");
  looks_for(10s, "one");
  EXPECT_FALSE(pulse_.is_silent());
  looks_for(100ms, "one");
  EXPECT_TRUE(pulse_.is_silent());
  looks_for(100ms, "two");
  EXPECT_FALSE(pulse_.is_silent());
  looks_for(10s, "two");
  EXPECT_TRUE(pulse_.is_silent());
}

TEST_F(Watched, IsNotSilentAsLongAsSomebodySpeaks) {
  for (int second = 0; second < 60; ++second) {
    looks_for(9s, "one");
    pulse_.heard();
  }
  EXPECT_FALSE(pulse_.is_silent());
}

TEST_F(Watched, AWatcherThatWasHeldUpTakesThatForNoSilence) {
  looks_for(5s, "one");
  now_ += 1h;
  looks_for(3s, "one");
  EXPECT_FALSE(pulse_.is_silent());
  looks_for(2s, "one");
  EXPECT_TRUE(pulse_.is_silent());
}

TEST_F(Watched, WhatCannotBeToldIsNoSilence) {
  looks_for(5s, "one");
  looks_for(1h, "");
  EXPECT_FALSE(pulse_.is_silent());
  looks_for(9s, "one");
  EXPECT_FALSE(pulse_.is_silent());
}

TEST_F(Watched, MayBeGivenMoreTime) {
  pulse_.silence_max(1min);
  looks_for(59s, "one");
  EXPECT_FALSE(pulse_.is_silent());
}

}  // namespace
}  // namespace regroup
