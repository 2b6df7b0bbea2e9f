#include "runtime/host/run_directory.hpp"

#include <chrono>
#include <cmath>
#include <optional>
#include <ostream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

using Kind = RunDirectoryError::Kind;
using test::contents_of;
using test::FailingFileSystem;
using test::names_in;
using test::ScratchDirectory;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::MatchesRegex;
using testing::Not;

RunStatus sample_status() {
  RunStatus status;
  status.job = "wordcount";
  status.run = "0123456789abcdef0123456789abcdef";
  status.seed = UINT64_MAX;
  status.state = RunState::kInterrupted;
  status.exit = 75;
  status.epoch = std::uint64_t{1} << 60;
  status.members = {0, 2, 4'294'967'295};
  status.shards_done = 7;
  status.shards_total = 10;
  status.quarantined = 1;
  status.step = 1200;
  status.steps = 5000;
  status.failures_survived = 2;
  status.checkpointing = {.newest = 4,
                          .sealed = 3,
                          .failed = 1,
                          .error = "no space",
                          .storage = "half-open",
                          .bytes = 1 << 20,
                          .cost_seconds = 0.5,
                          .interval_seconds = 60,
                          .failure_interval_seconds = 3600};
  status.shards_repeated = 9;
  status.restored_from = {.memory = 1, .partner = 2, .file = 3};
  status.partner_copies = {.rounds = 5,
                           .partitions = 6,
                           .bytes = 1 << 22,
                           .refused = 7,
                           .cost_seconds = 0.125,
                           .interval_seconds = 30,
                           .sent_bytes = 1 << 21,
                           .sending_seconds = 0.0625};
  status.recoveries = {{2, {1}, {}, std::string(kEvidenceDead), utc_text(7), 0.5, 1.25, 1.5},
                       {3, {2}, {1}, std::string(kEvidenceTold), utc_text(8), 1.5, 2.25, {}}};
  status.seconds = 1.5;
  status.result = {1234, "00112233445566778899aabbccddeeff"};
  status.message = "sealed; go on with `regroup resume`";
  status.regroup_version = "0.1.0";
  status.started_utc = utc_text(0);
  status.updated_utc = utc_text(1'769'903'999);
  status.pid = 4242;
  status.host = "node-7";
  return status;
}

// Whether a path is refused for this reason by claim() and by check(), in one line that has the
// path and `text`, with nothing written.
void expect_refused(const std::filesystem::path& path, const std::filesystem::path& watched,
                    Kind kind, const std::string& text) {
  const auto before = names_in(watched);
  const auto checked = RunDirectory::check(path);
  const auto claimed = RunDirectory::claim(path);

  ASSERT_FALSE(checked);
  ASSERT_FALSE(claimed);
  EXPECT_EQ(checked.error().message, claimed.error().message);
  EXPECT_EQ(checked.error().kind, kind);
  EXPECT_EQ(claimed.error().kind, kind);
  EXPECT_THAT(claimed.error().message,
              AllOf(HasSubstr(path.string()), HasSubstr(text), Not(HasSubstr("\n"))));
  EXPECT_EQ(names_in(watched), before);
}

// A child that claims the directory, says so, and lives until it is killed.
pid_t start_claimer(const std::filesystem::path& path) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto claimed = RunDirectory::claim(path);
    const char told = claimed ? '+' : '-';
    if (::write(ends[1], &told, 1) == 1)
      for (;;) ::pause();
    ::_exit(1);
  }
  ::close(ends[1]);
  char told = 0;
  EXPECT_EQ(::read(ends[0], &told, 1), 1);
  EXPECT_EQ(told, '+');
  ::close(ends[0]);
  return child;
}

TEST(RunDirectory, IsMadeWhenMissing) {
  const ScratchDirectory scratch;
  const auto path = scratch.path() / "run";
  ASSERT_TRUE(RunDirectory::check(path));
  EXPECT_FALSE(std::filesystem::exists(path)) << "check() makes nothing";

  const auto claimed = RunDirectory::claim(path);

  ASSERT_TRUE(claimed) << claimed.error().message;
  EXPECT_EQ(claimed->path(), path);
  EXPECT_THAT(names_in(path), ElementsAre("lock"));
}

TEST(RunDirectory, TakesATrailingSlashAndAnEmptyDirectory) {
  const ScratchDirectory scratch;

  EXPECT_TRUE(RunDirectory::claim(scratch.path() / "run" / ""));
  std::filesystem::create_directory(scratch.path() / "empty");
  EXPECT_TRUE(RunDirectory::check(scratch.path() / "empty"));
  EXPECT_THAT(names_in(scratch.path() / "empty"), IsEmpty());
  EXPECT_TRUE(RunDirectory::claim(scratch.path() / "empty"));
}

TEST(RunDirectory, IsHeldAsLongAsTheObjectLives) {
  const ScratchDirectory scratch;
  const auto path = scratch.path() / "run";
  {
    auto first = RunDirectory::claim(path).value();
    expect_refused(path, path, Kind::kInUse, "in use by a live run");
    const auto moved = std::move(first);
    expect_refused(path, path, Kind::kInUse, "in use by a live run");
  }

  EXPECT_TRUE(RunDirectory::check(path));
  EXPECT_TRUE(RunDirectory::claim(path));
}

TEST(RunDirectory, IsWaitedForWhereItsRunHasEnded) {
  const ScratchDirectory scratch;
  const auto path = scratch.path() / "run";
  std::optional<RunDirectory> held = RunDirectory::claim(path).value();
  RunStatus status{.job = "montecarlo", .state = RunState::kInterrupted};
  ASSERT_TRUE(held->write_status(status));
  std::thread ending([&held] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    held.reset();
  });
  EXPECT_EQ(RunDirectory::check(path).error().kind, Kind::kInUse);
  EXPECT_TRUE(RunDirectory::check_when_ended(path));
  ending.join();
}

TEST(RunDirectory, IsNotWaitedForWhereItsRunGoesOn) {
  const ScratchDirectory scratch;
  const auto path = scratch.path() / "run";
  auto held = RunDirectory::claim(path).value();
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(RunDirectory::check_when_ended(path).error().kind, Kind::kInUse);
  ASSERT_TRUE(held.write_status({.job = "montecarlo", .state = RunState::kRunning}));
  EXPECT_EQ(RunDirectory::check_when_ended(path).error().kind, Kind::kInUse);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

TEST(RunDirectory, TellsWhetherItIsHeld) {
  const ScratchDirectory scratch;
  EXPECT_EQ(RunDirectory::is_held(scratch.path()), false) << "nobody ever claimed it";
  {
    const auto claimed = RunDirectory::claim(scratch.path()).value();
    EXPECT_EQ(RunDirectory::is_held(scratch.path()), true);
  }
  EXPECT_EQ(RunDirectory::is_held(scratch.path()), false);
  EXPECT_EQ(RunDirectory::is_held(scratch.path() / "lock"), std::nullopt) << "no directory";
}

TEST(RunDirectory, IsFreeAgainWhenItsProcessIsKilled) {
  const ScratchDirectory scratch;
  const auto path = scratch.path() / "run";
  const pid_t child = start_claimer(path);
  expect_refused(path, path, Kind::kInUse, "in use by a live run");

  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);

  EXPECT_TRUE(RunDirectory::claim(path));
}

TEST(RunDirectory, ContinuesARunThatIsNotDone) {
  const ScratchDirectory scratch;
  const auto path = scratch.path() / "run";
  ASSERT_TRUE(RunDirectory::claim(path).value().write_status(sample_status()));
  test::write_file(path / "events.h5", "other things of the run");

  EXPECT_TRUE(RunDirectory::check(path));
  EXPECT_TRUE(RunDirectory::claim(path));
  EXPECT_EQ(read_status(path).value(), sample_status());
}

TEST(RunDirectory, ContinuesOneThatDiedBeforeItsFirstStatus) {
  const ScratchDirectory scratch;
  const auto path = scratch.path() / "run";
  ASSERT_TRUE(RunDirectory::claim(path));
  std::filesystem::create_directory(path / "checkpoints");
  EXPECT_TRUE(RunDirectory::claim(path));

  const auto blank = scratch.path() / "blank";
  std::filesystem::create_directory(blank);
  test::write_file(blank / "lock", "");
  EXPECT_TRUE(RunDirectory::claim(blank));
}

// ---- what tells its run from others ----

TEST(RunDirectory, HasARunOfItsOwn) {
  const ScratchDirectory scratch;
  const auto one = RunDirectory::claim(scratch.path() / "one").value();
  const auto other = RunDirectory::claim(scratch.path() / "other").value();

  EXPECT_THAT(one.run(), MatchesRegex("[0-9a-f]{32}"));
  EXPECT_THAT(other.run(), MatchesRegex("[0-9a-f]{32}"));
  EXPECT_NE(one.run(), other.run());
}

TEST(RunDirectory, KeepsItsRunOverLaunches) {
  const ScratchDirectory scratch;
  RunStatus status = sample_status();
  {
    auto first = RunDirectory::claim(scratch.path()).value();
    status.run = first.run();
    ASSERT_TRUE(first.write_status(status));
  }
  EXPECT_EQ(RunDirectory::claim(scratch.path()).value().run(), status.run);
  EXPECT_EQ(RunDirectory::take_over(scratch.path()).run(), status.run);
}

TEST(RunDirectory, OfAnOlderRegroupGetsARun) {
  const ScratchDirectory scratch;
  test::write_file(scratch.path() / "status.json", R"({"job":"pi","state":"failed"})");

  EXPECT_EQ(RunDirectory::take_over(scratch.path()).run(), "");
  EXPECT_THAT(RunDirectory::claim(scratch.path()).value().run(), MatchesRegex("[0-9a-f]{32}"));
}

// ---- in the place of a coordinator that was lost ----

TEST(RunDirectory, OfOneThatDiedIsTakenOver) {
  const ScratchDirectory scratch;
  const auto path = scratch.path() / "run";
  ASSERT_TRUE(RunDirectory::claim(path).value().write_status(sample_status()));
  {
    auto heir = RunDirectory::take_over(path);
    EXPECT_EQ(heir.path(), path);
    expect_refused(path, path, Kind::kInUse, "in use by a live run");
    RunStatus next = sample_status();
    next.epoch += 1;
    ASSERT_TRUE(heir.write_status(next));
    EXPECT_EQ(read_status(path).value(), next);
  }
  EXPECT_TRUE(RunDirectory::claim(path)) << "free again when the heir is gone";
}

// It may only be stopped: the heir writes all the same, and holds the directory once it can.
TEST(RunDirectory, OfOneThatLivesOnIsHeldWhenItIsGone) {
  const ScratchDirectory scratch;
  const auto path = scratch.path() / "run";
  const pid_t stopped = start_claimer(path);

  auto heir = RunDirectory::take_over(path);

  ASSERT_TRUE(heir.write_status(sample_status())) << "the token says who may";
  EXPECT_EQ(read_status(path).value(), sample_status());
  ::kill(stopped, SIGKILL);
  ::waitpid(stopped, nullptr, 0);
  EXPECT_TRUE(RunDirectory::check(path)) << "nobody has it yet";
  ASSERT_TRUE(heir.write_status(sample_status()));
  expect_refused(path, path, Kind::kInUse, "in use by a live run");
}

TEST(RunDirectory, AnHeirWithoutADirectorySaysSo) {
  const ScratchDirectory scratch;
  auto heir = RunDirectory::take_over(scratch.path() / "gone");
  const auto written = heir.write_status(sample_status());
  ASSERT_FALSE(written);
  EXPECT_THAT(written.error(), HasSubstr((scratch.path() / "gone").string()));
  EXPECT_THAT(names_in(scratch.path()), IsEmpty()) << "it makes none";
}

TEST(RunDirectory, RefusesAFinishedRun) {
  const ScratchDirectory scratch;
  RunStatus status = sample_status();
  status.state = RunState::kDone;
  ASSERT_TRUE(RunDirectory::claim(scratch.path()).value().write_status(status));
  expect_refused(scratch.path(), scratch.path(), Kind::kFinished, "regroup results");

  std::filesystem::remove(scratch.path() / "lock");
  expect_refused(scratch.path(), scratch.path(), Kind::kFinished, "regroup results");
}

// Another run that ends between our look at the directory and our lock.
class FinishingFileSystem : public FileSystem {
 public:
  int open(const char* path, int flags, mode_t mode) override {
    RunStatus status = sample_status();
    status.state = RunState::kDone;
    test::write_file(std::filesystem::path(path).parent_path() / "status.json", to_json(status));
    return FileSystem::open(path, flags, mode);
  }
};

TEST(RunDirectory, LooksAgainUnderTheLock) {
  const ScratchDirectory scratch;
  ASSERT_TRUE(RunDirectory::claim(scratch.path()));
  FinishingFileSystem file_system;

  const auto claimed = RunDirectory::claim(scratch.path(), file_system);

  ASSERT_FALSE(claimed);
  EXPECT_EQ(claimed.error().kind, Kind::kFinished);
}

TEST(RunDirectory, RefusesWhatIsNotOne) {
  const ScratchDirectory scratch;
  const auto file = scratch.path() / "file";
  test::write_file(file, "x");
  const auto full = scratch.path() / "full";
  std::filesystem::create_directory(full);
  test::write_file(full / "thesis.tex", "x");
  const auto locked = scratch.path() / "locked";
  std::filesystem::create_directory(locked);
  test::write_file(locked / "lock", "another program's");

  expect_refused(file, scratch.path(), Kind::kUnusable, "not a directory");
  expect_refused(file / "run", scratch.path(), Kind::kUnusable, "not a directory");
  expect_refused(full, full, Kind::kUnusable, "not empty and not a run directory");
  expect_refused(locked, locked, Kind::kUnusable, "not empty and not a run directory");
  EXPECT_EQ(contents_of(locked / "lock"), "another program's");
  expect_refused(scratch.path() / "a" / "b", scratch.path(), Kind::kUnusable, "create");
  expect_refused("", scratch.path(), Kind::kUnusable, "no name");
}

TEST(RunDirectory, RefusesAStatusThatIsNone) {
  const ScratchDirectory scratch;
  test::write_file(scratch.path() / "status.json", "{\"job\": 1");

  expect_refused(scratch.path(), scratch.path(), Kind::kUnusable, "move that file away");
}

TEST(RunDirectory, RefusesAnUnwritableParent) {
  const ScratchDirectory scratch;
  const auto parent = scratch.path() / "parent";
  std::filesystem::create_directory(parent);
  std::filesystem::create_directory(parent / "inside");
  const auto read_only = std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec |
                         std::filesystem::perms::group_read | std::filesystem::perms::group_exec |
                         std::filesystem::perms::others_read | std::filesystem::perms::others_exec;
  for (const auto& path : {scratch.path(), parent, parent / "inside"})
    std::filesystem::permissions(path, read_only);
  const uid_t user = ::geteuid();
  ASSERT_EQ(::seteuid(user == 0 ? 65'534 : user), 0);

  expect_refused(parent / "run", parent, Kind::kIo, "not writable (Permission denied)");
  expect_refused(parent / "inside", parent / "inside", Kind::kIo,
                 "not writable (Permission denied)");

  ASSERT_EQ(::seteuid(user), 0);
  for (const auto& path : {scratch.path(), parent, parent / "inside"})
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
}

TEST(RunDirectory, LeavesNothingBehindWhenTheDiskIsFull) {
  const ScratchDirectory scratch;
  std::filesystem::create_directory(scratch.path() / "empty");
  FailingFileSystem file_system;
  file_system.fail_write = ENOSPC;

  const auto made = RunDirectory::claim(scratch.path() / "run", file_system);
  const auto found = RunDirectory::claim(scratch.path() / "empty", file_system);

  ASSERT_FALSE(made);
  ASSERT_FALSE(found);
  EXPECT_EQ(made.error().kind, Kind::kIo);
  EXPECT_THAT(made.error().message, HasSubstr("No space left on device"));
  EXPECT_THAT(names_in(scratch.path()), ElementsAre("empty"));
  EXPECT_THAT(names_in(scratch.path() / "empty"), IsEmpty());
}

TEST(DefaultRunDirectory, NamesTheJobAndTheTimeAndNeverTwiceTheSame) {
  const ScratchDirectory scratch;
  const std::time_t now = 1'769'903'999;

  const auto first = default_run_directory("pi", now, scratch.path());
  const auto second = default_run_directory("pi", now, scratch.path());
  const auto third = default_run_directory("pi", now, scratch.path());

  EXPECT_EQ(first.value(), scratch.path() / "pi-20260131T235959Z");
  EXPECT_EQ(second.value(), scratch.path() / "pi-20260131T235959Z-2");
  EXPECT_EQ(third.value(), scratch.path() / "pi-20260131T235959Z-3");
  EXPECT_TRUE(RunDirectory::claim(*third));
}

TEST(DefaultRunDirectory, FailsInOneLineWhereNothingCanBeMade) {
  const ScratchDirectory scratch;

  const auto path = default_run_directory("pi", 0, scratch.path() / "none");

  ASSERT_FALSE(path);
  EXPECT_EQ(path.error().kind, Kind::kIo);
  EXPECT_THAT(path.error().message, HasSubstr("No such file or directory"));
}

TEST(RunStatus, ComesBackFromItsJson) {
  EXPECT_EQ(parse_run_status(to_json(sample_status())).value(), sample_status());
  RunStatus running = sample_status();
  running.exit.reset();
  running.members.clear();
  EXPECT_EQ(parse_run_status(to_json(running)).value(), running);
}

TEST(RunStatus, EndsWithItsHash) {
  const std::string text = to_json(sample_status());
  EXPECT_EQ(status_hash_holds(text), true);
  for (std::size_t at = 0; at < text.size(); ++at)
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = text;
      flipped[at] = static_cast<char>(flipped[at] ^ (1 << bit));
      ASSERT_NE(status_hash_holds(flipped), true) << "byte " << at << ", bit " << bit;
    }
  EXPECT_EQ(status_hash_holds(""), std::nullopt);
  EXPECT_EQ(status_hash_holds("{\"job\":\"pi\",\"state\":\"done\"}\n"), std::nullopt);
}

TEST(RunStatus, TakesTextsThatAreNotUtf8AndTimesThatAreNoNumbers) {
  RunStatus status = sample_status();
  status.message = "bad \xff byte";
  status.seconds = NAN;

  const auto read = parse_run_status(to_json(status)).value();

  EXPECT_EQ(read.message, "bad \xef\xbf\xbd byte");
  EXPECT_EQ(read.seconds, 0);
}

TEST(RunStatus, IgnoresUnknownMembersAndDefaultsMissingOnes) {
  const auto read = parse_run_status(R"({"job":"pi","state":"running","flavour":"new"})").value();

  EXPECT_EQ(read.job, "pi");
  EXPECT_EQ(read.state, RunState::kRunning);
  EXPECT_EQ(read.exit, std::nullopt);
}

struct BadStatus {
  const char* json;
  const char* error;
};

void PrintTo(const BadStatus& status, std::ostream* out) {
  *out << status.json;
}

class BadRunStatus : public testing::TestWithParam<BadStatus> {};

TEST_P(BadRunStatus, IsAnErrorThatNamesTheMember) {
  const auto read = parse_run_status(GetParam().json);

  ASSERT_FALSE(read);
  EXPECT_THAT(read.error(), AllOf(HasSubstr(GetParam().error), Not(HasSubstr("\n"))));
}

INSTANTIATE_TEST_SUITE_P(
    Each, BadRunStatus,
    testing::Values(
        BadStatus{"", "JSON"}, BadStatus{"[]", "JSON"}, BadStatus{"{\"job\":\"pi\"", "JSON"},
        BadStatus{"{}", "'job' and 'state'"}, BadStatus{R"({"job":1,"state":"done"})", "'job'"},
        BadStatus{R"({"job":"pi","state":"done","run":1})", "'run'"},
        BadStatus{R"({"job":"pi","state":"done","run":"two words"})", "'run'"},
        BadStatus{R"({"job":"pi","state":"bored"})", "'state'"},
        BadStatus{R"({"job":"pi","state":7})", "'state'"},
        BadStatus{R"({"job":"pi","state":"done","exit":99999999999})", "'exit'"},
        BadStatus{R"({"job":"pi","state":"done","exit":18446744073709551615})", "'exit'"},
        BadStatus{R"({"job":"pi","state":"done","exit":"0"})", "'exit'"},
        BadStatus{R"({"job":"pi","state":"done","epoch":-1})", "'epoch'"},
        BadStatus{R"({"job":"pi","state":"done","epoch":1.5})", "'epoch'"},
        BadStatus{R"({"job":"pi","state":"done","members":3})", "'members'"},
        BadStatus{R"({"job":"pi","state":"done","members":[1,4294967296]})", "'members'"},
        BadStatus{R"({"job":"pi","state":"done","recoveries":3})", "'recoveries'"},
        BadStatus{R"({"job":"pi","state":"done","checkpointing":3})", "'checkpointing'"},
        BadStatus{R"({"job":"pi","state":"done","checkpointing":{"newest":-1}})", "'newest'"},
        BadStatus{R"({"job":"pi","state":"done","partner_copies":3})", "'partner_copies'"},
        BadStatus{R"({"job":"pi","state":"done","partner_copies":{"bytes":-1}})", "'bytes'"},
        BadStatus{R"({"job":"pi","state":"done","restored_from":[]})", "'restored_from'"},
        BadStatus{R"({"job":"pi","state":"done","restored_from":{"file":-1}})", "'file'"},
        BadStatus{R"({"job":"pi","state":"done","recoveries":[3]})", "'recoveries'"},
        BadStatus{R"({"job":"pi","state":"done","recoveries":[{"lost":[-1]}]})", "'lost'"},
        BadStatus{R"({"job":"pi","state":"done","seconds":"1"})", "'seconds'"},
        BadStatus{R"({"job":"pi","state":"done","seed":-1})", "'seed'"},
        BadStatus{R"({"job":"pi","state":"done","result":3})", "'result'"},
        BadStatus{R"({"job":"pi","state":"done","result":{"bytes":-1}})", "'bytes'"},
        BadStatus{R"({"job":"pi","state":"done","result":{"bytes":1}})", "'xxh3_128'"},
        BadStatus{R"({"job":"pi","state":"done","message":null})", "'message'"}));

TEST(RunStatusFile, KeepsTheOldOneWhenTheDiskFails) {
  const ScratchDirectory scratch;
  FailingFileSystem file_system;
  auto directory = RunDirectory::claim(scratch.path(), file_system).value();
  ASSERT_TRUE(directory.write_status(sample_status()));
  RunStatus next = sample_status();
  next.shards_done = 8;
  for (const auto call : {&FailingFileSystem::fail_write, &FailingFileSystem::fail_fsync,
                          &FailingFileSystem::fail_rename}) {
    file_system.*call = ENOSPC;

    const auto done = directory.write_status(next);

    file_system.*call = 0;
    ASSERT_FALSE(done);
    EXPECT_THAT(done.error(), AllOf(HasSubstr((scratch.path() / "status.json").string()),
                                    HasSubstr("No space left on device")));
    EXPECT_EQ(read_status(scratch.path()).value(), sample_status());
    EXPECT_THAT(names_in(scratch.path()), ElementsAre("lock", "status.json"));
  }
  ASSERT_TRUE(directory.write_status(next));
  EXPECT_EQ(read_status(scratch.path()).value(), next);
}

TEST(RunStatusFile, SaysWhereItLooked) {
  const ScratchDirectory scratch;

  const auto missing = read_status(scratch.path());

  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error(),
              AllOf(HasSubstr("status.json"), HasSubstr("No such file or directory")));
}

TEST(UtcText, IsIso8601) {
  EXPECT_EQ(utc_text(1'769'903'999), "2026-01-31T23:59:59Z");
}

}  // namespace
}  // namespace regroup
