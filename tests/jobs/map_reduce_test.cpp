#include "jobs/map_reduce.hpp"

#include <cmath>
#include <map>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/jobs/error_of.hpp"
#include "tests/jobs/program_run.hpp"
#include "tests/jobs/takeover.hpp"

namespace regroup {
namespace {

// Each shard emits some keys many times over; the job below gives them values.
template <class Emit>
void for_each_pair(std::uint64_t shard, Emit emit) {
  for (std::uint64_t i = 0; i < 60; ++i) {
    const std::uint64_t number = (shard * 31 + i * i * 17) % 211;
    emit("key" + std::to_string(number), shard * 1000 + i);
  }
}

struct Counts {
  using Value = std::uint64_t;
  static constexpr std::string_view kName = "counts";
  static constexpr std::string_view kSummary = "how often keys occur";

  std::uint64_t shards() const { return 40; }
  void map(const ShardContext& shard, auto&& emit) const {
    if (shard.shard() == 13) throw std::runtime_error("unlucky");
    for_each_pair(shard.shard(),
                  [&](const std::string& key, std::uint64_t) { emit(key, Value{1}); });
  }
  static void combine(Value& into, const Value& next) { into += next; }
  static std::optional<Value> reduce(std::string_view key, const Value& value) {
    if (key.ends_with("0")) return std::nullopt;
    return 10 * value;
  }
  void report(const SortedEntries<Value, ByKey>& entries, Report& report) const {
    report.value("entries", entries.count());
    report.columns({{"key", ColumnType::kText}, {"count", ColumnType::kUint64}});
    std::uint64_t sum = 0;
    entries.for_each([&](const Entry<Value>& entry) {
      report.row({entry.key, entry.value});
      sum += entry.value;
    });
    report.value("sum", sum);
  }
};

// Values whose combination depends on its order, in every bit.
struct Chain {
  using Value = double;
  static constexpr std::string_view kName = "chain";
  static constexpr std::string_view kSummary = "order-sensitive sums by key";

  std::uint64_t shards() const { return 40; }
  void map(const ShardContext& shard, auto&& emit) const {
    for_each_pair(shard.shard(), [&](const std::string& key, std::uint64_t number) {
      emit(key,
           std::sin(static_cast<double>(number)) * std::exp2(static_cast<double>(number % 50)));
    });
  }
  static void combine(Value& into, const Value& next) { into = 1.0000001 * into + next; }
  void report(const SortedEntries<Value, ByKey>& entries, Report& report) const {
    double folded = 0;
    entries.for_each([&](const Entry<Value>& entry) { folded = folded / 3 + entry.value; });
    report.value("entries", entries.count());
    report.value("folded", folded);
  }
};

template <class Job>
std::unique_ptr<Program> make_map_reduce() {
  return std::make_unique<MapReduce<Job>>();
}

TEST(MapReduce, CountsAreThoseOfAPlainMap) {
  std::map<std::string, std::uint64_t> counts;
  for (std::uint64_t shard = 0; shard < 40; ++shard) {
    if (shard == 13) continue;  // it throws
    for_each_pair(shard, [&](const std::string& key, std::uint64_t) { counts[key] += 10; });
  }
  std::erase_if(counts, [](const auto& entry) { return entry.first.ends_with("0"); });
  std::uint64_t sum = 0;
  std::vector<std::vector<ResultValue>> first_rows;
  for (const auto& [key, count] : counts) {
    sum += count;
    if (first_rows.size() < Report::kPreviewRowsMax) first_rows.push_back({key, count});
  }

  ProgramRun run(make_map_reduce<Counts>, {}, {}, {.ranks = 3, .order_seed = 2});
  const ReportPicture picture = run.run();

  EXPECT_EQ(picture.row_count, counts.size());
  EXPECT_EQ(picture.rows, first_rows);
  EXPECT_EQ(picture.values,
            (std::vector<NamedValue>{{"entries", std::uint64_t{counts.size()}}, {"sum", sum}}));
  ASSERT_EQ(run.failures().size(), 1u);
  EXPECT_EQ(run.failures()[0].shard, ShardId{13});
  EXPECT_EQ(run.failures()[0].what, "unlucky");
}

// Combines within a shard in the order of emission, then shard by shard.
double serial_chain() {
  std::map<std::string, double> totals;
  const RankResources resources;
  for (std::uint64_t shard = 0; shard < 40; ++shard) {
    std::map<std::string, double> mapped;
    const auto add = [](std::map<std::string, double>& into, const std::string& key, double value) {
      const auto [place, is_new] = into.emplace(key, value);
      if (!is_new) Chain::combine(place->second, value);
    };
    Chain().map(ShardContext(ShardId{shard}, Attempt{1}, 1, resources),
                [&](const std::string& key, double value) { add(mapped, key, value); });
    for (const auto& [key, value] : mapped) add(totals, key, value);
  }
  double folded = 0;
  for (const auto& [key, value] : totals) folded = folded / 3 + value;
  return folded;
}

TEST(MapReduce, OrderSensitiveValuesHaveTheSerialBits) {
  const double serial = serial_chain();
  for (std::uint32_t ranks : {1u, 2u, 5u}) {
    for (std::uint64_t order = 0; order < 5; ++order) {
      ProgramRun run(make_map_reduce<Chain>, {}, {}, {.ranks = ranks, .order_seed = order});
      EXPECT_EQ(run.run().values.at(1).value, ResultValue(serial))
          << ranks << " ranks, order " << order;
    }
  }
}

TEST(MapReduce, StagesDoNotDependOnTheRanks) {
  EXPECT_EQ(MapReduce<Counts>().stages(),
            (std::vector<StagePlan>{{StageKind::kMap, 40}, {StageKind::kReduce, 128}}));
}

// ---- what the coordinator holds ----

// The reduced partitions, each with a few keys in the job's order, and some commits that hold
// nothing (map shards) or were given up.
template <class Job>
std::vector<HandedOver> reduced_arrivals(std::uint64_t seed) {
  using Value = typename Job::Value;
  std::mt19937_64 random(seed);
  std::vector<HandedOver> all;
  for (std::uint64_t shard = 0; shard < 40; ++shard) {
    all.push_back({.stage = StageId{0}, .shards = {ShardId{shard}, 1}});
  }
  for (std::uint64_t partition = 0; partition < MapReduce<Job>::kPartitions; ++partition) {
    HandedOver one{.stage = StageId{1}, .shards = {ShardId{partition}, 1}};
    if (random() % 16 == 0) {
      one.skipped_because = "it threw";
    } else {
      const auto keys = random() % 3;
      EntryListWriter list(one.values, keys);
      for (std::uint64_t key = 0; key < keys; ++key) {
        list.put("key" + std::to_string((key + 1) * 1000 + partition), Value(random() % 1000));
      }
      one.value_bytes = static_cast<std::uint32_t>(one.values.size());
    }
    all.push_back(std::move(one));
  }
  std::ranges::shuffle(all, random);
  return all;
}

template <class Job>
class MapReduceState : public testing::Test {};
using BothKinds = testing::Types<Counts, Chain>;
TYPED_TEST_SUITE(MapReduceState, BothKinds);

template <class Job>
std::unique_ptr<Program> make_opened() {
  return opened(make_map_reduce<Job>());
}

TYPED_TEST(MapReduceState, ATakeoverAtAnyPointEndsInTheSameBits) {
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    expect_takeover_at_every_point(make_opened<TypeParam>, reduced_arrivals<TypeParam>(seed));
    if (this->HasFatalFailure()) return;
  }
}

TYPED_TEST(MapReduceState, DamageIsRefusedOrHarmless) {
  expect_damage_is_harmless(make_opened<TypeParam>, reduced_arrivals<TypeParam>(7));
}

TYPED_TEST(MapReduceState, SaysHowManyBytesItWouldTake) {
  const auto program = make_opened<TypeParam>();
  EXPECT_EQ(program->state_bytes(), state_of(*program).size());
  for (const HandedOver& one : reduced_arrivals<TypeParam>(9)) {
    hand_over(*program, one);
    ASSERT_EQ(program->state_bytes(), state_of(*program).size());
  }
  EXPECT_EQ(error_of_load(*make_opened<TypeParam>(), state_of(*program).view()), "");
}

TYPED_TEST(MapReduceState, PartitionsThatCannotBeAreRefused) {
  using Value = typename TypeParam::Value;
  const auto error_of_partitions = [](std::vector<std::uint32_t> partitions, const Buffer& list) {
    Buffer bytes;
    Writer writer(bytes);
    writer.put(static_cast<std::uint32_t>(partitions.size()));
    for (const std::uint32_t partition : partitions) {
      writer.put(partition);
      writer.put_bytes(list.view());
    }
    MapReduce<TypeParam> program;
    return error_of_load(program, bytes.view());
  };
  Buffer good, unsorted;
  EntryListWriter list(good, 1), wrong(unsorted, 2);
  list.put("a", Value(1));
  wrong.put("b", Value(1));
  wrong.put("a", Value(2));

  EXPECT_EQ(error_of_partitions({0, 127, 5}, good), "");
  EXPECT_EQ(error_of_partitions({3, 3}, good), "a saved partition is none, or is there twice");
  EXPECT_EQ(error_of_partitions({128}, good), "a saved partition is none, or is there twice");
  EXPECT_EQ(error_of_partitions({0}, unsorted),
            "a saved partition is damaged: list 0: entry 1 is out of order");
}

// ---- parts ----

// What one rank's partition holds, another's can: to the same result.
TYPED_TEST(MapReduceState, APartitionComesBackAsItWas) {
  using Value = typename TypeParam::Value;
  const auto absorb = [](MapReduce<TypeParam>& program, std::uint64_t shard, std::string_view key) {
    Buffer list, input;
    EntryListWriter entries(list, 1);
    entries.put(key, Value(shard + 1));
    Writer writer(input);
    writer.put(std::uint32_t{5});
    writer.put_bytes(list.view());
    WorkOrder order{.kind = WorkKind::kAbsorb, .shards = {ShardId{shard}, 1}};
    order.input = std::move(input);
    EXPECT_EQ(error_of(program.absorb(order)), "");
  };
  const auto reduced = [](MapReduce<TypeParam>& program) {
    WorkOrder order{.kind = WorkKind::kRun, .stage = StageId{1}, .shards = {ShardId{5}, 1}};
    WorkResult result;
    program.run(order, 0, {}, result);
    return Buffer(result.results.bytes.view());
  };
  MapReduce<TypeParam> before, after;
  absorb(before, 3, "a");
  absorb(before, 1, "b");
  Buffer content;
  ASSERT_EQ(error_of(before.save_partition(StageId{0}, 5, content)), "");
  ASSERT_EQ(error_of(after.restore_partition(StageId{0}, 5, content.view())), "");
  for (MapReduce<TypeParam>* program : {&before, &after}) absorb(*program, 2, "a");
  EXPECT_TRUE(std::ranges::equal(reduced(before).view(), reduced(after).view()));

  MapReduce<TypeParam> other;
  EXPECT_NE(error_of(other.restore_partition(StageId{0}, 128, content.view())), "");
  for (std::size_t length = 1; length < content.size(); ++length) {
    const auto cut = content.view().first(length);
    EXPECT_NE(error_of(other.restore_partition(StageId{0}, 5, cut)), "") << length;
  }
}

template <class Job>
class DamagedParts : public testing::Test {};
TYPED_TEST_SUITE(DamagedParts, BothKinds);

template <class Job>
std::string error_of_parts(const Buffer& input) {
  MapReduce<Job> program;
  WorkOrder order{.kind = WorkKind::kAbsorb, .input = Buffer(input.view())};
  return error_of(program.absorb(order));
}

// One part, a list with these two keys, for that partition.
template <class Job>
Buffer one_part(std::uint32_t partition, std::string_view first, std::string_view second) {
  Buffer list;
  EntryListWriter entries(list, 2);
  entries.put(first, typename Job::Value(1));
  entries.put(second, typename Job::Value(2));
  Buffer input;
  Writer writer(input);
  writer.put(partition);
  writer.put_bytes(list.view());
  return input;
}

TYPED_TEST(DamagedParts, AreRefusedAtEveryLength) {
  const Buffer input = one_part<TypeParam>(127, "a", "b");
  EXPECT_EQ(error_of_parts<TypeParam>(input), "");
  EXPECT_EQ(error_of_parts<TypeParam>({}), "");
  for (std::size_t length = 1; length < input.size(); ++length) {
    EXPECT_NE(error_of_parts<TypeParam>(Buffer(input.view().first(length))), "") << length;
  }
}

TYPED_TEST(DamagedParts, OfAPartitionThatIsNoneOrOfListsThatAreNone) {
  const Buffer unsorted = one_part<TypeParam>(0, "b", "a");
  const Buffer elsewhere = one_part<TypeParam>(MapReduce<TypeParam>::kPartitions, "a", "b");
  EXPECT_NE(error_of_parts<TypeParam>(unsorted), "");
  EXPECT_EQ(error_of_parts<TypeParam>(elsewhere), "parts of a partition are damaged");
}

}  // namespace
}  // namespace regroup
