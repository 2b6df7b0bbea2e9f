// What the CUDA kernels reach on this machine's first device, each beside its yardstick, taken in
// the same run: steps of the stencil and sparse products beside a copy within the device's memory,
// dense products beside cuBLAS called alone, the rest beside one core's CPU kernels. Status 77
// where there is no device.
//   gpu_bench [CELLS]      cells of the stencil along a side in two dimensions; 16384 by default
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kernels/device/cuda_call.cuh"
#include "kernels/device/device.hpp"
#include "kernels/mandelbrot/cuda.hpp"
#include "kernels/matrix/cuda.hpp"
#include "kernels/montecarlo/cuda.hpp"
#include "kernels/nbody/cuda.hpp"
#include "kernels/reduction/cuda.hpp"
#include "kernels/sparse/cuda.hpp"
#include "kernels/stencil/cuda.hpp"

#ifdef REGROUP_CUBLAS
#include <cublas_v2.h>
#endif

namespace regroup::kernels {
namespace {

constexpr std::uint32_t kDevice = 0;
constexpr int kTries = 5;
constexpr int kExitSkipped = 77;

// The best of some tries.
template <class F>
double seconds_of(F f, int tries = kTries) {
  double best = 1e30;
  for (int i = 0; i < tries; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    best = std::min(best, taken.count());
  }
  return best;
}

// 16 bytes a cell and step: what has to be read once and written once.
void bench_stencil(const StencilShape& shape) {
  constexpr std::size_t kSteps = 50;
  const double cells = static_cast<double>(shape.nx * shape.ny * shape.planes());
  const double copy = cuda::copy_bandwidth(kDevice, static_cast<std::uint64_t>(cells) * 8);
  const DiffusionNumbers numbers{0.125, 0.125, shape.dimensions() == 3 ? 0.125 : 0};
  cuda::StencilBlock block(kDevice, shape, std::vector<double>(block_cells(shape), 1));
  const auto steps = [&] { block.diffuse_steps(numbers, whole_box(shape), {}, kSteps); };
  steps();
  const double bandwidth = 16 * cells * kSteps / seconds_of(steps);
  std::printf("stencil %zux%zux%zu: %.0f GB/s, copy %.0f GB/s: %.1f %% of the copy\n", shape.nx,
              shape.ny, shape.planes(), bandwidth / 1e9, copy / 1e9, 100 * bandwidth / copy);
}

#ifdef REGROUP_CUBLAS
double library_seconds(std::size_t rows) {
  const auto side = static_cast<int>(rows);
  const double one = 1;
  cuda::DeviceArray<double> a(rows * rows);
  cuda::DeviceArray<double> b(rows * rows);
  cuda::DeviceArray<double> c(rows * rows);
  for (auto* const matrix : {&a, &b, &c}) matrix->set_zero();
  cublasHandle_t handle = nullptr;
  if (cublasCreate(&handle) != CUBLAS_STATUS_SUCCESS) return 0;
  const auto multiply = [&] {
    cublasDgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, side, side, side, &one, a.data(), side, b.data(),
                side, &one, c.data(), side);
  };
  cuda::device_seconds(multiply);
  double best = 1e30;
  for (int i = 0; i < kTries; ++i) best = std::min(best, cuda::device_seconds(multiply));
  cublasDestroy(handle);
  return best;
}
#else
double library_seconds(std::size_t) {
  return 0;
}
#endif

void bench_product(std::size_t rows) {
  const double operations =
      2.0 * static_cast<double>(rows) * static_cast<double>(rows) * static_cast<double>(rows);
  const double own = cuda::time_product(kDevice, rows);
  const double library = library_seconds(rows);
  std::printf("product of %zu rows by %s: %.2f TFLOP/s", rows, cuda::product_name(),
              operations / own / 1e12);
  if (library > 0) {
    std::printf(", cuBLAS alone %.2f TFLOP/s: %.1f %%", operations / library / 1e12,
                100 * library / own);
  }
  std::printf("\n");
}

// The matrix once, 12 bytes an entry, beside a copy; x and y go over the bus and are counted apart.
void bench_sparse() {
  constexpr std::size_t kRows = std::size_t{1} << 24;
  constexpr std::size_t kEntriesEach = 7;
  std::vector<std::uint64_t> row_starts(kRows + 1);
  std::vector<std::uint32_t> columns(kRows * kEntriesEach);
  for (std::size_t row = 0; row < kRows; ++row) {
    row_starts[row + 1] = (row + 1) * kEntriesEach;
    for (std::size_t i = 0; i < kEntriesEach; ++i) {
      columns[row * kEntriesEach + i] = static_cast<std::uint32_t>((row + i * 4096) % kRows);
    }
  }
  const std::vector<double> values(columns.size(), 0.5);
  const std::vector<double> x(kRows, 1);
  std::vector<double> y(kRows);
  const SparseMatrix matrix{row_starts, columns, values, kRows};
  cuda::DeviceSparseMatrix on_device(kDevice, matrix);
  const double device = seconds_of([&] { on_device.multiply(x, y); });
  const double cpu = seconds_of([&] { multiply(matrix, 0, kRows, x, y); }, 2);
  std::printf("sparse product of %zu entries, x and y copied: %.1f ms, one core %.1f ms\n",
              values.size(), 1e3 * device, 1e3 * cpu);
}

void bench_rest() {
  constexpr std::uint64_t kSamples = 10'000'000;
  const OptionParameters option;
  const auto compare = [](const char* what, double device, double cpu) {
    std::printf("%s: %.2f ms, one core %.2f ms\n", what, 1e3 * device, 1e3 * cpu);
  };
  compare("European option, 10^7 samples",
          seconds_of([&] { cuda::sample_european(kDevice, 1, 2, kSamples, option); }),
          seconds_of([&] { sample_european(1, 2, kSamples, option); }, 1));
  compare("pi, 10^7 samples", seconds_of([&] { cuda::sample_pi(kDevice, 1, 2, kSamples); }),
          seconds_of([&] { sample_pi(1, 2, kSamples); }, 1));
  const std::vector<PlaneRow> rows(256, {-2.2, 0.05, 4e-3});
  std::vector<std::uint32_t> counts(1024);
  compare("escape times of 1024 x 256 points, 1000 steps",
          seconds_of([&] { cuda::escape_counts(kDevice, rows, counts.size(), 1000); }),
          seconds_of(
              [&] {
                for (const PlaneRow& row : rows) escape_counts(row, 0, 1000, counts);
              },
              1));
  constexpr std::size_t kBodies = 32'768;
  std::vector<float> places(kBodies);
  for (std::size_t i = 0; i < kBodies; ++i) places[i] = static_cast<float>(i % 997);
  std::vector<double> x(kBodies), y(kBodies), z(kBodies);
  const BodyPositions bodies{places, places, places};
  compare("gravity of 32768 bodies", seconds_of([&] {
            cuda::add_gravity(kDevice, bodies, {bodies, places}, 1e-4F, {x, y, z, {}});
          }),
          seconds_of(
              [&] {
                add_gravity(bodies, {bodies, places}, 1e-4F, {x, y, z, {}});
              },
              1));
  const std::vector<double> terms(std::size_t{1} << 26, 0.1);
  const cuda::DeviceVector vector(kDevice, terms);
  compare("exact sum of 2^26 terms", seconds_of([&] {
            ExactSum sum;
            vector.add_sum(sum);
          }),
          seconds_of(
              [&] {
                ExactSum sum;
                add_sum(sum, terms);
              },
              1));
}

int run(std::size_t side) {
  if (cuda::device_count() == 0) {
    std::printf("skipped: no CUDA device\n");
    return kExitSkipped;
  }
  bench_stencil({side, side, 0});
  bench_stencil({640, 640, 640});
  for (const std::size_t rows : {2048, 8192}) bench_product(rows);
  bench_sparse();
  bench_rest();
  return 0;
}

}  // namespace
}  // namespace regroup::kernels

int main(int argc, char** argv) {
  return regroup::kernels::run(argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 16'384);
}
