// Escape times on a CUDA device: the counts of mandelbrot.hpp, to the bit. See
// kernels/device/device.hpp for what all such calls have in common.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/device/device.hpp"
#include "kernels/mandelbrot/mandelbrot.hpp"

namespace regroup::kernels::cuda {

// The counts of the columns [0, columns) of all these lines, one line after the other.
std::vector<std::uint32_t> escape_counts(std::uint32_t device, std::span<const PlaneRow> rows,
                                         std::uint64_t columns, std::uint32_t iterations);

}  // namespace regroup::kernels::cuda
