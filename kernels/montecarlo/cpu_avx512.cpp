// The vectorised samplers for AVX-512. Nothing else may be defined here.
#include "kernels/montecarlo/cpu_kernel.hpp"

namespace regroup::kernels {

constinit const MonteCarloKernels kMonteCarloAvx512 = VectorSamplers<8>::kernels();

}  // namespace regroup::kernels
