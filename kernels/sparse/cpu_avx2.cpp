// The product for AVX2: the four sums of a row are the elements of one register. Nothing else may
// be defined here.
#include <immintrin.h>

#include "kernels/sparse/cpu_kernel.hpp"

namespace regroup::kernels {
namespace {

// With the elements of x where the mask is all ones, and else 0.
REGROUP_KERNEL __m256d four_products(const SparseRows& rows, std::uint64_t k, __m256d mask) {
  const __m128i columns = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows.columns + k));
  const __m256d x =
      _mm256_mask_i32gather_pd(_mm256_setzero_pd(), rows.x, columns, mask, sizeof(double));
  return _mm256_mul_pd(_mm256_loadu_pd(rows.values + k), x);
}

// All ones in the first `count` elements, below 4.
REGROUP_KERNEL __m256d first_elements(std::uint64_t count) {
  const __m256i index = _mm256_set_epi64x(3, 2, 1, 0);
  return _mm256_castsi256_pd(
      _mm256_cmpgt_epi64(_mm256_set1_epi64x(static_cast<long long>(count)), index));
}

// The entries behind the row's last, which may belong to other rows, are read and come to nothing:
// a sum that began as +0 is never -0, so adding +0 leaves its bits.
REGROUP_KERNEL double row_of_four(const SparseRows& rows, std::uint64_t k, std::uint64_t end) {
  __m256d sums = _mm256_setzero_pd();
  const __m256d all = _mm256_castsi256_pd(_mm256_set1_epi64x(-1));
  for (; k + 4 <= end; k += 4) {
    sparse_prefetch(rows, k);
    sums = _mm256_add_pd(sums, four_products(rows, k, all));
  }
  if (k < end) {
    const __m256d mask = first_elements(end - k);
    sums = _mm256_add_pd(sums, _mm256_and_pd(four_products(rows, k, mask), mask));
  }
  const __m128d halves = _mm_add_pd(_mm256_castpd256_pd128(sums), _mm256_extractf128_pd(sums, 1));
  return _mm_cvtsd_f64(_mm_add_sd(halves, _mm_unpackhi_pd(halves, halves)));
}

void multiply_rows(const SparseRows& given) {
  const SparseRows rows = given;  // no store can change a copy, so it stays in registers
  for (std::size_t row = rows.begin; row < rows.end; ++row) {
    const std::uint64_t end = rows.row_starts[row + 1];
    const bool readable = end + 3 <= rows.entries;
    rows.y[row] = readable ? row_of_four(rows, rows.row_starts[row], end) : sparse_row(rows, row);
  }
}

}  // namespace

constinit const SparseKernel kSparseAvx2 = multiply_rows;

}  // namespace regroup::kernels
