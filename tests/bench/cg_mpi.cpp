// The yardstick for the job `cg`: conjugate gradients with the diagonal as preconditioner in plain
// MPI, as one writes them by hand for speed. Each rank has a block of rows of the matrix. The
// method is the job's, that of Chronopoulos and Gear: an iteration has one reduction, and takes one
// pass over the vectors and one over the matrix. Elements of u that neighbours need travel while
// the rows that need none of theirs are multiplied; the compiler vectorises for the machine it runs
// on. Nothing is checked, saved or survived, and the bits depend on the number of ranks.
// `cg_mpi NX[xNY[xNZ]] ITERATIONS` solves what `cg --laplacian` does, and prints one line of JSON
// about the iterations between two barriers. Ranks must have a plane of the grid each.
#define OMPI_SKIP_MPICXX 1
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <mpi.h>

namespace {

using Grid = std::array<int, 3>;

struct Matrix {
  std::vector<int> starts = {0};
  std::vector<int> columns;
  std::vector<double> values;
};

// The rows [begin, end). Columns count from `begin` less a plane: the ghosts come first.
Matrix laplacian(const Grid& n, int dimensions, int plane, int begin, int end) {
  const Grid stride = {1, n[0], n[0] * n[1]};
  Matrix matrix;
  for (int row = begin; row < end; ++row) {
    const auto add = [&](int column, double value) {
      matrix.columns.push_back(column - begin + plane);
      matrix.values.push_back(value);
    };
    const auto place = [&](int axis) { return row / stride[axis] % n[axis]; };
    for (int axis = 2; axis >= 0; --axis) {
      if (place(axis) > 0) add(row - stride[axis], -1);
    }
    add(row, 2 * dimensions);
    for (int axis = 0; axis <= 2; ++axis) {
      if (place(axis) + 1 < n[axis]) add(row + stride[axis], -1);
    }
    matrix.starts.push_back(static_cast<int>(matrix.columns.size()));
  }
  return matrix;
}

// w = A u in the rows [begin, end); returns w.u of them. `u` begins with the ghosts.
double multiply(const Matrix& matrix, int plane, int begin, int end, const double* __restrict u,
                double* __restrict w) {
  const int* const columns = matrix.columns.data();
  const double* const values = matrix.values.data();
  double w_u = 0;
  for (int row = begin; row < end; ++row) {
    double sum = 0;
    for (int k = matrix.starts[row]; k < matrix.starts[row + 1]; ++k) {
      sum += values[k] * u[columns[k]];
    }
    w[row] = sum;
    w_u += sum * u[plane + row];
  }
  return w_u;
}

struct Vectors {
  double *p, *s, *x, *r, *u;
};

// The next direction p and s = A p, a step along them, and u of the new r. Returns r.r and r.u.
std::array<double, 2> update(int rows, double alpha, double beta, const double* __restrict inverse,
                             const double* __restrict w, const Vectors& v) {
  double* __restrict const p = v.p;
  double* __restrict const s = v.s;
  double* __restrict const x = v.x;
  double* __restrict const r = v.r;
  double* __restrict const u = v.u;
  double r_r = 0;
  double r_u = 0;
#pragma omp simd reduction(+ : r_r, r_u)
  for (int i = 0; i < rows; ++i) {
    p[i] = r[i] * inverse[i] + beta * p[i];
    s[i] = w[i] + beta * s[i];
    x[i] += alpha * p[i];
    r[i] -= alpha * s[i];
    u[i] = r[i] * inverse[i];
    r_r += r[i] * r[i];
    r_u += r[i] * u[i];
  }
  return {r_r, r_u};
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0;
  int ranks = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (argc != 3) MPI_Abort(MPI_COMM_WORLD, 2);
  Grid n = {1, 1, 1};
  const int dimensions = std::sscanf(argv[1], "%dx%dx%d", &n[0], &n[1], &n[2]);
  const int iterations = std::atoi(argv[2]);
  const long all = static_cast<long>(n[0]) * n[1] * n[2];
  const int first = static_cast<int>(all * rank / ranks);
  const int rows = static_cast<int>(all * (rank + 1) / ranks) - first;
  const int plane = dimensions == 3 ? n[0] * n[1] : dimensions == 2 ? n[0] : 1;
  if (rows < plane) MPI_Abort(MPI_COMM_WORLD, 2);
  const Matrix matrix = laplacian(n, dimensions, plane, first, first + rows);
  const int below = rank == 0 ? MPI_PROC_NULL : rank - 1;
  const int above = rank == ranks - 1 ? MPI_PROC_NULL : rank + 1;
  const std::vector<double> inverse(rows, 1.0 / (2 * dimensions));
  std::vector<double> p(rows), s(rows), w(rows), x(rows), r(rows, 1.0), u(rows + 2 * plane);
  double* const own_u = u.data() + plane;
  std::array<double, 3> sums{};  // r.r, r.u, w.u

  // From r and its u to w and the sums.
  const auto multiply_all = [&](std::array<double, 2> of_r) {
    std::array<MPI_Request, 4> requests{};
    MPI_Irecv(u.data(), plane, MPI_DOUBLE, below, 0, MPI_COMM_WORLD, &requests[0]);
    MPI_Irecv(own_u + rows, plane, MPI_DOUBLE, above, 0, MPI_COMM_WORLD, &requests[1]);
    MPI_Isend(own_u, plane, MPI_DOUBLE, below, 0, MPI_COMM_WORLD, &requests[2]);
    MPI_Isend(own_u + rows - plane, plane, MPI_DOUBLE, above, 0, MPI_COMM_WORLD, &requests[3]);
    const int inner_end = std::max(plane, rows - plane);
    double w_u = multiply(matrix, plane, plane, inner_end, u.data(), w.data());
    MPI_Waitall(4, requests.data(), MPI_STATUSES_IGNORE);
    w_u += multiply(matrix, plane, 0, plane, u.data(), w.data());
    w_u += multiply(matrix, plane, inner_end, rows, u.data(), w.data());
    sums = {of_r[0], of_r[1], w_u};
    MPI_Allreduce(MPI_IN_PLACE, sums.data(), 3, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  };
  const auto update_all = [&](double alpha, double beta) {
    return update(rows, alpha, beta, inverse.data(), w.data(),
                  {p.data(), s.data(), x.data(), r.data(), own_u});
  };
  multiply_all(update_all(0, 0));
  const double b_norm2 = sums[0];

  MPI_Barrier(MPI_COMM_WORLD);
  const double begin = MPI_Wtime();
  double gamma = 0;
  double alpha = 0;
  for (int i = 0; i < iterations; ++i) {
    const double beta = i == 0 ? 0 : sums[1] / gamma;
    gamma = sums[1];
    alpha = gamma / (i == 0 ? sums[2] : sums[2] - beta * gamma / alpha);
    multiply_all(update_all(alpha, beta));
  }
  MPI_Barrier(MPI_COMM_WORLD);
  const double seconds = MPI_Wtime() - begin;
  if (rank == 0) {
    std::printf("{\"iterations\": %d, \"residual\": %.10g, \"seconds_per_iteration\": %.6g}\n",
                iterations, std::sqrt(sums[0] / b_norm2), seconds / iterations);
  }
  MPI_Finalize();
}
