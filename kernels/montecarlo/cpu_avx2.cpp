// The vectorised samplers for AVX2. Nothing else may be defined here.
#include "kernels/montecarlo/cpu_kernel.hpp"

namespace regroup::kernels {

constinit const MonteCarloKernels kMonteCarloAvx2 = VectorSamplers<4>::kernels();

}  // namespace regroup::kernels
