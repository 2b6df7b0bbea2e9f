#include "runtime/host/checkpoint_store.hpp"

#include <cerrno>
#include <chrono>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/host/checkpoint_manifest.hpp"
#include "runtime/host/fencing_token.hpp"
#include "tests/host/checkpoints.hpp"
#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

using test::expect_state;
using test::expect_valid;
using test::names_in;
using test::number;
using test::ScratchDirectory;
using test::take;
using test::Taking;
using test::TestRun;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// ---- Round trips ----

class RoundTrip : public testing::TestWithParam<int> {};

TEST_P(RoundTrip, ReadsBackOnAnyNumberOfRanks) {
  const TestRun run;
  const auto manifest = take(run.store, {.ranks = 3, .rows = 1001, .deflate_level = GetParam()});
  ASSERT_TRUE(manifest) << manifest.error();

  const auto newest = run.store.open_newest_valid().value();

  ASSERT_TRUE(newest.checkpoint);
  EXPECT_EQ(newest.checkpoint->manifest(), *manifest);
  EXPECT_EQ(manifest->facts, test::some_facts());
  EXPECT_THAT(newest.checkpoint->datasets(),
              ElementsAre(CheckpointDataset{"shards/state", hdf5::ElementType::kUint64, 1001, 3},
                          CheckpointDataset{"sink/state", hdf5::ElementType::kUint8, 100, 1}));
  for (const std::uint64_t readers : {1, 2, 3, 5, 1001})
    expect_state(*newest.checkpoint, 1001, 7, readers);
  expect_valid(run.store, number(1));
  EXPECT_THAT(
      names_in(run.directory("000001")),
      ElementsAre("manifest.json", "part-0000.h5", "part-0001.h5", "part-0002.h5", "view.h5"));
}

INSTANTIATE_TEST_SUITE_P(DeflateLevels, RoundTrip, testing::Values(0, 1, 9));

// Over several chunks, and blocks of contiguous writing.
TEST(CheckpointStore, TakesLargePieces) {
  for (const int deflate_level : {0, 1}) {
    const TestRun run;
    ASSERT_TRUE(take(run.store, {.rows = 700'001, .deflate_level = deflate_level}));
    expect_valid(run.store, number(1));
    expect_state(run.store.open(number(1)).value(), 700'001, 7);
  }
}

TEST(CheckpointStore, APartMayHoldSeveralPiecesOfOneDataset) {
  const TestRun run;
  const auto low = test::state_rows(0, 10, 7);
  const auto high = test::state_rows(30, 10, 7);
  const auto type = hdf5::ElementType::kUint64;
  PartRequest request{.checkpoint = number(1)};
  request.pieces = {{"shards/state", type, 30, high}, {"shards/state", type, 0, low}};
  request.pieces.push_back({"empty", type, 0, {}});
  const auto part = run.store.write_part(request).value();
  ASSERT_TRUE(run.store.seal({number(1), Epoch{1}, {}, {part}}, test::always));

  const auto checkpoint = run.store.open(number(1)).value();
  std::vector<std::byte> bytes(80);

  EXPECT_TRUE(checkpoint.read("shards/state", 30, bytes));
  EXPECT_EQ(bytes, high);
  EXPECT_TRUE(checkpoint.read("shards/state", 0, bytes));
  EXPECT_EQ(bytes, low);
  EXPECT_THAT(checkpoint.read("shards/state", 5, bytes).error(), HasSubstr("row 10 is in no part"));
  EXPECT_THAT(checkpoint.read("shards/state", 40, bytes).error(), HasSubstr("row 40"));
  EXPECT_THAT(checkpoint.read("none", 0, bytes).error(), HasSubstr("there is none"));
  EXPECT_EQ(checkpoint.datasets()[0], (CheckpointDataset{"empty", type, 0, 0}));
  expect_valid(run.store, number(1));
}

TEST(CheckpointStore, RefusesPartsThatCannotBe) {
  const TestRun run;
  const std::vector<std::byte> bytes(16);
  const auto error_of = [&](const PieceToWrite& piece) {
    PartRequest request{.checkpoint = number(1)};
    request.pieces = {piece};
    return run.store.write_part(request).error();
  };
  const auto type = hdf5::ElementType::kUint64;
  EXPECT_THAT(error_of({"../x", type, 0, bytes}), HasSubstr("is no name for a dataset"));
  EXPECT_THAT(error_of({"a//b", type, 0, bytes}), HasSubstr("is no name for a dataset"));
  EXPECT_THAT(error_of({"a", type, 0, std::span(bytes).first(9)}), HasSubstr("whole elements"));
  EXPECT_THAT(error_of({"a", type, UINT64_MAX, bytes}), HasSubstr("ends beyond row"));
  PartRequest reserved{.checkpoint = number(1)};
  reserved.attributes = {{"rank", std::uint64_t{7}}};
  EXPECT_THAT(run.store.write_part(reserved).error(), HasSubstr("no name for an attribute"));
  EXPECT_THAT(names_in(run.directory("000001")), IsEmpty());
}

// ---- Sealing ----

TEST(CheckpointStore, CountsNothingThatIsNotSealed) {
  const TestRun run;
  EXPECT_EQ(run.store.next_number().value(), number(1));
  EXPECT_THAT(run.store.list().value(), IsEmpty());
  EXPECT_FALSE(run.store.open_newest_valid().value().checkpoint);

  ASSERT_TRUE(test::write_part_of(run.store, {}, 0));

  EXPECT_THAT(run.states(), ElementsAre(CheckpointState::kUnfinished));
  EXPECT_EQ(run.store.next_number().value(), number(2));
  const auto newest = run.store.open_newest_valid().value();
  EXPECT_FALSE(newest.checkpoint);
  ASSERT_EQ(newest.passed_over.size(), 1u);
  EXPECT_EQ(newest.passed_over[0].state, CheckpointState::kUnfinished);
}

TEST(CheckpointStore, SealsNothingOnceOthersGoOn) {
  const TestRun run;
  const FencingTokens tokens(run.scratch.path() / "views", test::kRun,
                             FencingTokens::Readers::kThisNode);
  const MaySeal may_seal = [&](Epoch epoch) { return !tokens.superseded(epoch); };
  ASSERT_TRUE(take(run.store, {.checkpoint = number(1)}, may_seal));
  FenceRequest request;
  request.epoch = Epoch{4};
  tokens.take(request);

  const auto refused = take(run.store, {.checkpoint = number(2)}, may_seal);

  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error(), AllOf(HasSubstr("000002"), HasSubstr("in an epoch after 3")));
  EXPECT_THAT(run.states(), ElementsAre(CheckpointState::kUnfinished, CheckpointState::kSealed));
  EXPECT_THAT(names_in(run.directory("000002")), Not(testing::Contains("manifest.json.tmp")));
}

TEST(CheckpointStore, ANumberIsSealedOnceAndInOrder) {
  const TestRun run;
  Taking taking{.checkpoint = number(2)};
  SealRequest request{taking.checkpoint, taking.epoch, test::some_facts(), {}};
  for (std::uint32_t rank = 0; rank < 2; ++rank)
    request.parts.push_back(test::write_part_of(run.store, taking, rank).value());
  EXPECT_THAT(test::write_part_of(run.store, taking, 0).error(), HasSubstr("File exists"));

  // Another coordinator comes in while this one is being asked.
  std::expected<CheckpointManifest, std::string> other;
  const auto sealed = run.store.seal(request, [&](Epoch) {
    std::filesystem::remove(run.directory("000002") / "manifest.json.tmp");
    std::filesystem::remove(run.directory("000002") / "view.h5");
    other = run.store.seal(request, test::always);
    return true;
  });

  EXPECT_TRUE(other) << other.error();
  EXPECT_FALSE(sealed);
  expect_valid(run.store, number(2));
  EXPECT_THAT(run.store.seal(request, test::always).error(), HasSubstr("take the next number"));
  EXPECT_THAT(take(run.store, {.checkpoint = number(1)}).error(),
              HasSubstr("checkpoint 2 is sealed"));
  EXPECT_EQ(run.store.next_number().value(), number(3));
}

TEST(CheckpointStore, RefusesToSealPartsThatDoNotFit) {
  const TestRun run;
  const Taking taking;
  const auto one = test::write_part_of(run.store, taking, 0).value();
  auto two = test::write_part_of(run.store, taking, 1).value();
  const auto error_of = [&](const CheckpointPart& part) {
    return run.store.seal({number(1), Epoch{3}, {}, {one, part}}, test::always).error();
  };
  auto shifted = two;
  shifted.files[0].pieces[0].first_row -= 1;
  EXPECT_THAT(error_of(shifted), HasSubstr("row 499 of dataset 'shards/state'"));
  auto retyped = two;
  retyped.files[0].pieces[0].type = hdf5::ElementType::kFloat64;
  EXPECT_THAT(error_of(retyped), HasSubstr("two element types"));
  auto longer = two;
  longer.files[0].bytes += 1;
  EXPECT_THAT(error_of(longer), HasSubstr("bytes, not"));
  auto elsewhere = two;
  elsewhere.files[0].file = "../part-0001.h5";
  EXPECT_THAT(error_of(elsewhere), HasSubstr("no valid file name"));
  std::filesystem::remove(run.directory("000001") / "part-0001.h5");
  EXPECT_THAT(error_of(two), HasSubstr("No such file"));
  EXPECT_THAT(run.states(), ElementsAre(CheckpointState::kUnfinished));
}

TEST(CheckpointStore, APartCrossesAsText) {
  const TestRun run;
  ASSERT_TRUE(take(run.store, {.checkpoint = number(1)}));

  const auto part =
      test::write_part_of(run.store, {.checkpoint = number(2), .linked = number(1)}, 0).value();

  EXPECT_EQ(part.files.size(), 2u);
  EXPECT_EQ(parse_part(to_text(part)).value(), part);
}

// ---- Links ----

TEST(CheckpointStore, UnchangedPiecesAreLinkedAndOutliveTheirCheckpoint) {
  const TestRun run;
  ASSERT_TRUE(take(run.store, {.checkpoint = number(1)}));
  for (std::uint64_t next = 2; next <= 4; ++next) {
    const auto done = take(run.store, {.checkpoint = number(next), .linked = number(next - 1)});
    ASSERT_TRUE(done) << done.error();
  }
  EXPECT_THAT(names_in(run.directory("000004")),
              ElementsAre("manifest.json", "part-0000-of-000001.h5", "part-0000.h5", "part-0001.h5",
                          "view.h5"));
  const auto linked = run.directory("000004") / "part-0000-of-000001.h5";
  EXPECT_EQ(std::filesystem::hard_link_count(linked), 4u);

  const auto removal = run.store.retain(2).value();

  EXPECT_THAT(removal.removed, ElementsAre(number(2), number(1)));
  EXPECT_THAT(removal.problems, IsEmpty());
  for (const std::uint64_t kept : {3, 4}) {
    expect_valid(run.store, number(kept));
    expect_state(run.store.open(number(kept)).value(), 1000, 7);
  }
  test::flip_bit(linked, 8 * 5000);
  EXPECT_FALSE(run.store.verify(number(4)).valid());
}

TEST(CheckpointStore, LinksOnlyToWhatIsThere) {
  const TestRun run;
  EXPECT_THAT(take(run.store, {.checkpoint = number(2), .linked = number(1)}).error(),
              HasSubstr("cannot link to checkpoint 1"));
  ASSERT_TRUE(take(run.store, {.checkpoint = number(3)}));
  PartRequest request{.checkpoint = number(4)};
  request.links = {{number(3), "shards/state", 17}};
  EXPECT_THAT(run.store.write_part(request).error(),
              HasSubstr("no piece of 'shards/state' at row 17"));
  request.checkpoint = number(3);
  request.rank = RankId{7};
  request.links = {{number(3), "shards/state", 0}};
  EXPECT_THAT(run.store.write_part(request).error(), HasSubstr("not earlier"));
}

// ---- Retention ----

TEST(CheckpointStore, KeepsTheNewestSealedAndWhatMayBeBeingWritten) {
  const TestRun run;
  ASSERT_TRUE(test::write_part_of(run.store, {.checkpoint = number(1)}, 0));
  for (const std::uint64_t sealed : {2, 3, 4, 6})
    ASSERT_TRUE(take(run.store, {.checkpoint = number(sealed)}));
  ASSERT_TRUE(test::write_part_of(run.store, {.checkpoint = number(5)}, 0));
  ASSERT_TRUE(test::write_part_of(run.store, {.checkpoint = number(7)}, 0));
  test::flip_bit(run.directory("000004") / "manifest.json", 100);
  std::filesystem::create_directory(run.directory("notes"));

  const auto removal = run.store.retain(2).value();

  EXPECT_THAT(removal.removed, ElementsAre(number(5), number(2), number(1)));
  EXPECT_THAT(names_in(run.scratch.path() / "checkpoints"),
              ElementsAre("000003", "000004", "000006", "000007", "notes"));
}

TEST(CheckpointStore, AnUnfinishedOneStaysUntilANewerIsSealed) {
  const TestRun run;
  ASSERT_TRUE(test::write_part_of(run.store, {.checkpoint = number(1)}, 0));
  ASSERT_TRUE(test::write_part_of(run.store, {.checkpoint = number(2)}, 0));

  EXPECT_THAT(run.store.retain(2).value().removed, IsEmpty());
}

// Whose files of some name can be opened or read no more.
class IllFileSystem : public FileSystem {
 public:
  IllFileSystem(std::string name, int open_error, int read_error)
      : name_(std::move(name)), open_error_(open_error), read_error_(read_error) {}

  int open(const char* path, int flags, mode_t mode) override {
    const bool ill = std::string_view(path).ends_with(name_);
    if (ill && open_error_ != 0) return errno = open_error_, -1;
    const int fd = FileSystem::open(path, flags, mode);
    ill_[fd] = ill;
    return fd;
  }
  ssize_t pread(int fd, void* bytes, std::size_t count, off_t offset) override {
    if (ill_[fd] && read_error_ != 0) return errno = read_error_, -1;
    return FileSystem::pread(fd, bytes, count, offset);
  }

 private:
  std::string name_;
  int open_error_;
  int read_error_;
  std::map<int, bool> ill_;  // by descriptor
};

struct Ill {
  const char* file;
  int open_error;
  int read_error;
};

TEST(CheckpointStore, WhatCannotBeReadIsNoDamageAndIsNeverRemoved) {
  const TestRun run;
  for (const std::uint64_t sealed : {1, 2, 3, 4})
    ASSERT_TRUE(take(run.store, {.checkpoint = number(sealed)}));
  for (const Ill& ill : std::vector<Ill>{{"000001/manifest.json", EACCES, 0},
                                         {"000001/manifest.json", 0, EIO},
                                         {"000001/manifest.json", EMFILE, 0},
                                         {"000001/part-0001.h5", EIO, 0},
                                         {"000001/part-0000.h5", 0, EIO},
                                         {"000001/view.h5", EACCES, 0}}) {
    IllFileSystem file_system(ill.file, ill.open_error, ill.read_error);
    const CheckpointStore store(run.scratch.path(), test::kRun, file_system);
    const CheckpointEntry oldest = store.list().value().back();
    EXPECT_EQ(oldest.state, CheckpointState::kUnreadable) << ill.file;
    EXPECT_THAT(oldest.reason,
                AllOf(HasSubstr(ill.file), HasSubstr(errno_text(ill.open_error + ill.read_error))));
    EXPECT_THAT(store.retain(4).value().removed, IsEmpty()) << ill.file;
    EXPECT_THAT(store.retain(3).value().removed, IsEmpty()) << ill.file;
  }
  EXPECT_THAT(run.store.retain(3).value().removed, ElementsAre(number(1))) << "it is well again";
}

TEST(CheckpointStore, DamageIsNotTakenForWhatCannotBeRead) {
  const TestRun run;
  for (const std::uint64_t sealed : {1, 2, 3})
    ASSERT_TRUE(take(run.store, {.checkpoint = number(sealed)}));
  std::filesystem::remove(run.directory("000001") / "part-0000.h5");
  EXPECT_EQ(run.store.list().value().back().state, CheckpointState::kDamaged);
  EXPECT_THAT(run.store.retain(2).value().removed, ElementsAre(number(1)));
}

TEST(CheckpointStore, WhatCannotBeReadIsPassedOverByThatWord) {
  const TestRun run;
  for (const std::uint64_t sealed : {1, 2})
    ASSERT_TRUE(take(run.store, {.checkpoint = number(sealed)}));
  for (const Ill& ill :
       std::vector<Ill>{{"000002/manifest.json", EACCES, 0}, {"000002/view.h5", 0, EIO}}) {
    IllFileSystem file_system(ill.file, ill.open_error, ill.read_error);

    const auto newest =
        CheckpointStore(run.scratch.path(), test::kRun, file_system).open_newest_valid().value();

    EXPECT_EQ(newest.checkpoint->manifest().checkpoint, number(1));
    ASSERT_EQ(newest.passed_over.size(), 1u);
    EXPECT_EQ(newest.passed_over[0].state, CheckpointState::kUnreadable);
    EXPECT_THAT(newest.passed_over[0].reason,
                AllOf(testing::StartsWith("unreadable: "),
                      HasSubstr(errno_text(ill.open_error + ill.read_error))));
  }
}

// ---- The clock ----

// Numbers tell which is newer, and no time does.
TEST(CheckpointStore, AClockThatIsSetBackMakesNothingOlder) {
  const TestRun run;
  for (const std::uint64_t sealed : {1, 2, 3}) {
    const Taking taking{.checkpoint = number(sealed), .version = sealed};
    SealRequest request{taking.checkpoint, taking.epoch, test::some_facts(), {}};
    request.facts.utc = "20" + std::to_string(40 - sealed) + "-01-31T23:59:59Z";
    for (std::uint32_t rank = 0; rank < taking.ranks; ++rank)
      request.parts.push_back(test::write_part_of(run.store, taking, rank).value());
    ASSERT_TRUE(run.store.seal(request, test::always));
    for (const auto& file : std::filesystem::recursive_directory_iterator(
             run.directory("00000" + std::to_string(sealed))))
      std::filesystem::last_write_time(file,
                                       file.last_write_time() - std::chrono::days(365 * sealed));
    std::filesystem::last_write_time(
        run.directory("00000" + std::to_string(sealed)),
        std::filesystem::file_time_type::clock::now() - std::chrono::days(365 * sealed));
  }

  EXPECT_EQ(run.store.next_number().value(), number(4));
  EXPECT_EQ(run.store.list().value().front().checkpoint, number(3));
  expect_state(*run.store.open_newest_valid().value().checkpoint, 1000, 3);
  EXPECT_THAT(run.store.retain(2).value().removed, ElementsAre(number(1)));
  expect_valid(run.store, number(3));
}

TEST(CheckpointStore, RemovesNothingThatItDidNotMake) {
  const TestRun run;
  for (const std::uint64_t sealed : {1, 2, 3})
    ASSERT_TRUE(take(run.store, {.checkpoint = number(sealed)}));
  test::write_file(run.directory("000001") / "my notes", "kept");

  const auto removal = run.store.retain(2).value();

  ASSERT_EQ(removal.problems.size(), 1u);
  EXPECT_THAT(removal.problems[0], AllOf(HasSubstr("000001"), HasSubstr("not empty")));
  EXPECT_THAT(names_in(run.directory("000001")), ElementsAre("my notes"));
}

}  // namespace
}  // namespace regroup
