// Sums and dot products of doubles whose bits do not depend on the order or the grouping of their
// terms: any cut into pieces, merged in any order, on any instruction set, gives the same ones. For
// the sum is exact: an accumulator holds every bit that a double can have, and is rounded once, at
// the end, to the nearest double (ties to even).
//
// The accumulator is a fixed-point number, as in Neal, "Fast Exact Summation Using Small and Large
// Superaccumulators", 2015, arXiv:1505.05571, section 2, but without redundant digits, so that
// equal sums have equal bytes. Long vectors are first added up block by block in registers, without
// error, by splitting terms at fixed powers of two: Demmel and Nguyen, "Parallel Reproducible
// Summation", IEEE Trans. Computers 64(7), 2015, section 3, after Rump, Ogita and Oishi, "Accurate
// Floating-Point Summation Part I", SIAM J. Sci. Comput. 31(1), 2008, section 3. Since that loses
// nothing, where blocks begin does not matter.
//
// Terms may be any doubles. A NaN, or infinities of both signs, make the sum a NaN, always the same
// one; otherwise an infinity makes it that infinity. A finite sum above the largest double is an
// infinity. A sum that is 0 is +0, as is that of no terms.
//
// A dot product is the exact sum of the products, each rounded to a double as `a * b` is: one that
// overflows counts as an infinity. Products must not be flushed to zero (the processor's default).
//
// Functions are thread-safe on different accumulators. Nothing allocates or fails; spans of
// different sizes end the process, with one line on standard error.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "kernels/instruction_set.hpp"

namespace regroup::kernels {

// The sum of up to 2^77 terms. Its bytes depend on the sum alone and may be stored and sent as they
// are, to machines of the same byte order.
class ExactSum {
 public:
  void add(double term);
  void merge(const ExactSum& other);
  // n * 2^exponent, for exponents from -1074 to 971.
  void add_scaled(std::int64_t n, int exponent);

  // Rounded to the nearest double.
  double value() const;

  friend bool operator==(const ExactSum&, const ExactSum&) = default;

 private:
  static constexpr std::size_t kLimbs = 34;
  static constexpr int kLimbBits = 64;
  static constexpr int kExponentMin = -1074;  // of the lowest bit
  enum : std::uint64_t { kNotANumber = 1, kInfinite = 2, kMinusInfinite = 4 };

  bool negative() const { return limbs_.back() >> (kLimbBits - 1) != 0; }

  std::array<std::uint64_t, kLimbs> limbs_{};  // two's complement, the lowest first
  std::uint64_t special_ = 0;                  // which terms came that are not finite
};

// Adds the sum of the terms.
void add_sum(ExactSum& into, std::span<const double> terms,
             InstructionSet set = best_instruction_set());

// Adds the dot product of two vectors of one size, which may be the same one.
void add_dot(ExactSum& into, std::span<const double> a, std::span<const double> b,
             InstructionSet set = best_instruction_set());

// The binary exponent at which terms are split first. Who adds up a vector piece by piece hands it
// on from one to the next, and saves each the search for it; the sum does not depend on it.
using SplitLevel = std::optional<int>;
void add_dot(ExactSum& into, std::span<const double> a, std::span<const double> b,
             SplitLevel& level, InstructionSet set = best_instruction_set());

// The oracle: the same, term by term.
namespace reference {
void add_sum(ExactSum& into, std::span<const double> terms);
void add_dot(ExactSum& into, std::span<const double> a, std::span<const double> b);
}  // namespace reference

}  // namespace regroup::kernels
