// What callers of a product owe it, checked at each call and in production too: to write past a
// vector would spoil other memory, and with it results. Private to this folder, and not for files
// compiled for a newer instruction set.
#pragma once

#include "kernels/sparse/sparse.hpp"

namespace regroup::kernels {

// That the vectors fit a matrix of so many rows and columns and do not overlap, or as below.
void require_vectors(std::size_t rows, std::size_t columns, std::span<const double> x,
                     std::span<const double> y);

// That the vectors fit the matrix and do not overlap, and that it has the rows; or one line on
// standard error and the end of the process.
void require_product(const SparseMatrix& matrix, std::size_t row_begin, std::size_t row_end,
                     std::span<const double> x, std::span<const double> y);

}  // namespace regroup::kernels
