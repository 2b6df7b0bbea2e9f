// The sums of a block for any processor of the architecture (SSE2 on x86-64). Nothing else may be
// defined here.
#include "kernels/reduction/cpu_kernel.hpp"

namespace regroup::kernels {

constinit const ReductionKernels kReductionBaseline = VectorReduction<2>::kernels();

}  // namespace regroup::kernels
