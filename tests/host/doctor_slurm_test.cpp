// What the doctor makes of what scontrol prints.
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/host/doctor_facts.hpp"

namespace regroup {
namespace {

using test::check_of;
using test::healthy;
using test::row_of;
using ::testing::AllOf;
using ::testing::HasSubstr;

DoctorFacts with_config(const std::string& config) {
  DoctorFacts facts = healthy();
  facts.slurm.config_output = config;
  return facts;
}

// Inside a batch job, as `scontrol --oneliner show job` tells of it.
DoctorFacts in_job(const std::string& fields) {
  DoctorFacts facts = healthy();
  facts.slurm.job_id = "4711";
  facts.slurm.job_output = "JobId=4711 JobName=x Requeue=1 BatchFlag=1 " + fields + "\n";
  return facts;
}

TEST(DoctorSlurm, KillWaitIsHeldAgainstTheGrace) {
  DoctorFacts facts = with_config("KillWait                = 5 sec\n");

  EXPECT_EQ(check_of(facts, "KillWait").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(facts, "KillWait").found, AllOf(HasSubstr("5 s"), HasSubstr("grace 20 s")));
  EXPECT_THAT(check_of(facts, "KillWait").advice,
              AllOf(HasSubstr("--signal=B:USR1@30"), HasSubstr("--grace 5")));
  facts.grace_seconds = 5;
  EXPECT_EQ(check_of(facts, "KillWait").status, CheckStatus::kOk);
  EXPECT_TRUE(judge(facts).ready()) << "Slurm's settings keep no run from its start";
}

TEST(DoctorSlurm, JobsThatAreNotStartedAgainAreWarnedOf) {
  EXPECT_EQ(check_of(with_config("JobRequeue = 1\n"), "JobRequeue").status, CheckStatus::kOk);
  const DoctorCheck off = check_of(with_config("JobRequeue              = 0\n"), "JobRequeue");
  EXPECT_EQ(off.status, CheckStatus::kWarning);
  EXPECT_THAT(off.advice, HasSubstr("--requeue"));
}

TEST(DoctorSlurm, OtherSettingsThatHurt) {
  const auto status_of = [](const std::string& name, const std::string& value) {
    return check_of(with_config(name + " = " + value + "\n"), name).status;
  };

  EXPECT_EQ(status_of("KillOnBadExit", "0"), CheckStatus::kOk);
  EXPECT_EQ(status_of("KillOnBadExit", "1"), CheckStatus::kWarning);
  EXPECT_EQ(status_of("SlurmdTimeout", "300 sec"), CheckStatus::kOk);
  EXPECT_EQ(status_of("SlurmdTimeout", "0 sec"), CheckStatus::kWarning);
  EXPECT_EQ(status_of("SlurmdTimeout", "3600 sec"), CheckStatus::kWarning);
  EXPECT_EQ(status_of("PreemptMode", "OFF"), CheckStatus::kOk);
  EXPECT_EQ(status_of("PreemptMode", "REQUEUE"), CheckStatus::kOk);
  EXPECT_EQ(status_of("PreemptMode", "GANG,SUSPEND"), CheckStatus::kOk);
  EXPECT_EQ(status_of("PreemptMode", "CANCEL"), CheckStatus::kWarning);
  EXPECT_EQ(status_of("MpiDefault", "none"), CheckStatus::kOk);
  EXPECT_THAT(check_of(with_config("MpiDefault = pmix\n"), "MpiDefault").advice,
              HasSubstr("batch script"));
}

TEST(DoctorSlurm, ExitsThatAreStartedAgainOrHeld) {
  const auto row = [](const std::string& codes, const std::string& held) {
    return check_of(with_config("RequeueExit = " + codes + "\nRequeueExitHold = " + held + "\n"),
                    "RequeueExit");
  };

  EXPECT_THAT(row("(null)", "(null)").advice, HasSubstr("scontrol requeue"));
  EXPECT_EQ(row("75", "(null)").advice, "");
  EXPECT_EQ(row("1,70-80", "(null)").advice, "");
  EXPECT_NE(row("7,74,76-175", "(null)").advice, "");
  EXPECT_EQ(row("(null)", "70-75").status, CheckStatus::kWarning);
}

TEST(DoctorSlurm, SettingsThatDidNotComeHaveNoRow) {
  DoctorFacts facts = with_config("KillWaitOther = 5\nJobRequeue\n");
  EXPECT_FALSE(row_of(facts, "KillWait"));
  EXPECT_FALSE(row_of(facts, "JobRequeue"));

  EXPECT_EQ(check_of(with_config("MpiDefaultOther = x\nMpiDefault = none\n"), "MpiDefault").found,
            "none");

  facts.slurm.config_output.clear();
  facts.slurm.trouble = "scontrol: no answer within 3000 ms; killed";
  EXPECT_EQ(check_of(facts, "Slurm").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(facts, "Slurm").found, HasSubstr("no answer"));
  facts.slurm = {};
  EXPECT_FALSE(row_of(facts, "KillOnBadExit"));
}

TEST(DoctorSlurm, AJobIsToldWhatItHas) {
  EXPECT_FALSE(row_of(healthy(), "Slurm job"));
  const auto row = [](const DoctorFacts& facts) { return check_of(facts, "Slurm job"); };

  const DoctorCheck good = row(in_job("RunTime=00:10:00 TimeLimit=1-01:00:00 NumNodes=1"));
  EXPECT_EQ(good.status, CheckStatus::kOk);
  EXPECT_THAT(good.found, AllOf(HasSubstr("1 node,"), HasSubstr("1490 min left")));
  EXPECT_THAT(row(in_job("RunTime=00:10:00 TimeLimit=UNLIMITED NumNodes=1")).found,
              HasSubstr("no time limit"));
  const DoctorCheck late = row(in_job("RunTime=00:04:50 TimeLimit=00:05:00 NumNodes=1"));
  EXPECT_EQ(late.status, CheckStatus::kWarning);
  EXPECT_THAT(late.advice, HasSubstr("--time"));
  EXPECT_THAT(row(in_job("RunTime=00:06:00 TimeLimit=00:05:00 NumNodes=1")).found,
              HasSubstr("0 s left"));
}

TEST(DoctorSlurm, AJobOfSeveralNodesIsToLiveOnWithoutOne) {
  const DoctorFacts facts = in_job("RunTime=00:00:00 TimeLimit=01:00:00 NumNodes=3");

  EXPECT_EQ(check_of(facts, "Slurm job").status, CheckStatus::kOk);
  EXPECT_THAT(check_of(facts, "Slurm job").advice, HasSubstr("--no-kill"));
}

TEST(DoctorSlurm, ABatchJobThatIsNotRequeuedIsWarnedOf) {
  DoctorFacts facts = healthy();
  facts.slurm.job_id = "12";
  facts.slurm.job_output = "JobId=12 Requeue=0 Restarts=0 BatchFlag=1 NumNodes=1\n";

  EXPECT_EQ(check_of(facts, "Slurm job").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(facts, "Slurm job").advice, HasSubstr("jobid=12 requeue=1"));
  facts.slurm.job_output = "JobId=12 Requeue=0 Restarts=0 BatchFlag=0 NumNodes=1\n";
  EXPECT_EQ(check_of(facts, "Slurm job").status, CheckStatus::kOk) << "an interactive one never is";
  facts.slurm.job_output.clear();
  EXPECT_EQ(check_of(facts, "Slurm job").status, CheckStatus::kWarning);
}

}  // namespace
}  // namespace regroup
