#include "runtime/protocol/circuit_breaker.hpp"

#include <gtest/gtest.h>

namespace regroup {
namespace {

constexpr CircuitBreakerOptions kOptions{.failures_max = 3, .pause_min = 10, .pause_max = 35};

TEST(CircuitBreaker, OpensAfterFailuresInARow) {
  CircuitBreaker breaker(kOptions);
  for (int round = 0; round < 5; ++round) {
    breaker.failed(0);
    breaker.failed(0);
    breaker.succeeded();
  }
  EXPECT_EQ(breaker.state(), BreakerState::kClosed);

  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(breaker.allows(100));
    breaker.failed(100);
  }

  EXPECT_EQ(breaker.state(), BreakerState::kOpen);
  EXPECT_FALSE(breaker.allows(109));
  EXPECT_EQ(breaker.next_try(), 110);
}

TEST(CircuitBreaker, TriesOnceAndClosesWhenThatWorks) {
  CircuitBreaker breaker(kOptions);
  for (int i = 0; i < 3; ++i) breaker.failed(0);

  EXPECT_TRUE(breaker.allows(10));
  EXPECT_EQ(breaker.state(), BreakerState::kHalfOpen);
  EXPECT_FALSE(breaker.allows(11));
  breaker.succeeded();

  EXPECT_EQ(breaker.state(), BreakerState::kClosed);
  EXPECT_TRUE(breaker.allows(11));
  breaker.failed(12);
  breaker.failed(12);
  EXPECT_EQ(breaker.state(), BreakerState::kClosed);
  breaker.failed(12);
  EXPECT_EQ(breaker.next_try(), 22);  // the pause begins small again
}

TEST(CircuitBreaker, PausesGrowUpToABound) {
  CircuitBreaker breaker(kOptions);
  for (int i = 0; i < 3; ++i) breaker.failed(0);
  Nanoseconds now = 0;
  for (const Nanoseconds pause : {10, 20, 35, 35, 35}) {
    EXPECT_EQ(breaker.next_try() - now, pause);
    now = breaker.next_try();
    ASSERT_TRUE(breaker.allows(now));
    now = breaker.next_try();  // the failure is told as late as that
    breaker.failed(now);
    EXPECT_EQ(breaker.state(), BreakerState::kOpen);
  }
}

TEST(CircuitBreaker, ATryThatIsNeverHeardOfDoesNotBlockForEver) {
  CircuitBreaker breaker(kOptions);
  for (int i = 0; i < 3; ++i) breaker.failed(0);
  ASSERT_TRUE(breaker.allows(10));

  EXPECT_FALSE(breaker.allows(29));
  EXPECT_TRUE(breaker.allows(30));
}

TEST(CircuitBreaker, WhatComesLateChangesNothing) {
  CircuitBreaker breaker(kOptions);
  for (int i = 0; i < 3; ++i) breaker.failed(0);

  breaker.failed(5);

  EXPECT_EQ(breaker.next_try(), 10);
}

TEST(CircuitBreaker, TimeThatGoesBackOpensNothingEarly) {
  CircuitBreaker breaker(kOptions);
  for (int i = 0; i < 3; ++i) breaker.failed(1000);
  EXPECT_FALSE(breaker.allows(5));
  ASSERT_TRUE(breaker.allows(1010));
  breaker.failed(5);
  EXPECT_FALSE(breaker.allows(1010));
}

}  // namespace
}  // namespace regroup
