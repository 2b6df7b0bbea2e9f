// The vectorised escape time for AVX2. Nothing else may be defined here.
#include "kernels/mandelbrot/cpu_kernel.hpp"

namespace regroup::kernels {

constinit const MandelbrotKernels kMandelbrotAvx2 = VectorMandelbrot<4>::kernels();

}  // namespace regroup::kernels
