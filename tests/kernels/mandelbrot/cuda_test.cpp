// Escape times on a device against the plain reference.
#include "kernels/mandelbrot/cuda.hpp"

#include "tests/kernels/cuda_test.hpp"

namespace regroup::kernels::cuda {
namespace {

using CudaMandelbrot = OnDevice;

TEST_F(CudaMandelbrot, CountsAreThoseOfTheReference) {
  for (const std::uint64_t columns : {1u, 63u, 65u, 200u}) {
    std::vector<PlaneRow> rows;
    for (int i = 0; i < 9; ++i) {
      rows.push_back({.left = -2.1,
                      .imaginary = -1.2 + 0.29 * i,
                      .spacing = 2.8 / static_cast<double>(columns)});
    }
    for (const std::uint32_t iterations : {1u, 100u}) {
      const std::vector<std::uint32_t> counts = escape_counts(kDevice, rows, columns, iterations);
      ASSERT_EQ(counts.size(), rows.size() * columns);
      std::vector<std::uint32_t> expected(columns);
      for (std::size_t y = 0; y < rows.size(); ++y) {
        reference::escape_counts(rows[y], 0, iterations, expected);
        EXPECT_TRUE(std::ranges::equal(expected, std::span(counts).subspan(y * columns, columns)))
            << "row " << y << " of " << columns;
      }
    }
  }
}

TEST_F(CudaMandelbrot, NoRowsHaveNoCounts) {
  EXPECT_TRUE(escape_counts(kDevice, {}, 10, 10).empty());
}

}  // namespace
}  // namespace regroup::kernels::cuda
