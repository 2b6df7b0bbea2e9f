// Products of dense matrices in double precision, by the CBLAS of the machine (GEMM; Dongarra, Du
// Croz, Hammarling and Duff, "A set of level 3 basic linear algebra subprograms", 1990).
//
// A matrix lies row by row in memory, and rows may be further apart than they are long. The product
// is taken in bands of rows that do not depend on the number of threads, and each band is computed
// by one thread: so with one library on one kind of processor, bits depend on the matrices alone. A
// library with threads of its own has to be told to use one (OPENBLAS_NUM_THREADS=1).
//
// Thread-safe for products that do not overlap in memory. A span too small for its matrix, or
// shapes that do not fit, end the process, with one line on standard error.
#pragma once

#include <cstddef>
#include <span>

namespace regroup::kernels {

// Larger matrices are none: CBLAS counts in int.
inline constexpr std::size_t kMatrixSideMax = 1'000'000'000;

// `rows` by `columns`, the first of each row `stride` after that of the row before.
template <class Number>
struct MatrixOf {
  std::span<Number> numbers;
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::size_t stride = 0;  // at least `columns`

  // Rows one after the other.
  static MatrixOf whole(std::span<Number> numbers, std::size_t rows, std::size_t columns) {
    return {numbers, rows, columns, columns};
  }
};
using Matrix = MatrixOf<double>;
using ConstMatrix = MatrixOf<const double>;

// c += a b. `threads`: OpenMP's.
void add_product(const ConstMatrix& a, const ConstMatrix& b, const Matrix& c,
                 std::size_t threads = 1);

// y += a x, in an order of additions that depends on nothing.
void add_product(const ConstMatrix& a, std::span<const double> x, std::span<double> y);

// The oracle: the same to within rounding, in plain code. An element's error is at most
// a.columns + 1 units of roundoff of the sum of the sizes of its terms (Higham, "Accuracy and
// Stability of Numerical Algorithms", 2nd ed., 2002, section 3.5).
namespace reference {
void add_product(const ConstMatrix& a, const ConstMatrix& b, const Matrix& c);
}  // namespace reference

}  // namespace regroup::kernels
