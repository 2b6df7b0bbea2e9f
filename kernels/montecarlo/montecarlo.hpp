// Monte Carlo samplers: the area of the circle, and European and Asian options under geometric
// Brownian motion. What a call returns depends on its arguments alone: sample s of (seed, stream)
// always takes the same random numbers (philox.hpp), and the partial sums are
// fixed in number and order, so every instruction set and the reference give the same bits. All
// functions are thread-safe, allocate nothing and cannot fail; parameters must have been found
// valid beforehand.
#pragma once

#include <cstdint>

#include "kernels/instruction_set.hpp"

namespace regroup::kernels {

// Points of the unit square and how many of them lie in the quarter circle.
struct PiSums {
  std::uint64_t hits = 0;
  std::uint64_t samples = 0;

  double estimate() const;        // 0 without samples
  double standard_error() const;  // of the estimate; 0 without samples
  PiSums& operator+=(const PiSums& other);
  friend bool operator==(const PiSums&, const PiSums&) = default;
};

// Sums over discounted payoffs. Adding two is exact in the count and rounds the sums, so callers
// that want the same bits every time add in one order (by shard).
struct PayoffSums {
  std::uint64_t count = 0;
  double sum = 0;
  double sum_of_squares = 0;

  double mean() const;            // 0 without samples
  double standard_error() const;  // of the mean; 0 with fewer than two samples
  PayoffSums& operator+=(const PayoffSums& other);
  friend bool operator==(const PayoffSums&, const PayoffSums&) = default;
};

enum class OptionKind : std::uint32_t { kCall, kPut };

struct OptionParameters {
  double spot = 100;        // price of the asset now, in money
  double strike = 100;      // in money
  double rate = 0.05;       // risk-free, continuously compounded, per year
  double volatility = 0.2;  // per square root of a year
  double maturity_years = 1;
  OptionKind kind = OptionKind::kCall;
};

// Null when the samplers can take these, else one line that says which is wrong and what it has to
// be.
const char* why_invalid(const OptionParameters& option);

// More samples than this need another stream: a stream has 2^64 blocks of random numbers.
inline constexpr std::uint64_t kSamplesMax = std::uint64_t{1} << 48;
inline constexpr std::uint32_t kAsianStepsMax = 1 << 16;

// Sample s is the point ((a + 1/2) / 2^32, (b + 1/2) / 2^32) of words 2s and 2s+1 of the stream; a
// hit when its distance from the origin is below 1.
PiSums sample_pi(std::uint64_t seed, std::uint64_t stream, std::uint64_t samples,
                 InstructionSet set = best_instruction_set());

// Payoffs max(S - strike, 0), or max(strike - S, 0) for a put, of the price S at maturity,
// discounted. Block b of the stream gives the normal variates of samples 2b and 2b+1 (Box and
// Muller, 1958).
PayoffSums sample_european(std::uint64_t seed, std::uint64_t stream, std::uint64_t samples,
                           const OptionParameters& option,
                           InstructionSet set = best_instruction_set());

// The same with S the arithmetic mean of the prices at `steps` equally spaced dates, the last one
// at maturity; 1 <= steps <= kAsianStepsMax. Sample s takes blocks s*n to s*n+n-1, n =
// ceil(steps/2).
PayoffSums sample_asian(std::uint64_t seed, std::uint64_t stream, std::uint64_t samples,
                        const OptionParameters& option, std::uint32_t steps,
                        InstructionSet set = best_instruction_set());

// The value of a European option in closed form (Black and Scholes, 1973).
double black_scholes_price(const OptionParameters& option);

// The oracles: the same results, to the bit, one sample after the other in plain code.
namespace reference {
PiSums sample_pi(std::uint64_t seed, std::uint64_t stream, std::uint64_t samples);
PayoffSums sample_european(std::uint64_t seed, std::uint64_t stream, std::uint64_t samples,
                           const OptionParameters& option);
PayoffSums sample_asian(std::uint64_t seed, std::uint64_t stream, std::uint64_t samples,
                        const OptionParameters& option, std::uint32_t steps);
}  // namespace reference

}  // namespace regroup::kernels
