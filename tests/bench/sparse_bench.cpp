// What a sparse product y = A x costs on each instruction set, on one thread and on two that share
// the rows, for Laplacians of 5 and 7 points and a random matrix within a band, all many times as
// large as a core's caches. Beside it, in turns so that both see the same machine, the roofline:
// the same threads add up as many bytes of doubles as the product has to read and write. Items are
// entries of the matrix. Of each the least time counts, since other programs share the memory.
//   GB/s         12 bytes an entry; a row: 8 of its start, 8 of x and 8 of y
//   read GB/s    of the plain sum
//   of_roofline  the plain sum's time over the product's
#include <algorithm>
#include <barrier>
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <benchmark/benchmark.h>

#include "kernels/random/philox.hpp"
#include "kernels/sparse/sparse.hpp"

namespace regroup::kernels {
namespace {

struct Matrix {
  std::vector<std::uint64_t> row_starts = {0};
  std::vector<std::uint32_t> columns;
  std::vector<double> values;

  std::size_t rows() const { return row_starts.size() - 1; }
  void add(std::size_t column, double value) {
    columns.push_back(static_cast<std::uint32_t>(column));
    values.push_back(value);
  }
  SparseMatrix view() const { return {row_starts, columns, values, rows()}; }
  double bytes() const {
    return 12.0 * static_cast<double>(values.size()) + 24.0 * static_cast<double>(rows());
  }
};

// Of 5 points where nz is 1, else of 7.
Matrix laplacian(std::size_t nx, std::size_t ny, std::size_t nz) {
  Matrix matrix;
  for (std::size_t z = 0; z < nz; ++z) {
    for (std::size_t y = 0; y < ny; ++y) {
      for (std::size_t x = 0; x < nx; ++x) {
        const std::size_t i = (z * ny + y) * nx + x;
        if (z > 0) matrix.add(i - nx * ny, -1);
        if (y > 0) matrix.add(i - nx, -1);
        if (x > 0) matrix.add(i - 1, -1);
        matrix.add(i, nz == 1 ? 4 : 6);
        if (x + 1 < nx) matrix.add(i + 1, -1);
        if (y + 1 < ny) matrix.add(i + nx, -1);
        if (z + 1 < nz) matrix.add(i + nx * ny, -1);
        matrix.row_starts.push_back(matrix.values.size());
      }
    }
  }
  return matrix;
}

// Rows of 20 to 59 entries at random places within the band.
Matrix banded(std::size_t rows, std::size_t half_width) {
  Philox random(1, 1);
  Matrix matrix;
  std::vector<std::size_t> columns;
  for (std::size_t row = 0; row < rows; ++row) {
    const std::size_t begin = row > half_width ? row - half_width : 0;
    const std::size_t end = std::min(rows, row + half_width + 1);
    columns.resize(20 + static_cast<std::size_t>(40 * random.uniform()));
    for (std::size_t& column : columns) {
      column =
          begin + static_cast<std::size_t>(random.uniform() * static_cast<double>(end - begin));
    }
    std::ranges::sort(columns);
    for (const std::size_t column : columns) matrix.add(column, random.uniform());
    matrix.row_starts.push_back(matrix.values.size());
  }
  return matrix;
}

// Of four streams, as a product has several: one alone does not use all of the memory's bandwidth.
double plain_sum(const double* terms, std::size_t count) {
  typedef double TwoReals __attribute__((vector_size(16)));
  constexpr std::size_t kStreams = 4;
  constexpr std::size_t kLine = 8;
  const std::size_t stream = count / kStreams / kLine * kLine;
  TwoReals sums[kStreams] = {};
  for (std::size_t i = 0; i < stream; i += kLine) {
    for (std::size_t s = 0; s < kStreams; ++s) {
      for (std::size_t j = 0; j < kLine; j += 2) {
        TwoReals two;
        __builtin_memcpy(&two, terms + s * stream + i + j, sizeof two);
        sums[s] += two;
      }
    }
  }
  const TwoReals sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  return sum[0] + sum[1];
}

// Runs a function of the thread's number on so many threads, from a common begin to the last end.
double seconds_of(std::size_t threads, const std::function<void(std::size_t)>& work) {
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

using Make = std::function<Matrix()>;

void product(benchmark::State& state, const Make& make, std::size_t threads, InstructionSet set) {
  const Matrix matrix = make();
  const std::vector<double> x(matrix.rows(), 0.5);
  std::vector<double> y(matrix.rows());
  const std::vector<double> terms(static_cast<std::size_t>(matrix.bytes()) / sizeof(double), 1);
  // Rows by entries, so that threads end together.
  std::vector<std::size_t> cuts = {0};
  for (std::size_t thread = 1; thread <= threads; ++thread) {
    const std::uint64_t entries = matrix.values.size() * thread / threads;
    cuts.push_back(static_cast<std::size_t>(std::ranges::lower_bound(matrix.row_starts, entries) -
                                            matrix.row_starts.begin()));
  }
  double product_seconds = 1e9;
  double read_seconds = 1e9;
  for (auto _ : state) {
    const double taken = seconds_of(threads, [&](std::size_t thread) {
      multiply(matrix.view(), cuts[thread], std::min(cuts[thread + 1], matrix.rows()), x, y, set);
    });
    const double read = seconds_of(threads, [&](std::size_t thread) {
      const std::size_t share = terms.size() / threads;
      double sum = plain_sum(terms.data() + thread * share, share);
      benchmark::DoNotOptimize(sum);
    });
    product_seconds = std::min(product_seconds, taken);
    read_seconds = std::min(read_seconds, read);
    state.SetIterationTime(taken);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(matrix.values.size()));
  state.counters["GB/s"] = matrix.bytes() / product_seconds / 1e9;
  state.counters["read GB/s"] = matrix.bytes() / read_seconds / 1e9;
  state.counters["of_roofline"] = read_seconds / product_seconds;
}

void register_benchmarks() {
  const std::pair<const char*, Make> matrices[] = {
      {"5_points", [] { return laplacian(3000, 3000, 1); }},
      {"7_points", [] { return laplacian(180, 180, 180); }},
      {"band", [] { return banded(700'000, 5000); }},
  };
  for (const auto& [name, make] : matrices) {
    for (const std::size_t threads : {1, 2}) {
      for (const InstructionSet set : available_instruction_sets()) {
        const std::string full = std::string(name) + "/" + std::to_string(threads) + "_threads/" +
                                 std::string(instruction_set_name(set));
        benchmark::RegisterBenchmark(full.c_str(),
                                     [make = make, threads, set](benchmark::State& state) {
                                       product(state, make, threads, set);
                                     })
            ->UseManualTime()
            ->Iterations(20)
            ->Unit(benchmark::kMillisecond);
      }
    }
  }
}

}  // namespace
}  // namespace regroup::kernels

int main(int argc, char** argv) {
  regroup::kernels::register_benchmarks();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
