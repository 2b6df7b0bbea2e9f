// The public entry points: they pick the instruction set, cut vectors into blocks, and choose from
// a block's largest term where its levels begin. What is chosen for one block is tried on the next,
// and mostly fits. A block that fits no choice goes term by term.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <optional>

#include "kernels/reduction/contract.hpp"
#include "kernels/reduction/cpu_kernel.hpp"
#include "kernels/reduction/levels.hpp"
#include "kernels/reduction/reduction.hpp"

namespace regroup::kernels {
namespace {

// The first level begins this far above the largest term, so that no element of a register leaves
// it, nor if the terms of later blocks are somewhat larger.
constexpr int kHeadroomBits = kReductionLaneBits + 5;
constexpr int kFirstLevelMax = std::numeric_limits<double>::max_exponent - 1;
// The last level's unit is then the least double.
constexpr int kFirstLevelMin =
    std::numeric_limits<double>::min_exponent - 1 + (kReductionLevels - 1) * kReductionLevelBits;
constexpr int kUnitBits = 52;

const ReductionKernels& kernels_for(InstructionSet set) {
#ifdef __x86_64__
  switch (usable_instruction_set(set)) {
    case InstructionSet::kAvx512:
      return kReductionAvx512;
    case InstructionSet::kAvx2:
      return kReductionAvx2;
    case InstructionSet::kBaseline:
      return kReductionBaseline;
  }
#endif
  static_cast<void>(set);
  return kReductionBaseline;
}

// The exponent that the first level begins with; nothing where there is none that fits.
template <class Term>
std::optional<int> first_level(std::size_t begin, std::size_t count, Term term) {
  // Magnitudes are in the order of their bits, NaN the largest. Several of them, so that
  // comparisons need not wait for each other.
  std::array<std::uint64_t, 4> largest{};
  for (std::size_t i = 0; i < count; i += largest.size()) {
    for (std::size_t j = 0; j < largest.size(); ++j) {
      const auto bits = std::bit_cast<std::uint64_t>(std::abs(term(begin + i + j)));
      largest[j] = std::max(largest[j], bits);
    }
  }
  const auto of_all = std::bit_cast<double>(std::ranges::max(largest));
  if (!std::isfinite(of_all)) return std::nullopt;
  if (of_all == 0) return kFirstLevelMin;
  const int level = std::max(std::ilogb(of_all) + kHeadroomBits, kFirstLevelMin);
  return level <= kFirstLevelMax ? std::optional(level) : std::nullopt;
}

// Whether the block was added.
bool add_block(ExactSum& into, ReductionBlock block, int level,
               ReductionResult (*kernel)(const ReductionBlock&)) {
  begin_levels(level, block.begins);
  return add_levels(into, kernel(block), level);
}

template <class Term>
void add_terms(ExactSum& into, std::span<const double> a, std::span<const double> b,
               SplitLevel& level, ReductionResult (*kernel)(const ReductionBlock&), Term term) {
  std::size_t begin = 0;
  while (a.size() - begin >= kReductionGroup) {
    const std::size_t left = a.size() - begin;
    const std::size_t count = std::min(left - left % kReductionGroup, kReductionBlockTerms);
    const ReductionBlock block{
        .a = a.data() + begin, .b = b.data() + begin, .count = count, .begins = {}};
    if (!level || !add_block(into, block, *level, kernel)) {
      level = first_level(begin, count, term);
      if (!level || !add_block(into, block, *level, kernel)) {
        for (std::size_t i = begin; i < begin + count; ++i) into.add(term(i));
      }
    }
    begin += count;
  }
  for (; begin < a.size(); ++begin) into.add(term(begin));
}

}  // namespace

void begin_levels(int level, double (&begins)[kReductionLevels]) {
  for (int i = 0; i < kReductionLevels; ++i) {
    begins[i] = std::ldexp(1.5, level - i * kReductionLevelBits);
  }
}

bool add_levels(ExactSum& into, const ReductionResult& sum, int level) {
  if (!sum.exact) return false;
  for (int i = 0; i < kReductionLevels; ++i) {
    into.add_scaled(sum.units[i], level - i * kReductionLevelBits - kUnitBits);
  }
  return true;
}

void add_sum(ExactSum& into, std::span<const double> terms, InstructionSet set) {
  SplitLevel level;
  add_terms(into, terms, terms, level, kernels_for(set).sum,
            [&](std::size_t i) { return terms[i]; });
}

void add_dot(ExactSum& into, std::span<const double> a, std::span<const double> b,
             InstructionSet set) {
  SplitLevel level;
  add_dot(into, a, b, level, set);
}

void add_dot(ExactSum& into, std::span<const double> a, std::span<const double> b,
             SplitLevel& level, InstructionSet set) {
  require_equal_sizes(a.size(), b.size());
  add_terms(into, a, b, level, kernels_for(set).dot, [&](std::size_t i) { return a[i] * b[i]; });
}

}  // namespace regroup::kernels
