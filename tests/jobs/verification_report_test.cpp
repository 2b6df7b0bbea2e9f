#include "jobs/verification_report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace regroup {
namespace {

using testing::EndsWith;
using testing::HasSubstr;

RunVerification a_verification() {
  RunVerification verification;
  verification.directory = "my-run";
  verification.status.job = "wordcount";
  verification.status.state = RunState::kDone;
  verification.in_use = false;
  verification.parts = {{"status.json", 1, 0, 600, 0},
                        {"checkpoints/000002", 4, 3, 2048, 2},
                        {"result.h5", 1, 5, 1024, 0}};
  verification.notes = {"checkpoints/000003 is unfinished"};
  verification.problems = {{"checkpoints/000002/part-0001.h5", "it has 5 bytes, not 6"},
                           {"checkpoints/000002/view.h5", "\033[2J"}};
  return verification;
}

TEST(VerificationText, SaysWhatWasCheckedAndALineAProblem) {
  EXPECT_EQ(verification_text(a_verification(), 80),
            "status.json: 1 file, 600 bytes: right\n"
            "checkpoints/000002: 4 files, 3 datasets, 2.0 KiB: 2 problems\n"
            "result.h5: 1 file, 5 datasets, 1.0 KiB: right\n"
            "note: checkpoints/000003 is unfinished\n"
            "problem: checkpoints/000002/part-0001.h5: it has 5 bytes, not 6\n"
            "problem: checkpoints/000002/view.h5: \\x1b[2J\n"
            "6 files, 8 datasets, 3.6 KiB read: 2 problems\n");
}

TEST(VerificationText, SaysThatAllIsRight) {
  RunVerification verification = a_verification();
  verification.problems.clear();
  EXPECT_THAT(verification_text(verification, 80), EndsWith("3.6 KiB read: all is right\n"));
}

TEST(VerificationText, SaysThatThereIsNothingToVerify) {
  RunVerification verification = a_verification();
  verification.problems.clear();
  verification.parts.resize(1);
  EXPECT_THAT(verification_text(verification, 80), HasSubstr("nothing is to be verified yet"));
}

TEST(VerificationText, SaysThatARunIsLive) {
  RunVerification verification = a_verification();
  verification.in_use = true;
  EXPECT_THAT(verification_text(verification, 80), HasSubstr("a live run holds the directory"));
}

TEST(VerificationJson, HoldsCountsPartsAndProblems) {
  const auto object = nlohmann::json::parse(verification_json(a_verification()));

  EXPECT_EQ(object["dir"], "my-run");
  EXPECT_EQ(object["job"], "wordcount");
  EXPECT_EQ(object["state"], "done");
  EXPECT_EQ(object["valid"], false);
  EXPECT_EQ(object["files"], 6);
  EXPECT_EQ(object["datasets"], 8);
  EXPECT_EQ(object["bytes"], 3672);
  EXPECT_EQ(object["parts"][1]["name"], "checkpoints/000002");
  EXPECT_EQ(object["parts"][1]["problems"], 2);
  EXPECT_EQ(object["problems"][0]["file"], "checkpoints/000002/part-0001.h5");
  EXPECT_EQ(object["notes"].size(), 1u);
}

}  // namespace
}  // namespace regroup
