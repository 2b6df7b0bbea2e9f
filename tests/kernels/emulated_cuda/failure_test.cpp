// Whatever call of the CUDA runtime fails, the kernel that made it throws, gives back what it has
// on the device, and leaves what it was to add to as it was.
#include <cuda_runtime.h>

#include "kernels/mandelbrot/cuda.hpp"
#include "kernels/matrix/cuda.hpp"
#include "kernels/montecarlo/cuda.hpp"
#include "kernels/nbody/cuda.hpp"
#include "kernels/reduction/cuda.hpp"
#include "kernels/sparse/cuda.hpp"
#include "kernels/stencil/cuda.hpp"
#include "tests/kernels/cuda_test.hpp"

namespace regroup::kernels::cuda {
namespace {

// Fails each call in turn, and none at last.
template <class Work>
void fail_each_call(Work work) {
  int failures = 0;
  for (int calls = 0;; ++calls) {
    ASSERT_LT(calls, 1000);
    emulated_cuda::calls_to_failure = calls;
    bool failed = false;
    try {
      work();
    } catch (const DeviceError& error) {
      failed = true;
      EXPECT_NE(std::string(error.what()).find("cudaErrorEmulated"), std::string::npos);
    }
    emulated_cuda::calls_to_failure = -1;
    EXPECT_EQ(emulated_cuda::allocations, 0) << calls;
    if (!failed) break;
    ++failures;
  }
  EXPECT_GT(failures, 2);
}

TEST(EmulatedCudaFailure, IsThrownByEveryKernel) {
  fail_each_call([] { sample_pi(0, 1, 2, 1000); });
  fail_each_call([] { sample_european(0, 1, 2, 1000, {}); });
  fail_each_call([] { sample_asian(0, 1, 2, 100, {}, 3); });
  const std::vector<PlaneRow> rows(3);
  fail_each_call([&] { escape_counts(0, rows, 10, 5); });
  const std::vector<double> numbers = random_numbers(16, 1);
  std::vector<double> product(16);
  fail_each_call([&] {
    const auto matrix = ConstMatrix::whole(numbers, 4, 4);
    add_product(0, matrix, matrix, Matrix::whole(product, 4, 4));
  });
  const std::vector<std::uint64_t> row_starts = {0, 2, 4};
  const std::vector<std::uint32_t> columns = {0, 1, 0, 1};
  fail_each_call([&] {
    std::vector<double> y(2);
    DeviceSparseMatrix(0, {row_starts, columns, std::span(numbers).first(4), 2})
        .multiply(std::span(numbers).first(2), y);
  });
  const StencilShape shape{6, 5, 0};
  const std::vector<double> cells = random_numbers(block_cells(shape), 1);
  fail_each_call([&] {
    StencilBlock block(0, shape, cells);
    const StencilRegion region{{0, 0, 0}, {4, 4, 1}};
    std::vector<double> buffer(16);
    block.write(region, numbers);
    block.diffuse_steps({0.1, 0.1, 0}, whole_box(shape), {}, 2);
    block.read(region, buffer);
  });
}

TEST(EmulatedCudaFailure, AddsNothing) {
  const std::vector<double> numbers = random_numbers(5000, 1);
  ExactSum sum;
  fail_each_call([&] {
    EXPECT_EQ(sum, ExactSum());
    DeviceVector(0, numbers).add_sum(sum);
  });
  const std::vector<float> places(300, 1.0F);
  const std::vector<double> none(300);
  std::vector<double> gravity = none;
  fail_each_call([&] {
    EXPECT_EQ(gravity, none);
    std::vector<double> y(300), z(300);
    const BodyPositions bodies{places, places, places};
    add_gravity(0, bodies, {bodies, places}, 1e-4F, {gravity, y, z, {}});
  });
}

}  // namespace
}  // namespace regroup::kernels::cuda
