// The vectorised step for AVX2. Nothing else may be defined here.
#include "kernels/stencil/cpu_kernel.hpp"

namespace regroup::kernels {

constinit const StencilKernels kStencilAvx2 = VectorStencil<4>::kernels();

}  // namespace regroup::kernels
