// The escape time for CUDA: a thread computes a point.
#include "kernels/device/cuda_call.cuh"
#include "kernels/mandelbrot/cuda.hpp"

namespace regroup::kernels::cuda {
namespace {

// Few, since the threads of a block wait for each other's points.
constexpr unsigned kThreads = 64;

__device__ bool in_cardioid_or_disc(double re, double im) {
  const double x = re - 0.25;
  const double q = x * x + im * im;
  const bool cardioid = q * (q + x) <= 0.25 * (im * im);
  const bool disc = (re + 1.0) * (re + 1.0) + im * im <= 0.0625;
  return cardioid || disc;
}

__device__ std::uint32_t escape_count(double re, double im, std::uint32_t iterations) {
  double x = re;
  double y = im;
  std::uint32_t count = 0;
  while (count < iterations) {
    const double x2 = x * x;
    const double y2 = y * y;
    if (!(x2 + y2 <= 4.0)) break;
    y = (x + x) * y + im;
    x = (x2 - y2) + re;
    ++count;
  }
  return count;
}

__global__ void count_points(const PlaneRow* rows, std::uint64_t row_count, std::uint64_t columns,
                             std::uint32_t iterations, std::uint32_t* counts) {
  for (std::uint64_t y = blockIdx.y; y < row_count; y += gridDim.y) {
    const PlaneRow row = rows[y];
    for (std::uint64_t column = std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x;
         column < columns; column += std::uint64_t{gridDim.x} * blockDim.x) {
      const double re = row.left + static_cast<double>(column) * row.spacing;
      counts[y * columns + column] = in_cardioid_or_disc(re, row.imaginary)
                                         ? iterations
                                         : escape_count(re, row.imaginary, iterations);
    }
  }
}

}  // namespace

std::vector<std::uint32_t> escape_counts(std::uint32_t device, std::span<const PlaneRow> rows,
                                         std::uint64_t columns, std::uint32_t iterations) {
  use_device(device);
  const DeviceArray<PlaneRow> lines(rows);
  DeviceArray<std::uint32_t> counts(rows.size() * columns);
  launch(count_points, dim3(blocks_for(columns, kThreads), blocks_for(rows.size(), 1)),
         dim3(kThreads), lines.data(), rows.size(), columns, iterations, counts.data());
  std::vector<std::uint32_t> found(counts.size());
  counts.copy_to(found);
  return found;
}

}  // namespace regroup::kernels::cuda
