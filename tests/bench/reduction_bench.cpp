// What a sum and a dot product that do not depend on the order of their terms cost, on each
// instruction set, from vectors in a cache to many times that, beside plain vectorised ones (eight
// sums in turn with AVX-512, AVX2 or SSE2, as the machine has it), in turns with them so that both
// see the same machine. Items are terms.
//   GB/s      8 bytes a term of a sum, 16 of a dot product
//   of_plain  the plain one's time over its own
#include <cstdint>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "kernels/random/philox.hpp"
#include "kernels/reduction/reduction.hpp"
#include "tests/bench/measure.hpp"

namespace regroup::kernels {
namespace {

using bench::EightReals;
using bench::plain_sum;
using bench::seconds_of;

enum class Kind { kSum, kDot };

// As plain_sum().
REGROUP_FOR_EACH_SET double plain_dot(const double* a, const double* b, std::size_t count) {
  EightReals sums[4] = {};
  for (std::size_t i = 0; i < count; i += 32) {
    for (std::size_t j = 0; j < 4; ++j) {
      EightReals left;
      EightReals right;
      __builtin_memcpy(&left, a + i + 8 * j, sizeof left);
      __builtin_memcpy(&right, b + i + 8 * j, sizeof right);
      sums[j] += left * right;
    }
  }
  return bench::sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

std::vector<double> random_terms(std::size_t count, std::uint64_t stream) {
  Philox random(1, stream);
  std::vector<double> terms(count);
  for (double& term : terms) term = 2 * random.uniform() - 1;
  return terms;
}

void reduction(benchmark::State& state, Kind kind, std::size_t count, InstructionSet set) {
  const std::vector<double> a = random_terms(count, 1);
  const std::vector<double> b = random_terms(kind == Kind::kDot ? count : 0, 2);
  double exact_seconds = 0;
  double plain_seconds = 0;
  for (auto _ : state) {
    const double exact = seconds_of([&] {
      ExactSum sum;
      if (kind == Kind::kDot) {
        add_dot(sum, a, b, set);
      } else {
        add_sum(sum, a, set);
      }
      double value = sum.value();
      benchmark::DoNotOptimize(value);
    });
    plain_seconds += seconds_of([&] {
      double value =
          kind == Kind::kDot ? plain_dot(a.data(), b.data(), count) : plain_sum(a.data(), count);
      benchmark::DoNotOptimize(value);
    });
    exact_seconds += exact;
    state.SetIterationTime(exact);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(count));
  const double bytes = static_cast<double>((a.size() + b.size()) * sizeof(double));
  state.counters["GB/s"] = bytes * static_cast<double>(state.iterations()) / exact_seconds / 1e9;
  state.counters["of_plain"] = plain_seconds / exact_seconds;
}

void register_benchmarks() {
  for (const Kind kind : {Kind::kSum, Kind::kDot}) {
    for (const std::size_t count :
         {std::size_t{1} << 12, std::size_t{1} << 16, std::size_t{1} << 26}) {
      for (const InstructionSet set : available_instruction_sets()) {
        const std::string name = std::string(kind == Kind::kDot ? "dot/" : "sum/") +
                                 std::to_string(count) + "/" +
                                 std::string(instruction_set_name(set));
        benchmark::RegisterBenchmark(
            name.c_str(),
            [kind, count, set](benchmark::State& state) { reduction(state, kind, count, set); })
            ->UseManualTime()
            ->Unit(benchmark::kMicrosecond);
      }
    }
  }
}

}  // namespace
}  // namespace regroup::kernels

int main(int argc, char** argv) {
  return regroup::bench::run(argc, argv, regroup::kernels::register_benchmarks);
}
