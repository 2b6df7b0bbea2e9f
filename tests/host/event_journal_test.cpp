#include "runtime/host/event_journal.hpp"

#include <fstream>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/host/event_reader.hpp"
#include "runtime/host/run_directory.hpp"
#include "runtime/protocol/clocks.hpp"
#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

using test::FailingFileSystem;
using test::ScratchDirectory;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

constexpr std::chrono::seconds kLong{60};
constexpr std::int64_t kUtc = 1'000'000'000'000;

SegmentHead head_of(std::uint32_t rank, std::uint64_t launch = 7) {
  return {.launch = launch,
          .rank = RankId{rank},
          .ranks = 3,
          .level = EventLevel::kMessages,
          .utc = kUtc,
          .monotonic = 500};
}

Event event_at(std::uint64_t lamport, EventKind kind = EventKind::kCommit) {
  return {.kind = kind, .lamport = lamport, .a = lamport};
}

class EventsOnDisk : public testing::Test {
 protected:
  // As a run begins: readers want a status.
  EventsOnDisk() {
    test::write_file(run() / kStatusFileName, R"({"job": "sleeper", "state": "running"})");
  }

  std::filesystem::path run() const { return scratch_.path(); }
  std::filesystem::path segment(const SegmentHead& head) const {
    return run() / kEventsDirectory / segment_name(head);
  }
  void write(const SegmentHead& head, const std::vector<Event>& events) {
    EventJournal journal(run(), head, {}, {});
    for (const Event& event : events) journal.add(std::span(&event, 1), 500 + event.lamport);
  }
  std::vector<JournalEvent> read() {
    auto reader = EventReader::open(run());
    EXPECT_TRUE(reader) << reader.error().message;
    std::vector<JournalEvent> events;
    while (auto event = reader->next()) events.push_back(std::move(*event));
    cut_short = reader->cut_short();
    return events;
  }
  std::vector<std::uint64_t> stamps() {
    std::vector<std::uint64_t> stamps;
    for (const JournalEvent& event : read()) stamps.push_back(event.event.lamport);
    return stamps;
  }

  std::size_t cut_short = 0;

 private:
  ScratchDirectory scratch_;
};

TEST_F(EventsOnDisk, ComeBackAsTheyWere) {
  const Event event{.kind = EventKind::kQuarantine,
                    .rank = RankId{2},
                    .peer = RankId{1},
                    .lamport = kStampMax,
                    .stage = StageId{9},
                    .a = ~std::uint64_t{0},
                    .b = 3,
                    .epoch = Epoch{4},
                    .took = 123'456'789,
                    .vector = {0, kStampMax, 300}};
  write(head_of(2), {});
  {
    EventJournal journal(run(), head_of(2), {}, {});
    journal.add(std::span(&event, 1), 1500);
  }
  const auto events = read();
  ASSERT_THAT(events, SizeIs(1));
  const Event& got = events[0].event;
  EXPECT_EQ(got.kind, event.kind);
  EXPECT_EQ(got.rank, event.rank);
  EXPECT_EQ(got.peer, event.peer);
  EXPECT_EQ(got.lamport, event.lamport);
  EXPECT_EQ(got.stage, event.stage);
  EXPECT_EQ(got.a, event.a);
  EXPECT_EQ(got.b, event.b);
  EXPECT_EQ(got.epoch, event.epoch);
  EXPECT_EQ(got.took, event.took);
  EXPECT_EQ(got.vector, event.vector);
  EXPECT_EQ(events[0].launch, 7u);
  EXPECT_EQ(events[0].utc, kUtc + 1000);
  EXPECT_EQ(cut_short, 0u);
}

TEST_F(EventsOnDisk, AreInTheOrderOfLaunchesThenStampsThenRanks) {
  write(head_of(1, 8), {event_at(1)});
  write(head_of(2), {event_at(2), event_at(5), event_at(5, EventKind::kLease)});
  write(head_of(0), {event_at(1), event_at(5), event_at(9)});
  std::vector<std::tuple<std::uint64_t, std::uint64_t, std::uint32_t>> order;
  for (const JournalEvent& event : read()) {
    order.emplace_back(event.launch, event.event.lamport, event.event.rank.value);
  }
  EXPECT_THAT(order, ElementsAre(std::tuple(7, 1, 0), std::tuple(7, 2, 2), std::tuple(7, 5, 0),
                                 std::tuple(7, 5, 2), std::tuple(7, 5, 2), std::tuple(7, 9, 0),
                                 std::tuple(8, 1, 1)));
}

TEST_F(EventsOnDisk, CanBeReadWhileTheyAreWritten) {
  EventJournal journal(run(), head_of(0), {}, {});
  for (std::uint64_t stamp = 1; stamp <= 3; ++stamp) {
    const Event event = event_at(stamp);
    journal.add(std::span(&event, 1), 500);
    EXPECT_TRUE(journal.flush(kLong));
    EXPECT_THAT(read(), SizeIs(stamp));
  }
  EXPECT_EQ(cut_short, 0u);
}

// A rank may die at any byte of what it writes.
TEST_F(EventsOnDisk, AreThereUpToWhereASegmentIsCut) {
  {
    EventJournal journal(run(), head_of(0), {}, {});
    for (std::uint64_t stamp = 1; stamp <= 4; ++stamp) {
      const Event event = event_at(stamp);
      journal.add(std::span(&event, 1), 500);
      EXPECT_TRUE(journal.flush(kLong));
    }
  }
  write(head_of(1), {event_at(10)});
  const std::string whole = test::contents_of(segment(head_of(0)));
  std::size_t most = 0;
  for (std::size_t bytes = 0; bytes <= whole.size(); ++bytes) {
    test::write_file(segment(head_of(0)), whole.substr(0, bytes));
    const auto found = stamps();
    ASSERT_FALSE(found.empty());
    EXPECT_EQ(found.back(), 10u) << "that of the other rank";
    for (std::size_t i = 0; i + 1 < found.size(); ++i) EXPECT_EQ(found[i], i + 1);
    EXPECT_GE(found.size(), most);
    most = found.size();
  }
  EXPECT_EQ(most, 5u);
}

TEST_F(EventsOnDisk, ThatChangedAreNotReadNorWhatFollows) {
  {
    EventJournal journal(run(), head_of(0), {}, {});
    for (std::uint64_t stamp = 1; stamp <= 3; ++stamp) {
      const Event event = event_at(stamp);
      journal.add(std::span(&event, 1), 500);
      EXPECT_TRUE(journal.flush(kLong));
    }
  }
  const std::string whole = test::contents_of(segment(head_of(0)));
  for (std::size_t at = kSegmentHeadBytes; at < whole.size(); ++at) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 0x10);
    test::write_file(segment(head_of(0)), changed);
    EXPECT_LT(stamps().size(), 3u);
    EXPECT_EQ(cut_short, 1u);
  }
}

TEST_F(EventsOnDisk, AreKeptInFullBlocks) {
  std::vector<Event> events(100'000);
  for (std::size_t i = 0; i < events.size(); ++i) events[i] = event_at(i + 1);
  {
    EventJournal journal(run(), head_of(0), {}, {});
    journal.add(events, 500);
  }
  EXPECT_THAT(read(), SizeIs(events.size()));
}

TEST_F(EventsOnDisk, BeyondWhatMayWaitAreDroppedAndCounted) {
  std::vector<Event> events(2'000'000);
  for (std::size_t i = 0; i < events.size(); ++i) events[i] = event_at(i + 1);
  std::uint64_t dropped = 0;
  {
    EventJournal journal(run(), head_of(0), {}, {});
    journal.add(events, 500);  // more than fits, and nobody can write while it is added
    dropped = journal.dropped();
  }
  EXPECT_GT(dropped, 0u);
  EXPECT_THAT(read(), SizeIs(events.size() - dropped));
}

TEST_F(EventsOnDisk, ADiskThatFailsIsToldOnceAndHoldsUpNobody) {
  FailingFileSystem files;
  files.write_bytes_max = 7;
  std::vector<std::string> said;
  EventJournal journal(
      run(), head_of(0), {}, [&](const std::string& line) { said.push_back(line); }, files);
  const Event event = event_at(1);
  journal.add(std::span(&event, 1), 500);
  EXPECT_TRUE(journal.flush(kLong));
  EXPECT_THAT(read(), SizeIs(1)) << "in short writes";
  files.fail_write = ENOSPC;
  for (int round = 0; round < 3; ++round) {
    journal.add(std::span(&event, 1), 500);
    EXPECT_TRUE(journal.flush(kLong));
  }
  EXPECT_THAT(said, ElementsAre(AllOf(HasSubstr("events are not recorded any more"),
                                      HasSubstr("No space left"))));
  EXPECT_THAT(read(), SizeIs(1));
  EXPECT_GE(journal.dropped(), 2u);
}

TEST_F(EventsOnDisk, ADirectoryThatCannotBeMadeIsTold) {
  std::vector<std::string> said;
  {
    EventJournal journal(run() / "missing", head_of(0), {},
                         [&](const std::string& line) { said.push_back(line); });
    const Event event = event_at(1);
    journal.add(std::span(&event, 1), 500);
    EXPECT_TRUE(journal.flush(kLong));
  }
  EXPECT_THAT(said, ElementsAre(HasSubstr("cannot create")));
}

TEST_F(EventsOnDisk, ThatAreNotThereAreBadInput) {
  const auto none = EventReader::open(run());
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().kind, RunReadError::Kind::kBadInput);
  EXPECT_THAT(none.error().message, HasSubstr("no events were recorded"));
  std::filesystem::create_directory(run() / kEventsDirectory);
  test::write_file(segment(head_of(0)), std::string(100, 'x'));
  const auto other = EventReader::open(run());
  ASSERT_FALSE(other);
  EXPECT_THAT(other.error().message, HasSubstr("is not a segment of events"));
  EXPECT_FALSE(EventReader::open(run() / "missing"));
}

}  // namespace
}  // namespace regroup
