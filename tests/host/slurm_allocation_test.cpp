#include "runtime/host/slurm_allocation.hpp"

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace regroup {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

TEST(SlurmNodes, AreNamedOneByOneOrByRanges) {
  EXPECT_THAT(parse_slurm_nodes("n1").value(), ElementsAre("n1"));
  EXPECT_THAT(parse_slurm_nodes("n1,gpu-3.cluster").value(), ElementsAre("n1", "gpu-3.cluster"));
  EXPECT_THAT(parse_slurm_nodes("n[1-3,7]").value(), ElementsAre("n1", "n2", "n3", "n7"));
  EXPECT_THAT(parse_slurm_nodes("n[08-11],m2").value(),
              ElementsAre("n08", "n09", "n10", "n11", "m2"));
  EXPECT_THAT(parse_slurm_nodes("r[1-2]n[0,5]-ib").value(),
              ElementsAre("r1n0-ib", "r1n5-ib", "r2n0-ib", "r2n5-ib"));
  EXPECT_THAT(parse_slurm_nodes("n[1-65536]").value(), SizeIs(65'536));
}

TEST(SlurmNodes, ThatMakeNoSenseAreRefused) {
  for (const char* text : {"", ",", "n1,", "n[", "n[]", "n[1", "n[3-1]", "n[1-]", "n[a]", "n[1,,2]",
                           "n[1-99999999999]", "n[1-65537]", "n[1-1000]m[1-1000]"}) {
    EXPECT_THAT(parse_slurm_nodes(text).error(), HasSubstr("no list of nodes")) << text;
  }
}

TEST(SlurmCounts, RepeatThemselves) {
  EXPECT_THAT(parse_slurm_counts("4").value(), ElementsAre(4u));
  EXPECT_THAT(parse_slurm_counts("2(x3),1,5(x1)").value(), ElementsAre(2u, 2u, 2u, 1u, 5u));
  for (const char* text : {"", "x", "0", "2(x", "2(x3", "2x3", "2(x3),", "1(x65537)", "2 "}) {
    EXPECT_THAT(parse_slurm_counts(text).error(), HasSubstr("no counts of tasks")) << text;
  }
}

class SlurmAllocation : public testing::Test {
 protected:
  ~SlurmAllocation() override {
    unsetenv("SLURM_JOB_NODELIST");
    unsetenv("SLURM_TASKS_PER_NODE");
  }
  static void is(const char* nodes, const char* tasks) {
    setenv("SLURM_JOB_NODELIST", nodes, 1);
    setenv("SLURM_TASKS_PER_NODE", tasks, 1);
  }
};

TEST_F(SlurmAllocation, IsReadFromTheEnvironment) {
  EXPECT_THAT(slurm_nodes().value(), IsEmpty());
  is("n[1-3]", "2(x2),1");
  EXPECT_THAT(slurm_nodes().value(),
              ElementsAre(LaunchNode{"n1", 2}, LaunchNode{"n2", 2}, LaunchNode{"n3", 1}));
}

TEST_F(SlurmAllocation, SaysWhichVariableIsWrong) {
  is("n[1-3", "1");
  EXPECT_THAT(slurm_nodes().error(), HasSubstr("SLURM_JOB_NODELIST: 'n[1-3'"));
  is("n1", "none");
  EXPECT_THAT(slurm_nodes().error(), HasSubstr("SLURM_TASKS_PER_NODE: 'none'"));
  is("n[1-3]", "2(x2)");
  EXPECT_THAT(slurm_nodes().error(), HasSubstr("3 nodes, and tasks of 2"));
}

TEST(SlurmSteps, EndWhatTheyLeaveWhereControlGroupsTrackThem) {
  const std::string config = "PriorityType = x\nProctrackType           = proctrack/";
  EXPECT_TRUE(ends_what_steps_leave(config + "cgroup\nPrologFlags = y\n"));
  EXPECT_FALSE(ends_what_steps_leave(config + "linuxproc\nCgroupPlugin = cgroup/v2\n"));
  EXPECT_FALSE(ends_what_steps_leave("slurm_load_ctl_conf error"));
}

}  // namespace
}  // namespace regroup
