// Whole runs in one process: the same bits on any number of ranks, whatever the schedule.
#include "tests/jobs/threaded_run.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "jobs/registry.hpp"
#include "jobs/sample_jobs.hpp"
#include "tests/jobs/temporary_folder.hpp"

namespace regroup {
namespace {

// Every shard raises one counter by one, on several threads, and gives what it made of it.
struct Counter {
  using Result = std::vector<std::uint64_t>;
  static constexpr std::string_view kName = "counter";
  static constexpr std::string_view kSummary = "raises a counter of the registry";
  static constexpr std::uint64_t kShards = 40;
  static constexpr int kThreads = 2;

  std::uint64_t shards() const { return kShards; }
  static std::uint64_t raise(Registry& registry) {
    while (true) {
      const auto before = registry.get("counter");
      if (!before) throw std::runtime_error(before.error().text());
      const std::uint64_t count = before->exists() ? std::stoull(before->value) + 1 : 1;
      const auto made = registry.put("counter", std::to_string(count), before->version);
      if (made) return count;
      if (made.error().status != RegistryStatus::kConflict) {
        throw std::runtime_error(made.error().text());
      }
    }
  }
  Result run(const ShardContext& shard) const {
    Result made(kThreads);
    std::vector<std::jthread> threads;
    for (auto& count : made) threads.emplace_back([&] { count = raise(shard.registry()); });
    threads.clear();
    return made;
  }
  void report(const Result& total, Report& report) const {
    Result counts = total;
    std::ranges::sort(counts);
    std::uint64_t in_turn = 0;
    for (const std::uint64_t count : counts) in_turn += count == in_turn + 1 ? 1 : 0;
    report.value("in-turn", in_turn);
  }
};

// Numbers on a ring even out until they hardly change any more: a rod that is bent into a ring, in
// as many pieces as there are cells.
struct Ring {
  using Cell = std::vector<double>;
  using Halo = double;
  using Total = double;  // of squares: in another order it has other bits
  using Result = double;
  static constexpr std::string_view kName = "ring";
  static constexpr std::string_view kSummary = "lets numbers on a ring even out";
  static constexpr std::uint32_t kCells = 12;
  static constexpr std::size_t kPoints = 9;
  static constexpr std::uint64_t kStepsMax = 60;

  std::uint32_t cells() const { return kCells; }
  std::vector<std::uint32_t> neighbours(std::uint32_t cell) const {
    std::vector<std::uint32_t> both{(cell + kCells - 1) % kCells, (cell + 1) % kCells};
    std::ranges::sort(both);
    return both;
  }
  Cell begin(const CellContext& cell) const {
    Cell points;
    for (std::size_t i = 0; i < kPoints; ++i) {
      points.push_back(1.0 / static_cast<double>(1 + cell.cell() * kPoints + i));
    }
    return points;
  }
  Halo show(const Cell& points, const CellContext& cell, std::uint32_t to) const {
    return to == (cell.cell() + 1) % kCells ? points.back() : points.front();
  }
  bool wants_totals(std::uint64_t step) const { return step % 2 == 0; }
  Total add(const Cell& points, const CellContext&) const {
    double sum = 0;
    for (const double point : points) sum += point * point;
    return sum;
  }
  static void merge(Total& into, Total&& next) { into += next; }
  bool at_end(std::uint64_t step, const Total* total) const {
    return step == kStepsMax || (total != nullptr && *total < 0.05);
  }
  void step(Cell& points, const CellContext& cell, std::span<const Halo> halos,
            const Total* total) const {
    const bool first_is_before = neighbours(cell.cell())[0] == (cell.cell() + kCells - 1) % kCells;
    const double before = halos[first_is_before ? 0 : 1];
    const double after = halos[first_is_before ? 1 : 0];
    const Cell old = points;
    for (std::size_t i = 0; i < kPoints; ++i) {
      const double left = i == 0 ? before : old[i - 1];
      const double right = i + 1 == kPoints ? after : old[i + 1];
      points[i] = old[i] + 0.25 * (left - 2 * old[i] + right);
      if (total != nullptr) points[i] *= 1 - 1e-6 * *total;
    }
  }
  Result result(const Cell& points, const CellContext&) const {
    double sum = 0;
    for (const double point : points) sum += point;
    return sum;
  }
  void report(std::span<const Result> cells, Report& report) const {
    for (std::size_t i = 0; i < cells.size(); ++i) {
      report.value("cell-" + std::to_string(i), cells[i]);
    }
  }
};

JobRegistry all_jobs() {
  JobRegistry registry;
  add_montecarlo(registry);
  add_wordcount(registry);
  registry.add<Counter>();
  registry.add<Ring>();
  return registry;
}

constexpr Policy kPolicies[] = {Policy::kDynamic, Policy::kAffinity, Policy::kStatic,
                                Policy::kPeer};

TEST(ThreadedRun, ABagHasTheSameBitsOnAnyRanksAndSchedule) {
  const ProgramRun::Set options = {{"samples", "100000"}, {"shard-samples", "200"}, {"steps", "3"}};
  const ReportPicture alone =
      run_threaded(all_jobs(), "montecarlo", options, {}, 1, Policy::kDynamic);
  ASSERT_EQ(alone.values.size(), 8u);
  for (const Policy policy : kPolicies) {
    for (const std::uint32_t ranks : {2u, 3u}) {
      EXPECT_EQ(run_threaded(all_jobs(), "montecarlo", options, {}, ranks, policy), alone)
          << ranks << " ranks, " << name_of(policy);
    }
  }
}

TEST(ThreadedRun, AMapReduceHasTheSameBitsOnAnyRanksAndSchedule) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 20'000; ++i) text += "w" + std::to_string(i * i % 997) + " ";
  const std::vector<std::string> inputs = {folder.write("text", text)};
  const ProgramRun::Set options = {{"shard-bytes", "1000"}};
  const ReportPicture alone =
      run_threaded(all_jobs(), "wordcount", options, inputs, 1, Policy::kDynamic);
  ASSERT_EQ(alone.values.at(0), (NamedValue{"words", std::uint64_t{20'000}}));
  for (const Policy policy : kPolicies) {
    EXPECT_EQ(run_threaded(all_jobs(), "wordcount", options, inputs, 3, policy), alone)
        << name_of(policy);
  }
}

TEST(ThreadedRun, CellsHaveTheSameBitsOnAnyRanks) {
  const ReportPicture alone = run_threaded(all_jobs(), "ring", {}, {}, 1, Policy::kDynamic);
  ASSERT_EQ(alone.values.size(), Ring::kCells);
  for (const std::uint32_t ranks : {2u, 3u, 5u}) {
    EXPECT_EQ(run_threaded(all_jobs(), "ring", {}, {}, ranks, Policy::kDynamic), alone)
        << ranks << " ranks";
  }
}

TEST(ThreadedRun, ShardsRaiseACounterOfTheRegistryInTurn) {
  for (const std::uint32_t ranks : {1u, 2u, 4u}) {
    const ReportPicture picture =
        run_threaded(all_jobs(), "counter", {}, {}, ranks, Policy::kDynamic);
    EXPECT_EQ(picture.values.at(0), (NamedValue{"in-turn", Counter::kShards * Counter::kThreads}))
        << ranks << " ranks";
  }
}

}  // namespace
}  // namespace regroup
