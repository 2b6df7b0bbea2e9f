// What dispatch.py measures Regroup with: a bag whose shards do nothing, or busy work of a stated
// cost, and give 8 bytes each.
#include <chrono>

#include "jobs/regroup.hpp"
#include "tests/bench/busy_work.hpp"

namespace regroup::bench {
namespace {

struct Empty {
  struct Result {
    std::uint64_t value;
  };
  static constexpr std::string_view kName = "empty";
  static constexpr std::string_view kSummary = "shards that do nothing, or a stated amount of work";

  void options(OptionSet& set) {
    set.add("shards", shard_count, "number of shards").at_least(1).at_most(0x1p40);
    set.add("iterations", iterations, "work of a shard; bare_mpi --calibrate tells what one takes");
    set.add("stamp", stamp,
            "for one shard: its result is when it ran, in nanoseconds of UNIX time");
  }

  std::uint64_t shards() const { return shard_count; }

  Result run(const ShardContext& shard) const {
    if (stamp) return {unix_nanoseconds()};
    return {shard.shard() + busy_work(iterations, shard.shard()) % 2};
  }

  static void merge(Result& into, Result&& next) { into.value += next.value; }

  void report(const Result& total, Report& report) const { report.value("sum", total.value); }

  static std::uint64_t unix_nanoseconds() {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
  }

  std::uint64_t shard_count = 1'000'000;
  std::uint64_t iterations = 0;
  bool stamp = false;
};

}  // namespace
}  // namespace regroup::bench

int main(int argc, char** argv) {
  return regroup::main_with_job<regroup::bench::Empty>(argc, argv);
}
