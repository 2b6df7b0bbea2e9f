// The pass over the vectors for AVX-512.
// Nothing else may be defined here.
#include "kernels/krylov/cpu_kernel.hpp"

namespace regroup::kernels {

constinit const KrylovKernel kKrylovAvx512 = VectorKrylov<8>::advance;

}  // namespace regroup::kernels
