#include "tests/sim/soak.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <new>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/protocol/check.hpp"

namespace regroup::sim {
namespace {

constexpr unsigned kWorkersMax = 256;
constexpr std::uint64_t kSeedsBetween64Ranks = 1000, kSeedsBetween1000Ranks = 20'000;
constexpr std::uint64_t kSeedsBetweenRepeats = 8;
constexpr auto kLookEvery = std::chrono::milliseconds(20);
constexpr double kProgressSeconds = 10;

// Written by one worker, read by the parent when that worker has ended.
struct Slot {
  std::atomic<std::uint64_t> running{0};  // a seed; 0: none
  Probes probes;
  double time_bound_share = 0;
  std::uint64_t frames_in_flight_max = 0;
};

struct Shared {
  std::atomic<std::uint64_t> next{0};
  std::atomic<std::uint64_t> done{0};
  std::atomic<std::uint64_t> failures{0};
  Slot slots[kWorkersMax];
};

void run_seed(std::uint64_t seed, const SoakOptions& options, Shared& shared, Slot& slot) {
  const Overrides overrides = overrides_for(seed, options);
  const bool twice = !options.long_run || seed % kSeedsBetweenRepeats == 0;
  const Report report =
      run_scenario(draw_scenario(seed, overrides), twice ? Repeat::kTwice : Repeat::kOnce);
  slot.probes.add(report.probes);
  if (report.time_bound != 0) {
    slot.time_bound_share =
        std::max(slot.time_bound_share,
                 static_cast<double>(report.virtual_time) / static_cast<double>(report.time_bound));
  }
  slot.frames_in_flight_max =
      std::max<std::uint64_t>(slot.frames_in_flight_max, report.frames_in_flight_max);
  if (!report.violation) return;
  ++shared.failures;
  fmt::print("{}  # {}\n", reproduce(seed, overrides), *report.violation);
  std::fflush(stdout);
}

[[noreturn]] void work(const SoakOptions& options, Shared& shared, Slot& slot) {
  while (shared.failures < options.failures_max) {
    const std::uint64_t seed = shared.next++;
    if (seed > options.last) break;
    slot.running = seed;
    run_seed(seed, options, shared, slot);
    slot.running = 0;
    ++shared.done;
  }
  std::_Exit(0);
}

pid_t start_worker(const SoakOptions& options, Shared& shared, Slot& slot) {
  std::fflush(nullptr);
  const pid_t process = fork();
  REGROUP_CHECK(process >= 0, "no process for a worker");
  if (process == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // no worker outlives the soak
    work(options, shared, slot);
  }
  return process;
}

// A worker that did not end by itself was ended by its seed; another takes its place.
void look_after(const SoakOptions& options, Shared& shared, Slot& slot, pid_t& process) {
  int status = 0;
  if (process < 0 || waitpid(process, &status, WNOHANG) != process) return;
  process = -1;
  const std::uint64_t seed = slot.running.exchange(0);
  if (seed == 0) return;
  ++shared.failures;
  ++shared.done;
  fmt::print("{}  # its process ended: {}\n", reproduce(seed, overrides_for(seed, options)),
             WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "by itself");
  std::fflush(stdout);
  process = start_worker(options, shared, slot);
}

}  // namespace

Overrides overrides_for(std::uint64_t seed, const SoakOptions& options) {
  Overrides overrides = options.overrides;
  if (!options.long_run || overrides.ranks) return overrides;
  if (seed % kSeedsBetween64Ranks == 0) overrides.ranks = 64;
  if (seed % kSeedsBetween1000Ranks == 0) overrides.ranks = World::kRanksMax;
  return overrides;
}

SoakSummary soak(const SoakOptions& options) {
  using Clock = std::chrono::steady_clock;
  void* memory =
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REGROUP_CHECK(memory != MAP_FAILED, "no shared memory for the workers");
  Shared& shared = *new (memory) Shared;
  shared.next = options.first;
  const unsigned workers = std::clamp(options.workers, 1u, kWorkersMax);
  const auto begin = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  std::vector<pid_t> processes;
  for (unsigned i = 0; i < workers; ++i) {
    processes.push_back(start_worker(options, shared, shared.slots[i]));
  }
  double told_at = 0;
  for (bool any = true; any;) {
    std::this_thread::sleep_for(kLookEvery);
    any = false;
    for (unsigned i = 0; i < workers; ++i) {
      look_after(options, shared, shared.slots[i], processes[i]);
      any |= processes[i] >= 0;
    }
    if (seconds() - told_at < kProgressSeconds) continue;
    told_at = seconds();
    fmt::print(stderr, "{} of {} seeds, {} failed, {:.0f} seeds/s\n", shared.done.load(),
               options.last - options.first + 1, shared.failures.load(),
               static_cast<double>(shared.done) / told_at);
  }
  SoakSummary summary{.seeds = shared.done, .failures = shared.failures, .seconds = seconds()};
  for (unsigned i = 0; i < workers; ++i) {
    const Slot& slot = shared.slots[i];
    summary.probes.add(slot.probes);
    summary.time_bound_share = std::max(summary.time_bound_share, slot.time_bound_share);
    summary.frames_in_flight_max =
        std::max(summary.frames_in_flight_max, slot.frames_in_flight_max);
  }
  munmap(memory, sizeof(Shared));
  return summary;
}

}  // namespace regroup::sim
