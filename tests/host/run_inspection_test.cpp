#include "runtime/host/run_inspection.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/host/finished_run.hpp"
#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

using Kind = RunReadError::Kind;
using test::FinishedRun;
using test::flip_bit;
using test::kWordTable;
using test::number;
using test::ScratchDirectory;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

TEST(RunInspection, TellsOfStatusCheckpointsAndResult) {
  FinishedRun run;
  run.take_checkpoints();

  const auto inspection = inspect_run(run.path()).value();

  EXPECT_EQ(inspection.directory, run.path());
  EXPECT_EQ(inspection.status, run.status);
  EXPECT_EQ(inspection.in_use, false);
  EXPECT_EQ(inspection.checkpoints.problem, "");
  const auto& entries = inspection.checkpoints.entries;
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].checkpoint, number(3));
  EXPECT_EQ(entries[0].state, CheckpointState::kUnfinished);
  EXPECT_EQ(entries[1].state, CheckpointState::kSealed);
  EXPECT_EQ(entries[1].manifest->facts, test::some_facts());
  EXPECT_EQ(entries[2].state, CheckpointState::kSealed);
  ASSERT_TRUE(inspection.result);
  EXPECT_EQ(inspection.result->bytes, run.status.result->bytes);
  EXPECT_EQ(inspection.result->rows, 1000u);
  EXPECT_EQ(inspection.result->columns, kWordTable);
  EXPECT_THAT(inspection.result->scalars, ElementsAre("total"));
  EXPECT_EQ(inspection.result->problem, "");
}

TEST(RunInspection, OfARunThatHasJustBegun) {
  const ScratchDirectory scratch;
  auto directory = RunDirectory::claim(scratch.path()).value();
  ASSERT_TRUE(directory.write_status({.job = "pi", .run = directory.run()}));

  const auto inspection = inspect_run(scratch.path()).value();

  EXPECT_EQ(inspection.in_use, true);
  EXPECT_THAT(inspection.checkpoints.entries, IsEmpty());
  EXPECT_FALSE(inspection.result);
}

TEST(RunInspection, ReadsNoDataOfCheckpoints) {
  FinishedRun run;
  run.take_checkpoints();
  const auto part = run.path() / "checkpoints/000001/part-0001.h5";
  flip_bit(part, 8 * std::filesystem::file_size(part) - 1);

  const auto inspection = inspect_run(run.path()).value();

  EXPECT_EQ(inspection.checkpoints.entries.back().state, CheckpointState::kSealed);
}

TEST(RunInspection, TellsDamagedCheckpoints) {
  FinishedRun run;
  run.take_checkpoints();
  std::filesystem::remove(run.path() / "checkpoints/000001/part-0001.h5");

  const auto entry = inspect_run(run.path()).value().checkpoints.entries.back();

  EXPECT_EQ(entry.state, CheckpointState::kDamaged);
  EXPECT_THAT(entry.reason, HasSubstr("part-0001.h5"));
}

TEST(RunInspection, CannotTellWhoseCheckpointsTheyAreWithoutARun) {
  FinishedRun run;
  run.take_checkpoints();
  run.status.run.clear();
  run.write_status();

  const auto checkpoints = inspect_run(run.path()).value().checkpoints;

  EXPECT_THAT(checkpoints.entries, IsEmpty());
  EXPECT_THAT(checkpoints.problem, HasSubstr("'run'"));
}

TEST(RunInspection, OpensNoResultOfAnotherSize) {
  FinishedRun run;
  std::filesystem::resize_file(run.result(), run.status.result->bytes - 1);

  const auto result = inspect_run(run.path()).value().result;

  EXPECT_THAT(result->problem, AllOf(HasSubstr(run.result().string()), HasSubstr("bytes, not")));
  EXPECT_THAT(result->columns, IsEmpty());
}

TEST(RunInspection, SaysWhyAResultCannotBeOpened) {
  FinishedRun run;
  run.status.result.reset();
  run.write_status();
  test::write_file(run.result(), "words");

  EXPECT_THAT(inspect_run(run.path()).value().result->problem, HasSubstr("truncated"));
}

// ---- What is no run directory ----

void expect_refused(const std::filesystem::path& path, const std::string& named,
                    const std::string& text) {
  const auto inspection = inspect_run(path);

  ASSERT_FALSE(inspection);
  EXPECT_EQ(inspection.error().kind, Kind::kBadInput);
  EXPECT_THAT(inspection.error().message,
              AllOf(HasSubstr(named), HasSubstr(text), Not(HasSubstr("\n"))));
}

TEST(RunInspection, RefusesWhatIsNoRunDirectory) {
  const ScratchDirectory scratch;
  const auto path = scratch.path();
  const std::string status = (path / "status.json").string();
  test::write_file(path / "file", "x");

  expect_refused("", "no name", "name the directory of a run");
  expect_refused(path / "none", (path / "none").string(), "name the directory of a run");
  expect_refused(path / "file" / "below", (path / "file").string(), "is not there");
  expect_refused(path / "file", (path / "file").string(), "not a directory");
  expect_refused(path, path.string(), "it has no status.json");
  for (const char* text : {"", "{\"job\": \"pi\", \"sta", "[1]", "{\"name\": \"package\"}"}) {
    test::write_file(path / "status.json", text);
    expect_refused(path, status, "no status of a run");
  }
  std::filesystem::resize_file(path / "status.json", kStatusBytesMax + 1);
  expect_refused(path, status, "too large");
  std::filesystem::remove(path / "status.json");
  std::filesystem::create_directory(path / "status.json");
  expect_refused(path, status, "not a regular file");
}

TEST(RunInspection, RefusesWhatItMayNotRead) {
  FinishedRun run;
  run.take_checkpoints();
  const auto nobody = std::filesystem::perms::none;
  const auto everybody = std::filesystem::perms::all;
  std::filesystem::permissions(run.path(), everybody);
  const uid_t user = ::geteuid();
  for (const char* name : {"checkpoints", "status.json", ""}) {
    const auto path = *name == '\0' ? run.path() : run.path() / name;
    std::filesystem::permissions(path, nobody);
    ASSERT_EQ(::seteuid(user == 0 ? 65'534 : user), 0);

    expect_refused(run.path(), path.string(), "Permission denied; make it readable");

    ASSERT_EQ(::seteuid(user), 0);
    std::filesystem::permissions(path, everybody);
  }
}

}  // namespace
}  // namespace regroup
