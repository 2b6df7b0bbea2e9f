// Direct summation on a CUDA device: the sums of nbody.hpp, to the bit. Each group of sources is
// summed up for each target by a thread of its own; then the groups' sums are added in their order.
// See kernels/device/device.hpp for what all such calls have in common.
#pragma once

#include <cstdint>

#include "kernels/device/device.hpp"
#include "kernels/nbody/nbody.hpp"

namespace regroup::kernels::cuda {

// As kernels::add_gravity().
void add_gravity(std::uint32_t device, const BodyPositions& targets, const BodySources& sources,
                 float softening_square, const Gravity& gravity);

}  // namespace regroup::kernels::cuda
