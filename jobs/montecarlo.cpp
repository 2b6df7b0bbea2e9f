// The job `montecarlo`: pi from points in the unit square, a European option (held against the
// closed form of Black and Scholes) and an arithmetic Asian option, each with its standard error.
#include "kernels/montecarlo/montecarlo.hpp"

#include <algorithm>
#include <cmath>

#include "jobs/on_device.hpp"
#include "jobs/registry.hpp"
#include "jobs/sample_jobs.hpp"
#include "kernels/montecarlo/cuda.hpp"

namespace regroup {
namespace {

struct MonteCarlo {
  struct Result {
    kernels::PiSums pi;
    kernels::PayoffSums european;
    kernels::PayoffSums asian;
  };
  static constexpr std::string_view kName = "montecarlo";
  static constexpr std::string_view kSummary =
      "pi, and the price of a European and an Asian option, with standard errors";
  static constexpr std::string_view kDescription =
      "Pi comes from points in the unit square. The European option is held against the closed "
      "form "
      "of Black and Scholes; the Asian one pays on the arithmetic mean of the price on --steps "
      "dates.";

  void options(OptionSet& set) {
    set.add("samples", samples, "samples of each estimate").at_least(1).at_most(0x1p62);
    set.add("shard-samples", shard_samples, "samples in one shard").at_least(1).at_most(0x1p40);
    set.add("spot", option.spot, "price of the asset now").at_least(0);
    set.add("strike", option.strike, "strike price").at_least(0);
    set.add("rate", option.rate, "risk-free rate a year, e.g. 0.05");
    set.add("volatility", option.volatility, "volatility a year, e.g. 0.2").at_least(0);
    set.add("maturity", option.maturity_years, "years to maturity").at_least(0);
    set.add("kind", kind, "which right the options give").one_of({"call", "put"});
    set.add("steps", steps, "dates that the Asian option averages over")
        .at_least(1)
        .at_most(kernels::kAsianStepsMax);
  }

  std::expected<void, std::string> prepare() {
    if (const char* why = kernels::why_invalid(parameters())) {
      return std::unexpected(std::string("--") + why);  // it begins with the option's name
    }
    if (shards() > kShardsMax) {
      return std::unexpected(
          "--samples gives more than 2^40 shards: give a larger --shard-samples");
    }
    return {};
  }

  std::uint64_t shards() const { return (samples + shard_samples - 1) / shard_samples; }

  Result run(const ShardContext& shard) const {
    const std::uint64_t count = std::min(shard_samples, samples - shard.shard() * shard_samples);
    // A stream each, so that the three estimates are independent.
    const std::uint64_t stream = 3 * shard.shard();
    return on_device_or_cpu(
        shard,
        [seed = shard.seed(), stream, count, of = parameters(),
         dates = steps](std::uint32_t device) {
          return Result{kernels::cuda::sample_pi(device, seed, stream, count),
                        kernels::cuda::sample_european(device, seed, stream + 1, count, of),
                        kernels::cuda::sample_asian(device, seed, stream + 2, count, of, dates)};
        },
        [&] {
          return Result{
              kernels::sample_pi(shard.seed(), stream, count),
              kernels::sample_european(shard.seed(), stream + 1, count, parameters()),
              kernels::sample_asian(shard.seed(), stream + 2, count, parameters(), steps)};
        });
  }

  static void merge(Result& into, Result&& next) {
    into.pi += next.pi;
    into.european += next.european;
    into.asian += next.asian;
  }

  void report(const Result& total, Report& report) const {
    report.value("samples", total.pi.samples);
    report.value("pi", total.pi.estimate());
    report.value("pi_standard_error", total.pi.standard_error());
    report.value("european", total.european.mean());
    report.value("european_standard_error", total.european.standard_error());
    report.value("european_black_scholes", kernels::black_scholes_price(parameters()));
    report.value("asian", total.asian.mean());
    report.value("asian_standard_error", total.asian.standard_error());
  }

  kernels::OptionParameters parameters() const {
    kernels::OptionParameters parameters = option;
    parameters.kind = kind == "put" ? kernels::OptionKind::kPut : kernels::OptionKind::kCall;
    return parameters;
  }

  static constexpr std::uint64_t kShardsMax = std::uint64_t{1} << 40;

  std::uint64_t samples = 20'000'000;
  std::uint64_t shard_samples = 100'000;
  kernels::OptionParameters option;
  std::string kind = "call";
  std::uint32_t steps = 12;
};

}  // namespace

void add_montecarlo(JobRegistry& registry) {
  registry.add<MonteCarlo>();
}

}  // namespace regroup
