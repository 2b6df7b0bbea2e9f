// Direct summation on a device against the plain reference, to the bit.
#include "kernels/nbody/cuda.hpp"

#include "tests/kernels/cuda_test.hpp"

namespace regroup::kernels::cuda {
namespace {

constexpr float kSofteningSquare = 1e-4F;

struct Bodies {
  explicit Bodies(std::size_t count, std::uint64_t stream) {
    Philox random(0x0123456789abcdef, stream);
    for (auto* const numbers : {&x, &y, &z, &mass}) {
      for (std::size_t i = 0; i < count; ++i) {
        numbers->push_back(static_cast<float>(4 * random.uniform() - 2));
      }
    }
  }
  BodyPositions positions() const { return {x, y, z}; }
  BodySources sources() const { return {positions(), mass}; }

  std::vector<float> x, y, z, mass;
};

using CudaNbody = OnDevice;

TEST_F(CudaNbody, SumsAreThoseOfTheReference) {
  for (const std::size_t targets : {1u, 127u, 129u, 300u}) {
    for (const std::size_t sources : {0u, 1u, 255u, 256u, 600u}) {
      for (const bool with_potential : {true, false}) {
        const Bodies own(targets, 1);
        const Bodies others(sources, 2);
        // Sums that are there before are gone on with.
        std::vector<std::vector<double>> expected(4, random_numbers(targets, 3));
        std::vector<std::vector<double>> found = expected;
        const auto gravity = [&](std::vector<std::vector<double>>& sums) {
          return Gravity{sums[0], sums[1], sums[2],
                         with_potential ? std::span<double>(sums[3]) : std::span<double>()};
        };
        reference::add_gravity(own.positions(), others.sources(), kSofteningSquare,
                               gravity(expected));
        add_gravity(kDevice, own.positions(), others.sources(), kSofteningSquare, gravity(found));
        for (std::size_t k = 0; k < 4; ++k) {
          EXPECT_TRUE(same_bits(found[k], expected[k]))
              << targets << " targets, " << sources << " sources, component " << k;
        }
      }
    }
  }
}

}  // namespace
}  // namespace regroup::kernels::cuda
