// The product for any processor of the architecture. Nothing else may be defined here.
#include "kernels/sparse/cpu_kernel.hpp"

namespace regroup::kernels {

namespace {

void multiply_rows(const SparseRows& given) {
  const SparseRows rows = given;  // no store can change a copy, so it stays in registers
  for (std::size_t row = rows.begin; row < rows.end; ++row) rows.y[row] = sparse_row(rows, row);
}

}  // namespace

constinit const SparseKernel kSparseBaseline = multiply_rows;

}  // namespace regroup::kernels
