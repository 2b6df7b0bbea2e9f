// The parts of the samplers' interface that do not sample: estimates, validity, and the closed
// form.
#include "kernels/montecarlo/montecarlo.hpp"

#include <algorithm>
#include <cmath>

namespace regroup::kernels {

double PiSums::estimate() const {
  return samples == 0 ? 0.0 : 4.0 * static_cast<double>(hits) / static_cast<double>(samples);
}

double PiSums::standard_error() const {
  if (samples == 0) return 0;
  const double n = static_cast<double>(samples);
  const double p = static_cast<double>(hits) / n;
  return 4.0 * std::sqrt(p * (1.0 - p) / n);
}

PiSums& PiSums::operator+=(const PiSums& other) {
  hits += other.hits;
  samples += other.samples;
  return *this;
}

double PayoffSums::mean() const {
  return count == 0 ? 0.0 : sum / static_cast<double>(count);
}

double PayoffSums::standard_error() const {
  if (count < 2) return 0;
  const double n = static_cast<double>(count);
  const double variance = std::max(0.0, (sum_of_squares - sum * (sum / n)) / (n - 1.0));
  return std::sqrt(variance / n);
}

PayoffSums& PayoffSums::operator+=(const PayoffSums& other) {
  count += other.count;
  sum += other.sum;
  sum_of_squares += other.sum_of_squares;
  return *this;
}

const char* why_invalid(const OptionParameters& option) {
  const auto between = [](double value, double low, double high) {
    return value >= low && value <= high;  // false for NaN
  };
  if (!between(option.spot, 1e-6, 1e12)) return "spot: must be from 1e-6 to 1e12";
  if (!between(option.strike, 1e-6, 1e12)) return "strike: must be from 1e-6 to 1e12";
  if (!between(option.rate, -1, 1))
    return "rate: must be from -1 to 1 per year (0.05 is 5 percent)";
  if (!between(option.volatility, 1e-6, 5)) {
    return "volatility: must be from 1e-6 to 5 (0.2 is 20 percent)";
  }
  if (!between(option.maturity_years, 1e-6, 100)) {
    return "maturity: must be from 1e-6 to 100 years";
  }
  return nullptr;
}

double black_scholes_price(const OptionParameters& option) {
  const double spread = option.volatility * std::sqrt(option.maturity_years);
  const double variance = option.volatility * option.volatility;
  const double d1 = (std::log(option.spot / option.strike) +
                     (option.rate + 0.5 * variance) * option.maturity_years) /
                    spread;
  const double sign = option.kind == OptionKind::kCall ? 1.0 : -1.0;
  const auto normal_cdf = [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); };
  const double discounted_strike = option.strike * std::exp(-option.rate * option.maturity_years);
  return sign * (option.spot * normal_cdf(sign * d1) -
                 discounted_strike * normal_cdf(sign * (d1 - spread)));
}

}  // namespace regroup::kernels
