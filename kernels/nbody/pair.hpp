// How a pair of bodies is computed, once for all widths: `Ops` has the operations on a number or a
// register of them. Private to this folder.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/elementary/elementary.hpp"

namespace regroup::kernels {

// The inverse square root of a normal number, with an error of a unit in the last place or two, in
// operations that all machines round alike: a guess from the bits, which is right to 3.5 %, a step
// of Newton's iteration, and one of Halley's (Muller et al., "Handbook of Floating-Point
// Arithmetic", 2nd ed., 2018, section 4.7). The instructions that processors have for it differ
// between vendors.
template <class Ops>
REGROUP_KERNEL typename Ops::Real inverse_square_root(typename Ops::Real x) {
  using Real = typename Ops::Real;
  Real y = Ops::guess(x);
  const Real half = x * Ops::all(0.5F);
  y = y * Ops::fnma(half * y, y, Ops::all(1.5F));
  const Real error = Ops::fnma(x * y, y, Ops::all(1.0F));
  return Ops::fma(y * error, Ops::fma(error, Ops::all(0.375F), Ops::all(0.5F)), y);
}

// What a source adds to the sums of targets.
template <class Ops>
struct PairSums {
  using Real = typename Ops::Real;

  Real x{};
  Real y{};
  Real z{};
  Real potential{};

  template <bool kPotential>
  REGROUP_KERNEL void add(Real dx, Real dy, Real dz, Real mass, Real softening_square) {
    const Real square = Ops::fma(dx, dx, Ops::fma(dy, dy, Ops::fma(dz, dz, softening_square)));
    const Real inverse = inverse_square_root<Ops>(square);
    const Real pull = mass * inverse;
    const Real strength = pull * (inverse * inverse);
    x = Ops::fma(dx, strength, x);
    y = Ops::fma(dy, strength, y);
    z = Ops::fma(dz, strength, z);
    if constexpr (kPotential) potential = potential - pull;
  }
};

// The operations on one number.
struct SingleOps {
  using Real = float;

  REGROUP_KERNEL static float all(float value) { return value; }
  REGROUP_KERNEL static float fma(float a, float b, float c) { return std::fma(a, b, c); }
  REGROUP_KERNEL static float fnma(float a, float b, float c) { return std::fma(-a, b, c); }
  REGROUP_KERNEL static float guess(float x) {
    return __builtin_bit_cast(float, kGuess - (__builtin_bit_cast(std::uint32_t, x) >> 1));
  }

  static constexpr std::uint32_t kGuess = 0x5F375A86;
};

}  // namespace regroup::kernels
