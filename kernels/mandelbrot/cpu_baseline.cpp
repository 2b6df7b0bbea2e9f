// The vectorised escape time for any processor of the architecture (SSE2 on x86-64). Nothing else
// may be defined here.
#include "kernels/mandelbrot/cpu_kernel.hpp"

namespace regroup::kernels {

constinit const MandelbrotKernels kMandelbrotBaseline = VectorMandelbrot<2>::kernels();

}  // namespace regroup::kernels
