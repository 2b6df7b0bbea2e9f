// The vectorised samplers for any processor of the architecture (SSE2 on x86-64). Nothing else may
// be defined here.
#include "kernels/montecarlo/cpu_kernel.hpp"

namespace regroup::kernels {

constinit const MonteCarloKernels kMonteCarloBaseline = VectorSamplers<2>::kernels();

}  // namespace regroup::kernels
