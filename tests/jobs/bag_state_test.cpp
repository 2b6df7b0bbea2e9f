// A bag's results move to another rank at any point, whatever travels: plain values, strings,
// vectors and results with an encoding of their own.
#include <cmath>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "jobs/bag.hpp"
#include "tests/jobs/takeover.hpp"

namespace regroup {
namespace {

constexpr std::uint64_t kShards = 61;

// What the jobs below have in common; they never run.
template <class Type>
struct StateJob {
  using Result = Type;
  static constexpr std::string_view kSummary = "results that move";
  std::uint64_t shards() const { return kShards; }
  Result run(const ShardContext&) const { return {}; }
};

double wild(std::uint64_t shard) {
  const auto i = static_cast<double>(shard);
  return std::sin(i) * std::exp(10 * std::cos(3 * i));
}

// Neither commutative nor associative, in every bit.
double blend(double into, double next) {
  return into * 0.75 - next * 1.0000001;
}

struct Doubles : StateJob<double> {
  static constexpr std::string_view kName = "doubles";
  static Result value(std::uint64_t shard) { return wild(shard); }
  static void merge(double& into, double&& next) { into = blend(into, next); }
  void report(double total, Report& report) const { report.value("total", total); }
};

struct Texts : StateJob<std::string> {
  static constexpr std::string_view kName = "texts";
  static Result value(std::uint64_t shard) { return std::string(shard % 5, 'x'); }
  static void merge(std::string& into, std::string&& next) { into = "(" + into + next + ")"; }
  void report(const std::string& total, Report& report) const { report.value("total", total); }
};

// Put one behind the other, which is what a sequence does without a merge().
struct Lists : StateJob<std::vector<double>> {
  static constexpr std::string_view kName = "lists";
  static Result value(std::uint64_t shard) { return Result(shard % 3, wild(shard)); }
  void report(const Result& total, Report& report) const {
    report.value("values", std::uint64_t{total.size()});
    double folded = 0;
    for (const double value : total) folded = blend(folded, value);
    report.value("folded", folded);
  }
};

struct Table {
  std::map<std::string, double> cells;

  void encode(Writer& writer) const {
    writer.put(static_cast<std::uint32_t>(cells.size()));
    for (const auto& [name, value] : cells) {
      writer.put_string(name);
      writer.put(value);
    }
  }
  static Table decode(Reader& reader) {
    Table table;
    for (std::size_t left = reader.get_count(12); left != 0; --left) {
      const std::string name(reader.get_string());
      if (name == "unwanted") throw std::runtime_error("an unwanted cell");
      table.cells[name] = reader.get<double>();
    }
    return table;
  }
};

struct Tables : StateJob<Table> {
  static constexpr std::string_view kName = "tables";
  static Result value(std::uint64_t shard) {
    return {{{"all", wild(shard)}, {"cell-" + std::to_string(shard % 7), wild(shard + 1)}}};
  }
  static void merge(Table& into, Table&& next) {
    for (const auto& [name, value] : next.cells) into.cells[name] = blend(into.cells[name], value);
  }
  void report(const Table& total, Report& report) const {
    for (const auto& [name, value] : total.cells) report.value(name, value);
  }
};

template <class Job>
std::unique_ptr<Program> make_opened() {
  return opened(std::make_unique<Bag<Job>>());
}

template <class Job>
std::vector<HandedOver> arrivals(std::uint64_t seed) {
  std::vector<typename Job::Result> values;
  for (std::uint64_t shard = 0; shard < kShards; ++shard) values.push_back(Job::value(shard));
  return arrivals_of(values, seed);
}
template <class Job>
class BagState : public testing::Test {};
using Jobs = testing::Types<Doubles, Texts, Lists, Tables>;
TYPED_TEST_SUITE(BagState, Jobs);

TYPED_TEST(BagState, ATakeoverAtAnyPointEndsInTheSameBits) {
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    expect_takeover_at_every_point(make_opened<TypeParam>, arrivals<TypeParam>(seed));
    if (this->HasFatalFailure()) return;
  }
}

TYPED_TEST(BagState, DamageIsRefusedOrHarmless) {
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    expect_damage_is_harmless(make_opened<TypeParam>, arrivals<TypeParam>(seed));
  }
}

TYPED_TEST(BagState, OfOnlySkippedShardsComesBack) {
  const auto first = make_opened<TypeParam>(), second = make_opened<TypeParam>();
  for (std::uint64_t shard = kShards; shard-- > 0;) {
    hand_over(*first, {.shards = {ShardId{shard}, 1}, .skipped_because = "it threw"});
  }

  EXPECT_EQ(error_of_load(*second, state_of(*first).view()), "");

  EXPECT_EQ(report_of(*second), report_of(*first));
}

// Exact but for what bitmaps take; for results with their own encoding a guess from what was saved
// last.
TYPED_TEST(BagState, SaysAboutHowManyBytesItWouldTake) {
  constexpr std::size_t kBitmapsMax = 2 * (kShards / 8 + 1);
  constexpr bool kGuesses = EncodedResult<typename TypeParam::Result>;
  const auto program = make_opened<TypeParam>();
  for (const HandedOver& one : arrivals<TypeParam>(5)) {
    hand_over(*program, one);
    const std::size_t before = program->state_bytes();
    const std::size_t saved = state_of(*program).size();
    const std::size_t after = program->state_bytes();
    EXPECT_GE(kGuesses ? 2 * before + 100 : before, saved);
    EXPECT_LE(before, kGuesses ? 2 * saved + 100 : saved + kBitmapsMax);
    EXPECT_LE(after, saved + kBitmapsMax);
  }
}

TEST(BagState, OfABagThatIsNotOpenIsEmpty) {
  Bag<Doubles> fresh, other;
  EXPECT_EQ(state_of(fresh).size(), fresh.state_bytes());
  EXPECT_EQ(error_of_load(other, state_of(fresh).view()), "");

  const auto open = make_opened<Doubles>();
  EXPECT_EQ(error_of_load(*open, state_of(fresh).view()), "");
  EXPECT_EQ(error_of_load(other, state_of(*open).view()),
            "a bag is open before it takes over another's results");
}

TEST(BagState, OfAnotherNumberOfShardsIsRefused) {
  struct More : Doubles {
    std::uint64_t shards() const { return kShards + 1; }
  };
  const auto more = make_opened<More>();
  EXPECT_THAT(error_of_load(*more, state_of(*make_opened<Doubles>()).view()),
              testing::HasSubstr("is of 61 shards"));
}

TEST(BagState, WhatADecoderThrowsIsTheError) {
  const auto first = make_opened<Tables>(), second = make_opened<Tables>();
  Buffer bytes;
  encode_result(Table{{{"innocent", 1.0}}}, bytes);
  hand_over(*first, {.shards = {ShardId{0}, 1},
                     .value_bytes = static_cast<std::uint32_t>(bytes.size()),
                     .values = std::move(bytes)});
  Buffer state = state_of(*first);
  const auto text = std::string_view(reinterpret_cast<const char*>(state.data()), state.size());
  std::memcpy(state.data() + text.find("innocent"), "unwanted", 8);

  EXPECT_EQ(error_of_load(*second, state.view()),
            "a saved result cannot be decoded: an unwanted cell");
}

}  // namespace
}  // namespace regroup
