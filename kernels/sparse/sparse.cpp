// Validity, and the product as it is defined: the oracle of the fast ones. Speed is no concern
// here; being obviously right is.
#include "kernels/sparse/sparse.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <functional>

#include "kernels/sparse/contract.hpp"

namespace regroup::kernels {
namespace {

bool overlap(std::span<const double> a, std::span<const double> b) {
  const std::less<> before;
  return before(a.data(), b.data() + b.size()) && before(b.data(), a.data() + a.size());
}

void require_that(bool holds, const char* text) {
  if (holds) return;
  std::fprintf(stderr, "sparse product: %s\n", text);
  std::abort();
}

}  // namespace

const char* why_invalid(const SparseMatrix& matrix) {
  if (matrix.row_starts.empty() || matrix.row_starts.front() != 0) {
    return "row starts: must begin with 0";
  }
  if (!std::ranges::is_sorted(matrix.row_starts)) return "row starts: must not descend";
  if (matrix.columns.size() != matrix.values.size() ||
      matrix.row_starts.back() != matrix.values.size()) {
    return "row starts: must end with the number of columns and values";
  }
  if (matrix.column_count > kSparseColumnsMax) return "columns: must be at most 2^31";
  const auto inside = [&](std::uint32_t column) { return column < matrix.column_count; };
  if (!std::ranges::all_of(matrix.columns, inside)) return "columns: one is outside the matrix";
  return nullptr;
}

void require_vectors(std::size_t rows, std::size_t columns, std::span<const double> x,
                     std::span<const double> y) {
  require_that(x.size() == columns, "x has not one element for each column");
  require_that(y.size() == rows, "y has not one element for each row");
  require_that(!overlap(x, y), "x and y overlap");
}

void require_product(const SparseMatrix& matrix, std::size_t row_begin, std::size_t row_end,
                     std::span<const double> x, std::span<const double> y) {
  require_vectors(matrix.rows(), matrix.column_count, x, y);
  require_that(row_begin <= row_end && row_end <= matrix.rows(), "rows that the matrix has not");
}

namespace reference {

void multiply(const SparseMatrix& matrix, std::size_t row_begin, std::size_t row_end,
              std::span<const double> x, std::span<double> y) {
  require_product(matrix, row_begin, row_end, x, y);
  for (std::size_t row = row_begin; row < row_end; ++row) {
    std::array<double, 4> sums{};
    const std::uint64_t begin = matrix.row_starts[row];
    for (std::uint64_t k = begin; k < matrix.row_starts[row + 1]; ++k) {
      sums[(k - begin) % 4] += matrix.values[k] * x[matrix.columns[k]];
    }
    y[row] = (sums[0] + sums[2]) + (sums[1] + sums[3]);
  }
}

}  // namespace reference

}  // namespace regroup::kernels
