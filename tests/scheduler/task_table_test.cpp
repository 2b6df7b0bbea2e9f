// The task table, against a naive model of one record a shard.
#include "scheduler/task_table.hpp"

#include <expected>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/protocol/damaged_bytes.hpp"

namespace regroup {
namespace {

using testing::ElementsAre;
using Reason = CommitRefusal::Reason;

ShardRange range(std::uint64_t first, std::uint64_t count) {
  return {ShardId{first}, count};
}

constexpr Attempt kFirst{1};
constexpr Attempt kSecond{2};

TEST(TaskTable, AFreshStageIsPending) {
  TaskTable table(130);

  EXPECT_EQ(table.count(ShardState::kPending), 130U);
  EXPECT_EQ(table.state(ShardId{129}), ShardState::kPending);
  EXPECT_EQ(table.attempt(ShardId{129}), kFirst);
  EXPECT_FALSE(table.settled());
  EXPECT_EQ(table.next_pending(ShardId{0}, 1000), range(0, 130));
  EXPECT_EQ(table.next_pending(ShardId{100}, 7), range(100, 7));
  EXPECT_EQ(table.next_pending(ShardId{130}, 7).count, 0U);
}

TEST(TaskTable, AnEmptyStageIsSettled) {
  TaskTable table(0);

  EXPECT_TRUE(table.settled());
  EXPECT_EQ(table.next_pending(ShardId{0}, 1).count, 0U);
}

TEST(TaskTable, CommitCountsEachShardOnce) {
  TaskTable table(300);
  std::vector<ShardRange> done;
  table.lease(range(0, 300));

  const auto first = table.commit(range(50, 100), kFirst, done);
  const auto again = table.commit(range(0, 300), kFirst, done);

  ASSERT_TRUE(first && again);
  EXPECT_EQ(first->committed, 100U);
  EXPECT_EQ(first->duplicates, 0U);
  EXPECT_EQ(again->committed, 200U);
  EXPECT_EQ(again->duplicates, 100U);
  EXPECT_THAT(done, ElementsAre(range(50, 100), range(0, 50), range(150, 150)));
  EXPECT_TRUE(table.settled());
}

TEST(TaskTable, RunsOfOneCommitAreNotJoinedToThoseOfAnother) {
  TaskTable table(10);
  std::vector<ShardRange> done;

  ASSERT_TRUE(table.commit(range(0, 5), kFirst, done));
  ASSERT_TRUE(table.commit(range(5, 5), kFirst, done));

  EXPECT_THAT(done, ElementsAre(range(0, 5), range(5, 5)));
}

TEST(TaskTable, AResultForAQuarantinedShardIsADuplicate) {
  TaskTable table(3);
  std::vector<ShardRange> done;
  table.lease(range(0, 3));
  EXPECT_TRUE(table.quarantine(ShardId{1}));

  const auto counts = table.commit(range(0, 3), kFirst, done);

  ASSERT_TRUE(counts);
  EXPECT_EQ(counts->committed, 2U);
  EXPECT_EQ(counts->duplicates, 1U);
  EXPECT_THAT(done, ElementsAre(range(0, 1), range(2, 1)));
  EXPECT_EQ(table.state(ShardId{1}), ShardState::kQuarantined);
  EXPECT_FALSE(table.quarantine(ShardId{1}));
  EXPECT_FALSE(table.quarantine(ShardId{0})) << "a result beats a late quarantine";
  EXPECT_TRUE(table.settled());
}

TEST(TaskTable, AnAttemptThatWasNeverIssuedIsRefusedAsAWhole) {
  TaskTable table(10);
  std::vector<ShardRange> done;
  table.lease(range(0, 10));
  table.release(range(0, 4), Charge::kAttempt);

  const auto refused = table.commit(range(0, 10), kSecond, done);
  const auto zero = table.commit(range(2, 1), Attempt{0}, done);

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().reason, Reason::kNeverIssued);
  EXPECT_EQ(refused.error().shard, ShardId{4});
  EXPECT_EQ(refused.error().current, kFirst);
  ASSERT_FALSE(zero);
  EXPECT_EQ(zero.error().current, kSecond);
  EXPECT_TRUE(done.empty());
  EXPECT_EQ(table.count(ShardState::kDone), 0U);
}

TEST(TaskTable, AResultOfAnEarlierAttemptStillCounts) {
  TaskTable table(4);
  std::vector<ShardRange> done;
  table.lease(range(0, 4));
  table.release(range(0, 4), Charge::kAttempt);
  table.lease(range(0, 2));

  const auto late = table.commit(range(0, 4), kFirst, done);

  ASSERT_TRUE(late);
  EXPECT_EQ(late->committed, 4U);
  EXPECT_EQ(table.count(ShardState::kPending), 0U);
  EXPECT_EQ(table.count(ShardState::kLeased), 0U);
}

TEST(TaskTable, ACommitBeyondTheStageIsRefused) {
  TaskTable table(10);
  std::vector<ShardRange> done;

  for (const ShardRange& beyond : {range(8, 3), range(11, 0), range(~std::uint64_t{0}, 2)}) {
    const auto refused = table.commit(beyond, kFirst, done);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().reason, Reason::kNoSuchShard);
    EXPECT_GE(refused.error().shard, ShardId{10});
  }
}

TEST(TaskTable, ReleaseTouchesOnlyWhatIsLeased) {
  TaskTable table(200);
  std::vector<ShardRange> done;
  table.lease(range(0, 150));
  ASSERT_TRUE(table.commit(range(10, 70), kFirst, done));

  const auto released = table.release(range(0, 200), Charge::kAttempt);

  EXPECT_EQ(released, 80U);
  EXPECT_EQ(table.attempt(ShardId{0}), kSecond);
  EXPECT_EQ(table.attempt(ShardId{10}), kFirst);
  EXPECT_EQ(table.attempt(ShardId{80}), kSecond);
  EXPECT_EQ(table.attempt(ShardId{150}), kFirst);
  EXPECT_EQ(table.count(ShardState::kPending), 130U);
}

TEST(TaskTable, PendingRunsAreOfOneAttempt) {
  TaskTable table(20);
  table.lease(range(5, 5));
  table.release(range(5, 5), Charge::kAttempt);

  EXPECT_EQ(table.next_pending(ShardId{0}, 20), range(0, 5));
  EXPECT_EQ(table.next_pending(ShardId{5}, 20), range(5, 5));
  EXPECT_EQ(table.next_pending(ShardId{7}, 2), range(7, 2));
  EXPECT_EQ(table.next_pending(ShardId{10}, 20), range(10, 10));
}

TEST(TaskTable, ReleasedShardsAreFoundAgainFromTheStart) {
  TaskTable table(1000);
  table.lease(table.next_pending(ShardId{0}, 1000));
  EXPECT_EQ(table.next_pending(ShardId{0}, 1).count, 0U);

  table.release(range(700, 3), Charge::kNone);
  EXPECT_EQ(table.next_pending(ShardId{0}, 10), range(700, 3));
  table.release(range(64, 1), Charge::kNone);

  EXPECT_EQ(table.next_pending(ShardId{0}, 10), range(64, 1));
  EXPECT_EQ(table.next_pending(ShardId{65}, 10), range(700, 3));
}

TEST(TaskTable, AttemptsTakeMemoryByTheRunAndGiveItBack) {
  TaskTable table(100'000);
  table.lease(range(0, 100'000));
  const std::size_t bytes_before = table.memory_bytes();

  for (std::uint64_t at = 0; at < 100'000; at += 100) {
    table.release(range(at, 100), Charge::kAttempt);
  }

  EXPECT_LE(table.memory_bytes(), bytes_before + 200) << "neighbours retried alike are one run";
}

TEST(TaskTable, ReleaseAllTakesEveryLeaseBackUncharged) {
  TaskTable table(200);
  std::vector<ShardRange> done;
  table.lease(range(0, 150));
  ASSERT_TRUE(table.commit(range(10, 70), kFirst, done));
  table.quarantine(ShardId{149});
  EXPECT_EQ(table.next_pending(ShardId{0}, 1), range(150, 1));

  EXPECT_EQ(table.release_all(), 79U);

  EXPECT_EQ(table.release_all(), 0U);
  EXPECT_EQ(table.count(ShardState::kPending), 129U);
  EXPECT_EQ(table.attempt(ShardId{0}), kFirst);
  EXPECT_EQ(table.next_pending(ShardId{0}, 200), range(0, 10));
  EXPECT_EQ(table.next_pending(ShardId{10}, 200), range(80, 69));
  EXPECT_EQ(table.state(ShardId{149}), ShardState::kQuarantined);
}

TEST(TaskTable, ReopenAllMakesWhatWasSettledPending) {
  TaskTable table(200);
  std::vector<ShardRange> done;
  table.lease(range(0, 150));
  table.release(range(0, 1), Charge::kAttempt);
  ASSERT_TRUE(table.commit(range(0, 100), kFirst, done));
  table.quarantine(ShardId{199});

  table.reopen_all();

  EXPECT_EQ(table.count(ShardState::kPending), 150U);
  EXPECT_EQ(table.count(ShardState::kLeased), 50U);
  EXPECT_EQ(table.attempt(ShardId{0}), kSecond);
  EXPECT_EQ(table.next_pending(ShardId{0}, 200), range(0, 1));
  EXPECT_EQ(table.next_pending(ShardId{1}, 200), range(1, 99));
  EXPECT_EQ(table.next_pending(ShardId{100}, 200), range(150, 50));
}

// ---- saving and loading ----

Buffer saved(const TaskTable& table) {
  Buffer bytes;
  Writer writer(bytes);
  table.save(writer);
  return bytes;
}

std::expected<TaskTable, std::string> loaded(std::span<const std::byte> bytes,
                                             std::uint64_t shards) {
  Reader reader(bytes);
  auto table = TaskTable::load(reader, shards);
  if (table && !reader.complete()) return std::unexpected("bytes are left over");
  return table;
}

std::string error_of_load(const Buffer& bytes, std::uint64_t shards) {
  const auto table = loaded(bytes.view(), shards);
  return table ? "" : table.error();
}

TEST(TaskTableState, ATableOfOneStateTakesAFewBytes) {
  constexpr std::uint64_t kShards = 10'000'000;
  TaskTable table(kShards);
  std::vector<ShardRange> done;
  EXPECT_LT(saved(table).size(), 12U) << "pending";
  table.lease(range(0, kShards));
  EXPECT_LT(saved(table).size(), 12U) << "leased";
  ASSERT_TRUE(table.commit(range(0, kShards - 5000), kFirst, done));
  table.release(range(kShards - 100, 50), Charge::kAttempt);
  table.quarantine(ShardId{77});
  EXPECT_LT(saved(table).size(), 40U) << "mostly done";

  const auto again = loaded(saved(table).view(), kShards);

  ASSERT_TRUE(again) << again.error();
  EXPECT_EQ(again->count(ShardState::kDone), kShards - 5000);
  EXPECT_EQ(again->state(ShardId{kShards - 100}), ShardState::kPending);
  EXPECT_EQ(again->attempt(ShardId{kShards - 100}), kSecond);
  EXPECT_EQ(again->state(ShardId{kShards - 1}), ShardState::kLeased);
}

TEST(TaskTableState, AnEmptyStageComesBack) {
  const auto again = loaded(saved(TaskTable(0)).view(), 0);
  ASSERT_TRUE(again) << again.error();
  EXPECT_TRUE(again->settled());
}

TEST(TaskTableState, IsRefusedByAStageOfAnotherSize) {
  EXPECT_EQ(error_of_load(saved(TaskTable(5)), 6),
            "the saved task table is of a stage of 5 shards, not of 6");
  EXPECT_EQ(error_of_load({}, 6), "the saved task table is cut short");
}

TEST(TaskTableState, StepsOfAttemptsThatCannotBeAreRefused) {
  const auto error_of_steps = [](std::vector<std::uint64_t> varints) {
    Buffer bytes;
    Writer writer(bytes);
    writer.put_varint(100);
    writer.put_varint(100 << 3);  // all pending
    for (const std::uint64_t number : varints) writer.put_varint(number);
    return error_of_load(bytes, 100);
  };
  EXPECT_EQ(error_of_steps({2, 0, 2, 100, 1}), "");
  const std::string damaged = "the attempts of the saved task table are damaged";
  EXPECT_EQ(error_of_steps({1, 101, 2}), damaged) << "beyond the stage";
  EXPECT_EQ(error_of_steps({2, 60, 2, 41, 1}), damaged) << "beyond the stage";
  EXPECT_EQ(error_of_steps({2, 60, 2, 0, 3}), damaged) << "two of one shard";
  EXPECT_EQ(error_of_steps({1, 60, 1}), damaged) << "no step";
  EXPECT_EQ(error_of_steps({2, 60, 2, 1, 2}), damaged) << "no step";
  EXPECT_EQ(error_of_steps({1, 60, 0}), damaged) << "attempts count from 1";
  EXPECT_EQ(error_of_steps({1, 60, std::uint64_t{1} << 32}), damaged) << "too large";
  EXPECT_EQ(error_of_steps({~std::uint64_t{0}, 60, 2}), damaged) << "more than there are";
}

TEST(TaskTableDeathTest, LeasesOnlyWhatIsPendingAndThere) {
  TaskTable table(100);
  table.lease(range(70, 1));

  EXPECT_DEATH(table.lease(range(0, 100)), "not pending");
  EXPECT_DEATH(table.lease(range(99, 2)), "beyond the stage");
  EXPECT_DEATH(table.release(range(101, 0), Charge::kNone), "beyond the stage");
  EXPECT_DEATH(table.quarantine(ShardId{100}), "no such shard");
}

TEST(TaskTable, TenMillionShardsStayUnder64Megabytes) {
  constexpr std::uint64_t kShards = 10'000'000;
  for (const std::uint64_t batch : {1UL, 64UL, 1024UL}) {
    TaskTable table(kShards);
    std::vector<ShardRange> done;
    std::size_t bytes_max = table.memory_bytes();

    for (ShardId from{0}; from.value < kShards;) {
      const ShardRange next = table.next_pending(from, batch);
      table.lease(next);
      done.clear();
      ASSERT_TRUE(table.commit(next, kFirst, done));
      from = next.end();
      bytes_max = std::max(bytes_max, table.memory_bytes());
    }

    EXPECT_TRUE(table.settled());
    EXPECT_EQ(table.count(ShardState::kDone), kShards);
    EXPECT_LT(bytes_max, std::size_t{64} << 20);
    EXPECT_LT(bytes_max, kShards / 4 + 1024) << "two bits a shard";
  }
}

// One record a shard, one shard at a time.
class Model {
 public:
  explicit Model(std::uint64_t shards) {
    for (std::uint64_t shard = 0; shard < shards; ++shard) shards_[shard] = {};
  }

  struct Shard {
    ShardState state = ShardState::kPending;
    std::uint32_t attempt = 1;
  };

  Shard& at(std::uint64_t shard) { return shards_.at(shard); }

  std::uint64_t count(ShardState state) const {
    return static_cast<std::uint64_t>(
        std::ranges::count_if(shards_, [&](const auto& one) { return one.second.state == state; }));
  }

  ShardRange next_run(ShardState state, std::uint64_t from, std::uint64_t count_max,
                      bool one_attempt) const {
    auto at = shards_.lower_bound(from);
    while (at != shards_.end() && at->second.state != state) ++at;
    if (at == shards_.end()) return range(shards_.size(), 0);
    ShardRange run = range(at->first, 0);
    const std::uint32_t attempt = at->second.attempt;
    for (; at != shards_.end() && run.count < count_max && at->second.state == state; ++at) {
      if (one_attempt && at->second.attempt != attempt) break;
      ++run.count;
    }
    return run;
  }

 private:
  std::map<std::uint64_t, Shard> shards_;
};

class TaskTableRandom : public testing::TestWithParam<std::uint64_t> {
 protected:
  std::uint64_t below(std::uint64_t bound) { return random_() % bound; }

  ShardRange some_range() {
    const std::uint64_t first = below(shards_);
    const std::uint64_t count_max = below(4) == 0 ? shards_ : 1 + below(150);
    return range(first, below(std::min(count_max, shards_ - first) + 1));
  }

  void lease() {
    const ShardRange next = table_.next_pending(ShardId{below(shards_)}, 1 + below(200));
    table_.lease(next);
    for (auto shard = next.first.value; shard < next.end().value; ++shard) {
      ASSERT_EQ(model_.at(shard).state, ShardState::kPending);
      model_.at(shard).state = ShardState::kLeased;
    }
  }

  void release() {
    const ShardRange some = some_range();
    const Charge charge = below(2) == 0 ? Charge::kNone : Charge::kAttempt;
    std::uint64_t expected = 0;
    for (auto shard = some.first.value; shard < some.end().value; ++shard) {
      if (model_.at(shard).state != ShardState::kLeased) continue;
      model_.at(shard).state = ShardState::kPending;
      if (charge == Charge::kAttempt) ++model_.at(shard).attempt;
      ++expected;
    }
    ASSERT_EQ(table_.release(some, charge), expected);
  }

  void commit() {
    const ShardRange some = some_range();
    const Attempt attempt{static_cast<std::uint32_t>(below(10) == 0 ? below(5) : 1)};
    std::vector<ShardRange> done;
    const auto counts = table_.commit(some, attempt, done);

    bool allowed = true;
    for (auto shard = some.first.value; shard < some.end().value; ++shard) {
      allowed = allowed && attempt.value != 0 && attempt.value <= model_.at(shard).attempt;
    }
    ASSERT_EQ(counts.has_value(), allowed);
    std::vector<ShardRange> expected;
    for (auto shard = some.first.value; allowed && shard < some.end().value; ++shard) {
      ShardState& state = model_.at(shard).state;
      if (state != ShardState::kPending && state != ShardState::kLeased) continue;
      state = ShardState::kDone;
      if (expected.empty() || expected.back().end().value != shard) {
        expected.push_back(range(shard, 0));
      }
      ++expected.back().count;
    }
    ASSERT_EQ(done, expected);
    if (!allowed) return;
    std::uint64_t committed = 0;
    for (const ShardRange& run : expected) committed += run.count;
    ASSERT_EQ(counts->committed, committed);
    ASSERT_EQ(counts->duplicates, some.count - committed);
  }

  void quarantine() {
    const std::uint64_t shard = below(shards_);
    ShardState& state = model_.at(shard).state;
    const bool expected = state == ShardState::kPending || state == ShardState::kLeased;
    ASSERT_EQ(table_.quarantine(ShardId{shard}), expected);
    if (expected) state = ShardState::kQuarantined;
  }

  void release_all() {
    std::uint64_t expected = 0;
    for (std::uint64_t shard = 0; shard < shards_; ++shard) {
      if (model_.at(shard).state != ShardState::kLeased) continue;
      model_.at(shard).state = ShardState::kPending;
      ++expected;
    }
    ASSERT_EQ(table_.release_all(), expected);
  }

  void reopen_all() {
    for (std::uint64_t shard = 0; shard < shards_; ++shard) {
      ShardState& state = model_.at(shard).state;
      if (state != ShardState::kLeased) state = ShardState::kPending;
    }
    table_.reopen_all();
  }

  void look() {
    const std::uint64_t from = below(shards_ + 2);
    const std::uint64_t count_max = below(300);
    ASSERT_EQ(table_.next_pending(ShardId{from}, count_max),
              model_.next_run(ShardState::kPending, from, count_max, true));
    const auto state = static_cast<ShardState>(below(4));
    ASSERT_EQ(table_.next_run(state, ShardId{from}, count_max),
              model_.next_run(state, from, count_max, false));
  }

  void step() {
    switch (below(8)) {
      case 0:
      case 1:
      case 2:
        return lease();
      case 3:
      case 4:
        return release();
      case 5:
        return below(4) == 0 ? commit() : look();
      case 6:
        if (below(30) == 0) return below(3) == 0 ? reopen_all() : release_all();
        return below(4) == 0 ? quarantine() : look();
      default:
        return look();
    }
  }

  void expect_matches_model() {
    for (int state = 0; state < 4; ++state) {
      ASSERT_EQ(table_.count(ShardState(state)), model_.count(ShardState(state)));
    }
    for (std::uint64_t shard = 0; shard < shards_; ++shard) {
      ASSERT_EQ(table_.state(ShardId{shard}), model_.at(shard).state) << "shard " << shard;
      ASSERT_EQ(table_.attempt(ShardId{shard}).value, model_.at(shard).attempt)
          << "shard " << shard;
    }
  }

  std::mt19937_64 random_{GetParam()};
  std::uint64_t shards_ = 1 + below(700);
  TaskTable table_{shards_};
  Model model_{shards_};
};

TEST_P(TaskTableRandom, MatchesTheModel) {
  for (int i = 0; i < 400; ++i) {
    step();
    if (HasFatalFailure()) return;
    expect_matches_model();
    if (HasFatalFailure()) return;
  }
}

// Every step is taken by a table that was just loaded.
TEST_P(TaskTableRandom, GoesOnFromWhatWasSaved) {
  for (int i = 0; i < 400; ++i) {
    const Buffer bytes = saved(table_);
    ASSERT_LE(bytes.size(), state_words(shards_) * 16 + TaskTable::kHeaderBytesMax +
                                15 * shards_);  // steps of attempts
    auto again = loaded(bytes.view(), shards_);
    ASSERT_TRUE(again) << again.error();
    ASSERT_TRUE(std::ranges::equal(saved(*again).view(), bytes.view()));
    table_ = std::move(*again);
    expect_matches_model();
    step();
    if (HasFatalFailure()) return;
    expect_matches_model();
    if (HasFatalFailure()) return;
  }
}

// What loads in spite of the damage is a table like any other.
TEST_P(TaskTableRandom, DamagedInputIsRefusedOrHarmless) {
  for (int i = 0; i < 150; ++i) step();
  const Buffer good = saved(table_);
  for_each_cut(good.view(), [&](std::span<const std::byte> bytes, std::size_t length) {
    EXPECT_FALSE(loaded(bytes, shards_)) << "cut to " << length << " bytes";
  });
  for_each_damage(good.view(), GetParam(), 200, [&](std::span<const std::byte> bytes) {
    auto table = loaded(bytes, shards_);
    if (!table) return;
    std::uint64_t counted = 0;
    for (int state = 0; state < 4; ++state) counted += table->count(ShardState(state));
    EXPECT_EQ(counted, shards_);
    table->release_all();
    for (ShardRange run; (run = table->next_pending(ShardId{0}, shards_)).count != 0;) {
      table->lease(run);
    }
    EXPECT_EQ(table->count(ShardState::kPending), 0U);
    EXPECT_TRUE(loaded(saved(*table).view(), shards_));
  });
}

INSTANTIATE_TEST_SUITE_P(Seeds, TaskTableRandom, testing::Range<std::uint64_t>(0, 60));

}  // namespace
}  // namespace regroup
