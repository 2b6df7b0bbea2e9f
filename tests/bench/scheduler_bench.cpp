// What the scheduler's data structures cost: the task table by batch size, the ring by member
// count, the merge by order of arrival. Items are shards, keys and values.
#include <algorithm>
#include <numeric>
#include <optional>
#include <random>
#include <vector>

#include <benchmark/benchmark.h>

#include "scheduler/hash_ring.hpp"
#include "scheduler/ordered_merge.hpp"
#include "scheduler/range_set.hpp"
#include "scheduler/task_table.hpp"

namespace regroup {
namespace {

constexpr std::uint64_t kShards = 10'000'000;

// Finds, leases and commits every shard of a stage.
void task_table_sweep(benchmark::State& state) {
  const auto batch = static_cast<std::uint64_t>(state.range(0));
  std::vector<ShardRange> done;
  for (auto _ : state) {
    TaskTable table(kShards);
    for (ShardId from{0}; from.value < kShards;) {
      const ShardRange next = table.next_pending(from, batch);
      table.lease(next);
      done.clear();
      benchmark::DoNotOptimize(table.commit(next, Attempt{1}, done));
      from = next.end();
    }
    state.counters["bytes"] = static_cast<double>(table.memory_bytes());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kShards));
}
BENCHMARK(task_table_sweep)->Arg(1)->Arg(64)->Arg(1024)->Unit(benchmark::kMillisecond);

// A rank dies with everything leased: all of it is released, charged and leased again.
void task_table_release(benchmark::State& state) {
  const auto batch = static_cast<std::uint64_t>(state.range(0));
  TaskTable table(kShards);
  table.lease({ShardId{0}, kShards});
  for (auto _ : state) {
    for (std::uint64_t at = 0; at + batch <= kShards; at += batch) {
      table.release({ShardId{at}, batch}, Charge::kAttempt);
      table.lease({ShardId{at}, batch});
    }
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kShards));
}
BENCHMARK(task_table_release)->Arg(1)->Arg(64)->Arg(1024)->Unit(benchmark::kMillisecond);

// What a standby is sent: 10 million shards, half of them done in batches of range(0), in random
// order, and the last few hundred leased.
TaskTable half_done(std::uint64_t batch) {
  TaskTable table(kShards);
  std::vector<std::uint64_t> order(kShards / batch);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(1));
  std::vector<ShardRange> done;
  for (std::size_t i = 0; i < order.size() / 2; ++i) {
    done.clear();
    (void)table.commit({ShardId{order[i] * batch}, batch}, Attempt{1}, done);
  }
  for (ShardId from{0}; table.count(ShardState::kLeased) < 500;) {
    const ShardRange next = table.next_pending(from, 16);
    table.lease(next);
    from = ShardId{next.end().value + 10'000};
  }
  return table;
}

Buffer saved(const TaskTable& table) {
  Buffer bytes;
  Writer writer(bytes);
  table.save(writer);
  return bytes;
}

void task_table_save(benchmark::State& state) {
  const TaskTable table = half_done(static_cast<std::uint64_t>(state.range(0)));
  Buffer bytes = saved(table);
  for (auto _ : state) {
    bytes.clear();
    Writer writer(bytes);
    table.save(writer);
  }
  state.counters["bytes"] = static_cast<double>(bytes.size());
}
BENCHMARK(task_table_save)->Arg(1)->Arg(16)->Arg(1024)->Unit(benchmark::kMicrosecond);

void task_table_load(benchmark::State& state) {
  const Buffer bytes = saved(half_done(static_cast<std::uint64_t>(state.range(0))));
  for (auto _ : state) {
    Reader reader(bytes.view());
    benchmark::DoNotOptimize(TaskTable::load(reader, kShards));
  }
  state.counters["bytes"] = static_cast<double>(bytes.size());
}
BENCHMARK(task_table_load)->Arg(1)->Arg(16)->Arg(1024)->Unit(benchmark::kMicrosecond);

std::vector<RankId> ranks(std::int64_t count) {
  std::vector<RankId> members;
  for (std::uint32_t rank = 0; rank < count; ++rank) members.emplace_back(rank);
  return members;
}

void hash_ring_build(benchmark::State& state) {
  const auto members = ranks(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(HashRing(members));
  state.counters["bytes"] = static_cast<double>(HashRing(members).memory_bytes());
}
BENCHMARK(hash_ring_build)->Arg(10)->Arg(100)->Arg(1000)->Unit(benchmark::kMillisecond);

void hash_ring_place(benchmark::State& state) {
  const HashRing ring(ranks(state.range(0)));
  const std::uint64_t keys = 65'536;
  for (auto _ : state) benchmark::DoNotOptimize(ring.place(keys));
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(keys));
}
BENCHMARK(hash_ring_place)->Arg(10)->Arg(100)->Arg(1000)->Unit(benchmark::kMillisecond);

void hash_ring_home(benchmark::State& state) {
  const HashRing ring(ranks(state.range(0)));
  std::uint64_t key = 0;
  for (auto _ : state) benchmark::DoNotOptimize(ring.home(key++));
}
BENCHMARK(hash_ring_home)->Arg(10)->Arg(1000);

struct Sum {
  void operator()(double& into, double&& next) const { into += next; }
};

void ordered_merge_in_order(benchmark::State& state) {
  const auto batch = static_cast<std::uint64_t>(state.range(0));
  const std::uint64_t shards = std::uint64_t{1} << 22;
  std::vector<double> values(batch, 1.5);
  for (auto _ : state) {
    OrderedMerge<double, Sum> merge(shards);
    for (std::uint64_t at = 0; at < shards; at += batch) merge.add(ShardId{at}, values);
    benchmark::DoNotOptimize(merge.finish());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(shards));
}
BENCHMARK(ordered_merge_in_order)->Arg(1)->Arg(64)->Arg(1024)->Unit(benchmark::kMillisecond);

void ordered_merge_shuffled(benchmark::State& state) {
  const auto batch = static_cast<std::uint64_t>(state.range(0));
  const std::uint64_t shards = std::uint64_t{1} << 22;
  std::vector<double> values(batch, 1.5);
  std::vector<std::uint64_t> order(shards / batch);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(1));
  for (auto _ : state) {
    OrderedMerge<double, Sum> merge(shards);
    for (const std::uint64_t at : order) merge.add(ShardId{at * batch}, values);
    benchmark::DoNotOptimize(merge.finish());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(shards));
}
BENCHMARK(ordered_merge_shuffled)->Arg(1)->Arg(64)->Arg(1024)->Unit(benchmark::kMillisecond);

struct DoubleCodec {
  void encode(Writer& writer, double value) const { writer.put(value); }
  std::optional<double> decode(Reader& reader) const { return reader.get<double>(); }
};

// Saves and loads a merge of 10 million values, half of them there in batches of range(0), in
// random order: each waits for those before it, which is the worst a standby can be sent.
void ordered_merge_save_and_load(benchmark::State& state) {
  const auto batch = static_cast<std::uint64_t>(state.range(0));
  OrderedMerge<double, Sum> merge(kShards), successor(kShards);
  std::vector<double> values(batch, 1.5);
  std::vector<std::uint64_t> order(kShards / batch);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(1));
  for (std::size_t i = 0; i < order.size() / 2; ++i) {
    merge.add(ShardId{order[i] * batch}, values);
  }
  Buffer bytes;
  for (auto _ : state) {
    bytes.clear();
    Writer writer(bytes);
    merge.save(writer, DoubleCodec{});
    Reader reader(bytes.view());
    benchmark::DoNotOptimize(successor.load(reader, DoubleCodec{}));
  }
  state.counters["bytes"] = static_cast<double>(bytes.size());
}
BENCHMARK(ordered_merge_save_and_load)->Arg(1)->Arg(1024)->Unit(benchmark::kMillisecond);

// A thief takes the back half of a queue of range(0) runs, and the victim gets it back.
void range_set_steal(benchmark::State& state) {
  RangeSet queue;
  for (std::int64_t run = 0; run < state.range(0); ++run) {
    queue.insert({ShardId{static_cast<std::uint64_t>(run) * 32}, 16});
  }
  for (auto _ : state) {
    const RangeSet stolen = queue.take_back(queue.count() / 2);
    for (const ShardRange& run : stolen.ranges()) queue.insert(run);
  }
}
BENCHMARK(range_set_steal)->Arg(1)->Arg(64)->Arg(1024);

}  // namespace
}  // namespace regroup
