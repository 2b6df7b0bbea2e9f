// The product of a sparse matrix on a device against the plain reference, to the bit.
#include "kernels/sparse/cuda.hpp"

#include "tests/kernels/cuda_test.hpp"

namespace regroup::kernels::cuda {
namespace {

using CudaSparse = OnDevice;

TEST_F(CudaSparse, ProductsAreThoseOfTheReference) {
  for (const std::size_t rows : {0u, 1u, 63u, 64u, 65u, 300u}) {
    constexpr std::size_t kColumns = 500;
    Philox random(0xabcdef, rows);
    std::vector<std::uint64_t> row_starts = {0};
    std::vector<std::uint32_t> columns;
    for (std::size_t row = 0; row < rows; ++row) {
      for (std::size_t i = 0; i < row % 11 + (row == 40 ? 1000 : 0); ++i) {
        columns.push_back(static_cast<std::uint32_t>(random() % kColumns));
      }
      row_starts.push_back(columns.size());
    }
    const std::vector<double> values = random_numbers(columns.size(), 1);
    const SparseMatrix matrix{row_starts, columns, values, kColumns};
    ASSERT_EQ(why_invalid(matrix), nullptr);
    DeviceSparseMatrix on_device(kDevice, matrix);
    for (std::uint64_t stream = 2; stream < 4; ++stream) {
      const std::vector<double> x = random_numbers(kColumns, stream);
      std::vector<double> found(rows, -77);
      std::vector<double> expected(rows);
      on_device.multiply(x, found);
      reference::multiply(matrix, 0, rows, x, expected);
      EXPECT_TRUE(same_bits(found, expected)) << rows << " rows";
    }
  }
}

}  // namespace
}  // namespace regroup::kernels::cuda
