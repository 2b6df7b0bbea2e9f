// The simulator's only source of chance: every choice of a run comes from one seed, so that the
// same seed gives the same run on every machine (I14). Streams with different names are
// independent, so that a new draw in one place does not shift the draws in another. Never seeded
// from outside.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>

namespace regroup::sim {

// One step of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a bijection that scatters its input.
constexpr std::uint64_t scatter(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

// A hash of several numbers: what a pretend shard is made of.
constexpr std::uint64_t scatter(std::initializer_list<std::uint64_t> values) {
  std::uint64_t hash = 0x2545f4914f6cdd1d;
  for (const std::uint64_t value : values) hash = scatter(hash ^ value);
  return hash;
}

class Random {
 public:
  Random(std::uint64_t seed, std::uint64_t stream) : state_(scatter({seed, stream})) {}

  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15;
    return scatter(state_);
  }
  // 0 to bound-1; the bias is below 2^-32 for the small bounds of a simulation.
  std::uint64_t below(std::uint64_t bound) { return bound < 2 ? 0 : next() % bound; }
  std::uint64_t between(std::uint64_t low, std::uint64_t high) {
    return low + below(high - low + 1);
  }
  // [0, 1)
  double unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }
  bool chance(double probability) { return unit() < probability; }
  // Every power of two between the two is as likely as every other.
  double log_uniform(double low, double high) {
    return low * std::exp2(unit() * std::log2(high / low));
  }
  template <class T>
  T pick(std::initializer_list<T> choices) {
    return choices.begin()[below(choices.size())];
  }

 private:
  std::uint64_t state_;
};

// How durations scatter around a typical one.
enum class Spread : std::uint8_t { kConstant, kUniform, kExponential, kHeavyTail };

// The duration that `unit`, in [0, 1), stands for. The mean is about `typical`, except that a heavy
// tail (Pareto, shape 1.5) has its lowest value at a third of it. Never above `longest`.
inline std::int64_t spread_out(Spread spread, double unit, std::int64_t typical,
                               std::int64_t longest) {
  double factor = 1;
  switch (spread) {
    case Spread::kConstant:
      break;
    case Spread::kUniform:
      factor = 2 * unit;
      break;
    case Spread::kExponential:
      factor = -std::log1p(-unit);
      break;
    case Spread::kHeavyTail:
      factor = std::pow(1 - unit, -1 / 1.5) / 3;
      break;
  }
  const double spread_value = factor * static_cast<double>(typical);
  return std::min(longest, static_cast<std::int64_t>(std::min(spread_value, 9e18)));
}

}  // namespace regroup::sim
