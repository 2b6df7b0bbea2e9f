// The product of a sparse matrix and a vector on a CUDA device: that of sparse.hpp, to the bit (of
// a NaN only that it is one). The matrix stays in the device's memory from product to product. See
// kernels/device/device.hpp for what all such calls have in common.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "kernels/device/device.hpp"
#include "kernels/sparse/sparse.hpp"

namespace regroup::kernels::cuda {

// A matrix in a device's memory. Copies are the same one. One call at a time.
class DeviceSparseMatrix {
 public:
  // Found valid beforehand.
  DeviceSparseMatrix(std::uint32_t device, const SparseMatrix& matrix);

  // y = A x: one element of `x` for each column, and of `y` for each row.
  void multiply(std::span<const double> x, std::span<double> y);

 private:
  struct Memory;
  std::shared_ptr<Memory> memory_;
};

}  // namespace regroup::kernels::cuda
