// Products of dense matrices on a CUDA device, by cuBLAS where the build has it, and else by a
// kernel of our own. See kernels/device/device.hpp for what all such calls have in common, but one
// thing: the bits are not those of the CPU's product, since libraries add in orders of their own.
// An element of c += a b differs from the exact one by at most a.columns + 1 units of roundoff of
// the sum of the sizes of its terms (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd
// ed., 2002, section 3.5), and so from the CPU's by twice that. On one kind of device, with one
// version of cuBLAS, the bits depend on the matrices alone.
#pragma once

#include <cstdint>

#include "kernels/device/device.hpp"
#include "kernels/matrix/product.hpp"

namespace regroup::kernels::cuda {

// "cuBLAS" or "kernel".
const char* product_name();

// c += a b. All three go to the device, and c comes back.
void add_product(std::uint32_t device, const ConstMatrix& a, const ConstMatrix& b, const Matrix& c);

// Seconds that the device takes for c += a b of square matrices of so many rows, without any
// copies: the best of some tries.
double time_product(std::uint32_t device, std::size_t rows);

}  // namespace regroup::kernels::cuda
