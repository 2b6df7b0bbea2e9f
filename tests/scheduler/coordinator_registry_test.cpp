// The registry between ranks: when the coordinator answers, what it puts into the ledger, what an
// heir makes of it, and how a rank takes its calls to one coordinator after the other. Real ranks
// from frame to decision; the peers are the test.
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/scheduler/lone_rank.hpp"

namespace regroup {
namespace {

using namespace testing_roles;  // NOLINT: the vocabulary of these tests
using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr RankId kZero{0};
constexpr RankId kOne{1};
constexpr RankId kTwo{2};
constexpr RankId kThree{3};

ScheduleOptions only_others() {
  ScheduleOptions options;
  options.policy = Policy::kStatic;
  options.coordinator_computes = false;
  return options;
}

Buffer message_of(const RegistryRequest& request) {
  Buffer payload;
  Writer writer(payload);
  put_registry_request(writer, request);
  return payload;
}
Buffer get_message(std::uint64_t number, std::string_view key) {
  return message_of({.number = number, .operation = RegistryOperation::kGet, .key = key});
}
Buffer put_message(std::uint64_t number, std::string_view key, std::string_view value,
                   std::uint64_t expected = kAnyVersion) {
  return message_of({.number = number,
                     .operation = RegistryOperation::kPut,
                     .key = key,
                     .value = value,
                     .version = expected,
                     .write = number,
                     .answered = number - 1});
}
Buffer watch_message(std::uint64_t number, std::string_view key, std::uint64_t version) {
  return message_of({.number = number,
                     .operation = RegistryOperation::kWatch,
                     .key = key,
                     .version = version,
                     .left = kSecond});
}
Buffer answer_message(const RegistryAnswer& answer) {
  Buffer payload;
  Writer writer(payload);
  put_registry_answer(writer, answer);
  return payload;
}

// ---- the coordinator ----

class Asked : public LoneRank {
 public:
  Asked(std::uint32_t ranks, std::uint32_t standbys, const ScheduleOptions& options = only_others())
      : LoneRank(0, ranks, options, standbys) {
    open({bag(100)});
    for (std::uint32_t rank = 1; rank < ranks; ++rank) {
      receive(rank, MessageKind::kReady, ready_message({bag(100)}));
    }
    tick_after(kSecond);
    for (std::uint32_t rank = 1; rank <= std::min(standbys, ranks - 1); ++rank) held(rank, 1);
    sent();
  }
  void request(std::uint32_t rank, const Buffer& payload) {
    receive(rank, MessageKind::kRegistryRequest, payload);
  }
  void held(std::uint32_t rank, LedgerPosition position) {
    receive(rank, MessageKind::kLedgerHeld, ledger_held_message(position));
  }
};

TEST(CoordinatorRegistry, AnswersAPutWhenAMajorityOfTheReplicasHasIt) {
  for (std::uint32_t standbys = 1; standbys <= 4; ++standbys) {
    SCOPED_TRACE(standbys);
    Asked run(6, standbys);
    run.request(5, put_message(1, "key", "value"));
    EXPECT_THAT(run.sent(), IsEmpty());
    run.tick_after(1);
    EXPECT_EQ(run.sent().size(), standbys) << "an entry, at once";
    const std::uint32_t needed = (standbys + 1) / 2;
    for (std::uint32_t rank = 1; rank <= needed; ++rank) {
      EXPECT_THAT(run.sent(), IsEmpty());
      run.held(rank, 2);
    }
    EXPECT_THAT(run.sent(), ElementsAre("5 answer 1 version 1"));
    EXPECT_EQ(run.refused(), 0u);
  }
}

TEST(CoordinatorRegistry, WithoutStandbysAnswersComeAtOnce) {
  Asked run(3, 0);
  run.request(1, put_message(1, "key", "value"));
  run.request(2, get_message(1, "key"));
  run.request(2, get_message(2, "other"));
  run.request(2, put_message(3, "key", "again", 7));
  EXPECT_THAT(run.sent(), ElementsAre("1 answer 1 version 1", "2 answer 1 version 1 = value",
                                      "2 answer 2 version 0", "2 answer 3 status 1 version 1"));
}

// An entry that a majority takes shows that no other rank has led since the question.
TEST(CoordinatorRegistry, AReadWaitsForAnEntryAfterIt) {
  Asked run(4, 2);
  run.request(3, get_message(1, "key"));
  run.held(1, 1);
  EXPECT_THAT(run.sent(), IsEmpty()) << "of before the question";
  run.tick_after(1);
  EXPECT_THAT(run.sent(), ElementsAre("1 ledger 2 records", "2 ledger 2 records"));
  run.held(2, 2);
  EXPECT_THAT(run.sent(), ElementsAre("3 answer 1 version 0"));
}

TEST(CoordinatorRegistry, WhileOneEntryIsUnderWayTheNextWaitsForCompany) {
  Asked run(4, 1);
  run.request(3, put_message(1, "a", "x"));
  run.tick_after(1);
  run.request(2, put_message(1, "a", "y"));
  run.tick_after(1);
  run.request(3, put_message(2, "a", "z"));
  run.tick_after(1);
  EXPECT_THAT(run.sent(), ElementsAre("1 ledger 2 records"));
  run.held(1, 2);
  run.tick_after(1);
  EXPECT_THAT(run.sent(), ElementsAre("3 answer 1 version 1", "1 ledger 3 records"));
  run.held(1, 3);
  EXPECT_THAT(run.sent(), ElementsAre("2 answer 1 version 2", "3 answer 2 version 3"));
}

TEST(CoordinatorRegistry, InANewViewAllAskAgainAndPutsCountOnce) {
  Asked run(4, 1);
  run.request(3, put_message(1, "key", "value", 0));
  run.request(2, watch_message(1, "key", 1));
  run.tick_after(1);
  run.enter_view({kZero, kTwo, kThree}, {}, kZero, 2);
  run.request(3, put_message(1, "key", "value", 0));
  run.tick_after(1);
  EXPECT_THAT(run.sent(), Contains("2 ledger 3 state"));
  run.held(2, 3);
  EXPECT_THAT(run.sent(), ElementsAre("3 answer 1 version 1")) << "no false conflict";
  run.request(3, put_message(2, "key", "more"));
  run.tick_after(1);
  run.held(2, 4);
  EXPECT_THAT(run.sent(), ElementsAre("2 ledger 4 records", "3 answer 2 version 2"))
      << "the watch of before is forgotten";
}

TEST(CoordinatorRegistry, WithTheLastStandbyGoneAnswersComeAtOnce) {
  Asked run(3, 1);
  run.sink.claimed_bytes = Coordinator::kReplicatedBytesMax;
  run.request(2, put_message(1, "key", "value"));
  EXPECT_THAT(run.sent(), IsEmpty());
  run.tick_after(1);
  EXPECT_THAT(run.sent(), ElementsAre("2 answer 1 version 1")) << "the state is too large to send";
}

TEST(CoordinatorRegistry, WhenTheJobHasSettledNothingIsWrittenAnyMore) {
  Asked run(2, 0);
  run.receive(1, MessageKind::kResults, results_message(0, 1, {{{0, 100}}}));
  run.sent();
  run.request(1, put_message(1, "key", "value"));
  EXPECT_THAT(run.sent(), ElementsAre("1 answer 1 status 6 version 0"));
}

TEST(CoordinatorRegistry, NonsenseIsRefused) {
  Asked run(2, 0);
  Buffer cut(put_message(1, "key", "value").view());
  cut.resize(cut.size() - 1);
  run.request(1, cut);
  EXPECT_EQ(run.refused(), 1u);
  EXPECT_THAT(run.sent(), IsEmpty());
}

// ---- the heir ----

// The entries of a coordinator's ledger after these puts, one each, as its standby got them.
std::vector<Buffer> entries_after(const std::vector<std::pair<std::uint32_t, Buffer>>& requests) {
  LoneRank first(0, 3, only_others(), 1);
  first.open({bag(100)});
  for (std::uint32_t rank = 1; rank < 3; ++rank) {
    first.receive(rank, MessageKind::kReady, ready_message({bag(100)}));
  }
  std::vector<Buffer> entries;
  const auto next = [&] {
    first.tick_after(kSecond);
    for (auto& message : first.messages()) {
      if (message.kind == MessageKind::kLedger) entries.push_back(std::move(message.payload));
    }
    first.receive(1, MessageKind::kLedgerHeld, ledger_held_message(entries.size()));
  };
  next();
  for (const auto& [rank, request] : requests) {
    first.receive(rank, MessageKind::kRegistryRequest, request);
    next();
  }
  return entries;
}

TEST(HeirsRegistry, HasWhatWasWrittenAndKnowsWhatComesAgain) {
  std::vector<std::pair<std::uint32_t, Buffer>> requests;
  requests.emplace_back(2, put_message(1, "key", "value", 0));
  requests.emplace_back(2, put_message(2, "key", "more", 1));
  LoneRank heir(1, 3, only_others(), 1);
  heir.open({bag(100)});
  for (const Buffer& entry : entries_after(requests)) heir.receive(0, MessageKind::kLedger, entry);
  heir.sent();

  heir.enter_view({kOne, kTwo}, {}, kOne, 3);
  heir.receive(2, MessageKind::kRegistryRequest, put_message(2, "key", "more", 1));
  heir.receive(2, MessageKind::kRegistryRequest, get_message(3, "key"));
  heir.sent();
  heir.tick_after(kSecond);
  EXPECT_THAT(heir.sent(), Contains("2 ledger 4 state"));
  heir.receive(2, MessageKind::kLedgerHeld, ledger_held_message(4));

  EXPECT_THAT(heir.sent(), ElementsAre("2 answer 2 version 2", "2 answer 3 version 2 = more"));
  EXPECT_EQ(heir.refused(), 0u);
}

TEST(HeirsRegistry, IsInTheStateAsInTheRecords) {
  std::vector<std::pair<std::uint32_t, Buffer>> requests;
  for (std::uint64_t i = 1; i <= 40; ++i) {  // so much that the state is sent again
    requests.emplace_back(2, put_message(i, "key", std::string(4000, 'x')));
  }
  LoneRank heir(1, 3, only_others(), 1);
  heir.open({bag(100)});
  const auto entries = entries_after(requests);
  int states = 0;
  for (const Buffer& entry : entries) {
    states += entry.view()[8] == std::byte{1} ? 1 : 0;
    heir.receive(0, MessageKind::kLedger, entry);
  }
  EXPECT_GT(states, 1);
  heir.enter_view({kOne}, {}, kOne, entries.size());
  RegistryCall call{.id = 7, .operation = RegistryOperation::kGet, .key = "key", .value = {}};
  heir.node().step(RegistryAsked{&call}, heir.output);
  ASSERT_EQ(heir.output.replies.size(), 1u);
  EXPECT_EQ(heir.output.replies[0].version, 40u);
}

TEST(HeirsRegistry, WhoAsksBeforeTheJobIsOpenThereWaits) {
  LoneRank heir(1, 3, only_others(), 1);
  std::vector<std::pair<std::uint32_t, Buffer>> requests;
  requests.emplace_back(2, put_message(1, "key", "value"));
  heir.receive(0, MessageKind::kOpen, open_message("job"));
  for (const Buffer& entry : entries_after(requests)) heir.receive(0, MessageKind::kLedger, entry);
  heir.enter_view({kOne, kTwo}, {}, kOne, 2);
  heir.receive(2, MessageKind::kRegistryRequest, get_message(2, "key"));
  const auto order = heir.want();
  ASSERT_TRUE(order && order->kind == WorkKind::kOpen);
  WorkResult result;
  result.restart(*order);
  result.stages = {bag(100)};
  heir.finish(result);
  heir.tick_after(kSecond);
  heir.sent();
  heir.receive(2, MessageKind::kLedgerHeld, ledger_held_message(3));
  EXPECT_THAT(heir.sent(), Contains("2 answer 2 version 1 = value"));
}

// ---- the rank that asks ----

class Asking : public LoneRank {
 public:
  Asking() : LoneRank(2, 4) {
    open({bag(10)});
    sent();
  }
  void ask(RegistryCall call) { node().step(RegistryAsked{&call}, output); }
  void get(std::uint64_t id, std::string key = "key", Nanoseconds timeout = kSecond) {
    ask({.id = id,
         .operation = RegistryOperation::kGet,
         .key = key,
         .value = {},
         .timeout = timeout});
  }
  void put(std::uint64_t id, std::string value, Nanoseconds timeout = kSecond,
           std::uint64_t version = kAnyVersion) {
    ask({.id = id,
         .operation = RegistryOperation::kPut,
         .key = "key",
         .value = value,
         .version = version,
         .timeout = timeout});
  }
  void answer(std::uint32_t from, const RegistryAnswer& answer) {
    receive(from, MessageKind::kRegistryAnswer, answer_message(answer));
  }
  // "7 status 0 version 3 = value" for each since the last call.
  std::vector<std::string> replies() {
    std::vector<std::string> lines;
    for (const RegistryReply& reply : std::exchange(output.replies, {})) {
      lines.push_back(std::to_string(reply.id) + " status " +
                      std::to_string(static_cast<int>(reply.status)) + " version " +
                      std::to_string(reply.version) +
                      (reply.value.empty() ? "" : " = " + reply.value));
    }
    return lines;
  }
};

TEST(AskingRank, BringsEachCallItsAnswer) {
  Asking rank;
  rank.get(70);
  rank.put(71, "x", kSecond, 4);
  EXPECT_THAT(rank.sent(),
              ElementsAre("0 call 1 get key", "0 call 2 put key write 1 after 0 from 4 = x"));
  rank.answer(0, {2, RegistryStatus::kConflict, 5, ""});
  rank.answer(0, {1, RegistryStatus::kDone, 5, "y"});
  EXPECT_THAT(rank.replies(), ElementsAre("71 status 1 version 5", "70 status 0 version 5 = y"));
  rank.put(72, "z");
  EXPECT_THAT(rank.sent(), ElementsAre("0 call 3 put key write 2 after 1 = z"));
}

TEST(AskingRank, GivesUpInTimeAndOverhearsLateAnswers) {
  Asking rank;
  rank.get(1, "key", kMillisecond);
  rank.put(2, "x", kSecond);
  rank.tick_after(kMillisecond);
  EXPECT_THAT(rank.replies(), ElementsAre("1 status 9 version 0"));
  rank.answer(0, {1, RegistryStatus::kDone, 5, "y"});
  EXPECT_THAT(rank.replies(), IsEmpty());
  EXPECT_EQ(rank.refused(), 0u);
  rank.answer(0, {3, RegistryStatus::kDone, 5, "y"});
  EXPECT_EQ(rank.refused(), 1u) << "to a call that never was";
}

TEST(AskingRank, AsksAgainInANewViewUnderTheSameNumbers) {
  Asking rank;
  rank.put(1, "x");
  rank.get(2);
  rank.sent();
  rank.enter_view({kZero, kTwo, kThree});
  EXPECT_THAT(rank.sent(), ElementsAre(testing::StartsWith("0 ready"), "0 announce",
                                       "0 call 1 put key write 1 after 0 = x", "0 call 2 get key"));
}

TEST(AskingRank, AsksANewCoordinatorOnceItListens) {
  Asking rank;
  rank.put(1, "x");
  rank.sent();
  rank.enter_view({kOne, kTwo, kThree}, {}, kOne);
  rank.get(2);
  EXPECT_THAT(rank.sent(), IsEmpty());
  rank.receive(1, MessageKind::kOpen, open_message("job"));
  EXPECT_THAT(rank.sent(), ElementsAre(testing::StartsWith("1 ready"), "1 announce",
                                       "1 call 1 put key write 1 after 0 = x", "1 call 2 get key"));
  rank.answer(3, {1, RegistryStatus::kDone, 1, ""});
  EXPECT_EQ(rank.refused(), 1u) << "not from the coordinator";
  rank.answer(1, {1, RegistryStatus::kDone, 1, ""});
  EXPECT_THAT(rank.replies(), ElementsAre("1 status 0 version 1"));
}

TEST(AskingRank, AtTheEndOfTheRunNobodyWaits) {
  Asking rank;
  rank.get(1);
  rank.receive(0, MessageKind::kFinish, finish_message(0, ""));
  rank.get(2);
  EXPECT_THAT(rank.replies(), ElementsAre("1 status 6 version 0", "2 status 6 version 0"));
}

TEST(AskingRank, WhatIsTooLongOrTooMuchIsNotSent) {
  Asking rank;
  rank.get(1, std::string(kRegistryKeyBytesMax + 1, 'k'));
  rank.put(2, std::string(kRegistryValueBytesMax + 1, 'v'));
  EXPECT_THAT(rank.replies(), ElementsAre("1 status 7 version 0", "2 status 8 version 0"));
  EXPECT_THAT(rank.sent(), IsEmpty());
  for (std::uint64_t id = 1; id <= kRegistryCallsMax; ++id) rank.get(id);
  EXPECT_THAT(rank.replies(), IsEmpty());
  rank.get(99);
  EXPECT_THAT(rank.replies(), ElementsAre("99 status 5 version 0"));
}

// A put that waits for long must not make the coordinator remember all those after it.
TEST(AskingRank, PutsDoNotRunFarAheadOfOneThatWaits) {
  Asking rank;
  rank.put(1, "x", 3600 * kSecond);
  for (std::uint64_t id = 2; id <= kRegistryCallsMax; ++id) {
    rank.put(id, "y", 0);
    rank.tick_after(1);
  }
  EXPECT_EQ(rank.replies().size(), kRegistryCallsMax - 1);
  rank.put(99, "z");
  EXPECT_THAT(rank.replies(), ElementsAre("99 status 5 version 0"));
}

}  // namespace
}  // namespace regroup
