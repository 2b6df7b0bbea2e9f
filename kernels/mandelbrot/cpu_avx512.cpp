// The vectorised escape time for AVX-512. Nothing else may be defined here.
#include "kernels/mandelbrot/cpu_kernel.hpp"

namespace regroup::kernels {

constinit const MandelbrotKernels kMandelbrotAvx512 = VectorMandelbrot<8>::kernels();

}  // namespace regroup::kernels
