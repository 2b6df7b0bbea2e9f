// What standbys keep and what the coordinator sends them: each rule by itself, then a leader and
// its standbys in any order of events, held against the plain list of all that was decided.
#include "runtime/protocol/ledger.hpp"

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace regroup {
namespace {

using testing::IsEmpty;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}
std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
LedgerEntry records_at(LedgerPosition position, std::string_view text) {
  return {position, LedgerForm::kRecords, bytes_of(text)};
}
LedgerEntry state_at(LedgerPosition position, std::string_view text) {
  return {position, LedgerForm::kState, bytes_of(text)};
}

// ---- entries ----

Buffer entry_bytes(LedgerPosition position, LedgerForm form, std::string_view text) {
  Buffer bytes;
  Writer writer(bytes);
  put_entry_head(writer, position, form);
  writer.put_raw(bytes_of(text));
  return bytes;
}

TEST(LedgerEntry, CrossesTheWireWithAllThatFollowsItsHead) {
  for (const LedgerForm form : {LedgerForm::kRecords, LedgerForm::kState}) {
    for (const char* text : {"", "decided"}) {
      const Buffer bytes = entry_bytes(7, form, text);
      Reader reader(bytes.view());
      const auto entry = get_entry(reader);
      ASSERT_TRUE(entry);
      EXPECT_EQ(entry->position, 7u);
      EXPECT_EQ(entry->form, form);
      EXPECT_EQ(text_of(entry->bytes), text);
      EXPECT_TRUE(reader.complete());
    }
  }
}

TEST(LedgerEntry, WhatCannotBeOneIsRefused) {
  const auto is_read = [](std::span<const std::byte> bytes) {
    Reader reader(bytes);
    return get_entry(reader).has_value();
  };
  const Buffer whole = entry_bytes(7, LedgerForm::kState, "");
  EXPECT_EQ(whole.size(), 9u);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_FALSE(is_read(whole.view().first(length))) << "cut to " << length;
  }
  EXPECT_FALSE(is_read(entry_bytes(0, LedgerForm::kState, "x").view())) << "entries count from 1";
  EXPECT_FALSE(is_read(entry_bytes(7, LedgerForm{2}, "x").view())) << "no such form";
}

// ---- a standby's copy ----

TEST(LedgerCopy, BeginsWithAState) {
  LedgerCopy copy;
  EXPECT_EQ(copy.position(), 0u);
  EXPECT_FALSE(copy.append(records_at(1, "a"))) << "on what?";
  EXPECT_EQ(copy.position(), 0u);
  EXPECT_TRUE(copy.append(state_at(5, "S")));
  EXPECT_EQ(copy.position(), 5u);
  EXPECT_EQ(text_of(copy.state()), "S");
  EXPECT_THAT(copy.records(), IsEmpty());
}

TEST(LedgerCopy, TakesOnlyWhatFollows) {
  LedgerCopy copy;
  copy.append(state_at(5, "S"));
  EXPECT_TRUE(copy.append(records_at(6, "ab")));
  EXPECT_TRUE(copy.append(records_at(7, "")));
  EXPECT_TRUE(copy.append(records_at(8, "c")));

  EXPECT_FALSE(copy.append(records_at(8, "again")));
  EXPECT_FALSE(copy.append(records_at(10, "a gap")));
  EXPECT_FALSE(copy.append(records_at(0, "none")));
  EXPECT_FALSE(copy.append(state_at(8, "again")));
  EXPECT_FALSE(copy.append(state_at(3, "an old one")));

  EXPECT_EQ(copy.position(), 8u);
  EXPECT_EQ(text_of(copy.state()), "S");
  EXPECT_EQ(text_of(copy.records()), "abc") << "refused entries change nothing";
}

TEST(LedgerCopy, AStateStandsForAllBeforeIt) {
  LedgerCopy copy;
  copy.append(state_at(1, "S"));
  copy.append(records_at(2, "ab"));
  EXPECT_TRUE(copy.append(state_at(9, "T"))) << "also over a gap";
  EXPECT_EQ(copy.position(), 9u);
  EXPECT_EQ(text_of(copy.state()), "T");
  EXPECT_THAT(copy.records(), IsEmpty());
  EXPECT_TRUE(copy.append(records_at(10, "c")));
  EXPECT_EQ(text_of(copy.records()), "c");
}

TEST(LedgerCopy, ClearedItIsAsNew) {
  LedgerCopy copy;
  copy.append(state_at(1, "S"));
  copy.append(records_at(2, "ab"));
  copy.clear();
  EXPECT_EQ(copy.position(), 0u);
  EXPECT_THAT(copy.state(), IsEmpty());
  EXPECT_THAT(copy.records(), IsEmpty());
  EXPECT_FALSE(copy.append(records_at(3, "c")));
}

Buffer bytes_of(const LedgerCopy& copy) {
  Buffer bytes;
  Writer writer(bytes);
  copy.put(writer);
  return bytes;
}

TEST(LedgerCopy, CrossesTheWire) {
  for (const auto& [state, records] :
       std::vector<std::pair<std::string, std::string>>{{"S", "abc"}, {"S", ""}, {"", "abc"}}) {
    LedgerCopy copy;
    copy.append(state_at(40, state));
    copy.append(records_at(41, records));
    const Buffer bytes = bytes_of(copy);
    LedgerCopy loaded;
    loaded.append(state_at(7, "what it was before"));
    Reader reader(bytes.view());
    EXPECT_TRUE(loaded.load(reader));
    EXPECT_TRUE(reader.complete());
    EXPECT_EQ(loaded.position(), 41u);
    EXPECT_EQ(text_of(loaded.state()), state);
    EXPECT_EQ(text_of(loaded.records()), records);
    EXPECT_TRUE(loaded.append(records_at(42, "goes on")));
  }
}

TEST(LedgerCopy, WhatCannotBeOneLeavesItEmpty) {
  const auto expect_empty = [](std::span<const std::byte> bytes, std::string_view what) {
    LedgerCopy copy;
    copy.append(state_at(7, "what it was before"));
    Reader reader(bytes);
    EXPECT_FALSE(copy.load(reader)) << what;
    EXPECT_EQ(copy.position(), 0u) << what;
    EXPECT_THAT(copy.state(), IsEmpty()) << what;
    EXPECT_THAT(copy.records(), IsEmpty()) << what;
  };
  LedgerCopy copy;
  copy.append(state_at(40, "state"));
  const Buffer whole = bytes_of(copy);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    expect_empty(whole.view().first(length), "cut to " + std::to_string(length));
  }
  expect_empty(bytes_of(LedgerCopy()).view(), "a copy of nothing");
  Buffer longer(whole.view());
  const std::uint64_t far_too_long = ~std::uint64_t{0};
  std::memcpy(longer.data() + sizeof(LedgerPosition), &far_too_long, sizeof far_too_long);
  expect_empty(longer.view(), "a state beyond the end");
}

// ---- the coordinator's side ----

constexpr RankId kOne{1};
constexpr RankId kTwo{2};
constexpr RankId kThree{3};
constexpr std::size_t kLargeState = std::size_t{1} << 40;

// "1 state, 2 records"
std::string dispatched(LedgerLeader& leader) {
  std::string line;
  for (const auto [to, form] : leader.begin_entry()) {
    if (!line.empty()) line += ", ";
    line += std::to_string(to.value) + (form == LedgerForm::kState ? " state" : " records");
  }
  return line;
}

LedgerLeader leader_of(std::vector<RankId> standbys, LedgerPosition position = 0) {
  LedgerLeader leader;
  leader.begin_view(position, std::move(standbys));
  return leader;
}

// Decides something of this size and has the next entry sent.
std::string next_entry(LedgerLeader& leader, std::size_t record_bytes = 1,
                       std::size_t state_bytes = kLargeState) {
  if (Buffer* records = leader.records()) records->extend(record_bytes);
  leader.recorded(state_bytes);
  return leader.due(0, true) ? dispatched(leader) : "not due";
}

TEST(LedgerLeader, WithoutStandbysNothingIsSentAndAllIsSafe) {
  LedgerLeader leader = leader_of({}, 12);
  EXPECT_FALSE(leader.has_standbys());
  EXPECT_EQ(leader.records(), nullptr) << "nobody would read it";
  leader.touch();
  EXPECT_FALSE(leader.due(kSecond, true));
  EXPECT_EQ(leader.position(), 12u);
  EXPECT_EQ(leader.committed(), 12u);
}

TEST(LedgerLeader, AViewBeginsWithTheStateToAll) {
  LedgerLeader leader = leader_of({kOne, kTwo}, 41);
  EXPECT_TRUE(leader.has_standbys());
  EXPECT_EQ(leader.records(), nullptr) << "the state tells it anyway";
  EXPECT_TRUE(leader.due(0, false));
  EXPECT_EQ(dispatched(leader), "1 state, 2 state");
  EXPECT_EQ(leader.position(), 42u) << "entries are numbered over the whole run";
  EXPECT_EQ(next_entry(leader), "1 records, 2 records");
}

TEST(LedgerLeader, WhatWasRecordedIsShippedOnce) {
  LedgerLeader leader = leader_of({kOne});
  leader.begin_entry();
  leader.records()->append(bytes_of("ab"));
  leader.records()->append(bytes_of("c"));
  leader.begin_entry();
  EXPECT_EQ(text_of(leader.recorded_bytes()), "abc");
  leader.records()->append(bytes_of("d"));
  EXPECT_EQ(text_of(leader.recorded_bytes()), "abc") << "until the next entry begins";
  leader.begin_entry();
  EXPECT_EQ(text_of(leader.recorded_bytes()), "d");
}

TEST(LedgerLeader, AnEntryIsDueWhenThereIsSomethingToTellAndItIsTime) {
  LedgerLeader leader = leader_of({kOne});
  leader.begin_entry();
  leader.sent(kSecond, 0);
  EXPECT_FALSE(leader.due(kSecond + LedgerLeader::kPeriod, false)) << "nothing was decided";
  EXPECT_FALSE(leader.due(kSecond + LedgerLeader::kPeriod, true));
  leader.touch();
  EXPECT_FALSE(leader.due(kSecond + LedgerLeader::kPeriod - 1, false));
  EXPECT_TRUE(leader.due(kSecond + LedgerLeader::kPeriod, false));
  EXPECT_TRUE(leader.due(kSecond, true)) << "what is urgent waits for nothing";
  leader.begin_entry();
  EXPECT_FALSE(leader.due(2 * kSecond, true)) << "told";
}

TEST(LedgerLeader, EntriesThatCostMuchAreRare) {
  LedgerLeader leader = leader_of({kOne});
  leader.begin_entry();
  constexpr Nanoseconds kCost = LedgerLeader::kPeriod;
  leader.sent(kSecond, kCost);
  leader.touch();
  EXPECT_FALSE(leader.due(kSecond + LedgerLeader::kCostShare * kCost - 1, false));
  EXPECT_TRUE(leader.due(kSecond + LedgerLeader::kCostShare * kCost, false));
}

TEST(LedgerLeader, ANewViewIsNotHeldUpByWhatTheLastEntryCost) {
  LedgerLeader leader = leader_of({kOne});
  leader.begin_entry();
  leader.sent(kSecond, kSecond);
  leader.begin_view(leader.position(), {kTwo});
  EXPECT_TRUE(leader.due(kSecond, false));
}

TEST(LedgerLeader, AStandbyHasOnlySoManyEntriesToConfirm) {
  LedgerLeader leader = leader_of({kOne});
  EXPECT_EQ(next_entry(leader), "1 state");
  for (LedgerPosition i = 1; i < LedgerLeader::kInFlightMax; ++i) {
    EXPECT_EQ(next_entry(leader), "1 records");
  }
  EXPECT_EQ(next_entry(leader), "not due");
  EXPECT_EQ(leader.position(), LedgerLeader::kInFlightMax);

  EXPECT_TRUE(leader.held(kOne, 1));
  EXPECT_EQ(next_entry(leader), "1 records") << "it has missed nothing";
  EXPECT_EQ(next_entry(leader), "not due");
}

TEST(LedgerLeader, AStandbyThatIsLeftBehindGetsTheStateOnceItHasCaughtUp) {
  LedgerLeader leader = leader_of({kOne, kTwo});
  EXPECT_EQ(next_entry(leader), "1 state, 2 state");
  const auto follow = [&] { return leader.held(kOne, leader.position()); };
  for (LedgerPosition i = 1; i < LedgerLeader::kInFlightMax; ++i) {
    EXPECT_TRUE(follow());
    EXPECT_EQ(next_entry(leader), "1 records, 2 records");
  }
  EXPECT_TRUE(follow());
  EXPECT_EQ(next_entry(leader), "1 records");
  EXPECT_TRUE(leader.held(kTwo, LedgerLeader::kInFlightMax - 1));
  EXPECT_TRUE(follow());
  EXPECT_EQ(next_entry(leader), "1 records") << "it still has one to read";
  EXPECT_FALSE(leader.held(kTwo, LedgerLeader::kInFlightMax + 1)) << "which it never got";
  EXPECT_TRUE(leader.held(kTwo, LedgerLeader::kInFlightMax));
  EXPECT_TRUE(follow());
  EXPECT_EQ(next_entry(leader), "1 records, 2 state");
  EXPECT_TRUE(follow());
  EXPECT_EQ(next_entry(leader), "1 records, 2 records") << "and goes on like the other";
}

// Or what waits for the majority would wait until something else was decided.
TEST(LedgerLeader, AStandbyThatAMajorityNeedsGetsTheStateThoughThereIsNothingNew) {
  LedgerLeader leader = leader_of({kOne, kTwo, RankId{3}});
  EXPECT_EQ(next_entry(leader), "1 state, 2 state, 3 state");
  for (LedgerPosition i = 1; i <= LedgerLeader::kInFlightMax; ++i) {
    EXPECT_TRUE(leader.held(kOne, leader.position()));
    next_entry(leader);
  }
  EXPECT_TRUE(leader.held(kOne, leader.position()));
  EXPECT_FALSE(leader.due(kSecond, true)) << "the others have yet to catch up";
  EXPECT_TRUE(leader.held(kTwo, LedgerLeader::kInFlightMax));
  EXPECT_TRUE(leader.due(kSecond, true));
  EXPECT_EQ(dispatched(leader), "1 records, 2 state");
  EXPECT_FALSE(leader.due(kSecond, true)) << "it is on its way";
  EXPECT_TRUE(leader.held(kOne, leader.position()));
  EXPECT_TRUE(leader.held(kTwo, leader.position()));
  EXPECT_EQ(leader.committed(), leader.position());
  EXPECT_TRUE(leader.held(RankId{3}, LedgerLeader::kInFlightMax));
  EXPECT_FALSE(leader.due(kSecond, true)) << "nobody waits for this one";
}

TEST(LedgerLeader, WhatNoRecordTellsIsToldByTheState) {
  LedgerLeader leader = leader_of({kOne});
  leader.begin_entry();
  leader.records()->append(bytes_of("abc"));
  leader.want_state();
  EXPECT_EQ(leader.records(), nullptr);
  EXPECT_EQ(dispatched(leader), "1 state");
  EXPECT_THAT(leader.recorded_bytes(), IsEmpty()) << "what was recorded before is in the state";
  EXPECT_NE(leader.records(), nullptr);
}

TEST(LedgerLeader, RecordsLargerThanTheStateGiveWayToIt) {
  LedgerLeader leader = leader_of({kOne});
  leader.begin_entry();
  EXPECT_EQ(next_entry(leader, 100, 100), "1 records");
  EXPECT_EQ(next_entry(leader, 101, 100), "1 state");
  EXPECT_EQ(next_entry(leader, 100, 100), "1 records");
}

// The bound on what a standby keeps: in steps of small entries.
TEST(LedgerLeader, RecordsThatOutgrowTheStateGiveWayToIt) {
  constexpr std::size_t kStep = 1000;
  constexpr std::size_t kState = 50'000;
  constexpr std::size_t kMost = LedgerLeader::kRecordBytesMax + 2 * kState;
  LedgerLeader leader = leader_of({kOne});
  leader.begin_entry();
  for (int round = 0; round < 2; ++round) {
    for (std::size_t kept = kStep; kept <= kMost; kept += kStep) {
      ASSERT_TRUE(leader.held(kOne, leader.position()));
      ASSERT_EQ(next_entry(leader, kStep, kState), "1 records") << kept;
    }
    ASSERT_TRUE(leader.held(kOne, leader.position()));
    EXPECT_EQ(next_entry(leader, kStep, kState), "1 state");
  }
}

TEST(LedgerLeader, AnEntryIsSafeWithAMajorityOfTheReplicas) {
  for (std::uint32_t count = 0; count <= 4; ++count) {
    std::vector<RankId> standbys;
    for (std::uint32_t i = 1; i <= count; ++i) standbys.push_back(RankId{i});
    LedgerLeader leader = leader_of(standbys, 10);
    if (count != 0) leader.begin_entry();
    const LedgerPosition entry = leader.position();
    // From the last, so that it does not hang on who is first.
    for (std::uint32_t holding = 0; holding <= count; ++holding) {
      if (holding != 0) {
        ASSERT_TRUE(leader.held(RankId{count + 1 - holding}, entry));
      }
      const bool majority = 2 * (holding + 1) > count + 1;
      EXPECT_EQ(leader.committed() >= entry, majority) << holding << " of " << count;
    }
  }
}

TEST(LedgerLeader, EachEntryIsSafeByItself) {
  LedgerLeader leader = leader_of({kOne, kTwo, kThree});
  for (int i = 0; i < 3; ++i) next_entry(leader);
  leader.held(kOne, 3);
  leader.held(kTwo, 1);
  EXPECT_EQ(leader.committed(), 1u);
  leader.held(kThree, 2);
  EXPECT_EQ(leader.committed(), 2u);
  leader.held(kTwo, 3);
  EXPECT_EQ(leader.committed(), 3u);
}

TEST(LedgerLeader, WhatCannotBeHeldIsRefusedAndChangesNothing) {
  LedgerLeader leader = leader_of({kOne, kTwo}, 5);
  next_entry(leader);
  next_entry(leader);
  ASSERT_TRUE(leader.held(kOne, 6));
  EXPECT_FALSE(leader.held(kThree, 6)) << "no standby";
  EXPECT_FALSE(leader.held(kOne, 8)) << "never sent";
  EXPECT_FALSE(leader.held(kTwo, ~LedgerPosition{0}));
  EXPECT_FALSE(leader.held(kOne, 5)) << "it had more";
  EXPECT_EQ(leader.committed(), 6u);
  EXPECT_TRUE(leader.held(kOne, 6)) << "again, is no lie";
  EXPECT_TRUE(leader.held(kOne, 7));
}

TEST(LedgerLeader, WhatStandbysHeldCountsForNothingInANewView) {
  LedgerLeader leader = leader_of({kOne, kTwo});
  for (int i = 0; i < 3; ++i) next_entry(leader);
  leader.held(kOne, 3);
  leader.begin_view(3, {kTwo, kThree});
  EXPECT_FALSE(leader.held(kOne, 3)) << "no standby any more";
  EXPECT_EQ(next_entry(leader), "2 state, 3 state") << "whatever was in flight";
  EXPECT_EQ(leader.position(), 4u);
  EXPECT_LT(leader.committed(), 4u);
  EXPECT_TRUE(leader.held(kThree, 4));
  EXPECT_EQ(leader.committed(), 4u);
}

// ---- together ----

// A coordinator that decides bytes, and standbys whose messages wait until the test has them read.
// The state is all that was decided; so a copy is right if state and records together are what had
// been decided when its latest entry was made.
class Replicas {
 public:
  explicit Replicas(unsigned seed) : random_(seed) { begin_view(); }

  void act() {
    switch (pick(12)) {
      case 0:
        return decide(pick(4) == 0 ? 5000 : 1 + pick(40));
      case 1:
        return leader_.touch();
      case 2:
        return pick(10) == 0 ? leader_.want_state() : void();
      case 3:
        return pick(25) == 0 ? begin_view() : void();
      case 4:
      case 5:
        now_ += static_cast<Nanoseconds>(pick(2 * LedgerLeader::kPeriod));
        return replicate(pick(8) == 0);
      default:
        return read(standbys_[pick(standbys_.size())]);
    }
  }
  // Everyone reads, and the rest is told: all have all.
  void settle() {
    leader_.touch();
    for (int left = 3 * static_cast<int>(LedgerLeader::kInFlightMax); left > 0; --left) {
      for (Standby& standby : standbys_) {
        while (!standby.inbox.empty()) read(standby);
      }
      leader_.touch();
      replicate(true);
    }
    for (Standby& standby : standbys_) {
      while (!standby.inbox.empty()) read(standby);
      EXPECT_EQ(standby.copy.position(), leader_.position());
      EXPECT_EQ(content(standby.copy), decided_);
    }
    EXPECT_EQ(leader_.committed(), leader_.position());
  }
  LedgerPosition position() const { return leader_.position(); }
  int states() const { return states_; }
  int records() const { return records_; }

 private:
  struct Standby {
    RankId rank;
    LedgerCopy copy;
    std::deque<Buffer> inbox;
  };

  std::size_t pick(std::size_t below) { return random_() % below; }
  static std::string content(const LedgerCopy& copy) {
    return text_of(copy.state()) + text_of(copy.records());
  }

  // Some standbys stay, with what they have and nothing more of what was on its way to them.
  void begin_view() {
    std::vector<Standby> next;
    for (std::uint32_t rank = 1; rank <= 1 + pick(4); ++rank) {
      Standby standby{RankId{rank}, {}, {}};
      const auto same = [&](const Standby& one) { return one.rank == standby.rank; };
      const auto before = std::ranges::find_if(standbys_, same);
      if (before != standbys_.end() && pick(2) == 0) standby.copy = std::move(before->copy);
      next.push_back(std::move(standby));
    }
    standbys_ = std::move(next);
    std::vector<RankId> ranks;
    for (const Standby& standby : standbys_) ranks.push_back(standby.rank);
    leader_.begin_view(leader_.position(), std::move(ranks));
    view_began_ = leader_.position();
  }
  void decide(std::size_t bytes) {
    const std::string what(bytes, static_cast<char>('a' + pick(26)));
    decided_ += what;
    if (Buffer* records = leader_.records()) records->append(bytes_of(what));
    leader_.recorded(decided_.size());
  }
  void replicate(bool urgent) {
    if (!leader_.due(now_, urgent)) return;
    const auto dispatches = leader_.begin_entry();
    EXPECT_FALSE(dispatches.empty());
    told_[leader_.position()] = decided_.size();
    for (const auto [to, form] : dispatches) {
      const bool state = form == LedgerForm::kState;
      ++(state ? states_ : records_);
      const std::string text = state ? decided_ : text_of(leader_.recorded_bytes());
      Standby& standby = standbys_[to.value - 1];
      standby.inbox.push_back(entry_bytes(leader_.position(), form, text));
      EXPECT_LE(standby.inbox.size(), LedgerLeader::kInFlightMax);
    }
    leader_.sent(now_, static_cast<Nanoseconds>(pick(20'000)));
  }
  void read(Standby& standby) {
    if (standby.inbox.empty()) return;
    const Buffer message = std::move(standby.inbox.front());
    standby.inbox.pop_front();
    Reader reader(message.view());
    const auto entry = get_entry(reader);
    ASSERT_TRUE(entry);
    ASSERT_TRUE(standby.copy.append(*entry)) << "an entry that does not follow";
    ASSERT_EQ(content(standby.copy), decided_.substr(0, told_.at(entry->position)));
    EXPECT_LE(standby.copy.records().size(),
              LedgerLeader::kRecordBytesMax + 2 * decided_.size() + decided_.size());
    ASSERT_TRUE(leader_.held(standby.rank, standby.copy.position()));
    const LedgerPosition committed = leader_.committed();
    if (committed == view_began_) return;
    const auto has = [&](const Standby& one) { return one.copy.position() >= committed; };
    const auto holders = 1 + std::ranges::count_if(standbys_, has);
    EXPECT_GT(2 * holders, static_cast<std::ptrdiff_t>(standbys_.size()) + 1) << "no majority";
  }

  std::mt19937 random_;
  LedgerLeader leader_;
  std::vector<Standby> standbys_;
  std::string decided_;
  std::map<LedgerPosition, std::size_t> told_;  // how much had been decided, by entry
  LedgerPosition view_began_ = 0;
  Nanoseconds now_ = 0;
  int states_ = 0;
  int records_ = 0;
};

TEST(Ledger, ACopyIsAlwaysWhatHadBeenDecided) {
  int states = 0;
  int records = 0;
  for (unsigned seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    Replicas replicas(seed);
    for (int i = 0; i < 400 && !testing::Test::HasFailure(); ++i) replicas.act();
    replicas.settle();
    EXPECT_GT(replicas.position(), 10u);
    states += replicas.states();
    records += replicas.records();
    if (testing::Test::HasFailure()) break;
  }
  EXPECT_GT(states, 1000);
  EXPECT_GT(records, 1000);
}

}  // namespace
}  // namespace regroup
