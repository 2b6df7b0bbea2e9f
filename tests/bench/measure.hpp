// What benchmarks of kernels share: the time of a piece of work, on one thread or several; the sum
// that is as fast as the memory; and main(). A kernel and its yardstick are measured in turns, so
// that both see the same machine.
#pragma once

#include <barrier>
#include <chrono>
#include <cstddef>
#include <functional>
#include <thread>
#include <vector>

#include <benchmark/benchmark.h>

namespace regroup::bench {

template <class F>
double seconds_of(F work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
  benchmark::ClobberMemory();
  return taken.count();
}

// Of a function of the thread's number on so many threads, from a common begin to the last end.
inline double seconds_of(std::size_t threads, const std::function<void(std::size_t)>& work) {
  if (threads == 1) return seconds_of([&] { work(0); });
  std::chrono::steady_clock::time_point begin;
  std::barrier start(static_cast<std::ptrdiff_t>(threads),
                     [&]() noexcept { begin = std::chrono::steady_clock::now(); });
  std::vector<std::jthread> others;
  for (std::size_t thread = 1; thread < threads; ++thread) {
    others.emplace_back([&, thread] {
      start.arrive_and_wait();
      work(thread);
    });
  }
  start.arrive_and_wait();
  work(0);
  others.clear();
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
  benchmark::ClobberMemory();
  return taken.count();
}

#ifdef __x86_64__
#define REGROUP_FOR_EACH_SET [[gnu::target_clones("default", "avx2", "avx512f")]]
#else
#define REGROUP_FOR_EACH_SET
#endif

typedef double EightReals __attribute__((vector_size(64)));

inline double sum_of(const EightReals& a) {
  return ((a[0] + a[1]) + (a[2] + a[3])) + ((a[4] + a[5]) + (a[6] + a[7]));
}

// As a compiler vectorises it that may reorder, in four registers, so that none waits for another,
// from four places: one stream alone does not use all of the memory's bandwidth. `count`: what is
// over a multiple of 32 is left out.
REGROUP_FOR_EACH_SET inline double plain_sum(const double* terms, std::size_t count) {
  constexpr std::size_t kStreams = 4;
  const std::size_t stream = count / kStreams / 8 * 8;
  EightReals sums[kStreams] = {};
  for (std::size_t i = 0; i < stream; i += 8) {
    for (std::size_t s = 0; s < kStreams; ++s) {
      EightReals eight;
      __builtin_memcpy(&eight, terms + s * stream + i, sizeof eight);
      sums[s] += eight;
    }
  }
  const EightReals sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  return sum_of(sum);
}

// The program's end: runs what `register_benchmarks` adds.
inline int run(int argc, char** argv, void (*register_benchmarks)()) {
  register_benchmarks();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace regroup::bench
