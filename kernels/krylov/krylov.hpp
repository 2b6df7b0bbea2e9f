// The two passes over memory of an iteration of conjugate gradients with a diagonal preconditioner,
// in the form of Chronopoulos and Gear ("s-step iterative methods for symmetric linear systems",
// J. Comput. Appl. Math. 25(2), 1989, section 2), whose dot products are added up where their terms
// are computed: for vectors larger than the caches, that is what an iteration costs.
//
// An element of a vector depends on elements of the same row alone, in the order of operations
// that is given and with nothing fused; products of a row are those of kernels/sparse, and dot
// products are exact sums (kernels/reduction). So every instruction set, every cut into rows, every
// number of threads and the reference give the same bits. (Of a NaN only that it is one.)
//
// Thread-safe on vectors that do not overlap in memory, and on different accumulators. `threads`:
// OpenMP's, who share the rows. Spans of sizes that do not fit end the process, with one line on
// standard error. Of the vectors of a call none overlap.
#pragma once

#include <cstddef>
#include <span>

#include "kernels/instruction_set.hpp"
#include "kernels/reduction/reduction.hpp"
#include "kernels/sparse/sparse.hpp"

namespace regroup::kernels {

// Of as many elements each, one a row.
struct KrylovVectors {
  std::span<double> x;              // the solution so far
  std::span<double> r;              // b - A x
  std::span<double> p;              // the direction
  std::span<double> s;              // A p
  std::span<double> u;              // the preconditioned residual: only written
  std::span<const double> w;        // A u of the residual before
  std::span<const double> inverse;  // of the matrix's diagonal
};

struct ResidualSums {
  ExactSum r_r;
  ExactSum r_u;
};

// Each row: p = r inverse + beta p, s = w + beta s, x = x + alpha p, r = r - alpha s,
// u = r inverse. Adds r.r and r.u of the new ones to the sums.
void advance(const KrylovVectors& vectors, double alpha, double beta, ResidualSums& sums,
             std::size_t threads = 1, InstructionSet set = best_instruction_set());

// w = A u, and adds to `w_u` the dot product of w with the first elements of u, one for each of the
// matrix's rows, of which there are no more than columns. `u` has an element for each column.
void multiply_and_dot(const SparseMatrix& matrix, std::span<const double> u, std::span<double> w,
                      ExactSum& w_u, std::size_t threads = 1,
                      InstructionSet set = best_instruction_set());

// The oracle: the same result, to the bit, row by row in plain code.
namespace reference {
void advance(const KrylovVectors& vectors, double alpha, double beta, ResidualSums& sums);
void multiply_and_dot(const SparseMatrix& matrix, std::span<const double> u, std::span<double> w,
                      ExactSum& w_u);
}  // namespace reference

}  // namespace regroup::kernels
