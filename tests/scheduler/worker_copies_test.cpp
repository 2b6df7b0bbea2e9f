// The worker's transcripts about copies of partitions in memory: what goes to its partner and when,
// what it keeps for others, and from where it gets back what it lacks.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scheduler/partition_copies.hpp"
#include "scheduler/shard_source.hpp"
#include "scheduler/worker.hpp"
#include "tests/scheduler/lone_rank.hpp"

namespace regroup {
namespace {

using namespace testing_roles;  // NOLINT: the vocabulary of these tests
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr std::uint32_t kSelf = 1;
constexpr std::uint64_t kShards = 50;
constexpr std::uint64_t kPartitions = 8;
constexpr Nanoseconds kPeriod = kSecond;
const RankSet kAll{RankId{0}, RankId{1}, RankId{2}};
const RankSet kWithoutTwo{RankId{0}, RankId{1}};
const RankSet kWithoutZero{RankId{1}, RankId{2}};

ScheduleOptions copying(std::uint64_t bytes_max = 1 << 20) {
  ScheduleOptions options;
  options.copies.every = CopyOptions::Every::kPeriod;
  options.copies.period = kPeriod;
  options.copies.bytes_for_others_max = bytes_max;
  return options;
}

// The map shards in these runs (of those that are not, of those that are, in turns), and content.
Buffer copy_bytes(const std::vector<std::uint64_t>& runs, std::string_view content) {
  Buffer bytes;
  Writer writer(bytes);
  for (const std::uint64_t run : runs) writer.put_varint(run);
  writer.put_raw(LoneRank::text(content));
  return bytes;
}

// Rank 1 of three: it owns partitions 3 and 4, which have shard 9, and partition 5 without any.
class Copying : public LoneRank {
 public:
  explicit Copying(const ScheduleOptions& options = copying()) : LoneRank(kSelf, 3, options) {
    have_disk();
    open({map_stage(kShards), reduce_stage(kPartitions), map_stage(kShards),
          reduce_stage(kPartitions)});
    tell_owners();
    take(9, {3, 4});
    tick_after(1);
    sent();
  }
  void tell_owners(std::uint32_t round = 0, bool asks = false, std::uint64_t checkpoint = 0,
                   const std::vector<std::uint32_t>& holders = {},
                   const std::vector<std::uint32_t>& own = {3, 4, 5}) {
    std::vector<std::uint32_t> owners(kPartitions, 0);
    for (const std::uint32_t p : own) owners[p] = kSelf;
    receive(0, MessageKind::kOwners, owners_message(0, owners, round, asks, checkpoint, holders));
  }
  void take(std::uint64_t shard, const std::vector<std::uint32_t>& partitions,
            std::uint32_t round = 0) {
    std::vector<std::pair<std::uint32_t, std::string>> parts;
    for (const std::uint32_t p : partitions) parts.emplace_back(p, "x");
    receive(2, MessageKind::kPartitions, partitions_message(0, shard, 1, parts, round));
    const auto order = want();
    ASSERT_TRUE(order && order->kind == WorkKind::kAbsorb);
    WorkResult result;
    result.restart(*order);
    finish(result);
  }
  // The job says what a partition holds; false if it is not asked.
  bool save_next(std::string_view content = "content") {
    auto order = want();
    if (!order) return false;
    EXPECT_EQ(order->kind, WorkKind::kSave);
    WorkResult result;
    result.restart(*order);
    result.elapsed = kMillisecond;
    result.partitions.push_back(std::move(order->input));
    result.partitions.back().append(text(content));
    finish(result);
    return true;
  }
  // The content that the job is given back of the next partition.
  std::string restore_next(std::string error = "") {
    const auto order = want();
    if (!order || order->kind != WorkKind::kRestore) return "(nothing)";
    const auto saved = order->saved();
    WorkResult result;
    result.restart(*order);
    result.error = std::move(error);
    finish(result);
    return {reinterpret_cast<const char*>(saved.data()), saved.size()};
  }
  // A copy of partition 6, of rank 0, with shards 0 and 1.
  void be_given_copy(std::string_view content = "six") {
    receive(0, MessageKind::kCopy, copy_message(0, 6, 2, copy_bytes({0, 2, 48}, content).view()));
  }
};

// ---- to the partner ----

TEST(WorkerCopies, GoToTheNextRankAsTheyAreWrittenDown) {
  Copying worker;
  worker.tick_after(kPeriod);
  ASSERT_TRUE(worker.save_next());
  EXPECT_THAT(worker.sent(), ElementsAre("2 copy 0/3*1 10 bytes")) << "3 of the set, 7 of content";
  ASSERT_TRUE(worker.save_next());
  EXPECT_FALSE(worker.save_next()) << "partition 5 has nothing";
  EXPECT_THAT(worker.sent(), ElementsAre("2 copy 0/4*1 10 bytes"));
  worker.receive(2, MessageKind::kCopyKept, copy_kept_message(0, 3, 1));
  EXPECT_THAT(worker.sent(), IsEmpty());
  worker.receive(2, MessageKind::kCopyKept, copy_kept_message(0, 4, 1));
  EXPECT_THAT(worker.sent(), ElementsAre("0 copies made: 2 20 bytes"));
}

TEST(WorkerCopies, OnlyWhatHasGrownIsCopiedAgain) {
  Copying worker;
  const auto round = [&] {
    worker.tick_after(kPeriod);
    while (worker.save_next()) {
    }
    for (const std::uint64_t held : {1, 2}) {
      for (const std::uint32_t p : {3, 4}) {
        worker.receive(2, MessageKind::kCopyKept, copy_kept_message(0, p, held));
      }
    }
    return worker.sent();
  };
  ASSERT_THAT(round(), SizeIs(3));
  EXPECT_THAT(round(), IsEmpty());
  worker.take(10, {4});
  worker.sent();
  EXPECT_THAT(round(), ElementsAre("2 copy 0/4*2 10 bytes", "0 copies made: 2 20 bytes"));
}

TEST(WorkerCopies, OffMakesNone) {
  ScheduleOptions options = copying();
  options.copies.every = CopyOptions::Every::kOff;
  Copying worker(options);
  worker.tick_after(1000 * kSecond);
  EXPECT_FALSE(worker.want());
}

TEST(WorkerCopies, ThatAreRefusedAreTold) {
  Copying worker;
  worker.tick_after(kPeriod);
  while (worker.save_next()) {
  }
  worker.receive(2, MessageKind::kCopyKept, copy_kept_message(0, 3, 1, 1));
  worker.receive(2, MessageKind::kCopyKept, copy_kept_message(0, 4, 1, 0));
  EXPECT_THAT(worker.sent(), testing::Contains("0 copies made: 1 10 bytes refused 1"));
}

// What is in memory serves a new partner as it is.
TEST(WorkerCopies, ANewPartnerIsGivenTheSnapshotsThatThereAre) {
  Copying worker;
  worker.tick_after(kPeriod);
  while (worker.save_next()) {
  }
  worker.enter_view(kWithoutTwo);
  worker.tell_owners();
  worker.sent();
  worker.tick_after(kMillisecond);
  EXPECT_THAT(worker.sent(), ElementsAre("0 copy 0/3*1 10 bytes", "0 copy 0/4*1 10 bytes"));
  EXPECT_FALSE(worker.want()) << "nothing is to be written down";
}

// ---- for others ----

TEST(WorkerCopies, AreKeptForOthersAndOfferedInEachView) {
  Copying worker;
  worker.be_given_copy();
  EXPECT_THAT(worker.sent(), ElementsAre("0 copy 0/6*2 kept"));
  worker.enter_view(kAll);
  EXPECT_THAT(worker.sent(), testing::Contains("0 announce has 0/6*2"));
  worker.receive(2, MessageKind::kCopyWanted, copy_wanted_message(0, 6, 7));
  worker.receive(2, MessageKind::kCopyWanted, copy_wanted_message(0, 7, 7));
  EXPECT_THAT(worker.sent(),
              ElementsAre("2 copy 0/6 back round 7 6 bytes", "2 copy 0/7 back round 7 0 bytes"));
}

TEST(WorkerCopies, AreNotKeptIfTheyAreDamagedOrTooMany) {
  Copying worker(copying(8));
  const Buffer six = copy_bytes({0, 2, 48}, "six");
  worker.receive(0, MessageKind::kCopy, copy_message(0, 6, 2, six.view(), 1234));
  worker.receive(0, MessageKind::kCopy, copy_message(0, 6, 2, copy_bytes({0, 2, 47}, "").view()));
  worker.receive(0, MessageKind::kCopy, copy_message(0, 99, 2, six.view()));
  worker.receive(0, MessageKind::kCopy, copy_message(7, 6, 2, six.view()));
  worker.be_given_copy("of many bytes");
  EXPECT_THAT(worker.sent(),
              ElementsAre("0 copy 0/6*2 damaged", "0 copy 0/6*2 damaged", "0 copy 0/99*2 damaged",
                          "0 copy 7/6*2 not now", "0 copy 0/6*2 no room"));
  worker.be_given_copy();
  EXPECT_THAT(worker.sent(), ElementsAre("0 copy 0/6*2 kept"));
  worker.be_given_copy("of many bytes");
  worker.sent();
  worker.receive(2, MessageKind::kCopyWanted, copy_wanted_message(0, 6, 7));
  EXPECT_THAT(worker.sent(), ElementsAre("2 copy 0/6 back round 7 6 bytes"))
      << "the older whole one stays";
}

// ---- what comes back ----

TEST(WorkerCopies, APartnerThatBecomesTheOwnerHasItAlready) {
  Copying worker;
  worker.be_given_copy();
  worker.enter_view(kWithoutZero, {}, RankId{2});
  worker.sent();
  std::vector<std::uint32_t> owners(kPartitions, 2);
  owners[6] = kSelf;
  worker.receive(2, MessageKind::kOpen, open_message("job"));
  worker.sent();
  worker.receive(2, MessageKind::kOwners,
                 owners_message(0, owners, 2, true, 4, std::vector<std::uint32_t>(kPartitions, 1)));
  EXPECT_EQ(worker.restore_next(), "six");
  EXPECT_THAT(worker.sent(), ElementsAre("2 holdings 0: round 2 partner*1 0 2 48"));
  EXPECT_THAT(worker.disk(), IsEmpty()) << "the file system is not touched";
}

TEST(WorkerCopies, ComeBackFromWhoHasTheBestOne) {
  Copying worker;
  worker.tell_owners(1, true, 4, std::vector<std::uint32_t>(kPartitions, 2), {6});
  EXPECT_THAT(worker.sent(), ElementsAre("2 copy 0/6 wanted round 1"));
  worker.receive(2, MessageKind::kCopyBack,
                 copy_message(0, 6, 1, copy_bytes({0, 3, 47}, "best").view()));
  EXPECT_EQ(worker.restore_next(), "best");
  EXPECT_THAT(worker.sent(), ElementsAre("0 holdings 0: round 1 partner*1 0 3 47"));
  EXPECT_THAT(worker.disk(), IsEmpty());
}

// The other rank has it no more, what is here the job does not take, the file is damaged.
TEST(WorkerCopies, PlacesAreTriedFromTheNearestToTheLast) {
  Copying worker;
  worker.be_given_copy();
  worker.sent();
  worker.tell_owners(1, true, 4, std::vector<std::uint32_t>(kPartitions, 2), {6});
  EXPECT_THAT(worker.sent(), ElementsAre("2 copy 0/6 wanted round 1"));
  worker.receive(2, MessageKind::kCopyBack, copy_message(0, 6, 1, {}));
  EXPECT_EQ(worker.restore_next("no"), "six");
  const auto requests = worker.disk();
  ASSERT_THAT(requests, SizeIs(1));
  ASSERT_THAT(requests[0].pieces, SizeIs(1));
  EXPECT_EQ(requests[0].pieces[0].dataset, "partitions/stage_0/6");
  EXPECT_THAT(worker.sent(), IsEmpty());
  worker.answer_disk({.task = DiskTask::kLoadPieces, .error = "damaged"});
  EXPECT_THAT(worker.sent(), ElementsAre("0 holdings 0: round 1 50")) << "it begins empty";
}

TEST(WorkerCopies, ADamagedOneIsNoneAndTheFileIsRead) {
  Copying worker;
  worker.tell_owners(1, true, 4, std::vector<std::uint32_t>(kPartitions, 2), {6});
  worker.receive(2, MessageKind::kCopyBack,
                 copy_message(0, 6, 1, copy_bytes({0, 3, 47}, "best").view(), 99));
  EXPECT_THAT(worker.disk(), SizeIs(1));
}

// It was given up, discarded what it had, and is an owner again: its snapshots are as good as ever.
TEST(WorkerCopies, ARankThatComesBackUsesItsOwnSnapshots) {
  Copying worker;
  worker.tick_after(kPeriod);
  while (worker.save_next("mine")) {
  }
  worker.enter_view(kWithoutTwo, {RankId{kSelf}});
  worker.receive(0, MessageKind::kOpen, open_message("job"));
  EXPECT_THAT(worker.sent(), testing::Contains("0 announce has 0/3*1 has 0/4*1"));
  const auto forget = worker.want();
  ASSERT_TRUE(forget && forget->kind == WorkKind::kForget);
  WorkResult result;
  result.restart(*forget);
  worker.finish(result);
  worker.tell_owners(2, true, 4, std::vector<std::uint32_t>(kPartitions, kSelf), {3});
  EXPECT_EQ(worker.restore_next(), "mine");
  EXPECT_THAT(worker.sent(), ElementsAre("0 holdings 0: round 2 snapshot*1 9 1 40"));
}

TEST(WorkerCopies, WhatIsNoMessageIsRefused) {
  Copying worker;
  worker.receive(0, MessageKind::kCopy, copy_wanted_message(0, 6, 1));
  worker.receive(2, MessageKind::kCopyKept, copy_kept_message(0, 3, 1, 4));
  worker.receive(2, MessageKind::kCopyWanted, copy_kept_message(0, 3, 1));
  worker.receive(2, MessageKind::kCopyBack, copy_wanted_message(0, 3, 1));
  EXPECT_EQ(worker.refused(), 4u);
}

}  // namespace
}  // namespace regroup
