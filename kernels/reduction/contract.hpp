// What callers of a dot product owe it, checked at each call and in production too. Private to this
// folder, and not for files compiled for a newer instruction set.
#pragma once

#include <span>

namespace regroup::kernels {

// That both have as many elements, or one line on standard error and the end of the process.
void require_equal_sizes(std::span<const double> a, std::span<const double> b);

}  // namespace regroup::kernels
