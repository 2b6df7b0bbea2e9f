// What the samplers of montecarlo.hpp share: the lanes of the partial sums, and an option's
// parameters as the few numbers that a sample needs. Private to this folder. Files compiled for a
// newer instruction set may use these types but call none of the functions.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/elementary/elementary.hpp"
#include "kernels/montecarlo/montecarlo.hpp"

namespace regroup::kernels {

// Sample s of a European option is added to lane s mod 32, one of an Asian option to lane s mod 16;
// then the lanes are added in order. The numbers are part of the result's definition.
inline constexpr int kEuropeanLanes = 32;
inline constexpr int kAsianLanes = 16;

struct LaneSums {
  double sum[kEuropeanLanes] = {};
  double sum_of_squares[kEuropeanLanes] = {};
};

// From one date to the next the price grows by exp(drift + spread * a normal variate).
struct PriceModel {
  double spot;
  double strike;
  double drift;
  double spread;
  double sign;  // 1 for a call, -1 for a put
  double discount;
};

inline PriceModel price_model(const OptionParameters& option, std::uint32_t steps) {
  const double step_years = option.maturity_years / steps;
  const double variance = option.volatility * option.volatility;
  return {option.spot,
          option.strike,
          (option.rate - 0.5 * variance) * step_years,
          option.volatility * std::sqrt(step_years),
          option.kind == OptionKind::kCall ? 1.0 : -1.0,
          exponential(-option.rate * option.maturity_years)};
}

inline PayoffSums total(const LaneSums& lanes, std::uint64_t samples) {
  PayoffSums total{samples, 0, 0};
  for (int lane = 0; lane < kEuropeanLanes; ++lane) {
    total.sum += lanes.sum[lane];
    total.sum_of_squares += lanes.sum_of_squares[lane];
  }
  return total;
}

}  // namespace regroup::kernels
