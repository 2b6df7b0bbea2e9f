// What the tests of the CUDA kernels share. They are compiled twice: for a device, skipped where
// there is none, and for the emulated one of emulated_cuda/.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/device/device.hpp"
#include "kernels/random/philox.hpp"

namespace regroup::kernels::cuda {

class OnDevice : public testing::Test {
 protected:
  static constexpr std::uint32_t kDevice = 0;

  void SetUp() override {
    if (device_count() == 0) GTEST_SKIP() << "no CUDA device";
  }
};

// From -1 to 1.
inline std::vector<double> random_numbers(std::size_t count, std::uint64_t stream) {
  Philox random(0x0123456789abcdef, stream);
  std::vector<double> numbers(count);
  for (double& number : numbers) number = 2 * random.uniform() - 1;
  return numbers;
}

inline bool same_bits(std::span<const double> a, std::span<const double> b) {
  return std::ranges::equal(a, b, {}, std::bit_cast<std::uint64_t, double>,
                            std::bit_cast<std::uint64_t, double>);
}

}  // namespace regroup::kernels::cuda
