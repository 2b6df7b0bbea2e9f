// The pass over the vectors for AVX2.
// Nothing else may be defined here.
#include "kernels/krylov/cpu_kernel.hpp"

namespace regroup::kernels {

constinit const KrylovKernel kKrylovAvx2 = VectorKrylov<4>::advance;

}  // namespace regroup::kernels
