#include "jobs/logging_sink.hpp"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/jobs/takeover.hpp"

namespace regroup {
namespace {

// Counts what it is handed, and throws when told to.
struct CountingSink : ResultSink {
  std::uint64_t committed = 0;
  std::uint64_t skipped = 0;
  bool throws = false;
  bool save_throws = false;

  void commit(StageId, ShardRange shards, std::uint32_t, std::span<const std::byte>) override {
    if (throws) throw std::runtime_error("no more");
    committed += shards.count;
  }
  void skip(StageId, ShardId, Attempt, RankId, const std::string&) override {
    if (throws) throw 7;
    ++skipped;
  }
  void save_state(Writer& writer) const override {
    writer.put(committed);
    if (save_throws) throw std::length_error("too large");
    writer.put(skipped);
  }
  std::expected<void, std::string> load_state(Reader& reader) override {
    committed = reader.get<std::uint64_t>();
    skipped = reader.get<std::uint64_t>();
    if (reader.failed()) return std::unexpected("the counts are cut short");
    return {};
  }
  std::size_t state_bytes() const override { return 16; }
};

struct Pair {
  CountingSink counts;
  LoggingSink sink{counts};

  void commit(std::uint64_t shard) { hand_over(sink, {.shards = {ShardId{shard}, 1}}); }
  void skip(std::uint64_t shard) {
    hand_over(sink, {.shards = {ShardId{shard}, 1}, .skipped_because = "it threw"});
  }
};

TEST(LoggingSink, KeepsTheFirstLinesOfWhatWasGivenUp) {
  Pair run;
  for (std::uint64_t shard = 0; shard < 2 * LoggingSink::kLinesMax; ++shard) run.skip(shard);

  EXPECT_EQ(run.counts.skipped, 2 * LoggingSink::kLinesMax);
  ASSERT_EQ(run.sink.log().size(), LoggingSink::kLinesMax);
  EXPECT_EQ(run.sink.log()[4],
            "shard 4 of stage 0 given up after 3 attempts, the last on rank 1: it threw");
}

TEST(LoggingSink, HoldsBackWhatTheJobThrows) {
  Pair run;
  run.counts.throws = true;
  run.commit(0);
  run.counts.throws = false;
  run.commit(1);

  ASSERT_FALSE(run.sink.merged());
  EXPECT_EQ(run.sink.merged().error(), "merging results failed: no more");
  EXPECT_EQ(run.counts.committed, 0u) << "nothing more is merged into what is broken";
  Pair other;
  other.counts.throws = true;
  other.skip(0);
  EXPECT_EQ(other.sink.merged().error(),
            "merging results failed: threw something that is no std::exception");
}

TEST(LoggingSink, ATakeoverAtAnyPointHasTheSameLogAndCounts) {
  Pair first;
  for (std::uint64_t shard = 0; shard < 3 * LoggingSink::kLinesMax; ++shard) {
    const Buffer bytes = state_of(first.sink);
    EXPECT_EQ(bytes.size(), first.sink.state_bytes());
    Pair second;
    second.skip(99);  // to be replaced
    ASSERT_EQ(error_of_load(second.sink, bytes.view()), "");
    EXPECT_EQ(second.sink.log(), first.sink.log());
    EXPECT_EQ(second.counts.committed, first.counts.committed);
    EXPECT_EQ(second.counts.skipped, first.counts.skipped);
    EXPECT_TRUE(second.sink.merged());
    EXPECT_EQ(second.sink.state_bytes(), bytes.size());
    if (shard % 2 == 0) {
      first.skip(shard);
    } else {
      first.commit(shard);
    }
  }
}

TEST(LoggingSink, ThatMergingFailedTravelsInPlaceOfTheResult) {
  Pair first, second;
  first.skip(0);
  first.counts.throws = true;
  first.commit(1);
  const Buffer bytes = state_of(first.sink);

  EXPECT_EQ(bytes.size(), first.sink.state_bytes());
  ASSERT_EQ(error_of_load(second.sink, bytes.view()), "");
  second.commit(2);

  ASSERT_FALSE(second.sink.merged());
  EXPECT_EQ(second.sink.merged().error(), "merging results failed: no more");
  EXPECT_EQ(second.sink.log().size(), 1u);
  EXPECT_EQ(second.counts.committed, 0u);
}

TEST(LoggingSink, AJobThatCannotBeSavedEndsTheResultAndNotTheRank) {
  Pair first, second;
  first.skip(0);
  first.counts.save_throws = true;

  ASSERT_EQ(error_of_load(second.sink, state_of(first.sink).view()), "");

  EXPECT_TRUE(first.sink.merged()) << "who could not save goes on";
  EXPECT_EQ(second.sink.merged().error(), "saving merged results failed: too large");
  EXPECT_EQ(second.sink.log(), first.sink.log());
}

TEST(LoggingSink, DamagedStateIsRefusedOrHarmless) {
  Pair well, failed;
  for (std::uint64_t shard = 0; shard < 5; ++shard) well.skip(shard), failed.skip(shard);
  failed.counts.throws = true;
  failed.commit(6);
  for (const Pair* run : {&well, &failed}) {
    const Buffer good = state_of(run->sink);
    for_each_cut(good.view(), [&](std::span<const std::byte> bytes, std::size_t length) {
      Pair fresh;
      EXPECT_NE(error_of_load(fresh.sink, bytes), "") << "cut to " << length << " bytes";
    });
    for_each_damage(good.view(), 3, 500, [&](std::span<const std::byte> bytes) {
      Pair fresh;
      if (error_of_load(fresh.sink, bytes) != "") return;
      EXPECT_EQ(state_of(fresh.sink).size(), fresh.sink.state_bytes());
    });
  }
  Buffer too_long;
  Writer writer(too_long);
  writer.put(static_cast<std::uint32_t>(LoggingSink::kLinesMax + 1));
  for (std::size_t i = 0; i <= LoggingSink::kLinesMax; ++i) writer.put_string("line");
  Pair fresh;
  EXPECT_EQ(error_of_load(fresh.sink, too_long.view()),
            "the saved log of given-up shards is too long");
}

}  // namespace
}  // namespace regroup
