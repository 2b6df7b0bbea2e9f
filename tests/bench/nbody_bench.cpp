// How many pairs of bodies a core computes, on each instruction set. `of_peak`: operations that are
// done (a fused one counts as two) over those of a loop of nothing but fused operations on full
// registers, in turns with it.
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <immintrin.h>

#include "kernels/nbody/nbody.hpp"
#include "kernels/random/philox.hpp"
#include "tests/bench/measure.hpp"

namespace regroup::kernels {
namespace {

using bench::seconds_of;

// Of a pair without its potential, with the inverse square root: 9 fused and 12 others.
constexpr double kPairOperations = 2 * 9 + 12;
constexpr std::size_t kBodies = 4096;

// A loop of fused operations, on as many independent chains as hide their latency; returns how many
// it did.
#define REGROUP_PEAK(name, features, Real, set1, fmadd)                     \
  [[gnu::target(features)]] double name(float& out) {                       \
    constexpr int kChains = 12;                                             \
    constexpr int kRounds = 100'000;                                        \
    Real sum[kChains];                                                      \
    for (int i = 0; i < kChains; ++i) sum[i] = set1(static_cast<float>(i)); \
    const Real factor = set1(0.999F);                                       \
    const Real term = set1(0.001F);                                         \
    for (int round = 0; round < kRounds; ++round) {                         \
      _Pragma("GCC unroll 12") for (int i = 0; i < kChains; ++i) {          \
        sum[i] = fmadd(sum[i], factor, term);                               \
      }                                                                     \
    }                                                                       \
    for (int i = 0; i < kChains; ++i) out += sum[i][0];                     \
    return 2.0 * kChains * kRounds * sizeof(Real) / sizeof(float);          \
  }
REGROUP_PEAK(peak_avx2, "avx2,fma", __m256, _mm256_set1_ps, _mm256_fmadd_ps)
REGROUP_PEAK(peak_avx512, "avx512f", __m512, _mm512_set1_ps, _mm512_fmadd_ps)
#undef REGROUP_PEAK

void gravity(benchmark::State& state, InstructionSet set) {
  Philox random(1, 1);
  std::vector<float> x, y, z, mass(kBodies, 1.0F / kBodies);
  for (std::size_t i = 0; i < kBodies; ++i) {
    for (auto* axis : {&x, &y, &z}) axis->push_back(static_cast<float>(random.uniform()));
  }
  std::vector<double> ax(kBodies), ay(kBodies), az(kBodies);
  const BodyPositions bodies{x, y, z};
  double seconds = 0, peak_seconds = 0, peak_operations = 0;
  float out = 0;
  for (auto _ : state) {
    const double taken = seconds_of([&] {
      add_gravity(bodies, {bodies, mass}, 1e-4F, {ax, ay, az, {}}, 1, set);
    });
    seconds += taken;
    state.SetIterationTime(taken);
    if (set == InstructionSet::kBaseline) continue;
    peak_seconds += seconds_of([&] {
      peak_operations += set == InstructionSet::kAvx2 ? peak_avx2(out) : peak_avx512(out);
    });
  }
  benchmark::DoNotOptimize(out);
  const double pairs =
      static_cast<double>(kBodies) * kBodies * static_cast<double>(state.iterations());
  state.counters["Gpairs/s"] = pairs / seconds / 1e9;
  if (peak_operations == 0) return;
  state.counters["of_peak"] = pairs * kPairOperations / seconds / (peak_operations / peak_seconds);
  state.counters["peak_Gflop/s"] = peak_operations / peak_seconds / 1e9;
}

void register_benchmarks() {
  for (const InstructionSet set : available_instruction_sets()) {
    benchmark::RegisterBenchmark(("gravity/" + std::string(instruction_set_name(set))).c_str(),
                                 [set](benchmark::State& state) { gravity(state, set); })
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  }
}

}  // namespace

}  // namespace regroup::kernels

int main(int argc, char** argv) {
  return regroup::bench::run(argc, argv, regroup::kernels::register_benchmarks);
}
