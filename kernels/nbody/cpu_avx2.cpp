// The sums for AVX2 and FMA. Nothing else may be defined here.
#include "kernels/nbody/cpu_kernel.hpp"

namespace regroup::kernels {
namespace {

struct Avx2Ops {
  typedef float Real __attribute__((vector_size(32)));
  typedef std::uint32_t Word __attribute__((vector_size(32)));

  REGROUP_KERNEL static Real all(float value) { return _mm256_set1_ps(value); }
  REGROUP_KERNEL static Real fma(Real a, Real b, Real c) { return _mm256_fmadd_ps(a, b, c); }
  REGROUP_KERNEL static Real fnma(Real a, Real b, Real c) { return _mm256_fnmadd_ps(a, b, c); }
  REGROUP_KERNEL static Real guess(Real x) { return (Real)(SingleOps::kGuess - ((Word)x >> 1)); }
};

}  // namespace

constinit const GravityKernel kGravityAvx2 = VectorGravity<Avx2Ops, 2>::add;

}  // namespace regroup::kernels
