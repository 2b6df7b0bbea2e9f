#include "runtime/host/checkpoint_disk.hpp"

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/host/checkpoints.hpp"

namespace regroup {
namespace {

using test::number;
using test::TestRun;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Two ranks' disks on one directory.
class Disks : public testing::Test {
 protected:
  CheckpointDisk disk(std::uint32_t rank) {
    return CheckpointDisk(run_.store,
                          {.rank = RankId{rank},
                           .facts = [] { return test::some_facts(); },
                           .keep = 2,
                           .may_seal = [this](Epoch) { return may_seal_; },
                           .say = [this](const std::string& line) { said_.push_back(line); }});
  }
  DiskAnswer write(std::uint32_t rank, std::uint64_t checkpoint, std::uint64_t first_row,
                   std::string_view bytes) {
    DiskRequest request{.task = DiskTask::kWritePart, .checkpoint = number(checkpoint)};
    request.epoch = Epoch{1};
    request.pieces.push_back({"state", first_row, Buffer(std::as_bytes(std::span(bytes)))});
    return disk(rank).carry_out(request);
  }
  DiskAnswer seal(std::uint64_t checkpoint, std::vector<std::string> parts) {
    DiskRequest request{.task = DiskTask::kSeal, .checkpoint = number(checkpoint)};
    request.epoch = Epoch{1};
    request.parts = std::move(parts);
    return disk(0).carry_out(request);
  }
  DiskAnswer take(std::uint64_t checkpoint) {
    const DiskAnswer first = write(0, checkpoint, 0, "first ");
    const DiskAnswer second = write(1, checkpoint, 6, "second");
    return seal(checkpoint, {first.part, second.part});
  }
  DiskAnswer load(std::uint64_t checkpoint, const std::string& dataset = "state") {
    DiskRequest request{.task = DiskTask::kLoad, .checkpoint = number(checkpoint)};
    request.pieces.push_back({dataset, 0, {}});
    return disk(0).carry_out(request);
  }
  DiskAnswer next_number(std::uint64_t known = 0) {
    DiskRequest request{.task = DiskTask::kNumber, .checkpoint = number(known)};
    return disk(0).carry_out(request);
  }
  static std::string text_of(const DiskAnswer& answer) {
    if (answer.pieces.size() != 1) return "not one piece";
    const auto bytes = answer.pieces[0].bytes.view();
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  TestRun run_;
  bool may_seal_ = true;
  std::vector<std::string> said_;
};

TEST_F(Disks, WhatTheRanksWroteIsReadAsOne) {
  EXPECT_EQ(next_number().checkpoint, number(1));
  const DiskAnswer sealed = take(1);
  EXPECT_EQ(sealed.error, "");
  EXPECT_GT(sealed.bytes, 12u);
  EXPECT_EQ(next_number().checkpoint, number(2));
  for (const std::uint64_t asked : {0, 1}) {
    const DiskAnswer loaded = load(asked);
    EXPECT_EQ(loaded.error, "");
    EXPECT_EQ(loaded.checkpoint, number(1));
    EXPECT_EQ(text_of(loaded), "first second");
  }
}

TEST_F(Disks, ADirectoryThatWentAwayDoesNotBringNumbersBack) {
  take(1);
  EXPECT_EQ(next_number(1).checkpoint, number(2));
  std::filesystem::remove_all(run_.scratch.path() / "checkpoints");
  EXPECT_EQ(next_number(1).checkpoint, number(2));
}

TEST_F(Disks, PiecesAreLoadedAsFarAsTheyAreThere) {
  take(1);
  DiskRequest request{.task = DiskTask::kLoadPieces, .checkpoint = number(1)};
  request.pieces.push_back({"nothing", 0, {}});
  request.pieces.push_back({"state", 0, {}});
  const DiskAnswer loaded = disk(1).carry_out(request);
  EXPECT_EQ(loaded.error, "");
  ASSERT_EQ(loaded.pieces.size(), 2u);
  EXPECT_TRUE(loaded.pieces[0].bytes.empty());
  EXPECT_EQ(loaded.pieces[1].bytes.size(), 12u);

  request.checkpoint = number(2);
  EXPECT_NE(disk(1).carry_out(request).error, "");
}

TEST_F(Disks, NothingToLoadIsNoError) {
  const DiskAnswer loaded = load(0);
  EXPECT_EQ(loaded.error, "");
  EXPECT_EQ(loaded.checkpoint, number(0));
}

TEST_F(Disks, OneThatIsAskedForAndNotThereIs) {
  take(1);
  EXPECT_THAT(load(2).error, HasSubstr("000002"));
  EXPECT_THAT(load(1, "other").error, HasSubstr("no bytes named 'other'"));
}

TEST_F(Disks, NobodySealsWhomOthersHaveLeftBehind) {
  may_seal_ = false;
  EXPECT_NE(take(1).error, "");
  EXPECT_EQ(load(0).checkpoint, number(0));
}

TEST_F(Disks, PartsThatNobodyWroteSealNothing) {
  EXPECT_THAT(seal(1, {"{}"}).error, HasSubstr("describes its part wrongly"));
  const DiskAnswer elsewhere = write(0, 2, 0, "of another checkpoint");
  EXPECT_NE(seal(1, {elsewhere.part}).error, "");
}

TEST_F(Disks, OldOnesAreRemoved) {
  for (const std::uint64_t checkpoint : {1, 2, 3}) EXPECT_EQ(take(checkpoint).error, "");
  EXPECT_NE(load(1).error, "");
  EXPECT_EQ(load(2).error, "");
  EXPECT_THAT(said_, IsEmpty());
}

TEST_F(Disks, ADamagedOneIsPassedOverAloud) {
  take(1);
  take(2);
  for (const auto& file : std::filesystem::directory_iterator(run_.directory("000002"))) {
    if (file.path().filename() == "part-0001.h5") std::filesystem::resize_file(file.path(), 100);
  }
  EXPECT_EQ(load(0).checkpoint, number(1));
  EXPECT_THAT(said_, ElementsAre(HasSubstr("checkpoint 2 is passed over: ")));
}

// ---- what has not changed ----

// A rank's part of two pieces of so many bytes, all `first` or `second`.
class Unchanged : public Disks {
 protected:
  DiskAnswer take_two(std::uint64_t checkpoint, char first, char second) {
    DiskRequest request{.task = DiskTask::kWritePart, .checkpoint = number(checkpoint)};
    request.epoch = Epoch{1};
    const std::string large(kLarge, first);
    const std::string small(kSmall, second);
    request.pieces.push_back({"large", 0, Buffer(std::as_bytes(std::span(large)))});
    request.pieces.push_back({"small", 0, Buffer(std::as_bytes(std::span(small)))});
    const DiskAnswer written = disk(0).carry_out(request);
    EXPECT_EQ(written.error, "");
    return seal(checkpoint, {written.part});
  }
  std::vector<std::string> part_files(const std::string& checkpoint) const {
    std::vector<std::string> names;
    for (const auto& file : std::filesystem::directory_iterator(run_.directory(checkpoint))) {
      const std::string name = file.path().filename();
      if (name.starts_with("part-")) names.push_back(name);
    }
    std::ranges::sort(names);
    return names;
  }
  void expect_holds(std::uint64_t checkpoint, char first, char second) {
    EXPECT_EQ(text_of(load(checkpoint, "large")), std::string(kLarge, first));
    EXPECT_EQ(text_of(load(checkpoint, "small")), std::string(kSmall, second));
  }
  static constexpr std::size_t kLarge = 100'000;
  static constexpr std::size_t kSmall = 20'000;
};

TEST_F(Unchanged, PiecesAreLinkedAndOthersWritten) {
  take_two(1, 'a', 'x');
  EXPECT_EQ(take_two(2, 'a', 'y').error, "");
  EXPECT_THAT(part_files("000002"), ElementsAre("part-0000-of-000001.h5", "part-0000.h5"));
  EXPECT_LT(std::filesystem::file_size(run_.directory("000002") / "part-0000.h5"), kLarge);
  expect_holds(2, 'a', 'y');
}

TEST_F(Unchanged, TheyLastWhenTheCheckpointTheyWereWrittenForIsRemoved) {
  for (const std::uint64_t checkpoint : {1, 2, 3, 4}) take_two(checkpoint, 'a', 'x');
  EXPECT_FALSE(std::filesystem::exists(run_.directory("000001")));
  EXPECT_THAT(part_files("000004"), ElementsAre("part-0000-of-000001.h5", "part-0000.h5"));
  expect_holds(4, 'a', 'x');
  EXPECT_THAT(load(0).error, HasSubstr("no bytes named 'state'")) << "every byte was verified";
}

TEST_F(Unchanged, WhatChangedIsWritten) {
  take_two(1, 'a', 'x');
  take_two(2, 'b', 'y');
  EXPECT_THAT(part_files("000002"), ElementsAre("part-0000.h5"));
  expect_holds(2, 'b', 'y');
}

TEST_F(Unchanged, ALargeFileIsNotKeptForLittleOfIt) {
  take_two(1, 'a', 'x');
  take_two(2, 'b', 'x');
  EXPECT_THAT(part_files("000002"), ElementsAre("part-0000.h5"));
  expect_holds(2, 'b', 'x');
}

TEST_F(Unchanged, TheyAreWrittenAnewFromTimeToTime) {
  const std::uint64_t last = 2 + CheckpointDisk::kLinkedAgeMax;
  for (std::uint64_t checkpoint = 1; checkpoint < last; ++checkpoint) {
    take_two(checkpoint, 'a', 'x');
  }
  EXPECT_EQ(part_files(fmt::format("{:06}", last - 1)).size(), 2u);
  take_two(last, 'a', 'x');
  EXPECT_THAT(part_files(fmt::format("{:06}", last)), ElementsAre("part-0000.h5"));
}

TEST_F(Unchanged, WhatWasNeverSealedIsNotLinked) {
  may_seal_ = false;
  take_two(1, 'a', 'x');
  may_seal_ = true;
  take_two(2, 'a', 'x');
  EXPECT_THAT(part_files("000002"), ElementsAre("part-0000.h5"));
  expect_holds(2, 'a', 'x');
}

// Another rank has the piece now: whoever wrote it before.
TEST_F(Unchanged, PiecesOfOtherRanksAreLinkedAsWell) {
  const std::string text(kLarge, 'a');
  const auto part_of = [&](std::uint32_t rank, std::uint64_t checkpoint) {
    const DiskAnswer written = write(rank, checkpoint, 0, text);
    EXPECT_EQ(written.error, "");
    return written.part;
  };
  seal(1, {part_of(0, 1)});
  EXPECT_EQ(seal(2, {part_of(1, 2)}).error, "");
  EXPECT_THAT(part_files("000002"), ElementsAre("part-0000-of-000001.h5", "part-0001.h5"));
  EXPECT_EQ(text_of(load(2)), text);
}

// ---- fields ----

// A field of two ranks, of which each has its columns.
class Gridded : public Unchanged {
 protected:
  static StatePiece piece_of(std::uint64_t start, std::uint64_t extent, std::uint64_t version) {
    const std::vector<std::uint64_t> shape = {60, 70};
    StatePiece piece{.dataset = "heat",
                     .first_row = 60 * start,
                     .type = ElementType::kFloat64,
                     .block = FieldBlock{test::heat_on(shape), {0, start}, {60, extent}}};
    const auto heat = test::heat_in(shape, {0, start}, {60, extent}, version);
    piece.bytes = Buffer(std::as_bytes(std::span(heat)));
    return piece;
  }
  DiskAnswer write_columns(std::uint32_t rank, std::uint64_t checkpoint, StatePiece piece) {
    DiskRequest request{.task = DiskTask::kWritePart, .checkpoint = number(checkpoint)};
    request.epoch = Epoch{1};
    request.pieces.push_back(std::move(piece));
    request.step = checkpoint;
    request.time = 0.5;
    return disk(rank).carry_out(request);
  }
  DiskAnswer take_field(std::uint64_t checkpoint, std::uint64_t version) {
    const DiskAnswer first = write_columns(0, checkpoint, piece_of(0, 20, 7));
    const DiskAnswer second = write_columns(1, checkpoint, piece_of(20, 50, version));
    EXPECT_EQ(first.error + second.error, "");
    return seal(checkpoint, {first.part, second.part});
  }
};

TEST_F(Gridded, OtherBlocksAreLoadedThanWereWritten) {
  EXPECT_EQ(take_field(1, 7).error, "");
  for (const DiskTask task : {DiskTask::kLoad, DiskTask::kLoadPieces}) {
    DiskRequest request{.task = task, .checkpoint = number(1)};
    const StatePiece expected = piece_of(11, 33, 7);
    request.pieces.push_back(piece_of(11, 33, 0));
    request.pieces.back().bytes.clear();

    const DiskAnswer loaded = disk(0).carry_out(request);

    EXPECT_EQ(loaded.error, "");
    ASSERT_EQ(loaded.pieces.size(), 1u);
    EXPECT_EQ(loaded.pieces[0].block, expected.block);
    EXPECT_EQ(loaded.pieces[0].type, ElementType::kFloat64);
    EXPECT_TRUE(std::ranges::equal(loaded.pieces[0].view(), expected.view()));
  }
}

TEST_F(Gridded, AnotherFieldIsNotLoaded) {
  take_field(1, 7);
  const auto error_of = [&](const auto& change) {
    DiskRequest request{.task = DiskTask::kLoad, .checkpoint = number(1)};
    request.pieces.push_back(piece_of(0, 70, 0));
    change(request.pieces.back());
    return disk(0).carry_out(request).error;
  };
  EXPECT_EQ(error_of([](StatePiece&) {}), "");
  const auto refused = HasSubstr("no field of that shape and type in 'heat'");
  EXPECT_THAT(error_of([](StatePiece& p) { p.block->field.shape = {70, 60}; }), refused);
  EXPECT_THAT(error_of([](StatePiece& p) { p.block->extent = {60, 71}; }), refused);
  EXPECT_THAT(error_of([](StatePiece& p) { p.type = ElementType::kInt64; }), refused);
  EXPECT_THAT(error_of([](StatePiece& p) { p.dataset = "cold"; }), HasSubstr("in 'cold'"));
}

TEST_F(Gridded, UnchangedBlocksAreLinkedIfTheyAreStillTheSame) {
  take_field(1, 7);
  EXPECT_EQ(take_field(2, 8).error, "");
  EXPECT_THAT(part_files("000002"),
              ElementsAre("part-0000-of-000001.h5", "part-0000.h5", "part-0001.h5"));
  const auto manifest = run_.store.open(number(2)).value().manifest();
  EXPECT_THAT(manifest.files[1].attributes,
              ElementsAre(NamedValue{"step", std::uint64_t{2}}, NamedValue{"time", 0.5}));
  test::expect_valid(run_.store, number(2));

  StatePiece moved = piece_of(0, 20, 7);
  moved.block->field.origin[0] += 1;
  EXPECT_EQ(write_columns(0, 3, std::move(moved)).error, "");
  EXPECT_THAT(part_files("000003"), ElementsAre("part-0000.h5"));
}

TEST_F(Disks, APartIsWrittenOnce) {
  EXPECT_EQ(write(0, 1, 0, "first").error, "");
  EXPECT_THAT(write(0, 1, 0, "again").error, HasSubstr("part-0000.h5"));
}

}  // namespace
}  // namespace regroup
