#include "runtime/host/run_verification.hpp"

#include <ostream>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/host/png_wrapper.hpp"
#include "tests/host/finished_run.hpp"
#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

using test::FinishedRun;
using test::flip_bit;
using test::number;
using test::take;
using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

using Problem = VerificationProblem;

std::vector<std::string> part_names(const RunVerification& verification) {
  std::vector<std::string> names;
  for (const auto& part : verification.parts) names.push_back(part.name);
  return names;
}

// The one problem that there must be.
Problem only_problem(const FinishedRun& run) {
  const auto verification = verify_run(run.path()).value();
  EXPECT_EQ(verification.problems.size(), 1u);
  return verification.problems.empty() ? Problem{} : verification.problems.front();
}

TEST(RunVerification, OfAWholeRunFindsAllRight) {
  FinishedRun run;
  run.take_checkpoints();

  const auto verification = verify_run(run.path()).value();

  EXPECT_THAT(verification.problems, IsEmpty());
  EXPECT_THAT(part_names(verification),
              ElementsAre("status.json", "checkpoints/000002", "checkpoints/000001", "result.h5"));
  EXPECT_THAT(verification.notes, ElementsAre(HasSubstr("checkpoints/000003 is unfinished")));
  EXPECT_FALSE(verification.has_status_alone());
}

TEST(RunVerification, CountsEveryByte) {
  FinishedRun run;
  ASSERT_TRUE(take(run.store, {.checkpoint = number(1)}));

  const auto verification = verify_run(run.path()).value();

  std::uint64_t files = 0;
  std::uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(run.path())) {
    if (!entry.is_regular_file()) continue;
    ++files;
    bytes += entry.file_size();
  }
  for (const auto& part : verification.parts) {
    files -= part.files;
    bytes -= part.bytes;
  }
  EXPECT_EQ(files, 0u);
  EXPECT_EQ(bytes, 0u);
  EXPECT_EQ(verification.parts[1].datasets, 3u) << "two ranks' rows, and the sink's";
  EXPECT_EQ(verification.parts[2].datasets, 5u) << "four columns, one of them of texts";
}

TEST(RunVerification, OfAFreshRunHasNothingToVerify) {
  const test::ScratchDirectory scratch;
  auto directory = RunDirectory::claim(scratch.path()).value();
  ASSERT_TRUE(directory.write_status({.job = "pi", .run = directory.run()}));

  const auto verification = verify_run(scratch.path()).value();

  EXPECT_TRUE(verification.valid());
  EXPECT_TRUE(verification.has_status_alone());
  EXPECT_EQ(verification.in_use, true);
}

TEST(RunVerification, OfWhatIsNoRunDirectoryIsRefused) {
  const test::ScratchDirectory scratch;

  const auto verification = verify_run(scratch.path());

  ASSERT_FALSE(verification);
  EXPECT_EQ(verification.error().kind, RunReadError::Kind::kBadInput);
}

// ---- The result ----

TEST(RunVerification, NoticesEveryFlippedBitOfTheResult) {
  FinishedRun run;
  std::mt19937_64 random(17);
  const std::uint64_t bits = 8 * run.status.result->bytes;
  for (int i = 0; i < 500; ++i) {
    const std::uint64_t bit = random() % bits;
    flip_bit(run.result(), bit);

    EXPECT_EQ(only_problem(run),
              (Problem{"result.h5", "it is not what was written: the hash differs"}))
        << "bit " << bit;

    flip_bit(run.result(), bit);
  }
  EXPECT_TRUE(verify_run(run.path()).value().valid()) << "whole again";
}

TEST(RunVerification, NoticesAResultOfAnotherLength) {
  FinishedRun run;
  std::filesystem::resize_file(run.result(), run.status.result->bytes + 1);
  EXPECT_THAT(only_problem(run).reason, HasSubstr("bytes, not"));
  std::filesystem::resize_file(run.result(), 0);
  EXPECT_THAT(only_problem(run).reason, HasSubstr("it has 0 bytes, not"));
}

TEST(RunVerification, MissesTheResultOfARunThatIsDoneOnly) {
  FinishedRun run;
  std::filesystem::remove(run.result());
  EXPECT_EQ(only_problem(run), (Problem{"result.h5", "it is not there, though the run is done"}));

  run.status.state = RunState::kRunning;
  run.status.exit.reset();
  run.write_status();
  EXPECT_TRUE(verify_run(run.path()).value().valid());
}

// As an older Regroup wrote it: what its datasets hold is held against their own hashes.
TEST(RunVerification, OfAResultWithoutAHashOfTheFileReadsItsDatasets) {
  FinishedRun run;
  run.status.result.reset();
  run.write_status();
  const auto verification = verify_run(run.path()).value();
  EXPECT_TRUE(verification.valid());
  EXPECT_THAT(verification.notes, ElementsAre(HasSubstr("no hash of result.h5")));

  const std::string words = test::contents_of(run.result());
  flip_bit(run.result(), 8 * words.find("eeeefffff"));

  const auto problem = only_problem(run);
  EXPECT_EQ(problem.file, "result.h5");
  EXPECT_THAT(problem.reason, HasSubstr("column 'word'"));
}

// ---- Its pictures ----

struct RunWithPicture : FinishedRun {
  RunWithPicture() {
    auto writer = ResultFileWriter::create(path()).value();
    EXPECT_TRUE(writer.attribute("job", status.job));
    EXPECT_TRUE(writer.attribute("seed", *status.seed));
    EXPECT_TRUE(writer.picture(picture));
    EXPECT_TRUE(writer.finish());
    status.result = writer.digest();
    write_status();
  }
  void replace_png(const Picture& other) const {
    test::write_file(png(), encode_png(other).value());
  }
  std::filesystem::path png() const { return path() / "view.png"; }

  Picture picture{"view", 3, 2, PixelFormat::kRgb, std::vector<std::uint8_t>(18, 9)};
};

TEST(RunVerification, HoldsPictureFilesAgainstTheResult) {
  RunWithPicture run;
  const auto verification = verify_run(run.path()).value();
  EXPECT_THAT(verification.problems, IsEmpty());
  EXPECT_THAT(part_names(verification), ElementsAre("status.json", "result.h5", "view.png"));
  EXPECT_EQ(verification.parts[1].datasets, 1u);
  EXPECT_EQ(verification.parts[2].files, 1u);
  EXPECT_EQ(verification.parts[2].bytes, std::filesystem::file_size(run.png()));

  Picture other = run.picture;
  other.pixels[17] ^= 1;
  run.replace_png(other);
  EXPECT_EQ(only_problem(run), (Problem{"view.png", "row 1 is not what the result has"}));

  other = run.picture;
  other.format = PixelFormat::kGrey;
  other.pixels.resize(6);
  run.replace_png(other);
  EXPECT_THAT(only_problem(run).reason, HasSubstr("another size or other colours"));

  run.replace_png(run.picture);
  test::write_file(run.png(), test::contents_of(run.png()) + "more");
  EXPECT_THAT(only_problem(run).reason, HasSubstr("more bytes follow its end"));

  std::filesystem::remove(run.png());
  EXPECT_EQ(only_problem(run),
            (Problem{"view.png", "it is not there, though the result has that picture"}));
}

TEST(RunVerification, NoticesEveryFlippedBitOfAPicture) {
  RunWithPicture run;
  const std::uint64_t bits = 8 * std::filesystem::file_size(run.png());
  for (std::uint64_t bit = 0; bit < bits; ++bit) {
    flip_bit(run.png(), bit);
    const auto problem = only_problem(run);
    EXPECT_EQ(problem.file, "view.png") << "bit " << bit;
    EXPECT_THAT(problem.reason, Not(HasSubstr(run.path().string())));
    flip_bit(run.png(), bit);
  }
  EXPECT_TRUE(verify_run(run.path()).value().valid()) << "whole again";
}

TEST(RunVerification, HoldsTheDescriptionOfFieldsAgainstTheResult) {
  FinishedRun run;
  auto writer = ResultFileWriter::create(run.path()).value();
  ASSERT_TRUE(writer.attribute("job", run.status.job));
  ASSERT_TRUE(writer.attribute("seed", *run.status.seed));
  ASSERT_TRUE(writer.field({.name = "heat", .shape = {1, 2}, .spacing = {1, 1}, .origin = {0, 0}},
                           0, std::vector<double>{1, 2}));
  ASSERT_TRUE(writer.finish());
  run.status.result = writer.digest();
  run.write_status();
  const auto path = run.path() / "result.xdmf";
  EXPECT_THAT(part_names(verify_run(run.path()).value()),
              ElementsAre("status.json", "result.h5", "result.xdmf"));

  for (std::uint64_t bit = 0; bit < 8 * std::filesystem::file_size(path); bit += 97) {
    flip_bit(path, bit);
    EXPECT_EQ(only_problem(run),
              (Problem{"result.xdmf", "it is not what was written: the hash differs"}));
    flip_bit(path, bit);
  }
  std::filesystem::remove(path);
  EXPECT_EQ(only_problem(run).file, "result.xdmf");
}

TEST(RunVerification, NoticesTheResultOfAnotherRun) {
  FinishedRun run;
  run.write_result("wordcount", 7);
  run.write_status();

  const auto problems = verify_run(run.path()).value().problems;

  EXPECT_THAT(problems, ElementsAre(Problem{"result.h5",
                                            "it is of job 'wordcount', not "
                                            "'montecarlo'"},
                                    Problem{"result.h5",
                                            "it is of seed 7, not "
                                            "18446744073709551615"}));
}

// ---- Checkpoints ----

TEST(RunVerification, NamesTheDamagedFileOfACheckpoint) {
  FinishedRun run;
  ASSERT_TRUE(take(run.store, {.checkpoint = number(1)}));
  std::mt19937_64 random(3);
  for (const char* name : {"part-0000.h5", "part-0001.h5", "view.h5"}) {
    const auto path = run.path() / "checkpoints/000001" / name;
    for (int i = 0; i < 20; ++i) {
      const std::uint64_t bit = random() % (8 * std::filesystem::file_size(path));
      flip_bit(path, bit);

      const auto problem = only_problem(run);

      EXPECT_EQ(problem.file, std::string("checkpoints/000001/") + name) << "bit " << bit;
      EXPECT_THAT(problem.reason, Not(HasSubstr(run.path().string())));
      flip_bit(path, bit);
    }
  }
}

TEST(RunVerification, NamesADamagedManifestAndAMissingPart) {
  FinishedRun run;
  ASSERT_TRUE(take(run.store, {.checkpoint = number(1)}));
  ASSERT_TRUE(take(run.store, {.checkpoint = number(2)}));
  flip_bit(run.path() / "checkpoints/000001/manifest.json", 777);
  std::filesystem::remove(run.path() / "checkpoints/000002/part-0001.h5");

  const auto problems = verify_run(run.path()).value().problems;

  ASSERT_EQ(problems.size(), 2u);
  EXPECT_EQ(problems[0].file, "checkpoints/000002");
  EXPECT_THAT(problems[0].reason, AllOf(HasSubstr("part-0001.h5"), HasSubstr("No such file")));
  EXPECT_EQ(problems[1].file, "checkpoints/000001/manifest.json");
}

TEST(RunVerification, NoticesCheckpointsOfAnotherRunJobOrSeed) {
  FinishedRun run;
  ASSERT_TRUE(take(run.store, {.checkpoint = number(1)}));
  run.status.job = "wordcount";
  run.status.seed = 7;
  run.write_result("wordcount", 7);
  run.write_status();
  EXPECT_THAT(
      verify_run(run.path()).value().problems,
      AllOf(testing::SizeIs(2), Each(Field(&Problem::file, "checkpoints/000001/manifest.json"))));

  run.status.run = "another";
  run.write_status();
  EXPECT_THAT(only_problem(run).reason, StartsWith("it is of run run-4f2c, not another"));
}

TEST(RunVerification, NeedsToKnowTheRunOfCheckpoints) {
  FinishedRun run;
  run.take_checkpoints();
  run.status.run.clear();
  run.write_status();

  EXPECT_THAT(only_problem(run), Field(&Problem::reason, HasSubstr("'run'")));
}

// A live run that removes an old checkpoint while it is verified.
class RemovingFileSystem : public FileSystem {
 public:
  explicit RemovingFileSystem(std::filesystem::path victim) : victim_(std::move(victim)) {}
  int open(const char* path, int flags, mode_t mode) override {
    // The view is looked at last when a checkpoint is opened.
    if (std::string_view(path).ends_with("view.h5") && ++looks_ == 2)
      std::filesystem::remove_all(victim_);
    return FileSystem::open(path, flags, mode);
  }

 private:
  std::filesystem::path victim_;
  int looks_ = 0;
};

TEST(RunVerification, OfACheckpointThatIsRemovedMeanwhileIsNoProblem) {
  FinishedRun run;
  ASSERT_TRUE(take(run.store, {.checkpoint = number(1)}));
  RemovingFileSystem file_system(run.path() / "checkpoints/000001");

  const auto verification = verify_run(run.path(), file_system).value();

  EXPECT_THAT(verification.problems, IsEmpty());
  EXPECT_THAT(verification.notes, ElementsAre("checkpoints/000001 was removed while it was "
                                              "verified"));
}

// ---- The status ----

struct BrokenRule {
  const char* name;
  void (*breaking)(RunStatus&);
  const char* problem;
};

void PrintTo(const BrokenRule& rule, std::ostream* out) {
  *out << rule.name;
}

class StatusRule : public testing::TestWithParam<BrokenRule> {};

TEST_P(StatusRule, IsKept) {
  RunStatus status = test::finished_status();
  ASSERT_THAT(problems_with(status), IsEmpty());

  GetParam().breaking(status);

  EXPECT_THAT(problems_with(status), ElementsAre(HasSubstr(GetParam().problem)));
}

INSTANTIATE_TEST_SUITE_P(
    Each, StatusRule,
    testing::Values(
        BrokenRule{"not all done", [](RunStatus& s) { s.shards_done = 9; }, "9 of 10"},
        BrokenRule{"too many done",
                   [](RunStatus& s) {
                     s.state = RunState::kRunning;
                     s.exit.reset();
                     s.shards_done = 11;
                   },
                   "than there are"},
        BrokenRule{"too many given up",
                   [](RunStatus& s) {
                     s.exit = 1;
                     s.message = "11 shards were given up";
                     s.quarantined = 11;
                   },
                   "given up than there are"},
        BrokenRule{"members",
                   [](RunStatus& s) {
                     s.members = {1, 0};
                   },
                   "rank order"},
        BrokenRule{"no members", [](RunStatus& s) { s.members.clear(); }, "no members"},
        BrokenRule{"done with 75", [](RunStatus& s) { s.exit = 75; }, "exit status 75, not 0"},
        BrokenRule{"done without exit", [](RunStatus& s) { s.exit.reset(); }, "no exit status"},
        BrokenRule{"0 with shards given up", [](RunStatus& s) { s.quarantined = 1; }, "1 shards"},
        BrokenRule{"1 without",
                   [](RunStatus& s) {
                     s.exit = 1;
                     s.message = "0 shards were given up";
                   },
                   "no shard given up"},
        BrokenRule{"1 without a message",
                   [](RunStatus& s) {
                     s.exit = 1;
                     s.quarantined = 1;
                   },
                   "no message"},
        BrokenRule{"running with exit", [](RunStatus& s) { s.state = RunState::kRunning; },
                   "has not ended"},
        BrokenRule{"starting with exit", [](RunStatus& s) { s.state = RunState::kStarting; },
                   "has not ended"},
        BrokenRule{"failed with 0",
                   [](RunStatus& s) {
                     s.state = RunState::kFailed;
                     s.message = "lost";
                   },
                   "exit status 0"},
        BrokenRule{"interrupted without a message",
                   [](RunStatus& s) {
                     s.state = RunState::kInterrupted;
                     s.exit = 75;
                   },
                   "no message"},
        BrokenRule{"recoveries that do not grow",
                   [](RunStatus& s) {
                     s.recoveries = {{.epoch = 2}, {.epoch = 2}};
                   },
                   "do not grow"},
        BrokenRule{"an epoch before a recovery",
                   [](RunStatus& s) { s.recoveries = {{.epoch = 4}}; },
                   "before that of a recovery"}));

TEST(RunVerification, NoticesEveryFlippedBitOfTheStatus) {
  const FinishedRun run;
  const auto path = run.path() / "status.json";
  for (std::uint64_t bit = 0; bit < 8 * std::filesystem::file_size(path); ++bit) {
    flip_bit(path, bit);

    const auto verification = verify_run(run.path());

    EXPECT_FALSE(verification && verification->valid()) << "bit " << bit;
    flip_bit(path, bit);
  }
  EXPECT_TRUE(verify_run(run.path()).value().valid()) << "whole again";
}

TEST(RunVerification, OfAStatusWithoutAHashSaysSo) {
  const test::ScratchDirectory scratch;
  test::write_file(scratch.path() / "status.json", R"({"job":"pi","state":"running"})");
  const auto old = verify_run(scratch.path()).value();
  EXPECT_TRUE(old.valid());
  EXPECT_THAT(old.notes, ElementsAre(HasSubstr("no hash of itself")));

  test::write_file(scratch.path() / "status.json", R"({"job":"pi","state":"running","run":"r"})");
  EXPECT_THAT(verify_run(scratch.path()).value().problems,
              ElementsAre(Problem{"status.json", "it does not end with its hash"}));
}

TEST(RunVerification, ReportsABrokenRuleOfTheStatus) {
  FinishedRun run;
  run.status.shards_done = 9;
  run.write_status();

  EXPECT_EQ(only_problem(run), (Problem{"status.json",
                                        "it says that the run is done, but 9 of 10 "
                                        "shards are done"}));
}

}  // namespace
}  // namespace regroup
