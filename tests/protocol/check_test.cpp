// A broken invariant ends the process, in every build type, and says where.
#include "runtime/protocol/check.hpp"

#include <csignal>

#include <gtest/gtest.h>

namespace regroup {
namespace {

TEST(Check, PassesWhatHoldsAndEvaluatesItOnce) {
  int evaluations = 0;
  REGROUP_CHECK(++evaluations == 1, "evaluated more than once");
  EXPECT_EQ(evaluations, 1);
}

TEST(CheckDeathTest, AbortsWithFileTextAndExpression) {
  const int shards = 3;
  EXPECT_EXIT(REGROUP_CHECK(shards == 4, "a shard is missing"), testing::KilledBySignal(SIGABRT),
              "check_test.cpp:[0-9]+: broken invariant: a shard is missing .shards == 4.");
}

}  // namespace
}  // namespace regroup
