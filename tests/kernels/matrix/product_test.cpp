// Products against the plain reference, within the bound of rounding; and that threads change no
// bit.
#include "kernels/matrix/product.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/random/philox.hpp"

namespace regroup::kernels {
namespace {

constexpr double kUntouched = -77;

std::vector<double> random_numbers(std::size_t count, std::uint64_t stream) {
  Philox random(0x0123456789abcdef, stream);
  std::vector<double> numbers(count);
  for (double& number : numbers) number = 2 * random.uniform() - 1;
  return numbers;
}

struct Shape {
  std::size_t rows, columns, inner;
};

TEST(MatrixProduct, EqualsTheReferenceWithinRounding) {
  for (const Shape& shape : {Shape{1, 1, 1}, Shape{3, 5, 7}, Shape{16, 16, 16}, Shape{65, 33, 129},
                             Shape{1, 100, 30}, Shape{100, 1, 30}, Shape{1600, 3, 5}}) {
    const auto a = random_numbers(shape.rows * shape.inner, 1);
    const auto b = random_numbers(shape.inner * shape.columns, 2);
    auto c = random_numbers(shape.rows * shape.columns, 3);
    auto expected = c;
    const auto of_a = ConstMatrix::whole(a, shape.rows, shape.inner);
    const auto of_b = ConstMatrix::whole(b, shape.inner, shape.columns);
    reference::add_product(of_a, of_b, Matrix::whole(expected, shape.rows, shape.columns));

    add_product(of_a, of_b, Matrix::whole(c, shape.rows, shape.columns));

    const double bound = 2 * static_cast<double>(shape.inner + 1) *
                         static_cast<double>(shape.inner + 1) *
                         std::numeric_limits<double>::epsilon() / 2;
    for (std::size_t i = 0; i < c.size(); ++i) ASSERT_NEAR(c[i], expected[i], bound) << i;
  }
}

TEST(MatrixProduct, TakesPartsOfLargerMatrices) {
  const auto numbers = random_numbers(20 * 30, 1);
  const ConstMatrix a{std::span(numbers).subspan(2 * 30 + 3), 4, 6, 30};
  const ConstMatrix b{std::span(numbers).subspan(9 * 30 + 1), 6, 5, 30};
  std::vector<double> c(8 * 9, kUntouched);
  std::vector<double> expected = c;
  const auto part = [](std::vector<double>& all) {
    return Matrix{std::span(all).subspan(9 + 2), 4, 5, 9};
  };
  add_product(a, b, part(c));
  reference::add_product(a, b, part(expected));
  for (std::size_t i = 0; i < c.size(); ++i) EXPECT_NEAR(c[i], expected[i], 1e-13) << i;
  EXPECT_EQ(std::ranges::count(c, kUntouched), 8 * 9 - 4 * 5);
}

TEST(MatrixProduct, ThreadsChangeNoBit) {
  const Shape shape{2000, 60, 70};
  const auto a = random_numbers(shape.rows * shape.inner, 1);
  const auto b = random_numbers(shape.inner * shape.columns, 2);
  std::vector<double> alone(shape.rows * shape.columns);
  add_product(ConstMatrix::whole(a, shape.rows, shape.inner),
              ConstMatrix::whole(b, shape.inner, shape.columns),
              Matrix::whole(alone, shape.rows, shape.columns));
  for (const std::size_t threads : {2, 3, 9}) {
    std::vector<double> shared(alone.size());
    add_product(ConstMatrix::whole(a, shape.rows, shape.inner),
                ConstMatrix::whole(b, shape.inner, shape.columns),
                Matrix::whole(shared, shape.rows, shape.columns), threads);
    EXPECT_EQ(shared, alone) << threads;
  }
}

TEST(MatrixProduct, OfAVectorEqualsThatOfAColumn) {
  for (const std::size_t inner : {1, 7, 8, 9, 100}) {
    const auto a = random_numbers(12 * inner, 1);
    const auto x = random_numbers(inner, 2);
    std::vector<double> y(12, 0.5);
    std::vector<double> expected = y;
    add_product(ConstMatrix::whole(a, 12, inner), x, y);
    reference::add_product(ConstMatrix::whole(a, 12, inner), ConstMatrix::whole(x, inner, 1),
                           Matrix::whole(expected, 12, 1));
    for (std::size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(y[i], expected[i], 1e-13);
  }
}

TEST(MatrixProduct, OfNothingIsNothing) {
  std::vector<double> c(6, kUntouched);
  add_product(ConstMatrix::whole({}, 2, 0), ConstMatrix::whole({}, 0, 3), Matrix::whole(c, 2, 3));
  EXPECT_EQ(c, std::vector<double>(6, kUntouched));
}

TEST(MatrixProductDeathTest, BrokenContractsEndTheProcess) {
  std::vector<double> c(6);
  const auto all = std::span(std::as_const(c));
  const auto square = ConstMatrix::whole(all.first(4), 2, 2);
  EXPECT_DEATH(add_product(square, square, Matrix::whole(c, 2, 3)), "do not fit");
  EXPECT_DEATH(add_product(square, square, Matrix::whole(std::span(c).first(3), 2, 2)),
               "does not hold its matrix");
  EXPECT_DEATH(add_product(square, square, {c, 2, 2, 1}), "overlap");
  EXPECT_DEATH(add_product(square, all.first(3), std::span(c).first(2)), "do not fit");
}

}  // namespace
}  // namespace regroup::kernels
