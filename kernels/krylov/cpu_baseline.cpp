// The pass over the vectors for any processor of the architecture (SSE2 on x86-64).
// Nothing else may be defined here.
#include "kernels/krylov/cpu_kernel.hpp"

namespace regroup::kernels {

constinit const KrylovKernel kKrylovBaseline = VectorKrylov<2>::advance;

}  // namespace regroup::kernels
