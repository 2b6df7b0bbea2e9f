// Escape times of points of the complex plane under z -> z^2 + c from z = 0, in double precision: c
// is in the Mandelbrot set if |z| stays at most 2 for ever (Peitgen, Juergens and Saupe, "Chaos and
// Fractals", 2nd ed., 2004, chapter 14). A point in the main cardioid or in the disc of period 2,
// which bound most of the set, is known to be inside without a step. Every instruction set and the
// reference evaluate the same expressions in the same order, never fused, and so give the same
// counts.
//
// All functions are thread-safe; nothing allocates or fails.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/instruction_set.hpp"

namespace regroup::kernels {

// Points of a line parallel to the real axis: that of column i is at left + i * spacing, and
// imaginary. All are finite.
struct PlaneRow {
  double left = 0;
  double imaginary = 0;
  double spacing = 0;
};

// Sets counts[i] to how many steps the point of column first + i takes before one brings |z| above
// 2: 0 to iterations - 1, and `iterations` where none of the first that many does, which is taken
// for inside.
void escape_counts(const PlaneRow& row, std::uint64_t first, std::uint32_t iterations,
                   std::span<std::uint32_t> counts, InstructionSet set = best_instruction_set());

// The oracle: the same counts, point by point in plain code. Without the test for cardioid and disc
// it finds out by iterating alone.
namespace reference {
enum class KnownInside : std::uint8_t { kTested, kIterated };
void escape_counts(const PlaneRow& row, std::uint64_t first, std::uint32_t iterations,
                   std::span<std::uint32_t> counts, KnownInside known = KnownInside::kTested);
}  // namespace reference

}  // namespace regroup::kernels
