#include "runtime/host/checkpoint_disk.hpp"

#include <filesystem>
#include <string>
#include <vector>

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

TEST_F(Disks, APartIsWrittenOnce) {
  EXPECT_EQ(write(0, 1, 0, "first").error, "");
  EXPECT_THAT(write(0, 1, 0, "again").error, HasSubstr("part-0000.h5"));
}

}  // namespace
}  // namespace regroup
