// The product for AVX-512: eight entries at a time, added to the four sums of a row first those in
// the lower half and then those in the upper one. Nothing else may be defined here.
#include <immintrin.h>

#include "kernels/sparse/cpu_kernel.hpp"

namespace regroup::kernels {
namespace {

// Adds the lower four, then the upper.
REGROUP_KERNEL __m256d plus_eight(__m256d sums, __m512d products) {
  sums = _mm256_add_pd(sums, __builtin_shufflevector(products, products, 0, 1, 2, 3));
  return _mm256_add_pd(sums, __builtin_shufflevector(products, products, 4, 5, 6, 7));
}

// Elements that are masked out are not read and come to nothing: a sum that began as +0 is never
// -0, so adding +0 leaves its bits. Whole groups go without a mask, whose making a gather would
// wait for.
REGROUP_KERNEL double row_of_eight(const SparseRows& rows, std::uint64_t k, std::uint64_t end) {
  __m256d sums = _mm256_setzero_pd();
  for (; k + 8 <= end; k += 8) {
    sparse_prefetch(rows, k);
    const __m256i columns = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows.columns + k));
    const __m512d x =
        _mm512_mask_i32gather_pd(_mm512_setzero_pd(), 0xff, columns, rows.x, sizeof(double));
    sums = plus_eight(sums, _mm512_mul_pd(_mm512_loadu_pd(rows.values + k), x));
  }
  if (k < end) {
    sparse_prefetch(rows, k);
    const auto mask = static_cast<__mmask8>((1u << (end - k)) - 1);
    const __m256i columns = _mm256_maskz_loadu_epi32(mask, rows.columns + k);
    const __m512d x =
        _mm512_mask_i32gather_pd(_mm512_setzero_pd(), mask, columns, rows.x, sizeof(double));
    sums = plus_eight(sums,
                      _mm512_maskz_mul_pd(mask, _mm512_maskz_loadu_pd(mask, rows.values + k), x));
  }
  const __m128d halves = _mm_add_pd(_mm256_castpd256_pd128(sums), _mm256_extractf128_pd(sums, 1));
  return _mm_cvtsd_f64(_mm_add_sd(halves, _mm_unpackhi_pd(halves, halves)));
}

void multiply_rows(const SparseRows& given) {
  const SparseRows rows = given;  // no store can change a copy, so it stays in registers
  for (std::size_t row = rows.begin; row < rows.end; ++row) {
    rows.y[row] = row_of_eight(rows, rows.row_starts[row], rows.row_starts[row + 1]);
  }
}

}  // namespace

constinit const SparseKernel kSparseAvx512 = multiply_rows;

}  // namespace regroup::kernels
