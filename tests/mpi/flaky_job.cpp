// Jobs that no user would write, for the tests of the whole program: shards that throw at first or
// always, results of every kind and of sizes from nothing to a megabyte, sums whose bits show the
// order they were taken in, and a shard that sleeps. Built as a user builds a program of jobs, on
// the public header alone.
#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <stdexcept>
#include <thread>

#include "jobs/regroup.hpp"

namespace regroup {
namespace {

constexpr std::size_t kResultBytesMax = std::size_t{1} << 20;

// A size that looks random, from 0 to `most`; the largest comes up at shard 3.
std::size_t size_of_shard(std::uint64_t shard, std::size_t most) {
  return shard % 16 == 3 ? most : shard % 8 == 5 ? 0 : shard * 2654435761u % most;
}

// FNV-1a, 64 bits.
template <class T>
std::uint64_t hash_of(const T& values) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const std::byte byte : std::as_bytes(std::span(values.data(), values.size()))) {
    hash = (hash ^ std::to_integer<std::uint64_t>(byte)) * 0x100000001b3;
  }
  return hash;
}

struct BagOptions {
  std::uint64_t count = 64;

  void options(OptionSet& set) { set.add("shards", count, "shards to compute").at_most(1e9); }
  std::uint64_t shards() const { return count; }
};

struct Sum {
  std::uint64_t shards = 0;
  std::uint64_t numbers = 0;
  double thirds = 0;  // its bits show the order of the merges

  void operator+=(const Sum& next) {
    shards += next.shards;
    numbers += next.numbers;
    thirds += next.thirds;
  }
};

struct SumBag : BagOptions {
  using Result = Sum;

  static void merge(Result& into, Result&& next) { into += next; }
  static Result value_of(const ShardContext& shard) {
    return {1, shard.shard(), 1.0 / static_cast<double>(3 * shard.shard() + 1)};
  }
  void report(const Result& total, Report& report) const {
    report.value("shards", total.shards);
    report.value("numbers", total.numbers);
    report.value("thirds", total.thirds);
  }
};

// Each shard throws up to twice before it succeeds.
struct Flaky : SumBag {
  static constexpr std::string_view kName = "flaky";
  static constexpr std::string_view kSummary = "shards that fail at first";

  Result run(const ShardContext& shard) const {
    if (shard.attempt() <= shard.shard() % 3) throw std::runtime_error("not yet");
    return value_of(shard);
  }
};

// Every tenth shard throws whatever one does, shard 5 something that is no exception.
struct Broken : SumBag {
  static constexpr std::string_view kName = "broken";
  static constexpr std::string_view kSummary = "shards that always fail";

  Result run(const ShardContext& shard) const {
    if (shard.shard() == 5) throw 5;
    if (shard.shard() % 10 == 7) throw std::runtime_error("broken for good");
    return value_of(shard);
  }
};

struct Hopeless : SumBag {
  static constexpr std::string_view kName = "hopeless";
  static constexpr std::string_view kSummary = "no shard succeeds";

  Result run(const ShardContext&) const { throw std::runtime_error("no hope"); }
};

// Shards are computed by what stands in for a device, and else by the CPU, to the same bits.
struct Pretender : BagOptions {
  struct Result {
    Sum sum;
    std::uint64_t on_device = 0;
    std::uint64_t on_cpu = 0;
  };
  static constexpr std::string_view kName = "pretender";
  static constexpr std::string_view kSummary = "shards for a device that is none";

  void options(OptionSet& set) {
    BagOptions::options(set);
    set.add("milliseconds", milliseconds, "that a shard takes").at_most(1e6);
  }
  Result run(const ShardContext& shard) const {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    const Sum sum = SumBag::value_of(shard);
    const std::optional<Result> on_device = shard.device_guard()->run([sum] {
      return std::expected<Result, std::string>({sum, 1, 0});
    });
    return on_device.value_or(Result{sum, 0, 1});
  }
  static void merge(Result& into, Result&& next) {
    into.sum += next.sum;
    into.on_device += next.on_device;
    into.on_cpu += next.on_cpu;
  }
  void report(const Result& total, Report& report) const {
    report.value("shards", total.sum.shards);
    report.value("numbers", total.sum.numbers);
    report.value("thirds", total.sum.thirds);
    report.value("on_device", total.on_device);
    report.value("on_cpu", total.on_cpu);
  }

  std::uint64_t milliseconds = 0;
};

// Shards succeed, and their results cannot be merged.
struct Unmergeable : SumBag {
  static constexpr std::string_view kName = "unmergeable";
  static constexpr std::string_view kSummary = "merging throws";

  Result run(const ShardContext& shard) const { return value_of(shard); }
  static void merge(Result&, Result&&) { throw std::runtime_error("they do not fit"); }
};

struct Texts : BagOptions {
  using Result = std::string;
  static constexpr std::string_view kName = "texts";
  static constexpr std::string_view kSummary = "results that are texts of 0 bytes to 1 MiB";

  Result run(const ShardContext& shard) const {
    const std::size_t bytes = size_of_shard(shard.shard(), kResultBytesMax);
    std::string text;
    text.reserve(bytes);
    for (std::size_t i = 0; i < bytes; ++i) {
      text += static_cast<char>('a' + (i * i + shard.shard()) % 26);
    }
    return text;
  }
  void report(const Result& total, Report& report) const {
    report.value("bytes", std::uint64_t{total.size()});
    report.value("hash", hash_of(total));
  }
};

struct Vectors : BagOptions {
  using Result = std::vector<double>;
  static constexpr std::string_view kName = "vectors";
  static constexpr std::string_view kSummary = "results that are vectors";

  Result run(const ShardContext& shard) const {
    std::vector<double> values(size_of_shard(shard.shard(), 5000));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<double>(shard.shard()) + 1.0 / static_cast<double>(i + 1);
    }
    return values;
  }
  void report(const Result& total, Report& report) const {
    report.columns({{"index", ColumnType::kUint64}, {"value", ColumnType::kFloat64}});
    std::uint64_t index = 0;
    for (const double value : total) report.row({index++, value});
  }
};

// A result with bytes of its own making.
struct Histogram {
  std::map<std::string, std::uint64_t> counts;

  void encode(Writer& writer) const {
    writer.put(static_cast<std::uint32_t>(counts.size()));
    for (const auto& [key, count] : counts) {
      writer.put_string(key);
      writer.put(count);
    }
  }
  static Histogram decode(Reader& reader) {
    Histogram histogram;
    const std::size_t entries = reader.get_count(sizeof(std::uint32_t) + sizeof(std::uint64_t));
    for (std::size_t i = 0; i < entries; ++i) {
      const std::string key(reader.get_string());
      histogram.counts[key] = reader.get<std::uint64_t>();
    }
    return histogram;
  }
};

struct Structs : BagOptions {
  using Result = Histogram;
  static constexpr std::string_view kName = "structs";
  static constexpr std::string_view kSummary = "results that encode themselves";

  Result run(const ShardContext& shard) const {
    Histogram histogram;
    for (std::uint64_t i = 0; i <= shard.shard(); ++i)
      ++histogram.counts["key" + std::to_string(i % 37)];
    return histogram;
  }
  static void merge(Result& into, Result&& next) {
    for (const auto& [key, count] : next.counts) into.counts[key] += count;
  }
  void report(const Result& total, Report& report) const {
    report.columns({{"count", ColumnType::kUint64}, {"key", ColumnType::kText}});
    for (const auto& [key, times] : total.counts) report.row({times, key});
  }
};

// Sums of doubles by key: another order of adding gives other bits.
struct Sums : BagOptions {
  using Value = double;
  static constexpr std::string_view kName = "sums";
  static constexpr std::string_view kSummary = "a map-reduce over doubles";
  static constexpr std::uint64_t kKeys = 211;
  static constexpr std::uint64_t kPairs = 500;

  template <class Emit>
  void map(const ShardContext& shard, Emit&& emit) const {
    if (shard.attempt() == 1 && shard.shard() % 5 == 2) throw std::runtime_error("not yet");
    for (std::uint64_t i = 0; i < kPairs; ++i) {
      const std::uint64_t key = (shard.shard() * 31 + i * 17) % kKeys;
      emit("key" + std::to_string(key), 1.0 / static_cast<double>(shard.shard() * kPairs + i + 1));
    }
  }
  static void combine(Value& into, const Value& next) { into += next; }
  template <class Entries>
  void report(const Entries& entries, Report& report) const {
    report.columns({{"sum", ColumnType::kFloat64}, {"key", ColumnType::kText}});
    entries.for_each([&](const Entry<Value>& entry) { report.row({entry.value, entry.key}); });
  }
};

// Map shards that sleep, and append their number to a file: who looks sees which ran, how often.
template <class Number>
struct Logged : BagOptions {
  using Value = Number;
  static constexpr std::uint64_t kKeys = 300;

  void options(OptionSet& set) {
    BagOptions::options(set);
    set.add("milliseconds", milliseconds, "how long a shard sleeps");
    set.add("log", log, "the file");
  }
  template <class Emit>
  void map(const ShardContext& shard, Emit&& emit) const {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    std::ofstream(log, std::ios::app) << std::to_string(shard.shard()) + "\n";
    for (std::uint64_t key = 0; key < kKeys; ++key) {
      const std::uint64_t number = shard.shard() * kKeys + key + 1;
      emit("key" + std::to_string(key), std::integral<Number>
                                            ? static_cast<Number>(number)
                                            : Number{1} / static_cast<Number>(number));
    }
  }
  static void combine(Value& into, const Value& next) { into += next; }
  template <class Entries>
  void report(const Entries& entries, Report& report) const {
    constexpr auto kType = std::integral<Number> ? ColumnType::kUint64 : ColumnType::kFloat64;
    report.columns({{"sum", kType}, {"key", ColumnType::kText}});
    entries.for_each([&](const Entry<Value>& entry) { report.row({entry.value, entry.key}); });
  }

  std::uint64_t milliseconds = 0;
  std::string log;
};

struct LoggedCounts : Logged<std::uint64_t> {
  static constexpr std::string_view kName = "logged-counts";
  static constexpr std::string_view kSummary = "map shards that leave a trace, over whole numbers";
};

struct LoggedSums : Logged<double> {
  static constexpr std::string_view kName = "logged-sums";
  static constexpr std::string_view kSummary = "map shards that leave a trace, over doubles";
};

// Its shards do nothing but pass time.
struct Sleeper : SumBag {
  static constexpr std::string_view kName = "sleeper";
  static constexpr std::string_view kSummary = "shards that sleep";

  void options(OptionSet& set) {
    SumBag::options(set);
    set.add("milliseconds", milliseconds, "how long a shard sleeps");
  }
  Result run(const ShardContext& shard) const {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    return value_of(shard);
  }

  std::uint64_t milliseconds = 0;
};

// Every shard raises one counter by one. The counter's value names, for each shard, who raised it,
// so that a shard that runs again does not raise it twice. Before that it writes to a key of its
// own. A put that was refused although it had been made fails its shard.
struct Counter : BagOptions {
  using Result = std::vector<std::uint64_t>;  // the counts that shards saw
  static constexpr std::string_view kName = "counter";
  static constexpr std::string_view kSummary = "shards that raise a counter in the registry";
  static constexpr std::string_view kKey = "counter";

  void options(OptionSet& set) {
    BagOptions::options(set);
    set.add("milliseconds", milliseconds, "how long a shard sleeps");
  }
  static void claim(Registry& registry, const std::string& key) {
    const std::string claimant = std::to_string(std::random_device()()) + "-of-" + key;
    const auto made = registry.put(key, claimant, 0);
    if (made) return;
    if (made.error().status != RegistryStatus::kConflict) {
      throw std::runtime_error(made.error().text());
    }
    const auto held = registry.get(key);
    if (!held) throw std::runtime_error(held.error().text());
    if (held->value == claimant) throw std::runtime_error("a put was made, and refused");
  }
  // { u64 count, for each shard a byte: 0, or 1 + the rank that raised it }
  Result run(const ShardContext& shard) const {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    Registry& registry = shard.registry();
    claim(registry, "shard " + std::to_string(shard.shard()));
    const char me = static_cast<char>(1 + shard.rank().value);
    for (bool refused = false;;) {
      const auto before = registry.get(kKey);
      if (!before) throw std::runtime_error(before.error().text());
      std::string value = before->value;
      value.resize(sizeof(std::uint64_t) + count);
      char& mine = value[sizeof(std::uint64_t) + shard.shard()];
      std::uint64_t raised = 0;
      std::memcpy(&raised, value.data(), sizeof raised);
      if (mine == me && refused) throw std::runtime_error("a put was made, and refused");
      if (mine != 0) return {raised};
      mine = me;
      ++raised;
      std::memcpy(value.data(), &raised, sizeof raised);
      const auto made = registry.put(kKey, value, before->version);
      if (made && *made != raised) throw std::runtime_error("a version that is not the count");
      if (made) return {raised};
      refused = made.error().status == RegistryStatus::kConflict;
      if (!refused) throw std::runtime_error(made.error().text());
    }
  }
  void report(const Result& total, Report& report) const {
    report.value("shards", std::uint64_t{total.size()});
    report.value("highest", total.empty() ? 0 : *std::ranges::max_element(total));
  }

  std::uint64_t milliseconds = 0;
};

// Shard 0 passes a token on, and every other one waits for the token of the shard before it.
struct Relay : BagOptions {
  using Result = std::string;
  static constexpr std::string_view kName = "relay";
  static constexpr std::string_view kSummary = "shards that wait for each other";

  Result run(const ShardContext& shard) const {
    std::string token = "start";
    if (shard.shard() != 0) {
      const auto before = shard.registry().watch(std::to_string(shard.shard() - 1), 0);
      if (!before) throw std::runtime_error(before.error().text());
      token = before->value;
    }
    token += '.';
    const auto made = shard.registry().put(std::to_string(shard.shard()), token, 0);
    if (!made) throw std::runtime_error(made.error().text());
    return token + ' ';
  }
  void report(const Result& total, Report& report) const { report.value("tokens", total); }
};

// Numbers on a ring even out, step by step, in sums whose bits show the order they were taken in.
struct Ring {
  using Cell = std::vector<double>;
  using Halo = double;
  using Total = double;
  using Result = double;
  static constexpr std::string_view kName = "ring";
  static constexpr std::string_view kSummary = "cells of a ring that even out";
  static constexpr std::size_t kPoints = 100;

  void options(OptionSet& set) {
    set.add("cells", count, "cells of the ring, 3 or more");
    set.add("steps", steps, "how often they even out");
    set.add("milliseconds", milliseconds, "how long a cell sleeps in a step");
  }
  std::uint32_t cells() const { return static_cast<std::uint32_t>(count); }
  std::uint32_t before(std::uint32_t cell) const { return (cell + cells() - 1) % cells(); }
  std::vector<std::uint32_t> neighbours(std::uint32_t cell) const {
    std::vector<std::uint32_t> both{before(cell), (cell + 1) % cells()};
    std::ranges::sort(both);
    return both;
  }
  Cell begin(const CellContext& cell) const {
    Cell points(kPoints);
    for (std::size_t i = 0; i < kPoints; ++i) {
      points[i] = 1.0 / static_cast<double>(1 + cell.cell() * kPoints + i);
    }
    return points;
  }
  Halo show(const Cell& points, const CellContext& cell, std::uint32_t to) const {
    return to == before(cell.cell()) ? points.front() : points.back();
  }
  bool wants_totals(std::uint64_t step) const { return step % 2 == 0; }
  Total add(const Cell& points, const CellContext&) const {
    Total sum = 0;
    for (const double point : points) sum += point * point;
    return sum;
  }
  static void merge(Total& into, Total&& next) { into += next; }
  bool at_end(std::uint64_t step, const Total*) const { return step >= steps; }
  std::uint64_t steps_max() const { return steps; }
  void step(Cell& points, const CellContext& cell, std::span<const Halo> halos,
            const Total* total) const {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    const bool in_order = neighbours(cell.cell()).front() == before(cell.cell());
    const Cell old = points;
    for (std::size_t i = 0; i < kPoints; ++i) {
      const double left = i == 0 ? halos[in_order ? 0 : 1] : old[i - 1];
      const double right = i + 1 == kPoints ? halos[in_order ? 1 : 0] : old[i + 1];
      points[i] = old[i] + 0.25 * (left - 2 * old[i] + right);
      if (total != nullptr) points[i] *= 1 - 1e-6 * *total;
    }
  }
  Result result(const Cell& points, const CellContext&) const {
    Result sum = 0;
    for (const double point : points) sum += point;
    return sum;
  }
  void report(std::span<const Result> results, Report& report) const {
    report.columns({{"cell", ColumnType::kUint64}, {"sum", ColumnType::kFloat64}});
    for (std::size_t i = 0; i < results.size(); ++i) report.row({std::uint64_t{i}, results[i]});
  }

  std::uint64_t count = 16;
  std::uint64_t steps = 100;
  std::uint64_t milliseconds = 0;
};

}  // namespace
}  // namespace regroup

int main(int argc, char** argv) {
  using namespace regroup;
  return main_with_job<Flaky, Broken, Hopeless, Pretender, Unmergeable, Texts, Vectors, Structs,
                       Sums, Sleeper, Counter, Relay, LoggedCounts, LoggedSums, Ring>(argc, argv);
}
