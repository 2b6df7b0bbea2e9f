#include "kernels/matrix/product.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include <cblas.h>

#include "kernels/matrix/contract.hpp"

namespace regroup::kernels {
namespace {

// Of a band: so many that packing the other matrix anew for each band costs little.
constexpr std::size_t kBandRows = 768;

void require(bool holds, const char* text) {
  if (holds) return;
  std::fprintf(stderr, "matrix: %s\n", text);
  std::abort();
}

template <class Number>
void require_matrix(const MatrixOf<Number>& matrix) {
  require(matrix.rows <= kMatrixSideMax && matrix.columns <= kMatrixSideMax &&
              matrix.stride <= kMatrixSideMax,
          "a matrix is too large");
  require(matrix.stride >= matrix.columns, "the rows of a matrix overlap");
  require(matrix.rows == 0 ||
              matrix.numbers.size() >= (matrix.rows - 1) * matrix.stride + matrix.columns,
          "a span does not hold its matrix");
}

}  // namespace

void require_product(const ConstMatrix& a, const ConstMatrix& b, const Matrix& c) {
  require_matrix(a);
  require_matrix(b);
  require_matrix(c);
  require(a.columns == b.rows && a.rows == c.rows && b.columns == c.columns,
          "the shapes of a product do not fit");
}

void add_product(const ConstMatrix& a, const ConstMatrix& b, const Matrix& c, std::size_t threads) {
  require_product(a, b, c);
  if (c.rows == 0 || c.columns == 0 || a.columns == 0) return;
  const std::size_t bands = (c.rows + kBandRows - 1) / kBandRows;
  const int team = static_cast<int>(std::clamp<std::size_t>(threads, 1, bands));
#pragma omp parallel for num_threads(team) schedule(dynamic) if (team > 1)
  for (std::size_t band = 0; band < bands; ++band) {
    const std::size_t first = band * kBandRows;
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans,
                static_cast<int>(std::min(kBandRows, c.rows - first)), static_cast<int>(c.columns),
                static_cast<int>(a.columns), 1, a.numbers.data() + first * a.stride,
                static_cast<int>(a.stride), b.numbers.data(), static_cast<int>(b.stride), 1,
                c.numbers.data() + first * c.stride, static_cast<int>(c.stride));
  }
}

void add_product(const ConstMatrix& a, std::span<const double> x, std::span<double> y) {
  require_matrix(a);
  require(x.size() == a.columns && y.size() == a.rows, "the shapes of a product do not fit");
  constexpr std::size_t kLanes = 8;
  for (std::size_t i = 0; i < a.rows; ++i) {
    const double* const row = a.numbers.data() + i * a.stride;
    double lanes[kLanes] = {};
    std::size_t j = 0;
    for (; j + kLanes <= a.columns; j += kLanes) {
      for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += row[j + lane] * x[j + lane];
    }
    for (; j < a.columns; ++j) lanes[j % kLanes] += row[j] * x[j];
    double sum = 0;
    for (const double lane : lanes) sum += lane;
    y[i] += sum;
  }
}

namespace reference {

void add_product(const ConstMatrix& a, const ConstMatrix& b, const Matrix& c) {
  require_product(a, b, c);
  for (std::size_t i = 0; i < c.rows; ++i) {
    for (std::size_t j = 0; j < c.columns; ++j) {
      double sum = c.numbers[i * c.stride + j];
      for (std::size_t k = 0; k < a.columns; ++k) {
        sum += a.numbers[i * a.stride + k] * b.numbers[k * b.stride + j];
      }
      c.numbers[i * c.stride + j] = sum;
    }
  }
}

}  // namespace reference

}  // namespace regroup::kernels
