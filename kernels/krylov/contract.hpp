// What callers owe the passes, checked at each call and in production too: to write past a vector
// would spoil other memory, and with it results. Private to this folder, and not for files compiled
// for a newer instruction set.
#pragma once

#include "kernels/krylov/krylov.hpp"

namespace regroup::kernels {

// That all vectors have as many elements, or one line on standard error and the end of the process.
void require_equal_sizes(const KrylovVectors& vectors);

// That there is a column for each row, likewise. The rest is for the product to check.
void require_columns_for_rows(const SparseMatrix& matrix);

}  // namespace regroup::kernels
