// What a sparse product y = A x costs on each instruction set, on one thread and on two that share
// the rows, for Laplacians of 5 and 7 points and random matrices: with entries in a band, with
// lengths of rows of a power law, and with entries far off the diagonal as well. All are many times
// as large as a core's caches, in huge pages as the job cg has them. Beside it the roofline: the
// same threads add up as many bytes of doubles as the product has to read and write. All go slice
// by slice of the rows, in turns so that they see the same machine; of each slice the least time
// counts, since other programs share the memory. Items are entries of the matrix.
//   GB/s         12 bytes an entry; a row: 8 of its start, 8 of x and 8 of y
//   read_GB/s    of the plain sum
//   of_roofline  the plain sum's time over the product's
// What limits it, as the plain sum's time over that of
//   near         the product with all its columns in 4 KiB of x: reading the matrix, and adding
//   gathers      a loop that adds up the elements of x that the entries need, and nothing else
#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "jobs/huge_pages.hpp"
#include "kernels/random/philox.hpp"
#include "kernels/sparse/sparse.hpp"
#include "tests/bench/measure.hpp"

namespace regroup::kernels {
namespace {

using bench::plain_sum;
using bench::seconds_of;
using Vector = HugePageVector<double>;

constexpr std::size_t kSlices = 16;
constexpr std::uint32_t kNearColumns = 512;

struct Matrix {
  HugePageVector<std::uint64_t> row_starts = {0};
  HugePageVector<std::uint32_t> columns;
  Vector values;

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

// Rows of so many entries each, in columns that are drawn for the row.
template <class Length, class Column>
Matrix random_matrix(std::size_t rows, Length length, Column column_of) {
  Philox random(1, 1);
  Matrix matrix;
  std::vector<std::size_t> columns;
  for (std::size_t row = 0; row < rows; ++row) {
    columns.resize(length(random));
    for (std::size_t& column : columns) column = column_of(random, row);
    std::ranges::sort(columns);
    for (const std::size_t column : columns) matrix.add(column, random.uniform());
    matrix.row_starts.push_back(matrix.values.size());
  }
  return matrix;
}

// 20 to 59 entries.
std::size_t even_length(Philox& random) {
  return 20 + static_cast<std::size_t>(40 * random.uniform());
}

// From 8 to 10,000 entries, with more than n in a share of (8 / n)^1.5 of the rows.
std::size_t power_law_length(Philox& random) {
  const double length = 8 * std::pow(1 - random.uniform(), -1 / 1.5);
  return static_cast<std::size_t>(std::min(length, 10'000.0));
}

// Anywhere in the band.
auto in_band(std::size_t rows, std::size_t half_width) {
  return [=](Philox& random, std::size_t row) {
    const std::size_t begin = row > half_width ? row - half_width : 0;
    const std::size_t end = std::min(rows, row + half_width + 1);
    return begin + static_cast<std::size_t>(random.uniform() * static_cast<double>(end - begin));
  };
}

// At a distance from the diagonal of which each power of two is as likely as the next.
auto scattered(std::size_t rows) {
  return [=](Philox& random, std::size_t row) {
    const auto distance =
        static_cast<std::size_t>(std::pow(static_cast<double>(rows / 2), random.uniform()));
    return (random.uniform() < 0.5 ? row + distance : row + rows - distance) % rows;
  };
}

using Make = std::function<Matrix()>;

// The least of several times.
class Least {
 public:
  void add(double seconds) { seconds_ = std::min(seconds_, seconds); }
  double seconds() const { return seconds_; }

 private:
  double seconds_ = std::numeric_limits<double>::infinity();
};

// Of a piece of work slice by slice of the matrix's rows.
class SliceTimes {
 public:
  void add(std::size_t slice, double seconds) { slices_[slice].add(seconds); }
  double seconds() const {
    double sum = 0;
    for (const Least& slice : slices_) sum += slice.seconds();
    return sum;
  }

 private:
  std::array<Least, kSlices> slices_;
};

// The row at which so much of the matrix's entries is over.
std::size_t row_at(const Matrix& matrix, std::size_t part, std::size_t parts) {
  const std::uint64_t entries = matrix.values.size() * part / parts;
  return part == parts
             ? matrix.rows()
             : static_cast<std::size_t>(std::ranges::lower_bound(matrix.row_starts, entries) -
                                        matrix.row_starts.begin());
}

// The sum of the elements of x that the entries [begin, end) need: a product's gathers, and nothing
// else.
REGROUP_FOR_EACH_SET double gather_sum(const Matrix& matrix, const Vector& x, std::uint64_t begin,
                                       std::uint64_t end) {
  const std::uint32_t* const columns = matrix.columns.data();
  const double* const elements = x.data();
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::uint64_t k = begin; k < end; ++k) sum += elements[columns[k]];
  return sum;
}

void product(benchmark::State& state, const Make& make, std::size_t threads, InstructionSet set) {
  const Matrix matrix = make();
  Matrix near = matrix;
  for (std::uint32_t& column : near.columns) column %= kNearColumns;
  const Vector x(matrix.rows(), 0.5);
  Vector y(matrix.rows());
  const double bytes = matrix.bytes();
  const Vector terms(static_cast<std::size_t>(bytes) / sizeof(double), 1);
  // Each slice is shared out to threads by entries, so that they end together.
  const std::size_t parts = kSlices * threads;
  const auto multiply_part = [&](const Matrix& of, std::size_t part) {
    multiply(of.view(), row_at(of, part, parts), row_at(of, part + 1, parts), x, y, set);
  };
  const auto gather_part = [&](std::size_t part) {
    const auto entry = [&](std::size_t at) { return matrix.row_starts[row_at(matrix, at, parts)]; };
    double sum = gather_sum(matrix, x, entry(part), entry(part + 1));
    benchmark::DoNotOptimize(sum);
  };
  const auto read_part = [&](std::size_t part) {
    const std::size_t share = terms.size() / parts;
    double sum = plain_sum(terms.data() + part * share, share);
    benchmark::DoNotOptimize(sum);
  };
  SliceTimes product_times;
  SliceTimes near_times;
  SliceTimes gather_times;
  SliceTimes read_times;
  for (auto _ : state) {
    double all = 0;
    for (std::size_t slice = 0; slice < kSlices; ++slice) {
      const auto seconds_on_threads = [&](const auto& of_part) {
        return seconds_of(threads, [&](std::size_t thread) { of_part(slice * threads + thread); });
      };
      const double taken = seconds_on_threads([&](auto part) { multiply_part(matrix, part); });
      product_times.add(slice, taken);
      all += taken;
      read_times.add(slice, seconds_on_threads(read_part));
      near_times.add(slice, seconds_on_threads([&](auto part) { multiply_part(near, part); }));
      gather_times.add(slice, seconds_on_threads(gather_part));
    }
    state.SetIterationTime(all);
  }
  const double read_seconds = read_times.seconds();
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(matrix.values.size()));
  state.counters["GB/s"] = bytes / product_times.seconds() / 1e9;
  state.counters["read_GB/s"] = bytes / read_seconds / 1e9;
  state.counters["of_roofline"] = read_seconds / product_times.seconds();
  state.counters["near"] = read_seconds / near_times.seconds();
  state.counters["gathers"] = read_seconds / gather_times.seconds();
}

void register_benchmarks() {
  const std::pair<const char*, Make> matrices[] = {
      {"5_points", [] { return laplacian(3000, 3000, 1); }},
      {"7_points", [] { return laplacian(180, 180, 180); }},
      {"band", [] { return random_matrix(700'000, even_length, in_band(700'000, 5000)); }},
      {"power_law",
       [] { return random_matrix(1'200'000, power_law_length, in_band(1'200'000, 5000)); }},
      {"scattered",
       [] { return random_matrix(1'200'000, power_law_length, scattered(1'200'000)); }},
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
  return regroup::bench::run(argc, argv, regroup::kernels::register_benchmarks);
}
