// The accumulator, and sums term by term.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "kernels/reduction/contract.hpp"
#include "kernels/reduction/reduction.hpp"

namespace regroup::kernels {
namespace {

constexpr int kFractionBits = 52;
constexpr std::uint64_t kHiddenBit = std::uint64_t{1} << kFractionBits;
constexpr std::uint64_t kExponentMask = 0x7ff;

// a += b + carry, and returns the carry out.
std::uint64_t add_carrying(std::uint64_t& a, std::uint64_t b, std::uint64_t carry) {
  std::uint64_t sum = 0;
  const bool first = __builtin_add_overflow(a, b, &sum);
  const bool second = __builtin_add_overflow(sum, carry, &a);
  return first || second;
}

}  // namespace

void ExactSum::add(double term) {
  const auto bits = std::bit_cast<std::uint64_t>(term);
  const auto biased = static_cast<int>(bits >> kFractionBits & kExponentMask);
  const std::uint64_t fraction = bits & (kHiddenBit - 1);
  if (biased == static_cast<int>(kExponentMask)) {
    special_ |= fraction != 0 ? kNotANumber : term > 0 ? kInfinite : kMinusInfinite;
    return;
  }
  const auto magnitude = static_cast<std::int64_t>(biased == 0 ? fraction : fraction | kHiddenBit);
  const int exponent = biased == 0 ? kExponentMin : kExponentMin - 1 + biased;
  add_scaled(std::signbit(term) ? -magnitude : magnitude, exponent);
}

void ExactSum::add_scaled(std::int64_t n, int exponent) {
  const auto place = static_cast<std::size_t>(exponent - kExponentMin);
  const __int128 shifted = static_cast<__int128>(n) << place % kLimbBits;
  const std::uint64_t sign = n < 0 ? ~std::uint64_t{0} : 0;
  std::size_t i = place / kLimbBits;
  std::uint64_t carry = add_carrying(limbs_[i++], static_cast<std::uint64_t>(shifted), 0);
  carry = add_carrying(limbs_[i++], static_cast<std::uint64_t>(shifted >> kLimbBits), carry);
  // The sign goes on for ever; with a carry, all ones change nothing.
  for (; i < kLimbs && sign + carry != 0; ++i) carry = add_carrying(limbs_[i], sign, carry);
}

void ExactSum::merge(const ExactSum& other) {
  std::uint64_t carry = 0;
  for (std::size_t i = 0; i < kLimbs; ++i) {
    carry = add_carrying(limbs_[i], other.limbs_[i], carry);
  }
  special_ |= other.special_;
}

double ExactSum::value() const {
  constexpr std::uint64_t kBothInfinite = kInfinite | kMinusInfinite;
  if ((special_ & kNotANumber) != 0 || (special_ & kBothInfinite) == kBothInfinite) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  if (special_ == kInfinite) return std::numeric_limits<double>::infinity();
  if (special_ == kMinusInfinite) return -std::numeric_limits<double>::infinity();

  std::array<std::uint64_t, kLimbs> magnitude = limbs_;
  if (negative()) {
    std::uint64_t carry = 1;
    for (std::uint64_t& limb : magnitude) {
      limb = ~limb;
      carry = add_carrying(limb, 0, carry);
    }
  }
  std::size_t top = kLimbs;
  while (top > 0 && magnitude[top - 1] == 0) --top;
  if (top == 0) return 0;

  // The 53 bits from the highest on, and what is below them.
  const int highest = static_cast<int>(top) * kLimbBits - 1 - std::countl_zero(magnitude[top - 1]);
  const int lowest = std::max(highest - kFractionBits, 0);
  const auto limb = static_cast<std::size_t>(lowest / kLimbBits);
  const int shift = lowest % kLimbBits;
  std::uint64_t kept = magnitude[limb] >> shift;
  if (shift != 0 && limb + 1 < kLimbs) kept |= magnitude[limb + 1] << (kLimbBits - shift);
  const auto bit = [&](int place) {
    return (magnitude[static_cast<std::size_t>(place / kLimbBits)] >> place % kLimbBits & 1) != 0;
  };
  const auto any_below = [&](int place) {
    const auto whole = static_cast<std::size_t>(place / kLimbBits);
    for (std::size_t i = 0; i < whole; ++i) {
      if (magnitude[i] != 0) return true;
    }
    return (magnitude[whole] & ((std::uint64_t{1} << place % kLimbBits) - 1)) != 0;
  };
  if (lowest > 0 && bit(lowest - 1) && (kept % 2 != 0 || any_below(lowest - 1))) ++kept;
  const double rounded = std::ldexp(static_cast<double>(kept), lowest + kExponentMin);
  return negative() ? -rounded : rounded;
}

void require_equal_sizes(std::size_t a, std::size_t b) {
  if (a == b) return;
  std::fprintf(stderr, "dot product: the vectors have %zu and %zu elements\n", a, b);
  std::abort();
}

namespace reference {

void add_sum(ExactSum& into, std::span<const double> terms) {
  for (const double term : terms) into.add(term);
}

void add_dot(ExactSum& into, std::span<const double> a, std::span<const double> b) {
  require_equal_sizes(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) into.add(a[i] * b[i]);
}

}  // namespace reference

}  // namespace regroup::kernels
