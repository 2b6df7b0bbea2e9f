// A deadline that is missed ends a forked child of the test; one that is met ends nobody.
#include "runtime/host/deadline.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

namespace regroup {
namespace {

using namespace std::chrono_literals;

TEST(DeadlineDeathTest, EndsAProcessThatWaitsTooLong) {
  EXPECT_EXIT(
      {
        const Deadline deadline(20ms, "rank 2 waits", 3);
        for (;;) pause();
      },
      ::testing::ExitedWithCode(3), "^regroup: rank 2 waits\n$");
}

TEST(DeadlineDeathTest, LeavesAProcessAloneThatIsInTime) {
  EXPECT_EXIT(
      {
        for (int i = 0; i < 100; ++i) const Deadline deadline(1h, "late", 3);
        _exit(7);
      },
      ::testing::ExitedWithCode(7), "^$");
}

}  // namespace
}  // namespace regroup
