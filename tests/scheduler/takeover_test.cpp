// The coordinator is lost, and another rank goes on in its place: what goes into the ledger, what
// is safe when, who takes over with what, and what the other ranks do meanwhile. Real ranks from
// frame to decision; the peers are the test.
#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/protocol/damaged_bytes.hpp"
#include "tests/scheduler/lone_rank.hpp"

namespace regroup {
namespace {

using namespace testing_roles;  // NOLINT: the vocabulary of these tests
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

using Lines = std::vector<std::string>;
using Stages = std::vector<StagePlan>;

constexpr RankId kZero{0};
constexpr RankId kOne{1};
constexpr RankId kTwo{2};
constexpr RankId kThree{3};

// Coordinators compute nothing, so that every lease shows on the wire.
ScheduleOptions only_others(Policy policy = Policy::kDynamic) {
  ScheduleOptions options;
  options.policy = policy;
  options.coordinator_computes = false;
  return options;
}

// Whoever coordinates, and peers that say what the test has them say.
class Led : public LoneRank {
 public:
  using LoneRank::LoneRank;

  // `rank` says that it is ready and what it computes, as when it is asked to open the job.
  void welcome(std::uint32_t rank, const Stages& stages, const LeaseEntry& running = {{0, 0}, 0},
               std::uint16_t stage = 0) {
    receive(rank, MessageKind::kReady, ready_message(stages));
    receive(rank, MessageKind::kAnnounce, announce_message(stage, running));
  }
  void results(std::uint32_t rank, const std::vector<ResultEntry>& entries, std::uint64_t report,
               std::uint16_t stage = 0, std::uint32_t round = 0) {
    receive(rank, MessageKind::kResults,
            results_message(stage, kMillisecond, entries, round, report));
  }
  void failure(std::uint32_t rank, const FailureEntry& failure, std::uint16_t stage = 0) {
    receive(rank, MessageKind::kFailures, failures_message(stage, {failure}));
  }
  void held(std::uint32_t rank, LedgerPosition position) {
    receive(rank, MessageKind::kLedgerHeld, ledger_held_message(position));
  }
  // The time for the next entry has come: the messages that this brings.
  std::vector<Message> next_entry() {
    messages();
    tick_after(100 * kMillisecond);
    return messages();
  }
};

// The coordinator of the start, with the job open on all ranks.
class First : public Led {
 public:
  First(std::uint32_t ranks, const Stages& stages, const ScheduleOptions& options = only_others(),
        std::uint32_t standbys = 2)
      : Led(0, ranks, options, standbys) {
    open(stages);
    for (std::uint32_t rank = 1; rank < ranks; ++rank) {
      receive(rank, MessageKind::kReady, ready_message(stages));
    }
    sent();
  }
};

// A rank that is a standby at first, with the job open.
class Heir : public Led {
 public:
  Heir(std::uint32_t self, std::uint32_t ranks, const Stages& stages,
       const ScheduleOptions& options = only_others(), std::uint32_t standbys = 2)
      : Led(self, ranks, options, standbys) {
    open(stages);
    sent();
  }
  void take(const Buffer& entry) { receive(0, MessageKind::kLedger, entry); }
};

// A state made by hand: one bag stage, the shards in runs; the sink has the values of those done.
Buffer saved_state(const std::vector<std::pair<SavedShards, std::uint64_t>>& runs,
                   const SavedHead& head = {}) {
  Buffer bytes;
  Writer writer(bytes);
  put_saved_head(writer, head);
  put_saved_table(writer, runs);
  writer.put(std::uint32_t{0});  // tables of stages that run again
  writer.put(std::uint32_t{0});  // owners of partitions
  put_saved_registry(writer);
  RecordingSink sink;
  std::uint64_t shard = 0;
  for (const auto& [state, count] : runs) {
    for (const std::uint64_t end = shard + count; shard < end; ++shard) {
      if (state == SavedShards::kQuarantined) sink.skipped[{head.stage, shard}] = "threw";
      if (state != SavedShards::kDone) continue;
      Buffer value;
      Writer(value).put(value_of(shard));
      sink.values[{head.stage, shard}].assign(value.data(), value.data() + value.size());
    }
  }
  sink.save_state(writer);
  return bytes;
}

// Of all leases to a rank: each shard with the attempt it is leased at.
std::map<std::uint64_t, std::uint32_t> attempts_leased(
    const std::vector<LoneRank::Message>& messages) {
  std::map<std::uint64_t, std::uint32_t> attempts;
  for (const auto& message : messages) {
    if (message.kind != MessageKind::kLease) continue;
    Reader reader(message.payload.view().subspan(kLeaseHeadBytes));
    for (auto count = reader.get<std::uint32_t>(); count-- > 0;) {
      const ShardRange range = reader.get_range();
      const auto attempt = reader.get<std::uint32_t>();
      for (ShardId shard = range.first; shard < range.end(); ++shard.value) {
        EXPECT_TRUE(attempts.emplace(shard.value, attempt).second) << "leased twice";
      }
    }
  }
  return attempts;
}

Lines lines_of(const std::vector<LoneRank::Message>& messages) {
  Lines lines;
  for (const auto& message : messages) {
    lines.push_back(std::to_string(message.to) + ' ' + show(message.kind, message.payload.view()));
  }
  return lines;
}

// ---- entries ----

TEST(LedgerEntries, GoToTheFirstMembersAfterTheCoordinator) {
  First run(5, {bag(100)});
  EXPECT_THAT(lines_of(run.next_entry()), ElementsAre("1 ledger 1 state", "2 ledger 1 state"));
  run.results(3, {{{0, 1}}}, 1);
  EXPECT_THAT(lines_of(run.next_entry()), ElementsAre("1 ledger 2 records", "2 ledger 2 records"));
  EXPECT_THAT(lines_of(run.next_entry()), IsEmpty()) << "nothing was decided";

  run.enter_view({kZero, kTwo, kThree, RankId{4}}, {}, kZero, 2);
  EXPECT_THAT(lines_of(run.next_entry()), ElementsAre("2 ledger 3 state", "3 ledger 3 state"))
      << "a view begins with the state, whatever was sent before";
}

TEST(LedgerEntries, AreAsManyAsThereAreStandbys) {
  for (std::uint32_t standbys = 0; standbys <= 5; ++standbys) {
    First run(4, {bag(100)}, only_others(), standbys);
    EXPECT_EQ(run.next_entry().size(), std::min(standbys, 3u));
  }
}

TEST(LedgerEntries, NoneBeforeTheJobIsOpen) {
  Led coordinator(0, 3, only_others(), 2);
  EXPECT_THAT(lines_of(coordinator.next_entry()), IsEmpty()) << "there is nothing to go on with";
}

// The layout of docs/coordinator-state.md, byte for byte.
TEST(LedgerEntries, AStateIsLaidOutAsItIsWritten) {
  First run(2, {bag(10)}, only_others(Policy::kStatic));
  run.results(1, {{{0, 4}}}, 1);
  run.results(1, {{{0, 3}}}, 2);

  const auto entries = run.next_entry();

  ASSERT_EQ(entries.size(), 1u);
  const Buffer state =
      saved_state({{SavedShards::kDone, 4}, {SavedShards::kLeased, 6}}, {.duplicates = 3});
  const Buffer expected = ledger_message(1, EntryForm::kState, state.view());
  EXPECT_THAT(entries[0].payload.view(), testing::ElementsAreArray(expected.view()));
}

TEST(LedgerEntries, RecordsAreLaidOutAsTheyAreWritten) {
  ScheduleOptions options = only_others(Policy::kStatic);
  options.attempts_max = 1;
  First charges(2, {bag(10)}, only_others(Policy::kStatic));
  First gives_up(2, {bag(10)}, options);
  charges.next_entry();
  gives_up.next_entry();
  Buffer expected;
  Writer writer(expected);

  charges.results(1, {{{7, 2}}}, 1);
  charges.results(1, {{{8, 2}}}, 2);
  charges.failure(1, {4, 1});
  put_commit_record(writer, 0, {7, 2});
  put_commit_record(writer, 0, {9, 1});
  put_charge_record(writer, 0, 4);
  const auto entries = charges.next_entry();
  ASSERT_EQ(entries[0].kind, MessageKind::kLedger);
  EXPECT_THAT(
      entries[0].payload.view(),
      testing::ElementsAreArray(ledger_message(2, EntryForm::kRecords, expected.view()).view()));

  gives_up.failure(1, {4, 1, "division by zero"});
  expected.clear();
  put_quarantine_record(writer, 0, 4, 1, 1, "division by zero");
  EXPECT_THAT(
      gives_up.next_entry()[0].payload.view(),
      testing::ElementsAreArray(ledger_message(2, EntryForm::kRecords, expected.view()).view()));
}

TEST(LedgerEntries, AStandbySaysWhatItHolds) {
  Heir standby(1, 3, {bag(10)});
  standby.take(
      ledger_message(4, EntryForm::kState, saved_state({{SavedShards::kPending, 10}}).view()));
  EXPECT_THAT(standby.sent(), ElementsAre("0 held 4"));
  Buffer record;
  Writer writer(record);
  put_commit_record(writer, 0, {0, 1});
  standby.take(ledger_message(5, EntryForm::kRecords, record.view()));
  EXPECT_THAT(standby.sent(), ElementsAre("0 held 5"));
  EXPECT_TRUE(standby.sink.values.empty()) << "it only keeps them";
  EXPECT_FALSE(standby.coordinates());
}

// ---- what is safe ----

constexpr std::uint64_t kMany = Coordinator::kReportsUntoldMax;

// What the latest lease to the rank says of its reports.
std::optional<std::uint64_t> acknowledged(const std::vector<LoneRank::Message>& messages) {
  std::optional<std::uint64_t> latest;
  for (const auto& message : messages) {
    Reader reader(message.payload.view());
    if (message.kind == MessageKind::kAcknowledge) latest = reader.get<std::uint64_t>();
    if (message.kind != MessageKind::kLease) continue;
    reader.get_raw(2 + 1 + 4);
    latest = reader.get<std::uint64_t>();
  }
  return latest;
}

// I7: what was acknowledged survives the coordinator and a minority of its standbys.
TEST(LedgerSafety, ReportsAreAcknowledgedWhenAMajorityOfTheReplicasHasThem) {
  for (std::uint32_t standbys = 0; standbys <= 4; ++standbys) {
    SCOPED_TRACE(standbys);
    First run(6, {bag(1000)}, only_others(Policy::kStatic), standbys);
    run.next_entry();
    for (std::uint32_t rank = 1; rank <= standbys; ++rank) run.held(rank, 1);
    run.messages();
    for (std::uint64_t i = 1; i <= kMany; ++i) run.results(5, {{{i, 1}}}, i);
    if (standbys == 0) {
      EXPECT_EQ(acknowledged(run.messages()), kMany);
      continue;
    }
    EXPECT_EQ(acknowledged(run.messages()), std::nullopt) << "nobody else knows of them";
    EXPECT_EQ(acknowledged(run.next_entry()), std::nullopt) << "it is on its way";
    const std::uint32_t needed = (standbys + 1) / 2;
    for (std::uint32_t rank = standbys; rank > standbys - needed; --rank) {
      EXPECT_EQ(acknowledged(run.messages()), std::nullopt);
      run.held(rank, 2);
    }
    EXPECT_THAT(run.sent(), ElementsAre("5 acknowledge " + std::to_string(kMany)));
    EXPECT_EQ(run.refused(), 0u);
  }
}

TEST(LedgerSafety, LeasesAcknowledgeOnlyWhatIsSafe) {
  ScheduleOptions options = only_others();
  options.batch = 1;
  options.prefetch = 1;
  First run(3, {bag(1000)}, options, 1);
  run.next_entry();
  run.held(1, 1);
  run.messages();
  run.results(2, {{{2, 1}}}, 1);
  EXPECT_EQ(acknowledged(run.messages()), 0u);
  run.next_entry();
  run.results(2, {{{3, 1}}}, 2);
  EXPECT_EQ(acknowledged(run.messages()), 0u);
  run.held(1, 2);
  run.results(2, {{{4, 1}}}, 3);
  EXPECT_EQ(acknowledged(run.messages()), 1u) << "the two after it are in no entry that is held";
}

TEST(LedgerSafety, WhatAStandbyOfAnEarlierViewHeldCountsForNothing) {
  First run(4, {bag(1000)}, only_others(Policy::kStatic), 1);
  run.next_entry();
  run.held(1, 1);
  for (std::uint64_t i = 1; i <= kMany; ++i) run.results(3, {{{i, 1}}}, i);
  run.next_entry();
  run.enter_view({kZero, kTwo, kThree}, {}, kZero, 2);
  run.messages();
  EXPECT_THAT(lines_of(run.next_entry()), ElementsAre("2 ledger 3 state"));
  EXPECT_EQ(run.refused(), 0u);
  run.held(2, 2);
  EXPECT_THAT(run.sent(), IsEmpty()) << "not the entry of this view";
  run.held(2, 3);
  EXPECT_THAT(run.sent(), Contains("3 acknowledge " + std::to_string(kMany)));
}

TEST(LedgerSafety, WithTheLastStandbyGoneWhatTheCoordinatorHasIsSafe) {
  First run(2, {bag(1000)}, only_others(Policy::kStatic), 2);
  for (std::uint64_t i = 1; i <= kMany; ++i) run.results(1, {{{i, 1}}}, i);
  run.next_entry();
  run.enter_view({kZero});
  const auto order = run.want();
  ASSERT_TRUE(order && order->kind == WorkKind::kRun) << "alone it computes itself";
}

TEST(LedgerSafety, AResultIsAnnouncedWhenAMajorityKnowsThatAllIsDone) {
  First run(3, {bag(2)}, only_others(Policy::kStatic), 1);
  run.next_entry();
  run.held(1, 1);
  run.results(1, {{{0, 2}}}, 1);
  run.finalize();
  EXPECT_THAT(run.sent(), ElementsAre("1 ledger 2 state")) << "at once, and nothing else";
  run.tick_after(kSecond);
  EXPECT_THAT(run.sent(), IsEmpty());
  run.held(1, 2);
  EXPECT_THAT(run.sent(), ElementsAre("1 finish 0", "2 finish 0"));
}

TEST(LedgerSafety, AViewWhileTheResultWaitsBeginsTheWaitingAnew) {
  First run(4, {bag(3)}, only_others(Policy::kStatic), 1);
  run.next_entry();
  run.results(1, {{{0, 3}}}, 1);
  run.finalize();
  run.sent();
  run.enter_view({kZero, kTwo, kThree}, {}, kZero, 2);
  EXPECT_THAT(run.sent(), IsEmpty());
  EXPECT_THAT(lines_of(run.next_entry()), ElementsAre("2 ledger 3 state"));
  run.held(2, 3);
  EXPECT_THAT(run.sent(), ElementsAre("2 finish 0", "3 finish 0"));
}

// The bound on entries that wait for a majority loses nothing.
TEST(LedgerSafety, HoweverLongAMajorityTakesAllIsAcknowledgedInTheEnd) {
  constexpr std::uint64_t kEntries = 3 * Coordinator::kEntriesInFlightMax;
  First run(5, {bag(1000)}, only_others(Policy::kStatic), 3);
  for (std::uint64_t entry = 1; entry <= kEntries; ++entry) {
    run.results(4, {{{entry, 1}}}, entry);
    run.next_entry();
    run.held(1, entry);
  }
  EXPECT_EQ(acknowledged(run.messages()), std::nullopt);
  run.held(2, LedgerLeader::kInFlightMax);
  run.results(4, {{{kEntries + 1, 1}}}, kEntries + 1);
  const auto messages = run.next_entry();
  EXPECT_THAT(lines_of(messages),
              ElementsAre("1 ledger " + std::to_string(kEntries + 1) + " records",
                          "2 ledger " + std::to_string(kEntries + 1) + " state"));
  run.held(2, kEntries + 1);
  EXPECT_EQ(acknowledged(run.messages()), kEntries) << "what both of them have";
}

TEST(LedgerSafety, AStateTooLargeForAMessageIsNotSentAndHoldsNothingUp) {
  First run(3, {bag(1000)}, only_others(Policy::kStatic), 1);
  run.next_entry();
  run.held(1, 1);
  run.results(2, {{{1, 1}}}, 1);
  run.next_entry();
  for (std::uint64_t i = 2; i <= kMany; ++i) run.results(2, {{{i, 1}}}, i);
  run.sink.claimed_bytes = Coordinator::kReplicatedBytesMax;
  EXPECT_EQ(lines_of(run.next_entry()), Lines{"2 acknowledge " + std::to_string(kMany)});
  for (std::uint64_t i = kMany + 1; i <= 2 * kMany; ++i) run.results(2, {{{i, 1}}}, i);
  EXPECT_EQ(lines_of(run.messages()), Lines{"2 acknowledge " + std::to_string(2 * kMany)});
  run.held(1, 2);  // late
  run.results(2, {{{0, 1}}, {{2 * kMany + 1, 999 - 2 * kMany}}}, 2 * kMany + 1);
  run.finalize();
  EXPECT_THAT(run.sent(), Contains("1 finish 0")) << "with nobody to wait for";
  EXPECT_EQ(run.refused(), 0u);
}

TEST(LedgerSafety, AFailureIsAnnouncedAtOnce) {
  First run(2, {bag(2)}, only_others(Policy::kStatic), 1);
  run.stop("stopped");
  EXPECT_THAT(run.sent(), Contains("1 finish 3: stopped"));
}

// ---- going on ----

TEST(TakeOver, GoesOnFromStateAndRecords) {
  Heir heir(1, 3, {bag(10)});
  heir.take(ledger_message(7, EntryForm::kState,
                           saved_state({{SavedShards::kDone, 2},
                                        {SavedShards::kLeased, 3},
                                        {SavedShards::kQuarantined, 1},
                                        {SavedShards::kPending, 4}},
                                       {.quarantined = 1, .retries = 4, .duplicates = 5})
                               .view()));
  Buffer records;
  Writer writer(records);
  put_commit_record(writer, 0, {8, 2});
  put_charge_record(writer, 0, 3);
  put_charge_record(writer, 0, 3);
  put_charge_record(writer, 0, 7);
  put_quarantine_record(writer, 0, 6, 3, 2, "threw again");
  heir.take(ledger_message(8, EntryForm::kRecords, records.view()));
  heir.sent();

  heir.enter_view({kOne, kTwo}, {}, kOne, 8);

  EXPECT_THAT(heir.sent(), ElementsAre("2 open: job")) << "to hear what the others have";
  ASSERT_TRUE(heir.coordinates());
  const RunProgress progress = heir.progress();
  EXPECT_EQ(progress.phase, RunPhase::kRunning);
  EXPECT_EQ(progress.done, 6u);
  EXPECT_EQ(progress.quarantined, 2u);
  EXPECT_EQ(progress.retries, 4u + 3u);
  EXPECT_EQ(progress.duplicates, 5u);
  EXPECT_EQ(heir.sink.values.size(), 4u);
  EXPECT_TRUE(heir.sink.has(0) && heir.sink.has(1) && heir.sink.has(8) && heir.sink.has(9));
  EXPECT_EQ(heir.sink.skipped.at({0, 6}), "threw again on 2 at 3");

  heir.welcome(2, {bag(10)});
  heir.results(2, {{{2, 1}}}, 1);
  heir.results(2, {{{3, 1}, 3}}, 2);
  heir.results(2, {{{4, 1}}}, 3);
  EXPECT_EQ(heir.refused(), 0u);
  EXPECT_EQ(heir.progress().done, 9u);
}

TEST(TakeOver, AttemptsThatWereChargedStayCharged) {
  Heir heir(1, 3, {bag(4)}, only_others(Policy::kStatic));
  heir.take(ledger_message(1, EntryForm::kState, saved_state({{SavedShards::kLeased, 4}}).view()));
  Buffer records;
  Writer writer(records);
  put_charge_record(writer, 0, 1);
  put_charge_record(writer, 0, 2);
  put_charge_record(writer, 0, 2);
  heir.take(ledger_message(2, EntryForm::kRecords, records.view()));
  heir.enter_view({kOne, kTwo}, {}, kOne, 2);
  heir.messages();

  heir.welcome(2, {bag(4)});

  const std::map<std::uint64_t, std::uint32_t> expected{{0, 1}, {1, 2}, {2, 3}, {3, 1}};
  EXPECT_EQ(attempts_leased(heir.messages()), expected);
}

TEST(TakeOver, LeasesNothingToARankThatHasNotSaidWhatItComputes) {
  Heir heir(1, 4, {bag(100)});
  heir.take(
      ledger_message(1, EntryForm::kState, saved_state({{SavedShards::kLeased, 100}}).view()));
  heir.sent();
  heir.enter_view({kOne, kTwo, kThree}, {}, kOne, 1);
  EXPECT_THAT(heir.sent(), ElementsAre("2 open: job", "3 open: job"));
  heir.receive(2, MessageKind::kReady, ready_message({bag(100)}));
  EXPECT_THAT(heir.sent(), IsEmpty());
  heir.receive(2, MessageKind::kAnnounce, announce_message(0, {{0, 1}}));
  EXPECT_THAT(heir.sent(), ElementsAre("2 lease 0: round 2 1+1")) << "it goes on with the first";
}

TEST(TakeOver, LeasesAreOfANewRound) {
  Heir heir(1, 3, {bag(2)}, only_others(Policy::kStatic));
  heir.take(ledger_message(1, EntryForm::kState, saved_state({{SavedShards::kPending, 2}}).view()));
  heir.enter_view({kOne, kTwo}, {}, kOne, 1);
  heir.sent();
  heir.welcome(2, {bag(2)});
  EXPECT_THAT(heir.sent(), ElementsAre("2 lease 0: round 2 0+2"))
      << "a worker may be a stage ahead";
}

TEST(TakeOver, ItsOwnStandbysGetTheStateNext) {
  Heir heir(1, 4, {bag(10)});
  heir.take(
      ledger_message(9, EntryForm::kState,
                     saved_state({{SavedShards::kDone, 3}, {SavedShards::kPending, 7}}).view()));
  heir.enter_view({kOne, kTwo, kThree}, {}, kOne, 9);
  EXPECT_THAT(lines_of(heir.next_entry()), ElementsAre("2 ledger 10 state", "3 ledger 10 state"));
}

TEST(TakeOver, WhatWasSettledIsFinalized) {
  for (const bool as_state : {true, false}) {
    Heir heir(1, 3, {bag(3)}, only_others(), 0);
    if (as_state) {
      heir.take(ledger_message(
          2, EntryForm::kState,
          saved_state({{SavedShards::kDone, 3}}, {.settled = 1, .settled_before = 3}).view()));
    } else {
      heir.take(
          ledger_message(1, EntryForm::kState, saved_state({{SavedShards::kLeased, 3}}).view()));
      Buffer records;
      Writer writer(records);
      put_commit_record(writer, 0, {0, 3});
      heir.take(ledger_message(2, EntryForm::kRecords, records.view()));
    }
    heir.enter_view({kOne, kTwo}, {}, kOne, 2);
    heir.sent();
    EXPECT_EQ(heir.progress().phase, RunPhase::kFinalizing);
    EXPECT_EQ(heir.progress().done, heir.progress().shards);
    EXPECT_TRUE(heir.sink.holds_exactly({0, 3}));
    heir.finalize();
    EXPECT_THAT(heir.sent(), ElementsAre("2 finish 0"));
  }
}

TEST(TakeOver, AResultWithGivenUpShardsSaysSo) {
  Heir heir(1, 3, {bag(3)}, only_others(), 0);
  heir.take(ledger_message(2, EntryForm::kState,
                           saved_state({{SavedShards::kDone, 2}, {SavedShards::kQuarantined, 1}},
                                       {.settled = 1, .settled_before = 3, .quarantined = 1})
                               .view()));
  heir.enter_view({kOne, kTwo}, {}, kOne, 2);
  heir.sent();
  heir.finalize();
  EXPECT_THAT(heir.sent(), ElementsAre("2 finish 1: 1 shards were given up"));
}

TEST(TakeOver, WaitsUntilItHasOpenedTheJobItself) {
  Led heir(1, 3, only_others(), 2);
  heir.receive(0, MessageKind::kOpen, open_message("job"));
  heir.receive(
      0, MessageKind::kLedger,
      ledger_message(1, EntryForm::kState,
                     saved_state({{SavedShards::kDone, 2}, {SavedShards::kPending, 8}}).view()));
  heir.sent();
  heir.enter_view({kOne, kTwo}, {}, kOne, 1);
  EXPECT_EQ(heir.progress().phase, RunPhase::kOpening);
  heir.welcome(2, {bag(10)});
  EXPECT_THAT(heir.sent(), ElementsAre("2 open: job"));
  const auto order = heir.want();
  ASSERT_TRUE(order && order->kind == WorkKind::kOpen);
  WorkResult result;
  result.restart(*order);
  result.stages = {bag(10)};
  heir.finish(result);
  EXPECT_EQ(heir.progress().done, 2u);
  EXPECT_FALSE(attempts_leased(heir.messages()).empty());
}

// A rank may have heard from a coordinator that went further than the ledger: no nonsense.
TEST(TakeOver, ReportsOfWhatWasLostAreNoNonsense) {
  const Stages stages{bag(10), bag(10)};
  Heir heir(1, 3, stages);
  heir.take(
      ledger_message(1, EntryForm::kState, saved_state({{SavedShards::kPending, 10}}).view()));
  heir.enter_view({kOne, kTwo}, {}, kOne, 1);
  heir.receive(2, MessageKind::kReady, ready_message(stages));
  heir.receive(2, MessageKind::kAnnounce, announce_message(1, {{3, 1}, 2}));
  heir.results(2, {{{0, 1}, 3}}, 1);
  heir.results(2, {{{5, 2}, 1}}, 2, 1);
  heir.failure(2, {4, 2});
  heir.failure(2, {4, 1}, 1);
  heir.receive(2, MessageKind::kReturned, leases_back_message(1, {{{4, 1}}}));

  EXPECT_EQ(heir.refused(), 0u);
  EXPECT_TRUE(heir.sink.holds_exactly({0, 1})) << "of the stage that the ledger is in";
  EXPECT_EQ(heir.progress().phase, RunPhase::kRunning);
  EXPECT_EQ(heir.progress().retries, 0u);

  heir.results(2, {{{1, 1}, only_others().attempts_max + 1}}, 3);
  EXPECT_EQ(heir.refused(), 1u) << "an attempt that no coordinator would have made";
  heir.results(2, {{{1, 1}, 0}}, 3);
  heir.receive(2, MessageKind::kAnnounce, announce_message(1, {{3, 1}, 0}));
  EXPECT_EQ(heir.refused(), 3u);
}

TEST(TakeOver, TheFirstCoordinatorKnowsWhatIsNonsense) {
  First run(3, {bag(10), bag(10)});
  run.results(2, {{{0, 1}, 3}}, 1);
  run.results(2, {{{5, 2}, 1}}, 2, 1);
  run.failure(2, {4, 1}, 1);
  EXPECT_EQ(run.refused(), 3u);
}

// A slow rank inherits twice over: others speak of the rounds that it has not begun.
TEST(TakeOver, ReportsOfAnEarlierHeirsRoundAreNoNonsenseWhileOpening) {
  Led heir(2, 4, only_others(), 2);
  heir.receive(0, MessageKind::kOpen, open_message("job"));
  heir.enter_view({kOne, kTwo, kThree}, {}, kOne);
  heir.enter_view({kTwo, kThree}, {}, kTwo);
  heir.receive(3, MessageKind::kReady, ready_message({bag(10)}));
  heir.receive(3, MessageKind::kAnnounce, announce_message());
  heir.results(3, {{{0, 1}}}, 1, 0, 2);
  EXPECT_EQ(heir.refused(), 0u);
}

// ---- map and reduce ----

// The parts lay with the ranks of before: what was reduced stays reduced, the rest is made again.
TEST(TakeOver, MapStagesBeginANewRoundAndNothingCountsTwice) {
  const Stages stages{map_stage(4), reduce_stage(4)};
  First run(3, stages, only_others(Policy::kStatic));
  Heir heir(1, 3, stages, only_others(Policy::kStatic));
  const auto replicate = [&] {
    for (const auto& message : run.next_entry()) {
      if (message.kind == MessageKind::kLedger && message.to == 1) heir.take(message.payload);
    }
  };
  run.results(1, {{{0, 4}}}, 1);
  replicate();
  run.results(2, {{{1, 2}}}, 2, 1);
  replicate();
  heir.sent();

  heir.enter_view({kOne, kTwo}, {}, kOne, 2);

  EXPECT_EQ(heir.sink.values, run.sink.values);
  EXPECT_TRUE(heir.sink.holds_exactly({1, 2}, 1));
  EXPECT_EQ(heir.progress().stage, 0u) << "back to the map stage";
  heir.sent();
  heir.welcome(2, stages);
  EXPECT_THAT(heir.sent(), ElementsAre("2 lease 0: round 2 0+4"));
  heir.results(2, {{{0, 4}}}, 3, 0, 2);
  const auto leased = attempts_leased(heir.messages());
  EXPECT_EQ(leased, (std::map<std::uint64_t, std::uint32_t>{{0, 1}, {3, 1}}));
  heir.results(2, {{{0, 1}}, {{3, 1}}}, 4, 1, 2);
  EXPECT_EQ(heir.progress().phase, RunPhase::kFinalizing);
  EXPECT_TRUE(heir.sink.holds_exactly({0, 4}, 0));
  EXPECT_TRUE(heir.sink.holds_exactly({0, 4}, 1));
}

// ---- whose ledger is longer ----

class CatchingUp : public testing::Test {
 protected:
  CatchingUp() : heir(1, 4, {bag(10)}) {
    heir.take(ledger_message(3, EntryForm::kState, shorter.view()));
    heir.sent();
    heir.enter_view({kOne, kTwo, kThree}, {}, kOne, 5, kTwo);
  }
  void copy_from(std::uint32_t rank, const Buffer& copy) {
    heir.receive(rank, MessageKind::kLedgerCopy, copy);
  }
  Buffer shorter = saved_state({{SavedShards::kDone, 1}, {SavedShards::kLeased, 9}});
  Buffer longer = saved_state({{SavedShards::kDone, 4}, {SavedShards::kLeased, 6}});
  Heir heir;
};

TEST_F(CatchingUp, AsksTheHolderAndWaits) {
  EXPECT_THAT(heir.sent(), ElementsAre("2 ledger wanted"));
  EXPECT_FALSE(heir.coordinates());
  heir.tick_after(kSecond);
  EXPECT_FALSE(heir.want());
  EXPECT_THAT(heir.sent(), IsEmpty());
}

TEST_F(CatchingUp, GoesOnFromTheLongestLedger) {
  heir.sent();
  Buffer records;
  Writer writer(records);
  put_commit_record(writer, 0, {9, 1});
  copy_from(2, ledger_copy_message(5, longer.view(), records.view()));
  EXPECT_THAT(heir.sent(), ElementsAre("2 open: job", "3 open: job"));
  ASSERT_TRUE(heir.coordinates());
  EXPECT_EQ(heir.progress().done, 5u);
  EXPECT_THAT(lines_of(heir.next_entry()), ElementsAre("2 ledger 6 state", "3 ledger 6 state"));
}

TEST_F(CatchingUp, ACopyFromAnyoneElseIsRefused) {
  copy_from(3, ledger_copy_message(5, longer.view(), {}));
  EXPECT_EQ(heir.refused(), 1u);
  EXPECT_FALSE(heir.coordinates());
  copy_from(2, ledger_copy_message(5, longer.view(), {}));
  EXPECT_TRUE(heir.coordinates());
  copy_from(2, ledger_copy_message(5, longer.view(), {}));
  EXPECT_EQ(heir.refused(), 2u) << "it has taken over";
  EXPECT_EQ(heir.progress().done, 4u);
}

TEST_F(CatchingUp, AHolderWithoutACopyLeavesItWithItsOwn) {
  for (const Buffer& nothing : {ledger_copy_message(0, {}, {}), Buffer()}) {
    Heir other(1, 4, {bag(10)});
    other.take(ledger_message(3, EntryForm::kState, shorter.view()));
    other.enter_view({kOne, kTwo, kThree}, {}, kOne, 5, kTwo);
    other.sent();
    other.receive(2, MessageKind::kLedgerCopy, nothing);
    EXPECT_THAT(other.sent(), ElementsAre("2 open: job", "3 open: job"));
    EXPECT_EQ(other.progress().done, 1u);
    EXPECT_THAT(lines_of(other.next_entry()), ElementsAre("2 ledger 6 state", "3 ledger 6 state"))
        << "the numbers of the entries that were lost are not given again";
  }
}

TEST_F(CatchingUp, AHolderThatIsLostMeanwhileIsNotWaitedFor) {
  heir.sent();
  heir.enter_view({kOne, kThree}, {}, kOne, 4, kThree);
  EXPECT_THAT(heir.sent(), ElementsAre("3 ledger wanted"));
  copy_from(3, ledger_copy_message(4, longer.view(), {}));
  EXPECT_EQ(heir.progress().done, 4u);

  Heir other(1, 4, {bag(10)});
  other.take(ledger_message(3, EntryForm::kState, shorter.view()));
  other.enter_view({kOne, kTwo, kThree}, {}, kOne, 5, kTwo);
  other.enter_view({kOne, kThree}, {}, kOne, 3);
  EXPECT_TRUE(other.coordinates()) << "its own is the longest now";
  EXPECT_EQ(other.progress().done, 1u);
}

TEST_F(CatchingUp, WorkersMaySpeakEarlyAndAreNotHeard) {
  heir.sent();
  heir.results(3, {{{0, 1}}}, 1);
  EXPECT_TRUE(heir.sink.values.empty());
}

TEST(LedgerHolder, HandsItsCopyToTheCoordinatorOfTheView) {
  Heir holder(2, 4, {bag(10)});
  const Buffer state = saved_state({{SavedShards::kPending, 10}});
  Buffer records;
  Writer writer(records);
  put_commit_record(writer, 0, {0, 1});
  holder.take(ledger_message(3, EntryForm::kState, state.view()));
  holder.take(ledger_message(4, EntryForm::kRecords, records.view()));
  holder.enter_view({kOne, kTwo, kThree}, {}, kOne, 4, kTwo);
  holder.sent();

  holder.receive(3, MessageKind::kLedgerWanted, Buffer());
  EXPECT_EQ(holder.refused(), 1u) << "it does not coordinate";
  holder.receive(1, MessageKind::kLedgerWanted, Buffer());

  const auto messages = holder.messages();
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_EQ(messages[0].to, 1u);
  EXPECT_EQ(messages[0].kind, MessageKind::kLedgerCopy);
  EXPECT_THAT(
      messages[0].payload.view(),
      testing::ElementsAreArray(ledger_copy_message(4, state.view(), records.view()).view()));
}

TEST(LedgerHolder, WithNothingSaysSo) {
  Heir holder(2, 3, {bag(10)});
  holder.enter_view({kOne, kTwo}, {}, kOne, 4, kTwo);
  holder.sent();
  holder.receive(1, MessageKind::kLedgerWanted, Buffer());
  EXPECT_THAT(holder.sent(), ElementsAre("1 ledger copy 0"));
}

// The others have gone on from elsewhere: its entries are of another history.
TEST(LedgerHolder, ARankThatComesBackHasNothing) {
  Heir holder(2, 3, {bag(10)});
  holder.take(ledger_message(3, EntryForm::kState, saved_state({{SavedShards::kDone, 10}}).view()));
  holder.enter_view({kOne}, {kTwo}, kOne, 2, kOne);
  holder.sent();
  holder.receive(1, MessageKind::kLedgerWanted, Buffer());
  EXPECT_THAT(holder.sent(), ElementsAre("1 ledger copy 0"));
}

// ---- what a rank tells of its ledger when the members agree on the next view ----

// As it promises `from` to take part.
LedgerPosition ledger_told(LoneRank& rank, std::uint32_t from) {
  Buffer prepare;
  Writer writer(prepare);
  writer.put(rank.node().view().epoch);
  writer.put(std::uint64_t{1} << 32 | from);
  for (int knowledge = 0; knowledge < 4; ++knowledge) writer.put(std::uint32_t{0});
  rank.messages();
  rank.controls();
  rank.receive(from, MessageKind::kPrepare, prepare);
  rank.messages();
  for (const auto& message : rank.controls()) {
    if (message.kind != MessageKind::kPromise) continue;
    Reader reader(message.payload.view());
    reader.get_raw(8 + 8);  // epoch, ballot
    for (int knowledge = 0; knowledge < 3; ++knowledge) (void)get_ranks(reader, rank.ranks());
    (void)DeadLinks::get(reader, rank.ranks());
    return reader.get<LedgerPosition>();
  }
  ADD_FAILURE() << "it promises nothing";
  return 0;
}

TEST(LedgerTold, AStandbysIsThatOfItsCopy) {
  Heir none(1, 3, {bag(10)});
  EXPECT_EQ(ledger_told(none, 2), 0u);
  Heir standby(1, 3, {bag(10)});
  standby.take(ledger_message(4, EntryForm::kState, {}));
  standby.take(ledger_message(6, EntryForm::kRecords, {}));
  EXPECT_EQ(ledger_told(standby, 2), 4u) << "what was refused counts for nothing";
}

TEST(LedgerTold, ACoordinatorsIsThatOfItsLatestEntry) {
  First run(3, {bag(10)});
  run.next_entry();
  run.results(1, {{{0, 1}}}, 1);
  run.next_entry();
  EXPECT_EQ(ledger_told(run, 1), 2u) << "whoever holds it";
}

TEST(LedgerTold, AnHeirsIsThatOfWhatItCaughtUpWith) {
  Heir heir(1, 4, {bag(10)});
  heir.take(ledger_message(3, EntryForm::kState, saved_state({{SavedShards::kDone, 10}}).view()));
  heir.enter_view({kOne, kTwo, kThree}, {}, kOne, 5, kTwo);
  heir.receive(2, MessageKind::kLedgerCopy,
               ledger_copy_message(5, saved_state({{SavedShards::kDone, 10}}).view(), {}));
  EXPECT_EQ(ledger_told(heir, 2), 5u);
}

TEST(LedgerTold, ARankThatComesBackHasNone) {
  Heir standby(1, 3, {bag(10)});
  standby.take(ledger_message(4, EntryForm::kState, {}));
  standby.enter_view({kZero, kTwo}, {kOne}, kZero, 9);
  EXPECT_EQ(ledger_told(standby, 2), 0u);
}

// ---- with nothing ----

TEST(TakeOver, WithoutALedgerTheRunBeginsAnew) {
  Heir heir(1, 3, {bag(10)});
  heir.enter_view({kOne, kTwo}, {}, kOne);
  EXPECT_THAT(heir.sent(), ElementsAre("2 open: job"));
  EXPECT_EQ(heir.progress().phase, RunPhase::kRunning);
  EXPECT_EQ(heir.progress().done, 0u);
  heir.welcome(2, {bag(10)});
  heir.results(2, {{{0, 10}}}, 1);
  EXPECT_TRUE(heir.sink.holds_exactly({0, 10}));
}

TEST(TakeOver, WhoDoesNotKnowTheJobFindsItOut) {
  Led heir(1, 3, only_others(), 2);
  heir.enter_view({kOne, kTwo}, {}, kOne);
  EXPECT_THAT(heir.sent(), IsEmpty()) << "there is nothing to open yet";
  const auto order = heir.want();
  ASSERT_TRUE(order && order->kind == WorkKind::kDescribe);
  WorkResult result;
  result.restart(*order);
  result.description = Buffer(LoneRank::text("found out"));
  heir.finish(result);
  EXPECT_THAT(heir.sent(), ElementsAre("2 open: found out"));
  const auto open = heir.want();
  ASSERT_TRUE(open && open->kind == WorkKind::kOpen);
}

TEST(TakeOver, AViewWhileTheJobIsLookedAtAsksNobodyToOpenNothing) {
  Led heir(1, 4, only_others(), 2);
  heir.enter_view({kOne, kTwo, kThree}, {}, kOne);
  const auto order = heir.want();
  ASSERT_TRUE(order && order->kind == WorkKind::kDescribe);
  heir.enter_view({kOne, kThree}, {}, kOne);
  EXPECT_THAT(heir.sent(), IsEmpty());
  WorkResult result;
  result.restart(*order);
  result.description = Buffer(LoneRank::text("found out"));
  heir.finish(result);
  EXPECT_THAT(heir.sent(), ElementsAre("3 open: found out"));
}

TEST(TakeOver, AJobThatCannotBeFoundOutEndsTheRun) {
  Led heir(1, 3, only_others(), 2);
  heir.enter_view({kOne, kTwo}, {}, kOne);
  const auto order = heir.want();
  ASSERT_TRUE(order && order->kind == WorkKind::kDescribe);
  WorkResult result;
  result.restart(*order);
  result.error = "no such file";
  heir.finish(result);
  EXPECT_THAT(heir.sent(), ElementsAre("2 finish 3: no such file"));
}

// It coordinated before, and what it had then is not what the others have gone on from.
TEST(TakeOver, ASinkOfAnEarlierTimeIsEmptiedFirst) {
  First run(3, {bag(10)});
  run.results(1, {{{0, 4}}}, 1);
  run.enter_view({kOne, kTwo}, {kZero}, kOne);
  EXPECT_FALSE(run.coordinates());
  run.enter_view({kZero, kTwo}, {}, kZero);
  ASSERT_TRUE(run.coordinates());
  EXPECT_EQ(run.progress().done, 0u);
  EXPECT_TRUE(run.sink.values.empty());
  run.welcome(2, {bag(10)});
  run.results(2, {{{0, 10}}}, 1);
  EXPECT_TRUE(run.sink.holds_exactly({0, 10}));  // I7
}

// ---- a ledger that cannot be used ----

class BadLedger : public testing::Test {
 protected:
  // How the run goes on from these, as the other rank sees it.
  static Lines taken_over(std::span<const std::byte> state, std::span<const std::byte> records) {
    Heir heir(1, 3, {bag(10)}, only_others(), 0);
    heir.take(ledger_message(1, EntryForm::kState, state));
    heir.take(ledger_message(2, EntryForm::kRecords, records));
    heir.enter_view({kOne, kTwo}, {}, kOne, 2);
    heir.tick_after(kSecond);
    return heir.sent();
  }
  static void expect_unusable(std::span<const std::byte> state, std::span<const std::byte> records,
                              std::string_view what) {
    EXPECT_THAT(taken_over(state, records),
                Contains(StartsWith("2 finish 3: the ledger of the coordinator that was lost "
                                    "cannot be used: ")))
        << what;
  }
};

TEST_F(BadLedger, EveryCutOfAStateEndsTheRun) {
  const Buffer state = saved_state(
      {{SavedShards::kDone, 2}, {SavedShards::kQuarantined, 1}, {SavedShards::kPending, 7}});
  EXPECT_THAT(taken_over(state.view(), {}), testing::Not(Contains(HasSubstr("finish"))));
  for_each_cut(state.view(), [](std::span<const std::byte> cut, std::size_t length) {
    expect_unusable(cut, {}, "cut to " + std::to_string(length));
  });
  Buffer longer(state.view());
  Writer(longer).put(std::uint8_t{0});
  expect_unusable(longer.view(), {}, "a byte too many");
  expect_unusable(saved_state({{SavedShards::kPending, 10}}, {.stage = 1}).view(), {}, "no stage");
  expect_unusable(saved_state({{SavedShards::kPending, 9}}).view(), {}, "another stage");
}

TEST_F(BadLedger, RecordsThatDoNotFollowEndTheRun) {
  const Buffer state = saved_state({{SavedShards::kPending, 10}});
  const auto expect_bad = [&](auto put, std::string_view what) {
    Buffer records;
    Writer writer(records);
    put(writer);
    expect_unusable(state.view(), records.view(), what);
    for_each_cut(records.view(), [&](std::span<const std::byte> cut, std::size_t length) {
      if (length != 0) expect_unusable(state.view(), cut, what);
    });
  };
  expect_bad([](Writer& w) { put_commit_record(w, 1, {0, 1}); }, "no such stage");
  expect_bad([](Writer& w) { put_commit_record(w, 0, {9, 2}); }, "beyond the stage");
  expect_bad([](Writer& w) { put_commit_record(w, 0, {0, 0}); }, "of no shards");
  expect_bad([](Writer& w) { put_charge_record(w, 0, 10); }, "no such shard");
  expect_bad([](Writer& w) { put_quarantine_record(w, 0, 10, 1, 1, "x"); }, "no such shard");
  expect_bad(
      [](Writer& w) {
        w.put(std::uint8_t{3});
        w.put(std::uint16_t{0});
        w.put(std::uint64_t{0});
      },
      "no such record");
}

// ---- what the other ranks do meanwhile ----

class Waiting : public testing::Test {
 protected:
  Waiting() : worker(2, 4, {bag(100)}, {}) {
    worker.receive(0, MessageKind::kLease, lease_message(0, {{{5, 2}}}));
  }
  void under_one() { worker.enter_view({kOne, kTwo, kThree}, {}, kOne); }
  void open_again() { worker.receive(1, MessageKind::kOpen, open_message("job")); }
  Heir worker;
};

TEST_F(Waiting, ARankSaysNothingUntilItIsAsked) {
  under_one();
  worker.tick_after(kSecond);
  EXPECT_THAT(worker.sent(), IsEmpty()) << "the coordinator may be catching up";
  EXPECT_FALSE(worker.want()) << "its leases are void";
  open_again();
  EXPECT_THAT(worker.sent(), ElementsAre("1 ready kind0*100", "1 announce"));
}

TEST_F(Waiting, WhatItComputesMeanwhileIsKeptAndSentWhenAsked) {
  const auto order = worker.want();
  ASSERT_TRUE(order);
  under_one();
  worker.finish_run(*order);
  worker.tick_after(kSecond);
  EXPECT_THAT(worker.sent(), IsEmpty());
  open_again();
  EXPECT_THAT(worker.sent(), ElementsAre("1 ready kind0*100", "1 announce", "1 results 0: 5+1"));
}

TEST_F(Waiting, WhatItComputesStillIsAnnounced) {
  const auto order = worker.want();
  ASSERT_TRUE(order);
  under_one();
  open_again();
  EXPECT_THAT(worker.sent(), ElementsAre("1 ready kind0*100", "1 announce running 0: 5+1"));
  worker.finish_run(*order);
  worker.tick_after(kSecond);
  EXPECT_THAT(worker.sent(), ElementsAre("1 results 0: 5+1"));
}

TEST_F(Waiting, ReportsThatNobodyMadeSafeAreSentAgainToTheNext) {
  for (int i = 0; i < 2; ++i) {
    const auto order = worker.want();
    ASSERT_TRUE(order);
    worker.finish_run(*order);
    worker.tick_after(kSecond);
  }
  EXPECT_THAT(worker.sent(), ElementsAre("0 results 0: 5+1", "0 results 0: 6+1"));
  worker.receive(0, MessageKind::kAcknowledge, acknowledge_message(1));
  under_one();
  open_again();
  EXPECT_THAT(worker.sent(), ElementsAre("1 ready kind0*100", "1 announce", "1 results 0: 6+1"));
  worker.enter_view({kTwo, kThree}, {}, kThree);
  worker.receive(3, MessageKind::kOpen, open_message("job"));
  EXPECT_THAT(worker.sent(), ElementsAre("3 ready kind0*100", "3 announce", "3 results 0: 6+1"))
      << "and to the one after that";
}

TEST_F(Waiting, FailuresMeanwhileAreNotHeldAgainstAnyone) {
  const auto order = worker.want();
  ASSERT_TRUE(order);
  under_one();
  worker.finish_failed(*order, "threw");
  open_again();
  EXPECT_THAT(worker.sent(), ElementsAre("1 ready kind0*100", "1 announce"));
}

TEST_F(Waiting, OnlyTheCoordinatorOfTheViewAsks) {
  under_one();
  worker.receive(3, MessageKind::kOpen, open_message("job"));
  EXPECT_EQ(worker.refused(), 1u);
  EXPECT_THAT(worker.sent(), IsEmpty());
}

TEST_F(Waiting, AnotherViewUnderTheSameHeirChangesNothing) {
  under_one();
  worker.enter_view({kOne, kTwo}, {}, kOne);
  EXPECT_THAT(worker.sent(), IsEmpty()) << "it has not asked yet";
  open_again();
  EXPECT_THAT(worker.sent(), ElementsAre("1 ready kind0*100", "1 announce"));
  worker.enter_view({kOne, kTwo}, {}, kOne);
  EXPECT_THAT(worker.sent(), ElementsAre("1 ready kind0*100", "1 announce")) << "it knows us now";
}

TEST_F(Waiting, ItWorksOnForTheHeir) {
  under_one();
  open_again();
  worker.sent();
  worker.receive(1, MessageKind::kLease, lease_message(0, {{{50, 1}}}, false, 2));
  const auto run = worker.want();
  ASSERT_TRUE(run);
  worker.finish_run(*run);
  worker.tick_after(kSecond);
  EXPECT_THAT(worker.sent(), ElementsAre("1 results 0: round 2 50+1"));
}

TEST(TakeOver, ARankThatHasNotOpenedTheJobIsAskedLikeTheOthers) {
  Led worker(2, 3, only_others(), 2);
  worker.enter_view({kOne, kTwo}, {}, kOne);
  worker.receive(1, MessageKind::kOpen, open_message("job"));
  EXPECT_THAT(worker.sent(), ElementsAre("1 announce"));
  const auto order = worker.want();
  ASSERT_TRUE(order && order->kind == WorkKind::kOpen);
  WorkResult result;
  result.restart(*order);
  result.stages = {bag(1)};
  worker.finish(result);
  EXPECT_THAT(worker.sent(), ElementsAre("1 ready kind0*1"));
}

// The heir computes too: what it has reported is the coordinator's at once.
TEST(TakeOver, TheHeirsOwnResultsCount) {
  Heir heir(1, 2, {bag(10)}, {});
  heir.receive(0, MessageKind::kLease, lease_message(0, {{{5, 1}}}));
  const auto order = heir.want();
  ASSERT_TRUE(order);
  heir.take(ledger_message(1, EntryForm::kState, saved_state({{SavedShards::kLeased, 10}}).view()));
  heir.finish_run(*order);
  heir.tick_after(kSecond);
  heir.sent();
  heir.enter_view({kOne}, {}, kOne, 1);
  EXPECT_TRUE(heir.sink.holds_exactly({5, 1}));
  for (int left = 100; left > 0 && heir.progress().phase == RunPhase::kRunning; --left) {
    const auto next = heir.want();
    if (next && next->kind == WorkKind::kRun) heir.finish_run(*next);
    heir.tick_after(kMillisecond);
  }
  EXPECT_TRUE(heir.sink.holds_exactly({0, 10}));
  EXPECT_EQ(heir.refused(), 0u);
}

TEST(TakeOver, WhatTheHeirComputesWhileItCatchesUpCounts) {
  Heir heir(1, 3, {bag(10)}, {});
  heir.receive(0, MessageKind::kLease, lease_message(0, {{{5, 1}}}));
  const auto order = heir.want();
  ASSERT_TRUE(order);
  heir.enter_view({kOne, kTwo}, {}, kOne, 3, kTwo);
  heir.finish_run(*order);
  heir.tick_after(kSecond);
  EXPECT_THAT(heir.sent(), ElementsAre("2 ledger wanted"));
  heir.receive(2, MessageKind::kLedgerCopy,
               ledger_copy_message(3, saved_state({{SavedShards::kLeased, 10}}).view(), {}));
  EXPECT_TRUE(heir.sink.holds_exactly({5, 1}));
  EXPECT_EQ(heir.refused(), 0u);
}

// ---- a coordinator that others have gone on without ----

TEST(Demoted, WhatItHadOrderedIsOfNoUse) {
  First run(3, {bag(2)}, only_others(Policy::kStatic));
  run.results(1, {{{0, 2}}}, 1);
  const auto order = run.want();
  ASSERT_TRUE(order && order->kind == WorkKind::kFinalize);
  run.enter_view({kOne, kTwo}, {kZero}, kOne);
  run.sent();
  WorkResult result;
  result.restart(*order);
  run.finish(result);
  run.tick_after(kSecond);
  EXPECT_THAT(run.sent(), IsEmpty());
  EXPECT_EQ(run.exit_status(), std::nullopt);
}

TEST(Demoted, WhatItHadYetToOrderIsNotDone) {
  First run(3, {bag(2)}, only_others(Policy::kStatic));
  run.results(1, {{{0, 2}}}, 1);
  run.enter_view({kOne, kTwo}, {kZero}, kOne);
  const auto order = run.want();
  ASSERT_TRUE(order && order->kind == WorkKind::kForget);
  EXPECT_FALSE(run.want());
}

// It stood still while it wrote the result, and coordinates again before it has noticed.
TEST(Demoted, AResultOrderedInAnEarlierTimeIsNotThatOfThisOne) {
  First run(3, {bag(2)}, only_others(Policy::kStatic), 1);
  run.results(1, {{{0, 2}}}, 1);
  const auto before = run.want();
  ASSERT_TRUE(before && before->kind == WorkKind::kFinalize);
  run.enter_view({kOne, kTwo}, {kZero}, kOne);
  run.receive(
      1, MessageKind::kLedger,
      ledger_message(
          7, EntryForm::kState,
          saved_state({{SavedShards::kDone, 2}}, {.settled = 1, .settled_before = 2}).view()));
  run.enter_view({kZero, kTwo}, {}, kZero, 7);
  ASSERT_EQ(run.progress().phase, RunPhase::kFinalizing);
  run.sent();

  WorkResult late;
  late.restart(*before);
  late.error = "other ranks have gone on without this coordinator";
  run.finish(late);

  EXPECT_EQ(run.progress().phase, RunPhase::kFinalizing);
  EXPECT_THAT(run.sent(), IsEmpty());
  run.finalize();
  EXPECT_EQ(run.progress().phase, RunPhase::kClosing);
}

// ---- what others may say ----

class MalformedLedger : public testing::Test {
 protected:
  template <class Rank>
  void refuses(Rank& rank, std::uint32_t from, MessageKind kind, const Buffer& payload,
               std::string_view what) {
    const std::uint64_t before = rank.refused();
    rank.receive(from, kind, payload);
    EXPECT_EQ(rank.refused(), before + 1) << what;
    EXPECT_THAT(rank.sent(), IsEmpty()) << what;
  }
  template <class Rank>
  void refuses_cuts_of(Rank& rank, std::uint32_t from, MessageKind kind, const Buffer& whole) {
    for_each_cut(whole.view(), [&](std::span<const std::byte> cut, std::size_t length) {
      refuses(rank, from, kind, Buffer(cut), "cut to " + std::to_string(length));
    });
  }
};

TEST_F(MalformedLedger, EntriesAreRefused) {
  Heir standby(1, 3, {bag(10)});
  const Buffer entry = ledger_message(1, EntryForm::kState, {});
  refuses_cuts_of(standby, 0, MessageKind::kLedger, entry);
  refuses(standby, 2, MessageKind::kLedger, entry, "not the coordinator");
  refuses(standby, 0, MessageKind::kLedger, ledger_message(0, EntryForm::kState, {}), "the zeroth");
  refuses(standby, 0, MessageKind::kLedger, ledger_message(1, EntryForm{2}, {}), "no such form");
  refuses(standby, 0, MessageKind::kLedger, ledger_message(1, EntryForm::kRecords, {}), "no state");
  standby.take(entry);
  EXPECT_THAT(standby.sent(), ElementsAre("0 held 1"));
  refuses(standby, 0, MessageKind::kLedger, entry, "again");
  refuses(standby, 0, MessageKind::kLedger, ledger_message(3, EntryForm::kRecords, {}), "a gap");
}

TEST_F(MalformedLedger, WhatIsHeldIsRefused) {
  First run(4, {bag(1000)}, only_others(Policy::kStatic));
  for (std::uint64_t i = 1; i <= kMany; ++i) run.results(3, {{{i, 1}}}, i);
  run.next_entry();
  const MessageKind kind = MessageKind::kLedgerHeld;
  refuses_cuts_of(run, 1, kind, ledger_held_message(1));
  Buffer longer = ledger_held_message(1);
  Writer(longer).put(std::uint8_t{0});
  refuses(run, 1, kind, longer, "a byte too many");
  refuses(run, 3, kind, ledger_held_message(1), "no standby");
  refuses(run, 1, kind, ledger_held_message(2), "never sent");
  run.held(1, 1);
  EXPECT_THAT(run.sent(), ElementsAre("3 acknowledge " + std::to_string(kMany)));
  refuses(run, 1, kind, ledger_held_message(0), "it had more");
}

TEST_F(MalformedLedger, CopiesNobodyAskedForAreRefused) {
  const Buffer copy = ledger_copy_message(9, saved_state({{SavedShards::kDone, 10}}).view(), {});
  First run(3, {bag(10)});
  refuses(run, 1, MessageKind::kLedgerCopy, copy, "to one that coordinates");
  Heir standby(1, 3, {bag(10)});
  refuses(standby, 0, MessageKind::kLedgerCopy, copy, "to one that does not");
  refuses(standby, 2, MessageKind::kLedgerCopy, copy, "to one that does not");
  standby.enter_view({kOne, kTwo}, {}, kOne);
  EXPECT_EQ(standby.progress().done, 0u) << "nothing of it was kept";
}

TEST_F(MalformedLedger, RequestsAreRefused) {
  Heir standby(1, 3, {bag(10)});
  Buffer longer;
  Writer(longer).put(std::uint8_t{0});
  refuses(standby, 0, MessageKind::kLedgerWanted, longer, "a byte too many");
  refuses(standby, 2, MessageKind::kLedgerWanted, Buffer(), "not the coordinator");
}

TEST_F(MalformedLedger, OnlyACoordinatorHearsOfWhatIsHeld) {
  Heir standby(1, 3, {bag(10)});
  refuses(standby, 2, MessageKind::kLedgerHeld, ledger_held_message(0), "it does not coordinate");
}

// ---- the same coordinator ----

// A coordinator whose ranks compute, fail and report in any order, and a standby that reads the
// ledger when it likes. When the coordinator is lost, the standby goes on: what it knows must be
// what the coordinator knew when it made the latest entry that the standby has.
class LostAtAnyTime {
 public:
  LostAtAnyTime(unsigned seed, Stages stages)
      : random_(seed),
        stages_(std::move(stages)),
        run_(0, kRanks, options(), 2),
        heir_(1, kRanks, stages_, options()) {
    for (const StagePlan& stage : stages_) all_ += stage.shards;
    run_.open(stages_);
    for (std::uint32_t rank = 1; rank < kRanks; ++rank) run_.welcome(rank, stages_);
  }

  void live(int steps) {
    for (int i = 0; i < steps && !testing::Test::HasFatalFailure(); ++i) {
      collect();
      switch (pick(10)) {
        case 0:
        case 1:
        case 2:
          run_.tick_after(static_cast<Nanoseconds>(pick(8 * kMillisecond)));
          break;
        case 3:
          read_entry();
          break;
        case 4:
          if (pick(3) == 0) fail_one(run_);
          break;
        default:
          report_some(run_);
      }
    }
    collect();
    if (pick(3) == 0) {
      while (!unread_.empty()) read_entry();
    }
  }
  // The coordinator is gone.
  void take_over() {
    heir_.enter_view({kOne, kTwo, kThree}, {}, kOne, held_);
    const Picture& expected = pictures_[held_];
    EXPECT_EQ(heir_.sink.values, expected.values);
    EXPECT_EQ(heir_.sink.skipped, expected.skipped);
    const RunProgress progress = heir_.progress();
    EXPECT_EQ(progress.quarantined, expected.progress.quarantined);
    EXPECT_EQ(progress.retries, expected.progress.retries);
    if (!expected.has_maps) {
      EXPECT_EQ(progress.stage, expected.progress.stage);
      EXPECT_EQ(progress.done, expected.progress.done);
      EXPECT_EQ(progress.stage_done, expected.progress.stage_done);
      EXPECT_EQ(progress.phase, expected.progress.phase);
    }
    leased_.clear();
    attempts_ = expected.attempts;
    check_attempts_ = !expected.has_maps;
    unchecked_ = expected.progress.stage;
    round_ = 2;
    heir_.messages();
    for (const std::uint32_t rank : {2u, 3u}) heir_.welcome(rank, stages_);
  }
  // What is left is computed, and nothing counts twice.
  void to_the_end() {
    for (int left = 5000; left > 0 && heir_.progress().phase == RunPhase::kRunning; --left) {
      take_leases(heir_.messages(), true);
      report_some(heir_);
      if (pick(4) == 0) heir_.tick_after(20 * kMillisecond);
    }
    ASSERT_EQ(heir_.progress().phase, RunPhase::kFinalizing);
    EXPECT_EQ(heir_.progress().done, all_);
    EXPECT_EQ(heir_.sink.values.size() + heir_.sink.skipped.size(), all_);
    for (const auto& [key, bytes] : heir_.sink.values) {
      std::uint64_t value = 0;
      ASSERT_EQ(bytes.size(), sizeof value);
      std::memcpy(&value, bytes.data(), sizeof value);
      EXPECT_EQ(value, value_of(key.second));
    }
    EXPECT_EQ(heir_.refused(), 0u);
    EXPECT_EQ(run_.refused(), 0u);
  }
  LedgerPosition held() const { return held_; }

 private:
  static constexpr std::uint32_t kRanks = 4;
  struct Lease {
    std::uint32_t rank;
    std::uint16_t stage;
    std::uint64_t shard;
    std::uint32_t attempt;
  };
  using Key = std::pair<std::uint16_t, std::uint64_t>;
  // What the coordinator knew.
  struct Picture {
    decltype(RecordingSink::values) values;
    decltype(RecordingSink::skipped) skipped;
    RunProgress progress;
    std::map<Key, std::uint32_t> attempts;  // of shards that failed
    bool has_maps = false;
  };

  static ScheduleOptions options() {
    ScheduleOptions options = only_others();
    options.batch = 3;
    return options;
  }
  std::size_t pick(std::size_t below) { return random_() % below; }

  void collect() {
    const auto messages = run_.messages();
    take_leases(messages, false);
    for (const auto& message : messages) {
      if (message.kind != MessageKind::kLedger) continue;
      const LedgerPosition position = Reader(message.payload.view()).get<LedgerPosition>();
      Picture& picture = pictures_[position];
      picture = {run_.sink.values, run_.sink.skipped, run_.progress(), attempts_, false};
      picture.has_maps = stages_[picture.progress.stage].kind != StageKind::kBag &&
                         picture.progress.phase == RunPhase::kRunning;
      if (message.to == 1) unread_.emplace_back(message.payload.view());
      if (message.to == 2) run_.held(2, position);
    }
  }
  void read_entry() {
    if (unread_.empty()) return;
    heir_.take(unread_.front());
    unread_.pop_front();
    ASSERT_EQ(heir_.refused(), 0u);
    for (const auto& message : heir_.messages()) {
      ASSERT_EQ(message.kind, MessageKind::kLedgerHeld);
      held_ = Reader(message.payload.view()).get<LedgerPosition>();
      run_.held(1, held_);
    }
  }
  void take_leases(const std::vector<LoneRank::Message>& messages, bool of_heir) {
    for (const auto& message : messages) {
      if (message.kind != MessageKind::kLease) continue;
      Reader reader(message.payload.view());
      const auto stage = reader.get<std::uint16_t>();
      reader.get_raw(kLeaseHeadBytes - 2);
      for (auto count = reader.get<std::uint32_t>(); count-- > 0;) {
        const ShardRange range = reader.get_range();
        const auto attempt = reader.get<std::uint32_t>();
        for (ShardId shard = range.first; shard < range.end(); ++shard.value) {
          if (of_heir && check_attempts_ && stage == unchecked_) {
            const auto charged = attempts_.find({stage, shard.value});
            EXPECT_EQ(attempt, charged == attempts_.end() ? 1 : charged->second)
                << "shard " << shard.value << " of stage " << stage;
          }
          leased_.push_back({message.to, stage, shard.value, attempt});
        }
      }
    }
  }
  Lease take_one() {
    std::swap(leased_[pick(leased_.size())], leased_.back());
    const Lease lease = leased_.back();
    leased_.pop_back();
    return lease;
  }
  void report_some(Led& to) {
    for (std::size_t left = 1 + pick(2); left > 0 && !leased_.empty(); --left) {
      const Lease lease = take_one();
      const bool bag = stages_[lease.stage].kind == StageKind::kBag;
      to.results(lease.rank, {{{lease.shard, 1}, lease.attempt}}, ++report_, lease.stage,
                 bag && pick(2) == 0 ? 0 : round_);
    }
  }
  void fail_one(Led& to) {
    if (leased_.empty()) return;
    const Lease lease = take_one();
    to.failure(lease.rank, {lease.shard, lease.attempt}, lease.stage);
    attempts_[{lease.stage, lease.shard}] = lease.attempt + 1;
  }

  std::mt19937 random_;
  Stages stages_;
  Led run_;
  Heir heir_;
  std::uint64_t all_ = 0;
  std::vector<Lease> leased_;
  std::map<Key, std::uint32_t> attempts_;
  std::map<LedgerPosition, Picture> pictures_;
  std::deque<Buffer> unread_;
  LedgerPosition held_ = 0;
  std::uint64_t report_ = 0;
  std::uint32_t round_ = 0;
  std::uint32_t unchecked_ = 0;
  bool check_attempts_ = false;
};

class TakeOverAtAnyTime : public testing::TestWithParam<Stages> {};

TEST_P(TakeOverAtAnyTime, LeadsToTheSameCoordinator) {
  std::set<LedgerPosition> positions;
  for (unsigned seed = 0; seed < 300 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    LostAtAnyTime run(seed, GetParam());
    run.live(static_cast<int>(5 + seed));
    if (run.held() == 0) continue;  // begins anew, see above
    positions.insert(run.held());
    run.take_over();
    run.to_the_end();
  }
  EXPECT_GT(positions.size(), 5u) << "takes over early and late";
}

INSTANTIATE_TEST_SUITE_P(Jobs, TakeOverAtAnyTime,
                         testing::Values(Stages{bag(200)}, Stages{bag(60), bag(0), bag(90)},
                                         Stages{map_stage(60), reduce_stage(60)},
                                         Stages{bag(9), map_stage(40), reduce_stage(40), bag(9)}),
                         [](const auto& job) { return "job_" + std::to_string(job.index); });

}  // namespace
}  // namespace regroup
