// The vectorised samplers, written once for any width of vector register and compiled by each of
// the cpu_*.cpp for its own instruction set. A step takes kStepBlocks blocks of the random stream,
// on as many registers as that needs, so that all widths add the same numbers in the same order.
// Everything is inlined or carries the width in its name: nothing here may be emitted under a name
// that the linker could share with code for another instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/elementary/elementary.hpp"
#include "kernels/montecarlo/price_model.hpp"
#include "kernels/random/philox.hpp"

namespace regroup::kernels {

// The samplers compiled for one instruction set.
struct MonteCarloKernels {
  std::uint64_t (*pi)(std::uint64_t seed, std::uint64_t stream, std::uint64_t samples);
  void (*european)(std::uint64_t seed, std::uint64_t stream, std::uint64_t samples,
                   const PriceModel& model, LaneSums& lanes);
  void (*asian)(std::uint64_t seed, std::uint64_t stream, std::uint64_t samples,
                const PriceModel& model, std::uint32_t steps, LaneSums& lanes);
};

extern const MonteCarloKernels kMonteCarloBaseline;
extern const MonteCarloKernels kMonteCarloAvx2;
extern const MonteCarloKernels kMonteCarloAvx512;

// The samplers on registers of kWidth doubles.
template <int kWidth>
struct VectorSamplers {
  using Real = typename VectorOf<kWidth>::Real;
  using Word =
      typename VectorOf<kWidth>::Word;  // holds a 32-bit word of the generator in each element

  static constexpr int kStepBlocks = 16;
  static constexpr int kRegisters = kStepBlocks / kWidth;
  static_assert(kEuropeanLanes == 2 * kStepBlocks && kAsianLanes == kStepBlocks);

  struct Block {
    Word word[4];
  };
  struct NormalPair {
    Real first;
    Real second;
  };

  // 0, 1, 2, ... in the elements.
  template <class V>
  REGROUP_KERNEL static V ramp() {
    V ramp{};
    for (int i = 0; i < kWidth; ++i) ramp[i] = static_cast<decltype(+ramp[i])>(i);
    return ramp;
  }

  // The 64-bit products of the low halves of the elements with a 32-bit multiplier.
  REGROUP_KERNEL static Word multiply_low_halves(Word a, std::uint64_t multiplier) {
    const Word b = Word{} + multiplier;
#ifdef __x86_64__
    if constexpr (kWidth == 2) {
      return (Word)_mm_mul_epu32((__m128i)a, (__m128i)b);
    } else if constexpr (kWidth == 4) {
      return (Word)_mm256_mul_epu32((__m256i)a, (__m256i)b);
    } else {
      return (Word)_mm512_maskz_mul_epu32(0xFF, (__m512i)a, (__m512i)b);
    }
#else
    return (a & 0xFFFFFFFF) * b;
#endif
  }

  // philox_block() at kWidth indices. Between the rounds the upper halves hold leftovers of the
  // products, which the multiplications do not see.
  REGROUP_KERNEL static Block philox_blocks(std::uint64_t seed, std::uint64_t stream, Word index) {
    Word c0 = index;
    Word c1 = index >> 32;
    Word c2 = Word{} + stream;
    Word c3 = Word{} + (stream >> 32);
    std::uint32_t key0 = static_cast<std::uint32_t>(seed);
    std::uint32_t key1 = static_cast<std::uint32_t>(seed >> 32);
#pragma GCC unroll 10
    for (int round = 0; round < kPhiloxRounds; ++round) {
      const Word product0 = multiply_low_halves(c0, kPhiloxMultiplier0);
      const Word product1 = multiply_low_halves(c2, kPhiloxMultiplier1);
      c0 = (product1 >> 32) ^ c1 ^ std::uint64_t{key0};
      c2 = (product0 >> 32) ^ c3 ^ std::uint64_t{key1};
      c1 = product1;
      c3 = product0;
      key0 += kPhiloxWeyl0;
      key1 += kPhiloxWeyl1;
    }
    return {{c0 & 0xFFFFFFFF, c1 & 0xFFFFFFFF, c2 & 0xFFFFFFFF, c3 & 0xFFFFFFFF}};
  }

  // Philox::uniform() of two words: the high one and 21 bits of the low one are put below the
  // leading bit of 2^20 and 2^-1, whose last places are 2^-32 and 2^-53; then those are taken off,
  // exactly.
  REGROUP_KERNEL static Real uniform(Word low, Word high) {
    const Real upper = real_of<Real>(high | 0x4130000000000000) - 0x1p20;
    const Real lower = real_of<Real>((low >> 11) | 0x3FE0000000000000) - 0x1p-1;
    return upper + lower;
  }

  REGROUP_KERNEL static NormalPair normal_pair(const Block& block) {
    const Real radius = square_root(-2.0 * logarithm(1.0 - uniform(block.word[0], block.word[1])));
    const SineCosine<Real> angle = sine_cosine_of_turns(uniform(block.word[2], block.word[3]));
    return {radius * angle.cosine, radius * angle.sine};
  }

  REGROUP_KERNEL static Real payoff(const PriceModel& model, Real price) {
    const Real gain = model.sign * (price - model.strike);
    return select(gain > 0.0, model.discount * gain, Real{});
  }

  // How many of the samples from `first` on, `step` at most, are still to be taken.
  REGROUP_KERNEL static double left(std::uint64_t first, std::uint64_t samples, int step) {
    return samples - first < static_cast<std::uint64_t>(step) ? static_cast<double>(samples - first)
                                                              : static_cast<double>(step);
  }

  // All ones in the elements whose point lies in the circle.
  REGROUP_KERNEL static Word in_circle(Word a, Word b) {
    const Real x = real_of<Real>(a | 0x4330000000000000) - 0x1p52 + 0.5;
    const Real y = real_of<Real>(b | 0x4330000000000000) - 0x1p52 + 0.5;
    return (Word)(x * x + y * y < 0x1p64);
  }

  static std::uint64_t pi(std::uint64_t seed, std::uint64_t stream, std::uint64_t samples) {
    Word minus_hits{};
    for (std::uint64_t first = 0; first < samples; first += 2 * kStepBlocks) {
      const double rest = left(first, samples, 2 * kStepBlocks);
#pragma GCC unroll 8
      for (int part = 0; part < kRegisters; ++part) {
        const Block block = philox_blocks(seed, stream, ramp<Word>() + (first / 2 + part * kWidth));
        const Real place = 2.0 * (ramp<Real>() + part * kWidth);
        minus_hits += in_circle(block.word[0], block.word[1]) & (Word)(place < rest);
        minus_hits += in_circle(block.word[2], block.word[3]) & (Word)(place + 1.0 < rest);
      }
    }
    std::uint64_t hits = 0;
    for (int i = 0; i < kWidth; ++i) hits -= minus_hits[i];
    return hits;
  }

  static void european(std::uint64_t seed, std::uint64_t stream, std::uint64_t samples,
                       const PriceModel& model, LaneSums& lanes) {
    Real sum[2 * kRegisters] = {};
    Real sum_of_squares[2 * kRegisters] = {};
    for (std::uint64_t first = 0; first < samples; first += 2 * kStepBlocks) {
      const double rest = left(first, samples, 2 * kStepBlocks);
#pragma GCC unroll 8
      for (int part = 0; part < kRegisters; ++part) {
        const NormalPair normal =
            normal_pair(philox_blocks(seed, stream, ramp<Word>() + (first / 2 + part * kWidth)));
        const Real place = 2.0 * (ramp<Real>() + part * kWidth);
        const auto add = [&](int slot, Real variate, Real place_in_step) {
          const Real price = model.spot * exponential(model.drift + model.spread * variate);
          const Real value = select(place_in_step < rest, payoff(model, price), Real{});
          sum[slot] += value;
          sum_of_squares[slot] += value * value;
        };
        add(2 * part, normal.first, place);
        add(2 * part + 1, normal.second, place + 1.0);
      }
    }
    for (int lane = 0; lane < kEuropeanLanes; ++lane) {
      const int slot = lane / 2 / kWidth * 2 + lane % 2;
      lanes.sum[lane] = sum[slot][lane / 2 % kWidth];
      lanes.sum_of_squares[lane] = sum_of_squares[slot][lane / 2 % kWidth];
    }
  }

  static void asian(std::uint64_t seed, std::uint64_t stream, std::uint64_t samples,
                    const PriceModel& model, std::uint32_t steps, LaneSums& lanes) {
    Real sum[kRegisters] = {};
    Real sum_of_squares[kRegisters] = {};
    const std::uint64_t blocks_each = (std::uint64_t{steps} + 1) / 2;
    for (std::uint64_t first = 0; first < samples; first += kStepBlocks) {
      const double rest = left(first, samples, kStepBlocks);
      Real growth[kRegisters];
      sums_of_growth(seed, stream, first * blocks_each, model, steps, growth);
      for (int part = 0; part < kRegisters; ++part) {
        const Real average = model.spot * (growth[part] / static_cast<double>(steps));
        const Real place = ramp<Real>() + part * kWidth;
        const Real value = select(place < rest, payoff(model, average), Real{});
        sum[part] += value;
        sum_of_squares[part] += value * value;
      }
    }
    for (int lane = 0; lane < kAsianLanes; ++lane) {
      lanes.sum[lane] = sum[lane / kWidth][lane % kWidth];
      lanes.sum_of_squares[lane] = sum_of_squares[lane / kWidth][lane % kWidth];
    }
  }

  // The sums over the dates of price / spot, for kStepBlocks paths from the one that starts at
  // block `index` of the stream.
  REGROUP_KERNEL static void sums_of_growth(std::uint64_t seed, std::uint64_t stream,
                                            std::uint64_t index, const PriceModel& model,
                                            std::uint32_t steps, Real (&sums)[kRegisters]) {
    const std::uint64_t blocks_each = (std::uint64_t{steps} + 1) / 2;
    Word next[kRegisters] = {};
    Real log_growth[kRegisters] = {};
    for (int part = 0; part < kRegisters; ++part) {
      sums[part] = Real{};
      next[part] = (ramp<Word>() + part * kWidth) * blocks_each + index;
    }
    for (std::uint32_t step = 0; step < steps; step += 2) {
      const bool both = step + 1 < steps;
#pragma GCC unroll 8
      for (int part = 0; part < kRegisters; ++part) {
        const NormalPair normal = normal_pair(philox_blocks(seed, stream, next[part]));
        next[part] += 1;
        log_growth[part] += model.drift + model.spread * normal.first;
        sums[part] += exponential(log_growth[part]);
        if (!both) continue;
        log_growth[part] += model.drift + model.spread * normal.second;
        sums[part] += exponential(log_growth[part]);
      }
    }
  }

  static constexpr MonteCarloKernels kernels() {
    return {pi, european, asian};
  }
};

}  // namespace regroup::kernels
