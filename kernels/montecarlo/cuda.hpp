// The samplers on a CUDA device: the results of montecarlo.hpp, to the bit. Samples are taken in
// parallel; the partial sums of options are added in their order, by as many threads as there are
// partial sums. See kernels/device/device.hpp for what all such calls have in common.
#pragma once

#include <cstdint>

#include "kernels/device/device.hpp"
#include "kernels/montecarlo/montecarlo.hpp"

namespace regroup::kernels::cuda {

PiSums sample_pi(std::uint32_t device, std::uint64_t seed, std::uint64_t stream,
                 std::uint64_t samples);
PayoffSums sample_european(std::uint32_t device, std::uint64_t seed, std::uint64_t stream,
                           std::uint64_t samples, const OptionParameters& option);
PayoffSums sample_asian(std::uint32_t device, std::uint64_t seed, std::uint64_t stream,
                        std::uint64_t samples, const OptionParameters& option, std::uint32_t steps);

}  // namespace regroup::kernels::cuda
