// The samplers' public entry points: work out the model, pick the instruction set, add up the
// lanes.
#include "kernels/montecarlo/cpu_kernel.hpp"
#include "kernels/montecarlo/montecarlo.hpp"
#include "kernels/montecarlo/price_model.hpp"

namespace regroup::kernels {
namespace {

const MonteCarloKernels& kernels_for(InstructionSet set) {
#ifdef __x86_64__
  switch (usable_instruction_set(set)) {
    case InstructionSet::kAvx512:
      return kMonteCarloAvx512;
    case InstructionSet::kAvx2:
      return kMonteCarloAvx2;
    case InstructionSet::kBaseline:
      return kMonteCarloBaseline;
  }
#endif
  static_cast<void>(set);
  return kMonteCarloBaseline;
}

}  // namespace

PiSums sample_pi(std::uint64_t seed, std::uint64_t stream, std::uint64_t samples,
                 InstructionSet set) {
  return {kernels_for(set).pi(seed, stream, samples), samples};
}

PayoffSums sample_european(std::uint64_t seed, std::uint64_t stream, std::uint64_t samples,
                           const OptionParameters& option, InstructionSet set) {
  LaneSums lanes;
  kernels_for(set).european(seed, stream, samples, price_model(option, 1), lanes);
  return total(lanes, samples);
}

PayoffSums sample_asian(std::uint64_t seed, std::uint64_t stream, std::uint64_t samples,
                        const OptionParameters& option, std::uint32_t steps, InstructionSet set) {
  LaneSums lanes;
  kernels_for(set).asian(seed, stream, samples, price_model(option, steps), steps, lanes);
  return total(lanes, samples);
}

}  // namespace regroup::kernels
