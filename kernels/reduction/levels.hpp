// How the sum of a block, in units of its levels (cpu_kernel.hpp), goes into an accumulator. For
// kernels that add up terms where they compute them; not for files compiled for a newer instruction
// set.
#pragma once

#include "kernels/reduction/cpu_kernel.hpp"
#include "kernels/reduction/reduction.hpp"

namespace regroup::kernels {

// Where the levels begin, of a block whose first one has the exponent `level`.
void begin_levels(int level, double (&begins)[kReductionLevels]);

// Adds the sum of a block with such levels, if it is exact; whether it is.
bool add_levels(ExactSum& into, const ReductionResult& sum, int level);

}  // namespace regroup::kernels
