// Exact sums on a device against those of the reference, to the bit.
#include "kernels/reduction/cuda.hpp"

#include <cmath>
#include <limits>

#include "tests/kernels/cuda_test.hpp"

namespace regroup::kernels::cuda {
namespace {

using Vector = std::vector<double>;

class CudaReduction : public OnDevice {
 protected:
  static void expect_exact(const Vector& a, const Vector& b, const char* what) {
    const DeviceVector x(kDevice, a);
    const DeviceVector y(kDevice, b);
    ExactSum found, expected;
    found.add(0.1);  // sums that are there before are gone on with
    expected.add(0.1);
    x.add_sum(found);
    reference::add_sum(expected, a);
    EXPECT_EQ(found, expected) << what << ", sum of " << a.size();
    x.add_dot(found, y);
    reference::add_dot(expected, a, b);
    EXPECT_EQ(found, expected) << what << ", product of " << a.size();
  }
};

TEST_F(CudaReduction, SumsAreExact) {
  for (const std::size_t count : {0u, 1u, 4095u, 4096u, 4097u, 20'000u}) {
    expect_exact(random_numbers(count, 1), random_numbers(count, 2), "numbers of one size");
  }
}

TEST_F(CudaReduction, SumsOfAllSizesAreExact) {
  Vector wide = random_numbers(10'000, 1);
  Vector narrow = random_numbers(10'000, 2);
  for (std::size_t i = 0; i < wide.size(); ++i) {
    wide[i] = std::ldexp(wide[i], static_cast<int>(i * 7 % 1800) - 900);
    narrow[i] = std::ldexp(narrow[i], static_cast<int>(i * 7 % 60) - 30);
  }
  expect_exact(wide, narrow, "numbers of all sizes");
  expect_exact(narrow, wide, "numbers of some sizes");
}

TEST_F(CudaReduction, TheLeastAndTheLargestNumbersAreAddedUp) {
  constexpr double kLeast = std::numeric_limits<double>::denorm_min();
  constexpr double kLargest = std::numeric_limits<double>::max();
  const Vector ones(5000, 1);
  expect_exact(Vector(5000, kLeast), ones, "least");
  expect_exact(Vector(5000, -0.0), ones, "zeros");
  expect_exact(Vector(5000, kLargest), ones, "largest");
  Vector both(5000, kLargest);
  for (std::size_t i = 1; i < both.size(); i += 2) both[i] = -kLargest;
  expect_exact(both, ones, "largest of both signs");
}

TEST_F(CudaReduction, WhatIsNotFiniteIsKept) {
  for (const double odd :
       {std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
        std::numeric_limits<double>::quiet_NaN()}) {
    Vector numbers = random_numbers(9000, 1);
    numbers[8500] = odd;
    expect_exact(numbers, Vector(9000, 1), "not finite");
  }
}

}  // namespace
}  // namespace regroup::kernels::cuda
