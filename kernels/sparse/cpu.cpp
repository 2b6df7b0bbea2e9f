// The product's public entry point: picks the instruction set.
#include "kernels/sparse/contract.hpp"
#include "kernels/sparse/cpu_kernel.hpp"
#include "kernels/sparse/sparse.hpp"

namespace regroup::kernels {
namespace {

SparseKernel kernel_for(InstructionSet set) {
#ifdef __x86_64__
  switch (usable_instruction_set(set)) {
    case InstructionSet::kAvx512:
      return kSparseAvx512;
    case InstructionSet::kAvx2:
      return kSparseAvx2;
    case InstructionSet::kBaseline:
      return kSparseBaseline;
  }
#endif
  static_cast<void>(set);
  return kSparseBaseline;
}

}  // namespace

void multiply(const SparseMatrix& matrix, std::size_t row_begin, std::size_t row_end,
              std::span<const double> x, std::span<double> y, InstructionSet set) {
  require_product(matrix, row_begin, row_end, x, y);
  kernel_for(set)({.row_starts = matrix.row_starts.data(),
                   .columns = matrix.columns.data(),
                   .values = matrix.values.data(),
                   .entries = matrix.values.size(),
                   .x = x.data(),
                   .y = y.data(),
                   .begin = row_begin,
                   .end = row_end});
}

}  // namespace regroup::kernels
