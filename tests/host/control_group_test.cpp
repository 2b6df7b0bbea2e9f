// The limits of control groups as text; where they are is the machine's.
#include "runtime/host/control_group.hpp"

#include <gtest/gtest.h>

namespace regroup {
namespace {

TEST(ControlGroup, LimitsAreNumbers) {
  EXPECT_EQ(parse_limit("4096\n"), 4096U);
  EXPECT_EQ(parse_limit("0"), 0U);
  EXPECT_EQ(parse_limit("max\n"), std::nullopt);
  EXPECT_EQ(parse_limit("9223372036854771712\n"), std::nullopt) << "version 1 has no other word";
  EXPECT_EQ(parse_limit("-1"), std::nullopt);
  EXPECT_EQ(parse_limit(""), std::nullopt);
}

TEST(ControlGroup, FoldersGoFromThisGroupToTheRoot) {
  const auto folders = control_group_folders("memory");

  ASSERT_FALSE(folders.empty());
  EXPECT_EQ(folders.back(), "/sys/fs/cgroup/memory");
  for (std::size_t i = 1; i < folders.size(); ++i) {
    EXPECT_TRUE(folders[i - 1].starts_with(folders[i])) << folders[i - 1];
  }
  EXPECT_EQ(control_group_folders("").back(), "/sys/fs/cgroup");
}

TEST(ControlGroup, AFileThatIsNotThereIsNoLimit) {
  EXPECT_EQ(read_limit("/sys/fs/cgroup/none/memory.max"), "");
}

}  // namespace
}  // namespace regroup
