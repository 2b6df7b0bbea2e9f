// The product y = A x of a sparse matrix and a vector, for a range of rows, in double precision.
// The matrix is in compressed sparse rows (CSR; Saad, "Iterative Methods for Sparse Linear
// Systems", 2nd ed., 2003, section 3.4).
//
// The products of a row go in the order of its entries to four partial sums in turn, entry i to sum
// i mod 4, and y = (s0 + s2) + (s1 + s3). Nothing is fused. So every instruction set, every cut
// into rows, every number of threads and the reference give the same bits. (Of a NaN only that it
// is one.) The order is that of the entries and not of their columns: columns may be numbered anew
// without a change in the result.
//
// All functions are thread-safe; threads share a product by ranges of rows. Nothing allocates or
// fails. A matrix must have been found valid beforehand; spans of the wrong size and rows that the
// matrix does not have end the process, with one line on standard error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/instruction_set.hpp"

namespace regroup::kernels {

// A view of a matrix: entry k has the value values[k] and is in column columns[k]; those of row r
// are the entries from row_starts[r] up to row_starts[r + 1]. A column may occur in a row more than
// once.
struct SparseMatrix {
  std::span<const std::uint64_t> row_starts;  // one more than there are rows
  std::span<const std::uint32_t> columns;     // counted from 0
  std::span<const double> values;
  std::size_t column_count = 0;

  std::size_t rows() const { return row_starts.size() - 1; }
};

// Gather instructions take columns as signed numbers of 32 bits.
inline constexpr std::size_t kSparseColumnsMax = std::size_t{1} << 31;

// Null when it is a matrix, else one line that says what is wrong. Looks at every entry.
const char* why_invalid(const SparseMatrix& matrix);

// y[r] = row r of the matrix times x, for the rows [row_begin, row_end); leaves the others as they
// are. `x` has column_count elements, `y` one for each row of the matrix, and they do not overlap.
void multiply(const SparseMatrix& matrix, std::size_t row_begin, std::size_t row_end,
              std::span<const double> x, std::span<double> y,
              InstructionSet set = best_instruction_set());

// The oracle: the same result, to the bit, entry by entry in plain code.
namespace reference {
void multiply(const SparseMatrix& matrix, std::size_t row_begin, std::size_t row_end,
              std::span<const double> x, std::span<double> y);
}  // namespace reference

}  // namespace regroup::kernels
