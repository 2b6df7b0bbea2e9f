// The sums on each instruction set against the plain reference, to the bit; and both against double
// precision and what is known of gravity.
#include "kernels/nbody/nbody.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/random/philox.hpp"

namespace regroup::kernels {
namespace {

constexpr float kSofteningSquare = 1e-4F;

struct Bodies {
  std::vector<float> x, y, z, mass;

  BodyPositions positions() const { return {x, y, z}; }
  BodySources sources() const { return {positions(), mass}; }
};

Bodies random_bodies(std::size_t count, std::uint64_t stream) {
  Philox random(0x0123456789abcdef, stream);
  const auto coordinate = [&] { return static_cast<float>(4 * random.uniform() - 2); };
  Bodies bodies;
  for (std::size_t i = 0; i < count; ++i) {
    bodies.x.push_back(coordinate());
    bodies.y.push_back(coordinate());
    bodies.z.push_back(coordinate());
    bodies.mass.push_back(static_cast<float>(random.uniform()));
  }
  return bodies;
}

struct Sums {
  std::vector<double> x, y, z, potential;

  explicit Sums(std::size_t count, double begin = 0)
      : x(count, begin), y(count, begin), z(count, begin), potential(count, begin) {}
  Gravity gravity(bool with_potential = true) {
    return {x, y, z, with_potential ? std::span<double>(potential) : std::span<double>()};
  }
  bool same_bits(const Sums& other) const {
    const auto same = [](const std::vector<double>& a, const std::vector<double>& b) {
      return std::ranges::equal(a, b, {}, std::bit_cast<std::uint64_t, double>,
                                std::bit_cast<std::uint64_t, double>);
    };
    return same(x, other.x) && same(y, other.y) && same(z, other.z) &&
           same(potential, other.potential);
  }
};

class NbodyOnEverySet : public testing::TestWithParam<InstructionSet> {};

INSTANTIATE_TEST_SUITE_P(NbodyTest, NbodyOnEverySet,
                         testing::ValuesIn(available_instruction_sets().begin(),
                                           available_instruction_sets().end()),
                         [](const auto& test) {
                           return std::string(instruction_set_name(test.param));
                         });

// Every number of targets up to some registers and a bit, and sources up to more than a group.
TEST_P(NbodyOnEverySet, EqualsTheReferenceToTheBit) {
  for (std::size_t targets = 0; targets <= 70; targets += targets < 36 ? 1 : 5) {
    for (const std::size_t sources :
         {std::size_t{0}, std::size_t{1}, std::size_t{7}, targets % 8 == 1 ? kGroup + 3 : 8}) {
      const Bodies to = random_bodies(targets, 1);
      const Bodies from = random_bodies(sources, 2);
      Sums expected(targets, 0.5);
      reference::add_gravity(to.positions(), from.sources(), kSofteningSquare, expected.gravity());
      Sums sums(targets, 0.5);
      add_gravity(to.positions(), from.sources(), kSofteningSquare, sums.gravity(), 1, GetParam());
      EXPECT_TRUE(sums.same_bits(expected)) << targets << " by " << sources;

      Sums without(targets, 0.5);
      add_gravity(to.positions(), from.sources(), kSofteningSquare, without.gravity(false), 1,
                  GetParam());
      without.potential = sums.potential;
      EXPECT_TRUE(without.same_bits(expected)) << targets << " by " << sources;
    }
  }
}

TEST_P(NbodyOnEverySet, ThreadsShareTargets) {
  const Bodies from = random_bodies(20, 2);
  for (const std::size_t targets : {100, 128, 129, 256, 300, 1000}) {
    const Bodies to = random_bodies(targets, 1);
    Sums expected(targets);
    reference::add_gravity(to.positions(), from.sources(), kSofteningSquare, expected.gravity());
    for (const std::size_t threads : {2, 3, 7}) {
      Sums sums(targets);
      add_gravity(to.positions(), from.sources(), kSofteningSquare, sums.gravity(), threads,
                  GetParam());
      EXPECT_TRUE(sums.same_bits(expected)) << targets << " on " << threads;
    }
  }
}

TEST_P(NbodyOnEverySet, IsRightToSinglePrecision) {
  const Bodies bodies = random_bodies(500, 3);
  Sums sums(500);
  add_gravity(bodies.positions(), bodies.sources(), kSofteningSquare, sums.gravity(), 1,
              GetParam());
  for (std::size_t i = 0; i < 500; ++i) {
    double x = 0, potential = 0, size = 0;
    for (std::size_t j = 0; j < 500; ++j) {
      const double dx = double{bodies.x[j]} - bodies.x[i], dy = double{bodies.y[j]} - bodies.y[i],
                   dz = double{bodies.z[j]} - bodies.z[i];
      const double square = dx * dx + dy * dy + dz * dz + double{kSofteningSquare};
      const double pull = bodies.mass[j] / std::sqrt(square);
      potential -= pull;
      x += dx * pull / square;
      size += std::abs(dx) * pull / square;
    }
    EXPECT_NEAR(sums.x[i], x, 2e-6 * size) << i;
    EXPECT_NEAR(sums.potential[i], potential, 2e-6 * std::abs(potential)) << i;
  }
}

// A source far outside, and targets as far from each other as coordinates may be.
TEST_P(NbodyOnEverySet, TakesTheLargestAndTheSmallestDistances) {
  const Bodies from{{1e9F, 0}, {1e9F, 0}, {-1e9F, 0}, {1, 1}};
  const Bodies to{{-1e9F, 0}, {-1e9F, 0}, {1e9F, 0}, {1, 1}};
  Sums sums(2);
  add_gravity(to.positions(), from.sources(), kSofteningSquareMin, sums.gravity(), 1, GetParam());
  for (const auto* all : {&sums.x, &sums.y, &sums.z, &sums.potential}) {
    for (const double value : *all) EXPECT_TRUE(std::isfinite(value));
  }
  EXPECT_GT(sums.x[0], 0);
  EXPECT_NEAR(sums.potential[1], -1 / std::sqrt(double{kSofteningSquareMin}), 1e4);
}

TEST(NbodyTest, ABodyAddsToItsOwnPotentialAndDoesNotAccelerateItself) {
  const Bodies body{{0.3F}, {-1.5F}, {2.F}, {0.7F}};
  Sums sums(1);
  add_gravity(body.positions(), body.sources(), kSofteningSquare, sums.gravity());
  EXPECT_EQ(sums.x[0], 0);
  EXPECT_EQ(sums.y[0], 0);
  EXPECT_EQ(sums.z[0], 0);
  EXPECT_EQ(sums.potential[0], self_potential(0.7F, kSofteningSquare));
  EXPECT_NEAR(sums.potential[0], -0.7 / std::sqrt(double{kSofteningSquare}), 1e-5 * 70);
}

TEST(NbodyTest, WhatTwoBodiesDoToEachOtherCancels) {
  const Bodies bodies = random_bodies(2, 4);
  Sums sums(2);
  add_gravity(bodies.positions(), bodies.sources(), kSofteningSquare, sums.gravity());
  EXPECT_NEAR(double{bodies.mass[0]} * sums.x[0], -double{bodies.mass[1]} * sums.x[1],
              1e-6 * std::abs(sums.x[0]));
}

TEST(NbodyDeathTest, BrokenContractsEndTheProcess) {
  const Bodies bodies = random_bodies(3, 1);
  Sums sums(3);
  Sums other(2);
  EXPECT_DEATH(add_gravity(bodies.positions(), bodies.sources(), 1e-21F, sums.gravity()),
               "softening length is too small");
  EXPECT_DEATH(add_gravity(bodies.positions(), bodies.sources(), 1, other.gravity()),
               "targets have different lengths");
  EXPECT_DEATH(
      add_gravity(bodies.positions(), {bodies.positions(), std::span(bodies.mass).first(2)}, 1,
                  sums.gravity()),
      "sources have different lengths");
}

}  // namespace
}  // namespace regroup::kernels
