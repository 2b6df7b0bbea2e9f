// A checkpoint is taken, linked to an older one, and old ones are removed, while the process dies,
// the disk fails or the power goes at each system call in turn. Whatever happened, the older
// checkpoints read back, and the new one is whole or does not count.
#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/protocol/check.hpp"
#include "tests/host/checkpoints.hpp"
#include "tests/host/interrupted_file_system.hpp"
#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

using test::expect_state;
using test::expect_valid;
using test::InterruptedFileSystem;
using test::number;
using test::PowerLossFileSystem;
using test::take;
using test::TestRun;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

using Loss = PowerLossFileSystem::Loss;

constexpr std::uint64_t kCallsMax = 5'000;                // more than any of this needs
constexpr std::uint64_t kCallsStep = REGROUP_CALLS_STEP;  // 1: each call; more under sanitizers
constexpr std::uint64_t kRows = 30'000;  // enough for aligned storage, and for two chunks

// Checkpoints 1 to 3, and what a writer before left of 4.
struct OlderCheckpoints : TestRun {
  OlderCheckpoints() {
    static const Original original;  // copies take no syncing
    std::filesystem::copy(original.scratch.path(), scratch.path(),
                          std::filesystem::copy_options::recursive);
  }

 private:
  struct Original : TestRun {
    Original() {
      for (const std::uint64_t older : {1, 2, 3}) {
        const auto done = take(
            store, {.checkpoint = number(older), .rows = kRows, .version = older, .grid = {5, 7}});
        REGROUP_CHECK(done.has_value(), "an older checkpoint can be taken");
      }
      REGROUP_CHECK(test::write_part_of(store, {.checkpoint = number(4)}, 0).has_value(),
                    "an unfinished one can be begun");
    }
  };
};

enum class Compressed : std::uint8_t { kNo, kYes };

// Takes checkpoint 5, whose rank 0 links to 3, and removes old ones; the first error.
std::expected<void, std::string> take_fifth(const CheckpointStore& store, Compressed compressed) {
  const auto taken = take(store, {.checkpoint = number(5),
                                  .rows = kRows,
                                  .version = 3,
                                  .deflate_level = compressed == Compressed::kYes ? 1 : 0,
                                  .linked = number(3),
                                  .grid = {5, 7}});
  if (!taken) return std::unexpected(taken.error());
  const auto removal = store.retain(2);
  if (!removal) return std::unexpected(removal.error());
  if (!removal->problems.empty()) return std::unexpected(removal->problems.front());
  return {};
}

void expect_heat(const Checkpoint& checkpoint, std::uint64_t version) {
  const std::vector<std::uint64_t> start = {0, 0};
  const std::vector<std::uint64_t> extent = {5, 7};
  std::vector<double> heat(35);
  const auto done =
      checkpoint.read_block("grid/heat", start, extent, std::as_writable_bytes(std::span(heat)));
  ASSERT_TRUE(done) << done.error();
  EXPECT_EQ(heat, test::heat_in(extent, start, extent, version));
}

// Whatever happened: what counts is whole.
void expect_nothing_lost(const TestRun& run) {
  const auto entries = run.store.list();
  ASSERT_TRUE(entries) << entries.error();
  std::uint64_t sealed = 0;
  for (const auto& entry : *entries) {
    EXPECT_NE(entry.state, CheckpointState::kDamaged) << entry.reason;
    if (entry.state != CheckpointState::kSealed) continue;
    ++sealed;
    expect_valid(run.store, entry.checkpoint);
    const auto checkpoint = run.store.open(entry.checkpoint).value();
    const auto version = std::min<std::uint64_t>(entry.checkpoint.value, 3);
    expect_state(checkpoint, kRows, version);
    expect_heat(checkpoint, version);
  }
  EXPECT_GE(sealed, 2u);
  const auto newest = run.store.open_newest_valid().value();
  ASSERT_TRUE(newest.checkpoint);
  EXPECT_GE(newest.checkpoint->manifest().checkpoint, number(3));
}

// And the run can go on: the next checkpoint is taken, and what was left is removed.
void expect_to_go_on(const TestRun& run) {
  const auto next = run.store.next_number().value();
  EXPECT_GE(next, number(5));
  const auto taken =
      take(run.store, {.checkpoint = next, .rows = kRows, .version = 3, .grid = {5, 7}});
  ASSERT_TRUE(taken) << taken.error();
  const auto removal = run.store.retain(2);
  ASSERT_TRUE(removal) << removal.error();
  EXPECT_THAT(removal->problems, testing::IsEmpty());
  EXPECT_EQ(run.states().size(), 2u);
  expect_valid(run.store, next);
}

class EachCall : public testing::TestWithParam<Compressed> {};

TEST_P(EachCall, AKilledProcessLeavesTheOlderCheckpointsAndMaybeTheNewOne) {
  std::uint64_t at = 0;
  std::uint64_t sealed = 0;
  for (;; at += kCallsStep) {
    ASSERT_LT(at, kCallsMax);
    const OlderCheckpoints run;
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto file_system = InterruptedFileSystem::killing_at(at);
      const CheckpointStore store(run.scratch.path(), test::kRun, file_system);
      ::_exit(take_fifth(store, GetParam()) ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    if (WIFEXITED(status)) {
      EXPECT_EQ(WEXITSTATUS(status), 0);
      break;
    }
    ASSERT_EQ(WTERMSIG(status), SIGKILL);
    SCOPED_TRACE("killed at call " + std::to_string(at));
    expect_nothing_lost(run);
    sealed += run.store.open(number(5)).has_value();
    if (HasFailure()) return;
    if (at % 10 == 0) expect_to_go_on(run);
  }
  EXPECT_GT(at, 60u);
  EXPECT_GT(sealed, 0u);
  EXPECT_LT(sealed, at);
}

TEST_P(EachCall, AFailingCallIsOneLineAndTheOlderCheckpointsStay) {
  for (const int error_number : {EIO, ENOSPC}) {
    std::uint64_t at = 0;
    std::uint64_t failed = 0;
    for (;; at += kCallsStep) {
      ASSERT_LT(at, kCallsMax);
      const OlderCheckpoints run;
      auto file_system = at % 2 == 0 ? InterruptedFileSystem::failing_at(at, error_number)
                                     : InterruptedFileSystem::failing_from(at, error_number);
      const CheckpointStore store(run.scratch.path(), test::kRun, file_system);
      const auto done = take_fifth(store, GetParam());
      if (file_system.calls() <= at) break;
      SCOPED_TRACE(errno_text(error_number) + " at call " + std::to_string(at));
      failed += !done;
      if (!done)
        EXPECT_THAT(
            done.error(),
            AllOf(HasSubstr(run.scratch.path().string()), Not(HasSubstr("\n")),
                  testing::AnyOf(HasSubstr(errno_text(error_number)), HasSubstr("not empty"))));
      else
        expect_valid(run.store, number(5));
      expect_nothing_lost(run);
      if (HasFailure()) return;
      if (at % 25 == 0) expect_to_go_on(run);
    }
    // What is not told is closing what was read, removing temporary names, and that retention
    // cannot read what it then leaves alone.
    EXPECT_GT(failed * kCallsStep, at * 2 / 3) << errno_text(error_number);
  }
}

TEST_P(EachCall, PowerThatGoesTakesNothingThatWasSealed) {
  for (const Loss loss : {Loss::kAll, Loss::kAllButTheNewestName, Loss::kSome}) {
    for (std::uint64_t at = 0;; at += kCallsStep) {
      ASSERT_LT(at, kCallsMax);
      const OlderCheckpoints run;
      PowerLossFileSystem file_system(at, run.scratch.path() / "attic");
      const CheckpointStore store(run.scratch.path(), test::kRun, file_system);
      const bool sealed = take(store, {.checkpoint = number(5),
                                       .rows = kRows,
                                       .version = 3,
                                       .deflate_level = GetParam() == Compressed::kYes ? 1 : 0,
                                       .linked = number(3),
                                       .grid = {5, 7}})
                              .has_value();
      if (sealed) static_cast<void>(store.retain(2));
      const bool finished = file_system.calls() <= at;
      file_system.lose_power(loss, at);
      SCOPED_TRACE("without power from call " + std::to_string(at) + " on, loss " +
                   std::to_string(static_cast<int>(loss)));
      if (sealed) expect_valid(run.store, number(5));
      expect_nothing_lost(run);
      if (HasFailure()) return;
      if (at % 25 == 0) expect_to_go_on(run);
      if (finished) break;
    }
  }
}

// The directories above it are new as well.
TEST(FirstCheckpoint, IsThereWhenPowerGoesAfterItWasSealed) {
  const TestRun run;
  PowerLossFileSystem file_system(UINT64_MAX, run.scratch.path() / "attic");
  ASSERT_TRUE(take(CheckpointStore(run.scratch.path(), test::kRun, file_system), {}));

  file_system.lose_power(Loss::kAll);

  expect_valid(run.store, number(1));
}

INSTANTIATE_TEST_SUITE_P(Layouts, EachCall, testing::Values(Compressed::kNo, Compressed::kYes),
                         [](const auto& layout) {
                           return layout.param == Compressed::kYes ? "Chunked" : "Contiguous";
                         });

// ---- Disks ----

TEST(CheckpointDisk, AFullDiskFailsTheCheckpointAndKeepsTheOlder) {
  const TestRun mount;
  const test::TinyFileSystem tiny(mount.scratch.path(), "size=1m");
  if (!tiny.mounted()) GTEST_SKIP() << "mounting needs root";
  const CheckpointStore store(mount.scratch.path(), test::kRun);
  ASSERT_TRUE(take(store, {.checkpoint = number(1), .rows = kRows}));

  const auto full = take(store, {.checkpoint = number(2), .rows = 20 * kRows});

  ASSERT_FALSE(full);
  EXPECT_THAT(full.error(),
              AllOf(HasSubstr("part-0000.h5"), HasSubstr("No space left"), Not(HasSubstr("\n"))));
  expect_valid(store, number(1));
  EXPECT_TRUE(take(store, {.checkpoint = number(3), .rows = kRows}));
}

TEST(CheckpointDisk, AReadOnlyDirectoryIsOneLine) {
  const TestRun mount;
  const test::TinyFileSystem tiny(mount.scratch.path(), "ro");
  if (!tiny.mounted()) GTEST_SKIP() << "mounting needs root";
  const CheckpointStore store(mount.scratch.path(), test::kRun);

  EXPECT_THAT(take(store, {}).error(), AllOf(HasSubstr("checkpoints"), HasSubstr("Read-only")));
}

TEST(CheckpointDisk, ADirectoryThatIsRemovedUnderWayIsOneLine) {
  const TestRun run;
  ASSERT_TRUE(take(run.store, {.checkpoint = number(1)}));
  const auto part = test::write_part_of(run.store, {.checkpoint = number(2)}, 0).value();
  std::filesystem::remove_all(run.directory("000002"));

  const auto refused = run.store.seal({number(2), Epoch{3}, {}, {part}}, test::always);

  EXPECT_THAT(refused.error(), AllOf(HasSubstr("part-0000.h5"), HasSubstr("No such file")));
  expect_valid(run.store, number(1));
}

}  // namespace
}  // namespace regroup
