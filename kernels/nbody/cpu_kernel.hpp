// The vectorised sums, written once for any width of vector register and compiled by each of the
// cpu_*.cpp for its own instruction set. The elements of a register are targets, so that each one's
// sum has the order of the sources. Everything is inlined or carries the width in its name: nothing
// here may be emitted under a name that the linker could share with code for another instruction
// set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/nbody/pair.hpp"

namespace regroup::kernels {

// A group of sources, at most kGroup, and targets, any number.
struct GravityGroup {
  const float* x;
  const float* y;
  const float* z;
  const float* mass;
  std::size_t sources;
  const float* target_x;
  const float* target_y;
  const float* target_z;
  std::size_t targets;
  float softening_square;
  double* gravity_x;
  double* gravity_y;
  double* gravity_z;
  double* potential;  // null: not wanted
};

// The sums compiled for one instruction set.
using GravityKernel = void (*)(const GravityGroup& group);

extern const GravityKernel kGravityBaseline;
extern const GravityKernel kGravityAvx2;
extern const GravityKernel kGravityAvx512;

// The sums by the operations of `Ops`, on kRegisters registers of targets at a time.
template <class Ops, int kRegisters>
struct VectorGravity {
  using Real = typename Ops::Real;
  static constexpr std::size_t kWidth = sizeof(Real) / sizeof(float);
  static constexpr std::size_t kTile = kRegisters * kWidth;

  static void add(const GravityGroup& given) {
    const GravityGroup group = given;  // no store can change a copy, so it stays in registers
    for (std::size_t first = 0; first < group.targets; first += kTile) {
      if (group.potential != nullptr) {
        add_tile<true>(group, first);
      } else {
        add_tile<false>(group, first);
      }
    }
  }

 private:
  // Of the last tile some elements may be no targets: they take part, at the origin, and are
  // dropped.
  template <bool kPotential>
  REGROUP_KERNEL static void add_tile(const GravityGroup& group, std::size_t first) {
    const std::size_t left = group.targets - first;
    Real x[kRegisters];
    Real y[kRegisters];
    Real z[kRegisters];
    PairSums<Ops> sums[kRegisters];
    for (int part = 0; part < kRegisters; ++part) {
      x[part] = load(group.target_x + first, left, part);
      y[part] = load(group.target_y + first, left, part);
      z[part] = load(group.target_z + first, left, part);
    }
    const Real softening_square = Ops::all(group.softening_square);
    for (std::size_t j = 0; j < group.sources; ++j) {
      const Real source_x = Ops::all(group.x[j]);
      const Real source_y = Ops::all(group.y[j]);
      const Real source_z = Ops::all(group.z[j]);
      const Real mass = Ops::all(group.mass[j]);
      for (int part = 0; part < kRegisters; ++part) {
        sums[part].template add<kPotential>(source_x - x[part], source_y - y[part],
                                            source_z - z[part], mass, softening_square);
      }
    }
    for (int part = 0; part < kRegisters; ++part) {
      add_to(group.gravity_x + first, left, part, sums[part].x);
      add_to(group.gravity_y + first, left, part, sums[part].y);
      add_to(group.gravity_z + first, left, part, sums[part].z);
      if constexpr (kPotential) add_to(group.potential + first, left, part, sums[part].potential);
    }
  }

  // How many elements of a register are among the `left` targets of the tile and those after it.
  REGROUP_KERNEL static std::size_t elements(std::size_t left, int part) {
    const std::size_t before = static_cast<std::size_t>(part) * kWidth;
    return left <= before ? 0 : left - before < kWidth ? left - before : kWidth;
  }

  REGROUP_KERNEL static Real load(const float* from, std::size_t left, int part) {
    Real value{};
    __builtin_memcpy(&value, from + part * static_cast<int>(kWidth),
                     elements(left, part) * sizeof(float));
    return value;
  }

  REGROUP_KERNEL static void add_to(double* to, std::size_t left, int part, Real sum) {
    float element[kWidth];
    __builtin_memcpy(element, &sum, sizeof element);
    double* const at = to + part * static_cast<int>(kWidth);
    for (std::size_t i = 0; i < elements(left, part); ++i) at[i] += static_cast<double>(element[i]);
  }
};

}  // namespace regroup::kernels
