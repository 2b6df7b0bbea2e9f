// The sums for any processor, one target at a time: those of x86 that lack AVX2 lack fused
// operations as well, which the C library then computes.
#include "kernels/nbody/cpu_kernel.hpp"

namespace regroup::kernels {

constinit const GravityKernel kGravityBaseline = VectorGravity<SingleOps, 1>::add;

}  // namespace regroup::kernels
