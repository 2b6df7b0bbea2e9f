// The sums of a block for AVX2. Nothing else may be defined
// here.
#include "kernels/reduction/cpu_kernel.hpp"

namespace regroup::kernels {

constinit const ReductionKernels kReductionAvx2 = VectorReduction<4>::kernels();

}  // namespace regroup::kernels
