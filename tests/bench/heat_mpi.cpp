// The yardstick for the job `heat`: the same explicit steps in plain MPI, as one writes them by
// hand for speed. Rows of the grid are shared out in slabs; rows at their borders travel while the
// inner ones are computed; the compiler vectorises for the machine it runs on. Nothing is checked,
// saved or survived. `heat_mpi NX NY STEPS` begins as `heat --start sine` does, and prints one line
// of JSON about the part between two barriers.
#define OMPI_SKIP_MPICXX 1
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numbers>
#include <utility>
#include <vector>

#include <mpi.h>

namespace {

// The new rows [begin, end), of `width` cells with their ghosts.
void step(const double* __restrict now, double* __restrict next, int width, int begin, int end,
          double number) {
  for (int y = begin; y < end; ++y) {
    const double* const row = now + static_cast<std::size_t>(y) * width;
    double* const out = next + static_cast<std::size_t>(y) * width;
    for (int x = 1; x < width - 1; ++x) {
      out[x] = row[x] +
               number * (row[x - 1] + row[x + 1] + row[x - width] + row[x + width] - 4 * row[x]);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0;
  int ranks = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (argc != 4) MPI_Abort(MPI_COMM_WORLD, 2);
  const int nx = std::atoi(argv[1]);
  const int ny = std::atoi(argv[2]);
  const int steps = std::atoi(argv[3]);
  const int first = static_cast<int>(static_cast<long>(ny) * rank / ranks);
  const int rows = static_cast<int>(static_cast<long>(ny) * (rank + 1) / ranks) - first;
  const int width = nx + 2;
  std::vector<double> now(static_cast<std::size_t>(width) * (rows + 2));
  std::vector<double> next(now.size());
  const double waves = std::numbers::pi / (nx + 1);
  const double waves_y = std::numbers::pi / (ny + 1);
  for (int y = 1; y <= rows; ++y) {
    for (int x = 1; x <= nx; ++x) {
      now[static_cast<std::size_t>(y) * width + x] =
          std::sin(waves * x) * std::sin(waves_y * (first + y));
    }
  }
  const int below = rank == 0 ? MPI_PROC_NULL : rank - 1;
  const int above = rank == ranks - 1 ? MPI_PROC_NULL : rank + 1;

  MPI_Barrier(MPI_COMM_WORLD);
  const double begin = MPI_Wtime();
  for (int s = 0; s < steps; ++s) {
    const auto at = [&](int y) { return now.data() + static_cast<std::size_t>(y) * width; };
    std::array<MPI_Request, 4> requests{};
    MPI_Irecv(at(0), width, MPI_DOUBLE, below, 0, MPI_COMM_WORLD, &requests[0]);
    MPI_Irecv(at(rows + 1), width, MPI_DOUBLE, above, 0, MPI_COMM_WORLD, &requests[1]);
    MPI_Isend(at(1), width, MPI_DOUBLE, below, 0, MPI_COMM_WORLD, &requests[2]);
    MPI_Isend(at(rows), width, MPI_DOUBLE, above, 0, MPI_COMM_WORLD, &requests[3]);
    step(now.data(), next.data(), width, 2, rows, 0.225);
    MPI_Waitall(4, requests.data(), MPI_STATUSES_IGNORE);
    step(now.data(), next.data(), width, 1, 2, 0.225);
    step(now.data(), next.data(), width, rows, rows + 1, 0.225);
    std::swap(now, next);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  const double seconds = MPI_Wtime() - begin;

  double sum = 0;
  for (int y = 1; y <= rows; ++y) {
    for (int x = 1; x <= nx; ++x) sum += now[static_cast<std::size_t>(y) * width + x];
  }
  double all = 0;
  MPI_Reduce(&sum, &all, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
  if (rank == 0) {
    std::printf("{\"seconds\": %.6f, \"updates_per_second\": %.6g, \"mean\": %.15g}\n", seconds,
                static_cast<double>(nx) * ny * steps / seconds,
                all / (static_cast<double>(nx) * ny));
  }
  MPI_Finalize();
}
