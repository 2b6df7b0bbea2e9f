// The samplers as they are defined, one sample at a time, with the plain generator: the oracle of
// the vectorised ones. Speed is no concern here; being obviously right is.
#include "kernels/elementary/elementary.hpp"
#include "kernels/montecarlo/montecarlo.hpp"
#include "kernels/montecarlo/price_model.hpp"
#include "kernels/random/philox.hpp"

namespace regroup::kernels::reference {
namespace {

struct NormalPair {
  double first;
  double second;
};

NormalPair normal_pair(Philox& random) {
  const double radius = square_root(-2.0 * logarithm(1.0 - random.uniform()));
  const auto [sine, cosine] = sine_cosine_of_turns(random.uniform());
  return {radius * cosine, radius * sine};
}

double payoff(const PriceModel& model, double price) {
  const double gain = model.sign * (price - model.strike);
  return gain > 0 ? model.discount * gain : 0.0;
}

void add(LaneSums& lanes, std::uint64_t lane, double value) {
  lanes.sum[lane] += value;
  lanes.sum_of_squares[lane] += value * value;
}

}  // namespace

PiSums sample_pi(std::uint64_t seed, std::uint64_t stream, std::uint64_t samples) {
  Philox random(seed, stream);
  PiSums sums{0, samples};
  for (std::uint64_t sample = 0; sample < samples; ++sample) {
    const double x = random() + 0.5;
    const double y = random() + 0.5;
    if (x * x + y * y < 0x1p64) ++sums.hits;
  }
  return sums;
}

PayoffSums sample_european(std::uint64_t seed, std::uint64_t stream, std::uint64_t samples,
                           const OptionParameters& option) {
  const PriceModel model = price_model(option, 1);
  Philox random(seed, stream);
  LaneSums lanes;
  const auto price = [&](double normal) {
    return model.spot * exponential(model.drift + model.spread * normal);
  };
  for (std::uint64_t sample = 0; sample < samples; sample += 2) {
    const auto [first, second] = normal_pair(random);
    add(lanes, sample % kEuropeanLanes, payoff(model, price(first)));
    if (sample + 1 == samples) break;
    add(lanes, (sample + 1) % kEuropeanLanes, payoff(model, price(second)));
  }
  return total(lanes, samples);
}

PayoffSums sample_asian(std::uint64_t seed, std::uint64_t stream, std::uint64_t samples,
                        const OptionParameters& option, std::uint32_t steps) {
  const PriceModel model = price_model(option, steps);
  Philox random(seed, stream);
  LaneSums lanes;
  for (std::uint64_t sample = 0; sample < samples; ++sample) {
    double log_growth = 0;
    double sum_of_growth = 0;
    const auto advance = [&](double normal) {
      log_growth += model.drift + model.spread * normal;
      sum_of_growth += exponential(log_growth);
    };
    for (std::uint32_t step = 0; step < steps; step += 2) {
      const auto [first, second] = normal_pair(random);
      advance(first);
      if (step + 1 < steps) advance(second);
    }
    add(lanes, sample % kAsianLanes, payoff(model, model.spot * (sum_of_growth / steps)));
  }
  return total(lanes, samples);
}

}  // namespace regroup::kernels::reference
