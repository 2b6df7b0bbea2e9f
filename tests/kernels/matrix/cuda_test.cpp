// Dense products on a device against the plain reference, within the bound that is stated.
#include "kernels/matrix/cuda.hpp"

#include <cmath>
#include <limits>

#include "tests/kernels/cuda_test.hpp"

namespace regroup::kernels::cuda {
namespace {

using CudaMatrix = OnDevice;

TEST_F(CudaMatrix, ProductsAreThoseOfTheReferenceButForRounding) {
  struct Shape {
    std::size_t rows, columns, inner;
  };
  for (const auto& [rows, columns, inner] :
       {Shape{1, 1, 1}, Shape{16, 16, 16}, Shape{17, 33, 5}, Shape{40, 7, 65}}) {
    // Rows further apart than they are long.
    const std::vector<double> a = random_numbers(rows * (inner + 3), 1);
    const std::vector<double> b = random_numbers(inner * (columns + 1), 2);
    std::vector<double> found = random_numbers(rows * (columns + 2), 3);
    std::vector<double> expected = found;
    const std::vector<double> before = found;
    const ConstMatrix left{a, rows, inner, inner + 3};
    const ConstMatrix right{b, inner, columns, columns + 1};
    add_product(kDevice, left, right, Matrix{found, rows, columns, columns + 2});
    reference::add_product(left, right, Matrix{expected, rows, columns, columns + 2});
    for (std::size_t i = 0; i < rows; ++i) {
      for (std::size_t j = 0; j < columns + 2; ++j) {
        const std::size_t at = i * (columns + 2) + j;
        if (j >= columns) {
          EXPECT_EQ(found[at], before[at]) << "between rows";
          continue;
        }
        double size = std::abs(before[at]);
        for (std::size_t k = 0; k < inner; ++k) {
          size += std::abs(a[i * (inner + 3) + k] * b[k * (columns + 1) + j]);
        }
        const double roundoff = std::numeric_limits<double>::epsilon() / 2;
        EXPECT_NEAR(found[at], expected[at], 2 * static_cast<double>(inner + 1) * roundoff * size);
      }
    }
  }
}

TEST_F(CudaMatrix, TheSameProductHasTheSameBits) {
  constexpr std::size_t kRows = 100;
  const std::vector<double> a = random_numbers(kRows * kRows, 1);
  const auto product = [&] {
    std::vector<double> c(a.size());
    const auto matrix = ConstMatrix::whole(a, kRows, kRows);
    add_product(kDevice, matrix, matrix, Matrix::whole(c, kRows, kRows));
    return c;
  };
  EXPECT_TRUE(same_bits(product(), product()));
}

}  // namespace
}  // namespace regroup::kernels::cuda
