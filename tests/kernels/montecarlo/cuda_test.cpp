// The samplers on a device against the plain reference, to the bit.
#include "kernels/montecarlo/cuda.hpp"

#include "tests/kernels/cuda_test.hpp"

namespace regroup::kernels::cuda {
namespace {

constexpr std::uint64_t kSeed = 0x123456789abcdef0;
constexpr std::uint64_t kCounts[] = {0, 1, 2, 31, 32, 33, 511, 512, 513, 5001};

using CudaMonteCarlo = OnDevice;

TEST_F(CudaMonteCarlo, PiIsThatOfTheReference) {
  for (const std::uint64_t samples : kCounts) {
    EXPECT_EQ(sample_pi(kDevice, kSeed, 7, samples), reference::sample_pi(kSeed, 7, samples))
        << samples;
  }
}

TEST_F(CudaMonteCarlo, OptionsAreThoseOfTheReference) {
  for (const OptionKind kind : {OptionKind::kCall, OptionKind::kPut}) {
    const OptionParameters option{.strike = 105, .volatility = 0.35, .kind = kind};
    for (const std::uint64_t samples : kCounts) {
      EXPECT_EQ(sample_european(kDevice, kSeed, 8, samples, option),
                reference::sample_european(kSeed, 8, samples, option))
          << samples;
      for (const std::uint32_t steps : {1u, 2u, 5u, 12u}) {
        EXPECT_EQ(sample_asian(kDevice, kSeed, 9, samples, option, steps),
                  reference::sample_asian(kSeed, 9, samples, option, steps))
            << samples << " samples of " << steps << " steps";
      }
    }
  }
}

// More than are kept at once.
TEST_F(CudaMonteCarlo, SumsGoOnInTheirOrderFromChunkToChunk) {
  constexpr std::uint64_t kSamples = (std::uint64_t{1} << 20) + 1001;
  const OptionParameters option;
  EXPECT_EQ(sample_european(kDevice, kSeed, 1, kSamples, option),
            kernels::sample_european(kSeed, 1, kSamples, option));
  EXPECT_EQ(sample_asian(kDevice, kSeed, 2, kSamples, option, 2),
            kernels::sample_asian(kSeed, 2, kSamples, option, 2));
}

}  // namespace
}  // namespace regroup::kernels::cuda
