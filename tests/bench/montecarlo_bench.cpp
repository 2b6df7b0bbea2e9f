// How many points of the unit square a core samples, on each instruction set. `of_xoshiro`: over a
// loop that takes the points, one after the other, from xoshiro256+ (Blackman and Vigna,
// "Scrambled linear pseudorandom number generators", 2021), which is faster a number than Philox
// but has to be taken in turn; both in turns, in one run.
#include <bit>
#include <cstdint>
#include <string>

#include <benchmark/benchmark.h>

#include "kernels/montecarlo/montecarlo.hpp"
#include "tests/bench/measure.hpp"

namespace regroup::kernels {
namespace {

using bench::seconds_of;

constexpr std::uint64_t kSamples = 4'000'000;

class Xoshiro256Plus {
 public:
  double uniform() {
    const std::uint64_t sum = state_[0] + state_[3];
    const std::uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return static_cast<double>(sum >> 11) * 0x1p-53;
  }

 private:
  std::uint64_t state_[4] = {0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9, 0x94d049bb133111eb, 1};
};

void pi(benchmark::State& state, InstructionSet set) {
  Xoshiro256Plus random;
  std::uint64_t stream = 0, hits = 0;
  double seconds = 0, xoshiro_seconds = 0;
  for (auto _ : state) {
    const double taken = seconds_of([&] { hits += sample_pi(1, ++stream, kSamples, set).hits; });
    state.SetIterationTime(taken);
    seconds += taken;
    xoshiro_seconds += seconds_of([&] {
      for (std::uint64_t i = 0; i < kSamples; ++i) {
        const double x = random.uniform(), y = random.uniform();
        hits += x * x + y * y < 1 ? 1 : 0;
      }
    });
  }
  benchmark::DoNotOptimize(hits);
  const double samples = static_cast<double>(kSamples) * static_cast<double>(state.iterations());
  state.counters["Gsamples/s"] = samples / seconds / 1e9;
  state.counters["xoshiro_Gsamples/s"] = samples / xoshiro_seconds / 1e9;
  state.counters["of_xoshiro"] = xoshiro_seconds / seconds;
}

void register_benchmarks() {
  for (const InstructionSet set : available_instruction_sets()) {
    benchmark::RegisterBenchmark(("pi/" + std::string(instruction_set_name(set))).c_str(),
                                 [set](benchmark::State& state) { pi(state, set); })
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  }
}

}  // namespace
}  // namespace regroup::kernels

int main(int argc, char** argv) {
  return regroup::bench::run(argc, argv, regroup::kernels::register_benchmarks);
}
