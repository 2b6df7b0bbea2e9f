// exp, log, and sine and cosine as series of additions and multiplications, for double and for
// vectors of double, in at most 2 units in the last place of the true value. The C library's
// functions differ between versions and processors; these give the same bits for every vector width
// and every machine that follows IEEE 754, as long as the compiler does not fuse multiplications
// and additions (-ffp-contract=off). They cover the finite ranges that sampling needs, no NaN.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace regroup::kernels {

// Always inlined: no copy compiled for a newer instruction set may be shared by the linker.
// CUDA compiles them for its devices as well.
#ifdef __CUDACC__
#define REGROUP_KERNEL [[gnu::always_inline]] __host__ __device__ inline
#else
#define REGROUP_KERNEL [[gnu::always_inline]] inline
#endif

// A vector of so many doubles, and one of as many 64-bit words.
template <int kCount>
struct VectorOf;

#define REGROUP_VECTOR_OF(count)                                                     \
  template <>                                                                        \
  struct VectorOf<count> {                                                           \
    typedef double Real __attribute__((vector_size(count * sizeof(double))));        \
    typedef std::uint64_t Word __attribute__((vector_size(count * sizeof(double)))); \
  }
REGROUP_VECTOR_OF(2);
REGROUP_VECTOR_OF(4);
REGROUP_VECTOR_OF(8);
#undef REGROUP_VECTOR_OF

template <class V>
struct BitsOf {
  using type = typename VectorOf<sizeof(V) / sizeof(double)>::Word;
};
template <>
struct BitsOf<double> {
  using type = std::uint64_t;
};

// The unsigned integers of the same width and number as the elements of V, double or a vector.
template <class V>
using Bits = typename BitsOf<V>::type;

template <class V>
REGROUP_KERNEL Bits<V> bits_of(V value) {
  return __builtin_bit_cast(Bits<V>, value);
}

template <class V>
REGROUP_KERNEL V real_of(Bits<V> bits) {
  return __builtin_bit_cast(V, bits);
}

template <class V>
REGROUP_KERNEL V all(double value) {
  return V{} + value;
}

// `yes` where the comparison `mask` holds, `no` elsewhere.
template <class Mask, class V>
REGROUP_KERNEL V select(Mask mask, V yes, V no) {
  return mask ? yes : no;
}

// Correctly rounded, as IEEE 754 demands.
template <class V>
REGROUP_KERNEL V square_root(V x) {
  if constexpr (sizeof(V) == sizeof(double)) {
    return std::sqrt(x);
#ifdef __x86_64__
  } else if constexpr (sizeof(V) == 16) {
    return _mm_sqrt_pd(x);
  } else if constexpr (sizeof(V) == 32) {
    return _mm256_sqrt_pd(x);
  } else if constexpr (sizeof(V) == 64) {
    return _mm512_maskz_sqrt_pd(0xFF, x);
#endif
  } else {
    V root{};
    for (std::size_t i = 0; i < sizeof(V) / sizeof(double); ++i) root[i] = std::sqrt(x[i]);
    return root;
  }
}

consteval double factorial(int n) {
  return n <= 1 ? 1.0 : n * factorial(n - 1);
}

// Coefficients of the series below: of e^r, of artanh (twice), and of sine and cosine.
consteval double exponential_term(int k) {
  return 1.0 / factorial(k);
}
consteval double logarithm_term(int n) {
  return 2.0 / n;
}
consteval double circle_term(int k) {
  return (k % 4 < 2 ? 1.0 : -1.0) / factorial(k);
}

inline constexpr double kLn2High =
    0x1.62e42feep-1;  // 32 bits, so that a whole number times it is exact
inline constexpr double kLn2Low = 0x1.a39ef35793c76p-33;  // the next 53 bits of ln 2
// Added to a double of magnitude below 2^51, it leaves the nearest whole number in the low bits.
inline constexpr double kRoundToWhole = 0x1.8p52;

// e to the power x. Below -708 it is 0, above 709 infinity.
// With x = n ln2 + r and |r| <= ln2/2 it is 2^n times the Taylor series of e^r, of which the first
// term left out is below 2^-57 of the sum.
template <class V>
REGROUP_KERNEL V exponential(V x) {
  const V shifted = x * 0x1.71547652b82fep+0 + kRoundToWhole;
  const V n = shifted - kRoundToWhole;
  const V r = (x - n * kLn2High) - n * kLn2Low;
  const V r2 = r * r;
  const V r4 = r2 * r2;
  const V low = (exponential_term(2) + exponential_term(3) * r) +
                (exponential_term(4) + exponential_term(5) * r) * r2;
  const V middle = (exponential_term(6) + exponential_term(7) * r) +
                   (exponential_term(8) + exponential_term(9) * r) * r2;
  const V high = (exponential_term(10) + exponential_term(11) * r) +
                 (exponential_term(12) + exponential_term(13) * r) * r2;
  const V fraction = 1.0 + (r + r2 * (low + r4 * (middle + r4 * high)));
  const V power_of_two = real_of<V>((bits_of(shifted) + 1023) << 52);
  const V inside = select(x > 709.0, all<V>(__builtin_inf()), fraction * power_of_two);
  return select(x < -708.0, V{}, inside);
}

// The natural logarithm of a normal positive x.
// With x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt(2), and s = f / (2 + f) it is
// k ln2 + 2 artanh(s) = k ln2 + 2s + s R, R = 2 (s^2/3 + s^4/5 + ...), where 2s = f - s f is
// spelled so that the rounding of s hardly counts (the arrangement of Ng's log in fdlibm).
template <class V>
REGROUP_KERNEL V logarithm(V x) {
  constexpr std::uint64_t kOne = 0x3FF0000000000000;
  constexpr std::uint64_t kSqrtHalf = 0x3FE6A09E667F3BCD;
  const Bits<V> biased = (bits_of(x) + (kOne - kSqrtHalf)) >> 52;  // k + 1023
  const V f = real_of<V>(bits_of(x) - (biased << 52) + kOne) - 1.0;
  const V k = real_of<V>(biased | 0x4330000000000000) - (0x1p52 + 1023.0);
  const V s = f / (2.0 + f);
  const V z = s * s;
  const V z2 = z * z;
  const V z4 = z2 * z2;
  const V low = (logarithm_term(3) + logarithm_term(5) * z) +
                (logarithm_term(7) + logarithm_term(9) * z) * z2;
  const V middle = (logarithm_term(11) + logarithm_term(13) * z) +
                   (logarithm_term(15) + logarithm_term(17) * z) * z2;
  const V high = logarithm_term(19) + logarithm_term(21) * z;
  const V series = z * (low + z4 * (middle + z4 * high));
  const V half_square = 0.5 * f * f;
  const V small = s * (half_square + series) + k * kLn2Low;
  return k * kLn2High - ((half_square - small) - f);
}

template <class V>
struct SineCosine {
  V sine;
  V cosine;
};

// Sine and cosine of 2 pi u, for u in [0, 1].
// u = q/4 + t with |t| <= 1/8 exactly, so the Taylor series of both run over |2 pi t| <= pi/4,
// where the first term left out is below 2^-57; q says which of the two is which, and the signs.
template <class V>
REGROUP_KERNEL SineCosine<V> sine_cosine_of_turns(V u) {
  const V shifted = u * 4.0 + kRoundToWhole;
  const V t = u - (shifted - kRoundToWhole) * 0.25;
  const V x = t * 0x1.921fb54442d18p+2;
  const V z = x * x;
  const V z2 = z * z;
  const V z4 = z2 * z2;

  const V sine_low =
      (circle_term(3) + circle_term(5) * z) + (circle_term(7) + circle_term(9) * z) * z2;
  const V sine_high =
      (circle_term(11) + circle_term(13) * z) + (circle_term(15) + circle_term(17) * z) * z2;
  const V sine = x + x * (z * (sine_low + z4 * sine_high));

  const V cosine_low =
      (circle_term(4) + circle_term(6) * z) + (circle_term(8) + circle_term(10) * z) * z2;
  const V cosine_high = (circle_term(12) + circle_term(14) * z) + circle_term(16) * z2;
  const V half = 0.5 * z;
  const V main = 1.0 - half;
  const V cosine = main + (((1.0 - main) - half) + z2 * (cosine_low + z4 * cosine_high));

  const Bits<V> q = bits_of(shifted);
  const Bits<V> swap = ~((q & 1) - 1);  // all ones in the odd quadrants
  const Bits<V> difference = (bits_of(sine) ^ bits_of(cosine)) & swap;
  return {real_of<V>(bits_of(sine) ^ difference ^ ((q & 2) << 62)),
          real_of<V>(bits_of(cosine) ^ difference ^ (((q + 1) & 2) << 62))};
}

}  // namespace regroup::kernels
