// The sums of a block for AVX-512. Nothing else may be defined
// here.
#include "kernels/reduction/cpu_kernel.hpp"

namespace regroup::kernels {

constinit const ReductionKernels kReductionAvx512 = VectorReduction<8>::kernels();

}  // namespace regroup::kernels
