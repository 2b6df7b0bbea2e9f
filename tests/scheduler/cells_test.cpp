// The transcripts about cells of an iterate stage: how a worker takes its own from step to step,
// what it writes down and where it goes back to; what the coordinator tells whom, and when.
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scheduler/cell_board.hpp"
#include "scheduler/cell_copies.hpp"
#include "scheduler/checkpoint_desk.hpp"
#include "tests/scheduler/lone_rank.hpp"

namespace regroup {
namespace {

using namespace testing_roles;  // NOLINT: the vocabulary of these tests
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::IsSupersetOf;
using testing::Not;
using testing::SizeIs;

constexpr std::uint64_t kCells = 4;
const std::vector<StagePlan> kStages{{StageKind::kIterate, kCells}, {StageKind::kReduce, kCells}};
// In a row.
const Neighbours kRow{{1}, {0, 2}, {1, 3}, {2}};
const RankSet kAll{RankId{0}, RankId{1}, RankId{2}};

struct RoundAt {
  std::uint32_t round = 0;
  std::uint32_t attempt = 1;
};

void put_round(Writer& writer, RoundAt round) {
  writer.put(std::uint16_t{0});
  writer.put(round.round);
  writer.put(round.attempt);
}

Buffer cells_message(RoundAt round, std::uint8_t start, std::uint64_t step,
                     const std::vector<std::uint32_t>& owners,
                     const std::vector<std::uint32_t>& holders = {}, std::uint64_t checkpoint = 0) {
  Buffer payload;
  Writer writer(payload);
  put_round(writer, round);
  writer.put(start);
  writer.put(step);
  writer.put(checkpoint);
  writer.put(static_cast<std::uint32_t>(owners.size()));
  for (const std::uint32_t owner : owners) writer.put(owner);
  for (const std::uint32_t holder : holders) writer.put(holder);
  return payload;
}

struct HaloEntry {
  std::uint32_t from = 0;
  std::uint32_t to = 0;
  std::string bytes;
};

Buffer halos_message(RoundAt round, std::uint64_t step, const std::vector<HaloEntry>& halos) {
  Buffer payload;
  Writer writer(payload);
  put_round(writer, round);
  writer.put(step);
  for (const HaloEntry& halo : halos) {
    writer.put(halo.from);
    writer.put(halo.to);
    writer.put_string(halo.bytes);
  }
  return payload;
}

Buffer step_message(RoundAt round, std::uint64_t step, std::uint64_t confirmed) {
  Buffer payload;
  Writer writer(payload);
  put_round(writer, round);
  writer.put(step);
  writer.put(confirmed);
  return payload;
}

Buffer totals_message(RoundAt round, std::uint64_t step, std::string_view totals) {
  Buffer payload;
  Writer writer(payload);
  put_round(writer, round);
  writer.put(step);
  writer.put_raw(LoneRank::text(totals));
  return payload;
}

Buffer news_message(RoundAt round, CellNews news, std::uint64_t step, std::uint64_t a = 0,
                    std::uint64_t b = 0, std::string_view text = "") {
  Buffer payload;
  Writer writer(payload);
  put_round(writer, round);
  writer.put(news);
  writer.put(step);
  writer.put(a);
  writer.put(b);
  writer.put_string(text);
  return payload;
}

std::string string_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// "2 halos 5: 2>3=x": to whom, what, at which step.
std::string show_cells(std::uint32_t to, MessageKind kind, std::span<const std::byte> payload) {
  std::ostringstream out;
  out << to << ' ';
  Reader reader(payload);
  reader.get<StageId>();
  const auto at_step = [&] { out << reader.get<std::uint64_t>(); };
  const auto skip_round = [&] { reader.get<std::uint64_t>(); };
  switch (kind) {
    case MessageKind::kHalos:
      skip_round();
      out << "halos ";
      at_step();
      out << ':';
      while (!reader.rest().empty()) {
        out << ' ' << reader.get<std::uint32_t>();
        out << '>' << reader.get<std::uint32_t>();
        out << '=' << reader.get_string();
      }
      break;
    case MessageKind::kPartials:
      skip_round();
      out << "partials ";
      at_step();
      out << ':';
      while (!reader.rest().empty()) {
        out << ' ' << reader.get<std::uint32_t>();
        out << '=' << reader.get_string();
      }
      break;
    case MessageKind::kTotals:
      skip_round();
      out << "totals ";
      at_step();
      out << ": " << string_of(reader.rest());
      break;
    case MessageKind::kCells: {
      const auto round = reader.get<std::uint32_t>();
      out << "cells " << round << '.' << reader.get<std::uint32_t>();
      constexpr const char* kStarts[] = {" begin", " memory ", " file"};
      const auto start = reader.get<std::uint8_t>();
      out << kStarts[start];
      const auto step = reader.get<std::uint64_t>();
      if (start == 1) out << step;
      break;
    }
    case MessageKind::kSnapshotAt: {
      skip_round();
      const auto step = reader.get<std::uint64_t>();
      const auto confirmed = reader.get<std::uint64_t>();
      out << "write down at " << (step == kNoStep ? "none" : std::to_string(step)) << ", all have "
          << (confirmed == kNoStep ? "none" : std::to_string(confirmed));
      break;
    }
    case MessageKind::kCellNews: {
      skip_round();
      constexpr const char* kNews[] = {"restored", "steps", "ended", "kept", "missed", "failed"};
      out << kNews[reader.get<std::uint8_t>()] << ' ';
      const auto step = reader.get<std::uint64_t>();
      out << (step == kNoStep ? "?" : std::to_string(step));
      reader.get<std::uint64_t>();
      reader.get<std::uint64_t>();
      const auto text = reader.get_string();
      if (!text.empty()) out << ": " << text;
      break;
    }
    case MessageKind::kCellCopy:
      out << "copy of " << reader.get<std::uint32_t>() << " at ";
      at_step();
      reader.get<std::uint64_t>();
      if (reader.rest().empty()) out << ", none";
      break;
    case MessageKind::kCellCopyKept:
      out << "kept " << reader.get<std::uint32_t>() << " at ";
      at_step();
      out << ": " << int{reader.get<std::uint8_t>()};
      break;
    case MessageKind::kCellCopyWanted:
      out << "wants " << reader.get<std::uint32_t>() << " at ";
      at_step();
      break;
    default:
      return std::to_string(to) + ' ' + show(kind, payload);
  }
  return out.str();
}

class CellRank : public LoneRank {
 public:
  CellRank(std::uint32_t self, std::uint32_t ranks, const ScheduleOptions& options)
      : LoneRank(self, ranks, options) {
    have_disk();
    if (self != 0) receive(0, MessageKind::kOpen, open_message("job"));
    const auto order = want();
    EXPECT_TRUE(order && order->kind == WorkKind::kOpen);
    WorkResult result;
    result.restart(*order);
    result.stages = kStages;
    result.cells = {{kRow}};
    finish(result);
  }
  std::vector<std::string> said() {
    std::vector<std::string> lines;
    for (const auto& [to, kind, payload] : messages()) {
      lines.push_back(show_cells(to, kind, payload.view()));
    }
    return lines;
  }
  // The next order is carried out by cells that show their number and step, and add their number.
  std::string compute(bool totals = false, bool at_end = false, std::string error = "") {
    auto order = want();
    if (!order) return "";
    WorkResult result;
    result.restart(*order);
    result.elapsed = kMillisecond;
    result.error = std::move(error);
    const auto cell = static_cast<std::uint32_t>(order->shards.first.value);
    constexpr const char* kNames[] = {"describe", "open",   "run",      "absorb", "save",
                                      "restore",  "forget", "finalize", "begin",  "step"};
    std::string line = kNames[static_cast<std::size_t>(order->kind)];
    line += ' ' + std::to_string(cell) + " at " + std::to_string(order->step);
    for (const Halo& halo : order->halos) line += ' ' + string_of(halo.bytes.view());
    if (order->totals) line += " totals " + string_of(order->totals->view());
    if (order->kind == WorkKind::kSave) {
      result.partitions.push_back(std::move(order->input));
      result.partitions.back().append(text("state"));
    } else if (at_end) {
      result.at_end = true;
    } else if (order->kind != WorkKind::kRun) {
      const std::uint64_t step = order->step + (order->kind == WorkKind::kStep ? 1 : 0);
      for (const std::uint32_t other : kRow[cell]) {
        const std::string shown = std::to_string(cell) + '.' + std::to_string(step);
        result.halos.push_back({other, Buffer(text(shown))});
      }
      result.wants_totals = totals;
      if (totals) result.partial = Buffer(text(std::to_string(cell)));
    }
    finish(result);
    return line;
  }
};

ScheduleOptions copying() {
  ScheduleOptions options;
  options.copies.every = CopyOptions::Every::kPeriod;
  options.copies.period = kSecond;
  return options;
}

// ---- a worker ----

// Rank 1 of three, with cells 1 and 2 between those of ranks 0 and 2.
class WorkerCells : public testing::Test {
 protected:
  explicit WorkerCells(const ScheduleOptions& options = copying()) : rank(1, 3, options) {
    rank.said();
  }
  void begin(bool totals = false) {
    rank.receive(0, MessageKind::kCells, cells_message({}, 0, 0, {0, 1, 1, 2}));
    EXPECT_EQ(rank.compute(totals), "begin 1 at 0");
    EXPECT_EQ(rank.compute(totals), "begin 2 at 0");
  }
  void halos(std::uint64_t step) {
    const std::string at = '.' + std::to_string(step);
    rank.receive(0, MessageKind::kHalos, halos_message({}, step, {{0, 1, "0" + at}}));
    rank.receive(2, MessageKind::kHalos, halos_message({}, step, {{3, 2, "3" + at}}));
  }
  CellRank rank;
};

TEST_F(WorkerCells, GoOnAsSoonAsTheyHaveWhatTheirNeighboursShow) {
  begin();
  EXPECT_THAT(rank.said(), ElementsAre("0 halos 0: 1>0=1.0", "2 halos 0: 2>3=2.0", "0 restored 0"));
  EXPECT_EQ(rank.compute(), "");
  rank.receive(0, MessageKind::kHalos, halos_message({}, 0, {{0, 1, "0.0"}}));
  EXPECT_EQ(rank.compute(), "step 1 at 0 0.0 2.0");
  EXPECT_EQ(rank.compute(), "") << "cell 2 waits for cell 3";
  rank.receive(0, MessageKind::kHalos, halos_message({}, 1, {{0, 1, "0.1"}}));
  EXPECT_EQ(rank.compute(), "") << "cell 1 waits for cell 2, which is behind";
  rank.receive(2, MessageKind::kHalos, halos_message({}, 0, {{3, 2, "3.0"}}));
  EXPECT_EQ(rank.compute(), "step 2 at 0 1.0 3.0");
  EXPECT_EQ(rank.compute(), "step 1 at 1 0.1 2.1");
}

TEST_F(WorkerCells, RefuseHalosThatMakeNoSense) {
  begin();
  const auto refuses = [&](std::uint32_t from, const Buffer& message) {
    const std::uint64_t before = rank.refused();
    rank.receive(from, MessageKind::kHalos, message);
    return rank.refused() == before + 1;
  };
  EXPECT_TRUE(refuses(0, halos_message({}, 2, {{0, 1, "0.2"}}))) << "two steps ahead";
  EXPECT_TRUE(refuses(0, halos_message({}, 0, {{3, 2, "3.0"}}))) << "of another rank's cell";
  EXPECT_TRUE(refuses(0, halos_message({}, 0, {{0, 2, "0.0"}}))) << "of no neighbour";
  EXPECT_TRUE(refuses(0, halos_message({}, 0, {{1, 0, "1.0"}}))) << "for another rank's cell";
  EXPECT_FALSE(refuses(0, halos_message({}, 0, {{0, 1, "0.0"}})));
  EXPECT_TRUE(refuses(0, halos_message({}, 0, {{0, 1, "0.0"}}))) << "the same again";
}

TEST_F(WorkerCells, HoldHalosOfARoundThatHasYetToBeginHere) {
  rank.receive(0, MessageKind::kHalos, halos_message({}, 0, {{0, 1, "0.0"}}));
  begin();
  EXPECT_EQ(rank.compute(), "step 1 at 0 0.0 2.0");
  rank.receive(0, MessageKind::kHalos, halos_message({0, 2}, 0, {{0, 1, "again"}}));
  rank.receive(0, MessageKind::kCells, cells_message({0, 2}, 0, 0, {0, 1, 1, 2}));
  EXPECT_EQ(rank.compute(), "begin 1 at 0");
  EXPECT_EQ(rank.compute(), "begin 2 at 0");
  EXPECT_EQ(rank.compute(), "step 1 at 0 again 2.0");
  EXPECT_EQ(rank.refused(), 0u);
}

TEST_F(WorkerCells, WaitForTotalsThatTheyWant) {
  begin(true);
  EXPECT_THAT(rank.said(), testing::Contains("0 partials 0: 1=1 2=2"));
  halos(0);
  EXPECT_EQ(rank.compute(), "");
  rank.receive(0, MessageKind::kTotals, totals_message({}, 0, "sum"));
  EXPECT_EQ(rank.compute(true), "step 1 at 0 0.0 2.0 totals sum");
  EXPECT_EQ(rank.compute(true), "step 2 at 0 1.0 3.0 totals sum");
  halos(1);
  EXPECT_EQ(rank.compute(), "") << "those are of the step before";
}

TEST_F(WorkerCells, AreWrittenDownAtTheStepThatIsNamedAndGoToThePartner) {
  begin();
  rank.receive(0, MessageKind::kSnapshotAt, step_message({}, 1, kNoStep));
  halos(0);
  EXPECT_EQ(rank.compute(), "step 1 at 0 0.0 2.0");
  halos(1);
  EXPECT_EQ(rank.compute(), "save 1 at 1") << "before it goes on";
  EXPECT_EQ(rank.compute(), "step 2 at 0 1.0 3.0");
  rank.said();
  EXPECT_EQ(rank.compute(), "save 2 at 1");
  EXPECT_THAT(rank.said(), ElementsAre("2 copy of 2 at 1"));
  const auto kept = [&](std::uint32_t cell) {
    Buffer payload;
    Writer writer(payload);
    writer.put(std::uint16_t{0});
    writer.put(cell);
    writer.put(std::uint64_t{1});
    writer.put(CopyVerdict::kKept);
    rank.receive(2, MessageKind::kCellCopyKept, payload);
  };
  kept(1);
  EXPECT_THAT(rank.said(), IsEmpty());
  kept(2);
  EXPECT_THAT(rank.said(), ElementsAre("0 kept 1", "0 copies made: 2 26 bytes"));
}

TEST_F(WorkerCells, SayWhenTheyAreBeyondTheStepThatIsNamed) {
  begin();
  halos(0);
  EXPECT_EQ(rank.compute(), "step 1 at 0 0.0 2.0");
  rank.said();
  rank.receive(0, MessageKind::kSnapshotAt, step_message({}, 0, kNoStep));
  EXPECT_THAT(rank.said(), ElementsAre("0 missed 0"));
}

TEST_F(WorkerCells, GoToANewPartnerOnceAllHaveGoneOn) {
  begin();
  rank.receive(0, MessageKind::kSnapshotAt, step_message({}, 0, kNoStep));
  EXPECT_EQ(rank.compute(), "save 2 at 0");
  EXPECT_EQ(rank.compute(), "save 1 at 0");
  rank.enter_view({RankId{0}, RankId{1}});
  rank.said();
  rank.receive(0, MessageKind::kCells, cells_message({2, 1}, 1, 0, {0, 1, 1, 0}, {0, 1, 1, 0}));
  EXPECT_EQ(rank.compute(), "restore 1 at 0");
  EXPECT_EQ(rank.compute(), "restore 2 at 0");
  rank.receive(0, MessageKind::kHalos, halos_message({2, 1}, 0, {{0, 1, "0.0"}, {3, 2, "3.0"}}));
  EXPECT_EQ(rank.compute(), "step 1 at 0 0.0 2.0");
  EXPECT_THAT(rank.said(), Not(Contains(HasSubstr("copy of"))))
      << "the partner may still be restoring its own";
  EXPECT_EQ(rank.compute(), "step 2 at 0 1.0 3.0");
  EXPECT_THAT(rank.said(), IsSupersetOf({"0 copy of 1 at 0", "0 copy of 2 at 0"}));
}

// Of cell 3 at step 0.
Buffer copy_of_three() {
  Buffer content;
  Writer(content).put(std::uint64_t{0});
  content.append(LoneRank::text("three"));
  Buffer copy;
  Writer writer(copy);
  writer.put(std::uint16_t{0});
  writer.put(std::uint32_t{3});
  writer.put(std::uint64_t{0});
  writer.put(hash_of_copy(content.view()));
  writer.put_raw(content.view());
  return copy;
}

// Without copies, that is.
class WorkerCellsAlone : public WorkerCells {
 protected:
  static ScheduleOptions without_copies() {
    ScheduleOptions options;
    options.copies.every = CopyOptions::Every::kOff;
    return options;
  }
  WorkerCellsAlone() : WorkerCells(without_copies()) {}
  // Both are written down at step 0.
  void write_down() {
    rank.receive(0, MessageKind::kSnapshotAt, step_message({}, 0, kNoStep));
    EXPECT_EQ(rank.compute(), "save 2 at 0");
    EXPECT_EQ(rank.compute(), "save 1 at 0");
    rank.said();
  }
};

TEST_F(WorkerCellsAlone, GoBackToWhatIsKeptOrIsHadFromOthers) {
  begin();
  write_down();
  rank.enter_view({RankId{0}, RankId{1}});
  EXPECT_THAT(rank.said(), testing::Contains(HasSubstr("announce")));
  rank.receive(0, MessageKind::kCells, cells_message({2, 1}, 1, 0, {0, 1, 1, 1}, {0, 1, 1, 0}));
  EXPECT_THAT(rank.said(), ElementsAre("0 wants 3 at 0"));
  EXPECT_EQ(rank.compute(), "restore 1 at 0");
  EXPECT_EQ(rank.compute(), "restore 2 at 0");
  rank.receive(0, MessageKind::kCellCopy, copy_of_three());
  EXPECT_EQ(rank.compute(), "restore 3 at 0");
  EXPECT_THAT(rank.said(), ElementsAre("0 halos 0: 1>0=1.0", "0 restored 0", "0 kept 0"));
}

TEST_F(WorkerCellsAlone, AreNotSetToACopyThatHasChangedInMemory) {
  begin();
  write_down();
  rank.receive(2, MessageKind::kCellCopy, copy_of_three());
  EXPECT_THAT(rank.said(), ElementsAre("2 kept 3 at 0: 0"));
  rank.enter_view({RankId{0}, RankId{1}});
  rank.said();
  const auto go_back = [&](std::uint32_t attempt) {
    rank.receive(0, MessageKind::kCells,
                 cells_message({2, attempt}, 1, 0, {0, 1, 1, 1}, {0, 1, 1, 1}));
    EXPECT_EQ(rank.compute(), "restore 1 at 0");
    EXPECT_EQ(rank.compute(), "restore 2 at 0");
  };
  go_back(1);
  const auto order = rank.want();
  ASSERT_TRUE(order && order->shared);
  EXPECT_EQ(string_of(order->saved()), "three");
  auto& kept = const_cast<Buffer&>(*order->shared);
  kept.writable().back() ^= std::byte{1};
  WorkResult result;
  result.restart(*order);
  result.error = "the job sees that, too";
  rank.finish(result);
  rank.said();
  go_back(2);
  EXPECT_EQ(rank.compute(), "");
  EXPECT_THAT(rank.said(), testing::Contains("0 failed 0: its copy in memory is gone"));
}

TEST_F(WorkerCellsAlone, SayWhatCannotBeHad) {
  begin();
  rank.enter_view({RankId{0}, RankId{1}});
  rank.said();
  rank.receive(0, MessageKind::kCells, cells_message({2, 1}, 1, 7, {0, 1, 0, 0}, {0, 1, 0, 0}));
  EXPECT_THAT(rank.said(), ElementsAre("0 failed 7: its copy in memory is gone"));
  rank.receive(0, MessageKind::kCells, cells_message({2, 2}, 2, 0, {0, 1, 0, 0}, {}, 5));
  const auto requests = rank.disk();
  ASSERT_THAT(requests, SizeIs(1));
  EXPECT_EQ(requests[0].pieces[0].dataset, partition_dataset(StageId{0}, 1));
  rank.answer_disk(
      {.task = DiskTask::kLoadPieces, .checkpoint = CheckpointNumber{4}, .error = "damaged"});
  EXPECT_THAT(rank.said(), testing::IsEmpty()) << "of a round before";
  rank.answer_disk(
      {.task = DiskTask::kLoadPieces, .checkpoint = CheckpointNumber{5}, .error = "damaged"});
  EXPECT_THAT(rank.said(), ElementsAre("0 failed ?: the checkpoint does not have it"));
}

TEST_F(WorkerCellsAlone, TellTheEndOnceAllAreThere) {
  begin();
  halos(0);
  rank.said();
  EXPECT_EQ(rank.compute(false, true), "step 1 at 0 0.0 2.0");
  EXPECT_THAT(rank.said(), IsEmpty());
  EXPECT_EQ(rank.compute(false, true), "step 2 at 0 1.0 3.0");
  EXPECT_THAT(rank.said(), ElementsAre("0 ended 0"));
}

TEST_F(WorkerCellsAlone, LieInACheckpointAsTheyWereWhenAllHadThem) {
  begin();
  write_down();
  rank.receive(0, MessageKind::kSnapshotAt, step_message({}, kNoStep, 0));
  rank.receive(0, MessageKind::kSnapshot, snapshot_message(9, 0, {1, 2}));
  const auto requests = rank.disk();
  ASSERT_THAT(requests, SizeIs(1));
  ASSERT_THAT(requests[0].pieces, SizeIs(2));
  EXPECT_EQ(requests[0].pieces[0].dataset, partition_dataset(StageId{0}, 1));
  EXPECT_EQ(string_of(requests[0].pieces[0].view().subspan(8)), "state");
}

// ---- what the coordinator knows ----

TEST(CellBoard, KnowsTheStepsOfWhichThereIsEveryCell) {
  const auto offer = [](std::uint32_t cell, std::uint64_t step) {
    return CopyOffer{{StageId{0}, cell}, step};
  };
  const std::vector<CopyOffer> of_one{offer(0, 4), offer(1, 4), offer(0, 8)};
  const std::vector<CopyOffer> of_two{offer(1, 4), offer(1, 8), offer(1, 12)};
  const std::vector<RankId> owners{RankId{1}, RankId{2}};
  const std::vector<std::pair<RankId, const std::vector<CopyOffer>*>> offers{{RankId{1}, &of_one},
                                                                             {RankId{2}, &of_two}};
  const auto steps = complete_steps(StageId{0}, 2, owners, offers);
  ASSERT_THAT(steps, SizeIs(2));
  EXPECT_EQ(steps[0].step, 4u);
  EXPECT_EQ(steps[1].step, 8u);
  EXPECT_THAT(steps[0].holders, ElementsAre(RankId{1}, RankId{2})) << "its owner has it, too";
  EXPECT_THAT(complete_steps(StageId{1}, 2, owners, offers), IsEmpty());
}

TEST(CellBoard, NamesAStepAheadOfAllFurtherAndFurtherUntilAllAreInTime) {
  CellBoard board;
  const std::vector<RankId> owners{RankId{1}, RankId{2}};
  board.reset(0);
  board.begin({}, owners);
  EXPECT_FALSE(board.may_name());
  EXPECT_TRUE(board.restored(RankId{1}, 0));
  EXPECT_TRUE(board.restored(RankId{2}, 0));
  board.at_steps(RankId{1}, 4, 5);
  ASSERT_TRUE(board.may_name());
  EXPECT_EQ(board.name(), 5 + CellBoard::kMarginMin);
  EXPECT_FALSE(board.may_name());
  EXPECT_FALSE(board.missed(6, 20)) << "another one";
  EXPECT_TRUE(board.missed(7, 20));
  EXPECT_EQ(board.name(), 20 + 2 * CellBoard::kMarginMin);
  EXPECT_FALSE(board.kept(RankId{1}, 24, 1));
  EXPECT_EQ(board.confirmed(), kNoStep);
  EXPECT_TRUE(board.kept(RankId{2}, 24, 1));
  EXPECT_EQ(board.confirmed(), 24u);
  EXPECT_TRUE(board.may_name());
  for (const std::uint64_t margin : {4u, 2u, 2u}) {  // in time, so less far ahead
    const std::uint64_t step = board.name();
    EXPECT_EQ(step, board.confirmed() + margin);
    board.kept(RankId{1}, step, 1);
    EXPECT_TRUE(board.kept(RankId{2}, step, 1));
  }
}

TEST(CellBoard, CellsThatCannotBeWrittenDownAreNoReasonToNameAStepFurtherAhead) {
  CellBoard board;
  const std::vector<RankId> owners{RankId{1}};
  board.reset(0);
  board.begin({}, owners);
  EXPECT_TRUE(board.restored(RankId{1}, 0));
  EXPECT_FALSE(board.save_failed(kNoStep)) << "none is named";
  EXPECT_EQ(board.name(), 2u);
  EXPECT_FALSE(board.save_failed(1));
  EXPECT_TRUE(board.save_failed(2));
  EXPECT_EQ(board.name(), 2u);
}

TEST(CellBoard, TheCostIsThatOfTheLatestStep) {
  CellBoard board;
  const std::vector<RankId> owners{RankId{1}};
  board.reset(0);
  board.begin({}, owners);
  EXPECT_TRUE(board.restored(RankId{1}, 0));
  EXPECT_TRUE(board.kept(RankId{1}, board.name(), 70));
  EXPECT_EQ(board.cost(), 70);
  EXPECT_TRUE(board.kept(RankId{1}, board.name(), 3));
  EXPECT_EQ(board.cost(), 3);
}

TEST(CellBoard, NamesNoneUntilWhatCellsWereSetToIsWithAll) {
  CellBoard board;
  const std::vector<RankId> owners{RankId{1}, RankId{2}};
  board.reset(3);
  board.begin({CellStart::kMemory, 8, owners}, owners);
  EXPECT_TRUE(board.restored(RankId{1}, 8));
  EXPECT_FALSE(board.restored(RankId{2}, 9)) << "at another step";
  EXPECT_TRUE(board.restored(RankId{2}, 8));
  EXPECT_FALSE(board.may_name());
  board.kept(RankId{1}, 8, 1);
  EXPECT_TRUE(board.kept(RankId{2}, 8, 1));
  EXPECT_TRUE(board.may_name());
}

// ---- the coordinator ----

class JoiningSink : public RecordingSink {
 public:
  void add_to_totals(StageId, Buffer& into, std::span<const std::byte> next) override {
    into.append(next);
  }
};

TEST(CellBoard, AddsInTheOrderOfCells) {
  CellBoard board;
  JoiningSink sink;
  const std::vector<RankId> owners{RankId{1}, RankId{2}, RankId{1}};
  board.reset(0);
  board.begin({}, owners);
  const auto add = [&](std::uint32_t rank,
                       const std::vector<std::pair<std::uint32_t, std::string>>& partials) {
    Buffer entries;
    Writer writer(entries);
    for (const auto& [cell, bytes] : partials) {
      writer.put(cell);
      writer.put_string(bytes);
    }
    return board.add_partials(sink, StageId{0}, RankId{rank}, 5, owners, Reader(entries.view()));
  };
  EXPECT_FALSE(add(1, {{0, "a"}})) << "one is missing";
  EXPECT_FALSE(add(1, {{0, "a"}, {1, "b"}})) << "one is another rank's";
  EXPECT_TRUE(add(1, {{2, "c"}, {0, "a"}}));
  EXPECT_FALSE(add(1, {{2, "c"}, {0, "a"}})) << "again";
  EXPECT_FALSE(board.take_totals());
  EXPECT_TRUE(add(2, {{1, "b"}}));
  const auto totals = board.take_totals();
  ASSERT_TRUE(totals);
  EXPECT_EQ(string_of(totals->view()), "abc");
}

// Rank 0 of two coordinates alone; rank 1 has all cells.
class CoordinatorCells : public testing::Test {
 protected:
  static ScheduleOptions leading() {
    ScheduleOptions options = copying();
    options.coordinator_computes = false;
    options.attempts_max = 2;
    return options;
  }
  CoordinatorCells() : rank(0, 2, leading()) {
    rank.said();
    rank.receive(1, MessageKind::kReady, ready_message(kStages));
  }
  void hear(CellNews news, std::uint64_t step, std::uint64_t a = 0, std::string_view text = "",
            RoundAt round = {}) {
    rank.receive(1, MessageKind::kCellNews, news_message(round, news, step, a, 0, text));
  }
  CellRank rank;
};

TEST_F(CoordinatorCells, BeginAtTheBeginningAndAreReducedWhereTheyEnd) {
  EXPECT_THAT(rank.said(), ElementsAre("1 cells 0.1 begin"));
  hear(CellNews::kRestored, 0);
  EXPECT_THAT(rank.said(), IsEmpty());
  hear(CellNews::kEnded, 9);
  EXPECT_THAT(rank.said(), testing::Contains(HasSubstr("lease 1")));
}

TEST_F(CoordinatorCells, AreWrittenDownWhenItIsDue) {
  hear(CellNews::kRestored, 0);
  rank.tick_at(kMillisecond);
  rank.said();
  hear(CellNews::kSteps, 10, 11);
  rank.tick_at(2 * kSecond);
  EXPECT_THAT(rank.said(), ElementsAre("1 write down at 13, all have none"));
  hear(CellNews::kMissed, 13, 15);
  EXPECT_THAT(rank.said(), ElementsAre("1 write down at 19, all have none"));
  hear(CellNews::kKept, 19);
  EXPECT_THAT(rank.said(), ElementsAre("1 write down at none, all have 19"));
}

TEST_F(CoordinatorCells, AreTriedAgainLaterWhenTheyCannotBeWrittenDown) {
  hear(CellNews::kRestored, 0);
  rank.tick_at(kMillisecond);
  hear(CellNews::kSteps, 10, 11);
  rank.tick_at(2 * kSecond);
  rank.said();
  hear(CellNews::kMissed, 13, 13, "no memory");
  EXPECT_THAT(rank.said(), IsEmpty());
  rank.tick_at(2 * kSecond + kMillisecond);
  EXPECT_THAT(rank.said(), IsEmpty());
  rank.tick_at(9 * kSecond);
  EXPECT_THAT(rank.said(), ElementsAre("1 write down at 13, all have none"));
}

TEST_F(CoordinatorCells, GoBackWhenOneFailsAndTheRunEndsWhenItFailsAgain) {
  hear(CellNews::kRestored, 0);
  rank.said();
  hear(CellNews::kFailed, 4, 2, "threw");
  EXPECT_THAT(rank.said(), ElementsAre("1 cells 0.2 begin"));
  hear(CellNews::kFailed, 4, 2, "threw");
  EXPECT_THAT(rank.said(), IsEmpty()) << "that was said before";
  hear(CellNews::kRestored, 0, 0, "", {0, 2});
  hear(CellNews::kFailed, 4, 2, "threw", {0, 2});
  EXPECT_THAT(rank.said(),
              testing::Contains(HasSubstr("cell 2 of stage 0 failed at step 4: threw")));
}

// ---- copies ----

TEST(CellCopies, KeepSeveralStepsAndDropThoseBeforeOne) {
  CellCopies copies;
  copies.begin(RankId{1}, 10);
  const auto bytes = [](std::size_t size) {
    auto buffer = std::make_shared<Buffer>();
    buffer->resize(size);
    return buffer;
  };
  const StageId stage{0};
  EXPECT_TRUE(copies.keep({stage, 3, 4}, {bytes(6), 1, RankId{0}}));
  EXPECT_FALSE(copies.keep({stage, 3, 8}, {bytes(5), 1, RankId{0}})) << "no room";
  EXPECT_TRUE(copies.keep({stage, 4, 8}, {bytes(50), 0, RankId{1}})) << "its own have no bound";
  EXPECT_TRUE(copies.keep({stage, 3, 4}, {bytes(6), 0, RankId{1}})) << "now its own";
  EXPECT_EQ(copies.bytes_for_others(), 0u);
  EXPECT_THAT(copies.offers(), ElementsAre(CopyOffer{{stage, 3}, 4}, CopyOffer{{stage, 4}, 8}));
  copies.drop_steps_before(stage, 8);
  EXPECT_EQ(copies.find({stage, 3, 4}), nullptr);
  EXPECT_NE(copies.find({stage, 4, 8}), nullptr);
  EXPECT_NE(copies.spares().take()->capacity(), 0u) << "memory is used again";
}

}  // namespace
}  // namespace regroup
