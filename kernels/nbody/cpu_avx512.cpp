// The sums for AVX-512. Nothing else may be defined here.
#include "kernels/nbody/cpu_kernel.hpp"

namespace regroup::kernels {
namespace {

struct Avx512Ops {
  typedef float Real __attribute__((vector_size(64)));
  typedef std::uint32_t Word __attribute__((vector_size(64)));

  REGROUP_KERNEL static Real all(float value) { return Real{} + value; }
  REGROUP_KERNEL static Real fma(Real a, Real b, Real c) { return _mm512_fmadd_ps(a, b, c); }
  REGROUP_KERNEL static Real fnma(Real a, Real b, Real c) { return _mm512_fnmadd_ps(a, b, c); }
  REGROUP_KERNEL static Real guess(Real x) { return (Real)(SingleOps::kGuess - ((Word)x >> 1)); }
};

}  // namespace

constinit const GravityKernel kGravityAvx512 = VectorGravity<Avx512Ops, 4>::add;

}  // namespace regroup::kernels
