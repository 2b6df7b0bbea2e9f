// What callers of a dot product owe it, checked at each call and in production too. Private to this
// folder, and not for files compiled for a newer instruction set.
#pragma once

#include <cstddef>

namespace regroup::kernels {

// That both have as many elements, or one line on standard error and the end of the process.
void require_equal_sizes(std::size_t a, std::size_t b);

}  // namespace regroup::kernels
