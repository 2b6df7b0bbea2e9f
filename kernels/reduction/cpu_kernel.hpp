// The sum of a block of terms without error, written once for any width of vector register and
// compiled by each of the cpu_*.cpp for its own instruction set. Everything is inlined or carries
// the width in its name: nothing here may be emitted under a name that the linker could share with
// code for another instruction set.
//
// A level is a register that begins at 1.5 * 2^b. As long as it stays in [2^b, 2^(b+1)), adding a
// term to it rounds the term to a multiple of 2^(b-52), and both what was added and what is left of
// the term are found exactly by subtraction. What is left goes to the next level, 2^42 below.
// What a level holds, in units of its last place, is how far its bits have moved: an integer.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/elementary/elementary.hpp"

namespace regroup::kernels {

inline constexpr int kReductionLevels = 3;
// Terms are added to a block's registers in groups of this many.
inline constexpr std::size_t kReductionGroup = 16;
inline constexpr std::size_t kReductionBlockTerms = 2048;
// What one element of a register adds up at most: a block, over the fewest elements.
inline constexpr int kReductionLaneBits = 9;
// Of each level below the one before. What is left of a term is at most half a unit in the last
// place, 2^(b-53), so all of an element stays below 2^(b-44), half of what the next level takes.
inline constexpr int kReductionLevelBits = 53 - kReductionLaneBits - 2;

// Terms a[i] or, for a dot product, a[i] * b[i].
struct ReductionBlock {
  const double* a;
  const double* b;
  std::size_t count;  // a multiple of the group, at most kReductionBlockTerms
  // Where the levels begin: 1.5 * 2^b.
  double begins[kReductionLevels];
};

struct ReductionResult {
  // Of each level, in units of its last place.
  std::int64_t units[kReductionLevels];
  // Otherwise a term was too large, not finite, or has bits below the last level: no sum at all.
  bool exact;
};

// The sums compiled for one instruction set.
struct ReductionKernels {
  ReductionResult (*sum)(const ReductionBlock& block);
  ReductionResult (*dot)(const ReductionBlock& block);
};

extern const ReductionKernels kReductionBaseline;
extern const ReductionKernels kReductionAvx2;
extern const ReductionKernels kReductionAvx512;

// Sums on registers of kWidth doubles.
template <int kWidth>
struct VectorReduction {
  using Real = typename VectorOf<kWidth>::Real;
  using Word = typename VectorOf<kWidth>::Word;

  // Registers a level, so that additions need not wait for each other.
  static constexpr int kRegisters = 2;
  static_assert(kReductionGroup % (kWidth * kRegisters) == 0);
  static_assert(kReductionBlockTerms / (kWidth * kRegisters) <= 1u << kReductionLaneBits);

  enum class Kind { kSum, kDot };

  // How far ahead of their use terms are fetched: a page, which is where the processor's own
  // prefetching ends.
  static constexpr std::size_t kPrefetchBytes = 4096;

  REGROUP_KERNEL static void prefetch(const double* at) {
    // As a number, since it may lie past the vector, where no pointer may point.
    const std::uintptr_t ahead = reinterpret_cast<std::uintptr_t>(at) + kPrefetchBytes;
    __builtin_prefetch(reinterpret_cast<const void*>(ahead));
  }

  template <Kind kKind>
  REGROUP_KERNEL static Real term(const ReductionBlock& block, std::size_t i) {
    Real a;
    prefetch(block.a + i);
    __builtin_memcpy(&a, block.a + i, sizeof a);
    if constexpr (kKind == Kind::kSum) return a;
    Real b;
    prefetch(block.b + i);
    __builtin_memcpy(&b, block.b + i, sizeof b);
    return a * b;
  }

  // The terms that one register adds up.
  struct Levels {
    Real sums[kReductionLevels];
    Word moved;  // all bits in which the first level ever differed from its begin
    Word left;   // all bits of what the last level left
  };

  REGROUP_KERNEL static Levels begin(const double (&begins)[kReductionLevels]) {
    Levels levels{};
    for (int level = 0; level < kReductionLevels; ++level) {
      levels.sums[level] = all<Real>(begins[level]);
    }
    return levels;
  }

  REGROUP_KERNEL static void add(Levels& levels, Word begin, Real term) {
    Real rest = term;
    for (Real& sum : levels.sums) {
      const Real before = sum;
      sum = before + rest;
      rest -= sum - before;
    }
    levels.moved |= bits_of(levels.sums[0]) ^ begin;
    levels.left |= bits_of(rest);
  }

  // Of all the registers' terms.
  template <int kCount>
  REGROUP_KERNEL static ReductionResult result(const double (&begins)[kReductionLevels],
                                               const Levels (&registers)[kCount]) {
    ReductionResult sum{};
    Word moved{};
    Word left{};
    for (const Levels& levels : registers) {
      moved |= levels.moved;
      left |= levels.left;
    }
    for (int level = 0; level < kReductionLevels; ++level) {
      Word units{};
      for (const Levels& levels : registers) {
        units += bits_of(levels.sums[level]) - bits_of(all<Real>(begins[level]));
      }
      std::uint64_t of_all = 0;  // without a sign: of a block that does not fit, it may overflow
      for (int lane = 0; lane < kWidth; ++lane) of_all += units[lane];
      sum.units[level] = static_cast<std::int64_t>(of_all);
    }
    std::uint64_t inexact = 0;
    for (int lane = 0; lane < kWidth; ++lane) {
      inexact |= moved[lane] >> 52 | left[lane] << 1;  // a rest of -0 is none
    }
    sum.exact = inexact == 0;
    return sum;
  }

  template <Kind kKind>
  static ReductionResult add_block(const ReductionBlock& block) {
    Levels registers[kRegisters];
    for (Levels& levels : registers) levels = begin(block.begins);
    const Word first = bits_of(all<Real>(block.begins[0]));
    for (std::size_t i = 0; i < block.count; i += kWidth * kRegisters) {
      for (int r = 0; r < kRegisters; ++r) {
        add(registers[r], first, term<kKind>(block, i + static_cast<std::size_t>(r * kWidth)));
      }
    }
    return result(block.begins, registers);
  }

  static constexpr ReductionKernels kernels() {
    return {add_block<Kind::kSum>, add_block<Kind::kDot>};
  }
};

}  // namespace regroup::kernels
