// What callers owe, and the passes as they are defined: the oracle of the fast ones. Speed is no
// concern here; being obviously right is.
#include "kernels/krylov/krylov.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "kernels/krylov/contract.hpp"

namespace regroup::kernels {
namespace {

void require_that(bool holds, const char* text) {
  if (holds) return;
  std::fprintf(stderr, "conjugate gradients: %s\n", text);
  std::abort();
}

}  // namespace

void require_equal_sizes(const KrylovVectors& vectors) {
  const std::size_t sizes[] = {vectors.r.size(), vectors.p.size(), vectors.s.size(),
                               vectors.u.size(), vectors.w.size(), vectors.inverse.size()};
  require_that(std::ranges::all_of(sizes, [&](auto size) { return size == vectors.x.size(); }),
               "the vectors have different sizes");
}

void require_columns_for_rows(const SparseMatrix& matrix) {
  require_that(matrix.rows() <= matrix.column_count, "the matrix has more rows than columns");
}

namespace reference {

void advance(const KrylovVectors& vectors, double alpha, double beta, ResidualSums& sums) {
  require_equal_sizes(vectors);
  for (std::size_t i = 0; i < vectors.x.size(); ++i) {
    vectors.p[i] = vectors.r[i] * vectors.inverse[i] + beta * vectors.p[i];
    vectors.s[i] = vectors.w[i] + beta * vectors.s[i];
    vectors.x[i] = vectors.x[i] + alpha * vectors.p[i];
    vectors.r[i] = vectors.r[i] - alpha * vectors.s[i];
    vectors.u[i] = vectors.r[i] * vectors.inverse[i];
  }
  reference::add_dot(sums.r_r, vectors.r, vectors.r);
  reference::add_dot(sums.r_u, vectors.r, vectors.u);
}

void multiply_and_dot(const SparseMatrix& matrix, std::span<const double> u, std::span<double> w,
                      ExactSum& w_u) {
  require_columns_for_rows(matrix);
  reference::multiply(matrix, 0, matrix.rows(), u, w);
  reference::add_dot(w_u, w, u.first(matrix.rows()));
}

}  // namespace reference

}  // namespace regroup::kernels
