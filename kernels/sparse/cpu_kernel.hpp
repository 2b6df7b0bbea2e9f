// What the products of all instruction sets share. Everything is inlined or has a name of its own:
// nothing here may be emitted under a name that the linker could share with code for another
// instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/elementary/elementary.hpp"

namespace regroup::kernels {

// The rows to compute and the vectors: y[r] belongs to row_starts[r].
struct SparseRows {
  const std::uint64_t* row_starts;
  const std::uint32_t* columns;
  const double* values;
  std::uint64_t entries;  // of the whole matrix
  const double* x;
  double* y;
  std::size_t begin;
  std::size_t end;
};

using SparseKernel = void (*)(const SparseRows& rows);

extern const SparseKernel kSparseBaseline;
extern const SparseKernel kSparseAvx2;
extern const SparseKernel kSparseAvx512;

// How far ahead of their use values and columns are fetched: beyond a page the processor's own
// prefetching begins anew.
inline constexpr std::uint64_t kSparsePrefetchEntries = 256;

// The entries some way behind `k`.
REGROUP_KERNEL void sparse_prefetch(const SparseRows& rows, std::uint64_t k) {
  // As numbers, since they may lie past the matrix, where no pointer may point.
  const std::uint64_t ahead = k + kSparsePrefetchEntries;
  const auto values = reinterpret_cast<std::uintptr_t>(rows.values) + ahead * sizeof(double);
  const auto columns =
      reinterpret_cast<std::uintptr_t>(rows.columns) + ahead * sizeof(std::uint32_t);
  __builtin_prefetch(reinterpret_cast<const void*>(values));
  __builtin_prefetch(reinterpret_cast<const void*>(columns));
}

// One row without vector registers.
REGROUP_KERNEL double sparse_row(const SparseRows& rows, std::size_t row) {
  const std::uint64_t end = rows.row_starts[row + 1];
  std::uint64_t k = rows.row_starts[row];
  const auto product = [&](std::uint64_t entry) __attribute__((always_inline)) {
    return rows.values[entry] * rows.x[rows.columns[entry]];
  };
  double sum0 = 0;
  double sum1 = 0;
  double sum2 = 0;
  double sum3 = 0;
  for (; k + 4 <= end; k += 4) {
    sum0 += product(k);
    sum1 += product(k + 1);
    sum2 += product(k + 2);
    sum3 += product(k + 3);
  }
  if (k < end) sum0 += product(k);
  if (k + 1 < end) sum1 += product(k + 1);
  if (k + 2 < end) sum2 += product(k + 2);
  return (sum0 + sum2) + (sum1 + sum3);
}

}  // namespace regroup::kernels
