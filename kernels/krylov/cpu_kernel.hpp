// The pass over the vectors, written once for any width of vector register and compiled by each of
// the cpu_*.cpp for its own instruction set. Everything is inlined or carries the width in its
// name: nothing here may be emitted under a name that the linker could share with code for another
// instruction set.
#pragma once

#include <cstddef>

#include "kernels/elementary/elementary.hpp"
#include "kernels/reduction/cpu_kernel.hpp"

namespace regroup::kernels {

// Of a block. With one register a sum, no element of it adds up more than it may.
inline constexpr std::size_t kKrylovBlockRows = 1024;

// Rows one behind the other: a multiple of kReductionGroup, at most kKrylovBlockRows.
struct KrylovBlock {
  double* x;
  double* r;
  double* p;
  double* s;
  double* u;
  const double* w;
  const double* inverse;
  std::size_t count;
  double alpha;
  double beta;
  // Where the levels of the sums begin.
  double begins_r_r[kReductionLevels];
  double begins_r_u[kReductionLevels];
};

struct KrylovBlockSums {
  ReductionResult r_r;
  ReductionResult r_u;
};

using KrylovKernel = KrylovBlockSums (*)(const KrylovBlock& block);

extern const KrylovKernel kKrylovBaseline;
extern const KrylovKernel kKrylovAvx2;
extern const KrylovKernel kKrylovAvx512;

// On registers of kWidth doubles.
template <int kWidth>
struct VectorKrylov {
  using Reduction = VectorReduction<kWidth>;
  using Real = typename Reduction::Real;
  using Levels = typename Reduction::Levels;
  static_assert(kKrylovBlockRows / kWidth <= 1u << kReductionLaneBits);

  REGROUP_KERNEL static Real load(const double* from) {
    Real value;
    Reduction::prefetch(from);
    __builtin_memcpy(&value, from, sizeof value);
    return value;
  }
  REGROUP_KERNEL static void store(double* to, Real value) {
    __builtin_memcpy(to, &value, sizeof value);
  }

  static KrylovBlockSums advance(const KrylovBlock& given) {
    const KrylovBlock block = given;  // no store can change a copy, so it stays in registers
    Levels r_r[1] = {Reduction::begin(block.begins_r_r)};
    Levels r_u[1] = {Reduction::begin(block.begins_r_u)};
    const auto first_r_r = bits_of(all<Real>(block.begins_r_r[0]));
    const auto first_r_u = bits_of(all<Real>(block.begins_r_u[0]));
    for (std::size_t i = 0; i < block.count; i += kWidth) {
      // All are read before any is written: a load waits for a store before it to an address of
      // the same last bits, as those of vectors that begin at a page have.
      const Real inverse = load(block.inverse + i);
      const Real w = load(block.w + i);
      const Real x_before = load(block.x + i);
      const Real r_before = load(block.r + i);
      const Real p_before = load(block.p + i);
      const Real s_before = load(block.s + i);
      const Real p = r_before * inverse + block.beta * p_before;
      const Real s = w + block.beta * s_before;
      const Real r = r_before - block.alpha * s;
      const Real u = r * inverse;
      store(block.p + i, p);
      store(block.s + i, s);
      store(block.x + i, x_before + block.alpha * p);
      store(block.r + i, r);
      store(block.u + i, u);
      Reduction::add(r_r[0], first_r_r, r * r);
      Reduction::add(r_u[0], first_r_u, r * u);
    }
    return {Reduction::result(block.begins_r_r, r_r), Reduction::result(block.begins_r_u, r_u)};
  }
};

}  // namespace regroup::kernels
