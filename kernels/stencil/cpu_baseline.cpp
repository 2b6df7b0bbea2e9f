// The vectorised step for any processor of the architecture (SSE2 on x86-64). Nothing else may
// be defined here.
#include "kernels/stencil/cpu_kernel.hpp"

namespace regroup::kernels {

constinit const StencilKernels kStencilBaseline = VectorStencil<2>::kernels();

}  // namespace regroup::kernels
