// What the failure detector gives and costs on one machine, with real processes: how long after a
// kill the others know, through the kernel and through silence alone, and how much of a core the
// thread takes. Prints one line a figure; run by hand, on a quiet machine.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "tests/host/forked_ranks.hpp"

namespace regroup {
namespace {

using test::ForkedRanks;
using namespace std::chrono_literals;

constexpr int kKills = 30;
constexpr std::uint32_t kRanks = 4;
constexpr Nanoseconds kCpuTime = 5 * kSecond;

double milliseconds(Nanoseconds time) {
  return static_cast<double>(time) / kMillisecond;
}

ForkedRanks::Report next_or_abort(ForkedRanks& ranks) {
  const auto report = ranks.next(20s);
  if (!report) std::abort();
  return *report;
}

ForkedRanks::Report statistics_of(ForkedRanks& ranks, std::uint32_t rank) {
  ranks.ask_for_statistics(rank);
  return next_or_abort(ranks);
}

void wait_for_start(ForkedRanks& ranks) {
  for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
    while (statistics_of(ranks, rank).taken < 5) {
    }
  }
}

// Until `reports` of the others have evidence, over kKills runs.
void measure_kills(const char* name, const ForkedRanks::Options& options, int reports) {
  std::vector<double> latencies_ms;
  for (int kill = 0; kill < kKills; ++kill) {
    ForkedRanks ranks(options);
    wait_for_start(ranks);
    const Nanoseconds killed = ranks.kill(2);
    Nanoseconds known = 0;
    for (int i = 0; i < reports; ++i) known = std::max(known, next_or_abort(ranks).time);
    latencies_ms.push_back(milliseconds(known - killed));
  }
  std::ranges::sort(latencies_ms);
  std::printf("%s: median %.2f ms, largest %.2f ms of %d\n", name, latencies_ms[kKills / 2],
              latencies_ms.back(), kKills);
}

void measure_cpu(Nanoseconds period) {
  ForkedRanks ranks({.ranks = kRanks, .period = period});
  wait_for_start(ranks);
  std::vector<ForkedRanks::Report> before;
  for (std::uint32_t rank = 0; rank < kRanks; ++rank) before.push_back(statistics_of(ranks, rank));
  if (ranks.next(std::chrono::milliseconds(kCpuTime / kMillisecond))) std::abort();
  for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
    const ForkedRanks::Report after = statistics_of(ranks, rank);
    const double seconds = static_cast<double>(after.time - before[rank].time) / kSecond;
    std::printf(
        "period %.0f ms, rank %u: %.3f %% of a core, %.1f wakes/s, longest stall %.2f ms\n",
        milliseconds(period), rank,
        100 * static_cast<double>(after.cpu_time - before[rank].cpu_time) / kSecond / seconds,
        static_cast<double>(after.wakeups - before[rank].wakeups) / seconds,
        milliseconds(after.longest_stall));
  }
}

int no_pidfd(std::int32_t) {
  errno = EPERM;
  return -1;
}

}  // namespace
}  // namespace regroup

int main() {
  using namespace regroup;
  constexpr Nanoseconds kShort = 5 * kMillisecond;
  constexpr Nanoseconds kLong = 100 * kMillisecond;
  measure_kills("kill to the first that knows", {.ranks = kRanks}, 1);
  measure_kills("kill to the last of three that knows", {.ranks = kRanks}, 3);
  measure_kills("  through pidfds alone", {.ranks = kRanks, .notices = ForkedRanks::Notices::kNone},
                3);
  for (const Nanoseconds period : {kShort, kLong}) {
    std::printf("silent death, period %.0f ms, suspected after 2: bound %.1f ms\n",
                milliseconds(period), milliseconds(period * 5 / 2) + 20);
    measure_kills("  kill to the suspicion",
                  {.ranks = kRanks,
                   .period = period,
                   .suspect_after = 2 * period,
                   .pidfd = no_pidfd,
                   .notices = ForkedRanks::Notices::kNone},
                  1);
  }
  for (const Nanoseconds period : {kLong, kShort}) measure_cpu(period);
  return 0;
}
