// Direct summation of gravity (N-body): how bodies, the sources, accelerate others, the targets,
// with Plummer softening, in units where the constant of gravitation is 1 (Aarseth, "Gravitational
// N-Body Simulations", 2003, section 1.3):
//     a_i = sum_j m_j d_ij / (|d_ij|^2 + e^2)^(3/2),   d_ij = x_j - x_i,
// and, if wanted, the potential -sum_j m_j / (|d_ij|^2 + e^2)^(1/2). A body among the sources that
// is the target itself does not accelerate it, but adds -m / e to its potential (self_potential()).
//
// Pairs are computed in single precision, with fused operations in one order; sums over kGroup
// sources, in their order, are added to double precision. So every instruction set, number of
// threads and the reference give the same bits. Relative errors of a pair are about 3e-7;
// coordinates are best given relative to the middle of the system.
//
// All functions are thread-safe on different targets, and allocate nothing. Spans of different
// lengths where they have to be the same end the process, with one line on standard error.
#pragma once

#include <cstddef>
#include <span>

#include "kernels/instruction_set.hpp"

namespace regroup::kernels {

// Sources that are summed up in single precision.
inline constexpr std::size_t kGroup = 256;

// The square of the softening length is at least this, so that no pair overflows.
inline constexpr float kSofteningSquareMin = 1e-20F;

struct BodyPositions {
  std::span<const float> x;
  std::span<const float> y;
  std::span<const float> z;
};

struct BodySources {
  BodyPositions at;
  std::span<const float> mass;
};

// One of each for every target. `potential` may be empty: then it is not computed.
struct Gravity {
  std::span<double> x;
  std::span<double> y;
  std::span<double> z;
  std::span<double> potential;
};

// Adds what the sources do to the targets. `softening_square` is at least kSofteningSquareMin.
// Coordinates are finite and at most 1e9 in size. `threads`: OpenMP's.
void add_gravity(const BodyPositions& targets, const BodySources& sources, float softening_square,
                 const Gravity& gravity, std::size_t threads = 1,
                 InstructionSet set = best_instruction_set());

// What a body of this mass adds to its own potential, to the bit.
double self_potential(float mass, float softening_square);

// The oracle: the same, to the bit, one pair after the other in plain code.
namespace reference {
void add_gravity(const BodyPositions& targets, const BodySources& sources, float softening_square,
                 const Gravity& gravity);
}  // namespace reference

}  // namespace regroup::kernels
