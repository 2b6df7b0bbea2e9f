// The product for CUDA. The four partial sums of a row are four threads, side by side.
#include "kernels/device/cuda_call.cuh"
#include "kernels/sparse/contract.hpp"
#include "kernels/sparse/cuda.hpp"

namespace regroup::kernels::cuda {
namespace {

constexpr unsigned kSums = 4;
constexpr unsigned kThreads = 256;
constexpr unsigned kRows = kThreads / kSums;  // of a block of threads
constexpr unsigned kWarp = 0xffff'ffff;

// All threads of a warp take part in the sum of sums, with a row or without one.
__global__ void multiply_rows(const std::uint64_t* row_starts, const std::uint32_t* columns,
                              const double* values, std::size_t rows, const double* x, double* y) {
  const unsigned part = threadIdx.x % kSums;
  for (std::size_t first = std::size_t{blockIdx.x} * kRows; first < rows;
       first += std::size_t{gridDim.x} * kRows) {
    const std::size_t row = first + threadIdx.x / kSums;
    double sum = 0;
    if (row < rows) {
      const std::uint64_t end = row_starts[row + 1];
      for (std::uint64_t k = row_starts[row] + part; k < end; k += kSums) {
        sum += values[k] * x[columns[k]];
      }
    }
    sum += __shfl_xor_sync(kWarp, sum, 2);  // s0 + s2, and s1 + s3
    sum += __shfl_xor_sync(kWarp, sum, 1);
    if (part == 0 && row < rows) y[row] = sum;
  }
}

}  // namespace

struct DeviceSparseMatrix::Memory {
  Memory(std::uint32_t number, const SparseMatrix& matrix)
      : device(number),
        row_starts(matrix.row_starts),
        columns(matrix.columns),
        values(matrix.values),
        x(matrix.column_count),
        y(matrix.rows()) {}

  std::uint32_t device;
  DeviceArray<std::uint64_t> row_starts;
  DeviceArray<std::uint32_t> columns;
  DeviceArray<double> values;
  DeviceArray<double> x;
  DeviceArray<double> y;
};

DeviceSparseMatrix::DeviceSparseMatrix(std::uint32_t device, const SparseMatrix& matrix) {
  use_device(device);
  memory_ = std::make_shared<Memory>(device, matrix);
}

void DeviceSparseMatrix::multiply(std::span<const double> x, std::span<double> y) {
  Memory& memory = *memory_;
  require_vectors(memory.y.size(), memory.x.size(), x, y);
  use_device(memory.device);
  memory.x.copy_from(x);
  launch(multiply_rows, dim3(blocks_for(y.size(), kRows)), dim3(kThreads), memory.row_starts.data(),
         memory.columns.data(), memory.values.data(), y.size(), memory.x.data(), memory.y.data());
  memory.y.copy_to(y);
}

}  // namespace regroup::kernels::cuda
