#include "kernels/mandelbrot/mandelbrot.hpp"

#include <random>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace regroup::kernels {
namespace {

using testing::Each;
using testing::ElementsAre;

std::vector<std::uint32_t> counts_of(const PlaneRow& row, std::uint64_t first,
                                     std::uint32_t iterations, std::size_t columns,
                                     InstructionSet set) {
  std::vector<std::uint32_t> counts(columns, 77);
  escape_counts(row, first, iterations, counts, set);
  return counts;
}

std::uint32_t count_at(double re, double im, std::uint32_t iterations) {
  std::uint32_t count = 0;
  escape_counts({.left = re, .imaginary = im}, 0, iterations, {&count, 1});
  return count;
}

// What follows from the definition alone, whoever computes it.
TEST(Mandelbrot, KnowsPointsOfWhichTheOrbitIsKnown) {
  constexpr std::uint32_t many = 100'000;
  EXPECT_EQ(count_at(0, 0, many), many) << "a fixed point";
  EXPECT_EQ(count_at(-1, 0, many), many) << "period 2";
  EXPECT_EQ(count_at(-2, 0, many), many) << "-2, 2, 2, ...: the tip";
  EXPECT_EQ(count_at(0, 1, many), many) << "i, -1 + i, -i, -1 + i, ...";
  EXPECT_EQ(count_at(0.25, 0, many), many) << "the cusp of the cardioid";
  EXPECT_EQ(count_at(-0.75, 0, many), many) << "where cardioid and disc touch";
  EXPECT_EQ(count_at(-0.12256116687665362, 0.74486176661974424, many), many) << "Douady's rabbit";
  EXPECT_EQ(count_at(-1.7548776662466927, 0, many), many) << "period 3 on the real axis";

  EXPECT_EQ(count_at(3, 0, many), 0u) << "its first step is beyond 2";
  EXPECT_EQ(count_at(2, 0, many), 1u) << "2, 6";
  EXPECT_EQ(count_at(1, 0, many), 2u) << "1, 2, 5";
  EXPECT_EQ(count_at(0, 2, many), 1u) << "2i, -4 + 2i";
  EXPECT_EQ(count_at(-2.0000001, 0, many), 0u);
  EXPECT_LT(count_at(0.2501, 0, many), 1000u);
}

// Near the cusp, at 1/4 + epsilon, it takes about pi / sqrt(epsilon) steps (Klebanoff, "pi in the
// Mandelbrot set", Fractals 9 (2001)).
TEST(Mandelbrot, CountsPiAtTheCusp) {
  EXPECT_NEAR(count_at(0.25 + 1e-4, 0, 100'000), 314, 4);
  EXPECT_NEAR(count_at(0.25 + 1e-6, 0, 100'000), 3141, 4);
  EXPECT_NEAR(count_at(0.25 + 1e-8, 0, 100'000), 31'415, 4);
}

TEST(Mandelbrot, EveryInstructionSetCountsAsTheReference) {
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> place(-2.2, 1.2);
  for (const InstructionSet set : available_instruction_sets()) {
    for (int i = 0; i < 400; ++i) {
      const PlaneRow row{.left = place(random),
                         .imaginary = i % 7 == 0 ? 0 : place(random),
                         .spacing = i % 5 == 0 ? 1e-12 : 0.013};
      const std::uint64_t first = random() % 50;
      const auto iterations = static_cast<std::uint32_t>(i % 3 == 0 ? i % 20 : 300);
      const std::size_t columns = random() % 70;
      std::vector<std::uint32_t> expected(columns);
      reference::escape_counts(row, first, iterations, expected);

      EXPECT_EQ(counts_of(row, first, iterations, columns, set), expected)
          << instruction_set_name(set) << ", row " << i;
    }
  }
}

// So near to a point of the set orbits are long, and what one rounding changes grows until it
// shows.
TEST(Mandelbrot, EveryRoundingIsTheReferences) {
  std::mt19937_64 random(4);
  std::uniform_real_distribution<double> off(0, 1e-13);
  std::vector<std::uint32_t> expected(64);
  for (int i = 0; i < 20; ++i) {
    const PlaneRow row{.left = -0.743643887037151 + off(random),
                       .imaginary = 0.131825904205330 + off(random),
                       .spacing = 1e-15};
    reference::escape_counts(row, 0, 20'000, expected);
    for (const InstructionSet set : available_instruction_sets()) {
      EXPECT_EQ(counts_of(row, 0, 20'000, expected.size(), set), expected)
          << instruction_set_name(set) << ", row " << i;
    }
  }
}

// Cardioid and disc are no more than a short cut, but for points on their rims.
TEST(Mandelbrot, TheShortCutChangesNoCount) {
  std::mt19937_64 random(5);
  std::uniform_real_distribution<double> place(-1.3, 0.5);
  std::vector<std::uint32_t> tested(40);
  std::vector<std::uint32_t> iterated(40);
  for (int i = 0; i < 200; ++i) {
    const PlaneRow row{.left = place(random), .imaginary = place(random), .spacing = 0.011};
    reference::escape_counts(row, 0, 2000, tested);
    reference::escape_counts(row, 0, 2000, iterated, reference::KnownInside::kIterated);
    EXPECT_EQ(tested, iterated) << "row " << i;
  }
}

TEST(Mandelbrot, WritesNothingBesideItsSpan) {
  for (const InstructionSet set : available_instruction_sets()) {
    std::vector<std::uint32_t> counts(100, 77);
    escape_counts({.left = -2, .imaginary = 0.1, .spacing = 0.1}, 0, 50,
                  std::span(counts).subspan(10, 33), set);
    EXPECT_THAT(std::span(counts).first(10), Each(77u));
    EXPECT_THAT(std::span(counts).subspan(43), Each(77u));
  }
  EXPECT_THAT(counts_of({}, 0, 0, 3, best_instruction_set()), ElementsAre(0, 0, 0));
}

}  // namespace
}  // namespace regroup::kernels
