// The elementary functions against the C library's in long double, in units of the last place.
#include "kernels/elementary/elementary.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <gtest/gtest.h>

#include "kernels/random/philox.hpp"

namespace regroup::kernels {
namespace {

constexpr int kPoints = 200'000;

// How far `value` is from `truth`, in units of the last place of the truth as a double.
double ulps(double value, long double truth) {
  const auto nearest = static_cast<double>(truth);
  const double ulp = std::nextafter(std::abs(nearest), INFINITY) - std::abs(nearest);
  return static_cast<double>(std::abs(value - truth) / ulp);
}

TEST(ElementaryTest, ExponentialIsWithinOneUlp) {
  Philox random(1, 0);
  double worst = 0;
  for (int i = 0; i < kPoints; ++i) {
    const double range = i % 2 == 0 ? 2.0 : 1400.0;
    const double x = (random.uniform() - 0.5) * range;
    worst = std::max(worst, ulps(exponential(x), std::exp(static_cast<long double>(x))));
  }
  EXPECT_LT(worst, 1.0);
}

TEST(ElementaryTest, ExponentialAtTheEndsOfItsRange) {
  EXPECT_EQ(exponential(0.0), 1.0);
  EXPECT_EQ(exponential(-708.5), 0.0);
  EXPECT_EQ(exponential(709.5), INFINITY);
  EXPECT_LT(ulps(exponential(709.0), std::exp(709.0L)), 1.0);
  EXPECT_LT(ulps(exponential(-708.0), std::exp(-708.0L)), 1.0);
}

TEST(ElementaryTest, LogarithmIsWithinOneUlp) {
  Philox random(2, 0);
  double worst = 0;
  for (int i = 0; i < kPoints; ++i) {
    const double u = 1.0 - random.uniform();
    const double x = i % 2 == 0 ? u : std::ldexp(0.5 + u, static_cast<int>(random() % 2000) - 1000);
    worst = std::max(worst, ulps(logarithm(x), std::log(static_cast<long double>(x))));
  }
  EXPECT_LT(worst, 1.0);
}

TEST(ElementaryTest, LogarithmNearOneAndAtTheSmallestUniform) {
  EXPECT_EQ(logarithm(1.0), 0.0);
  for (const double x : {1.0 - 0x1p-53, 1.0 + 0x1p-52, 0x1p-53, std::sqrt(0.5), std::sqrt(2.0),
                         std::nextafter(std::sqrt(0.5), 0.0), 0.5, 2.0, 1e-300}) {
    EXPECT_LT(ulps(logarithm(x), std::log(static_cast<long double>(x))), 1.0) << x;
  }
}

TEST(ElementaryTest, SineAndCosineAreWithinTwoUlps) {
  Philox random(3, 0);
  double worst_sine = 0;
  double worst_cosine = 0;
  for (int i = 0; i < kPoints; ++i) {
    const double turns = random.uniform();
    // The quadrant is taken off exactly, so that the truth is good near the zeros too.
    const int quadrant = static_cast<int>(std::lround(4 * turns));
    const long double x = (turns - 0.25L * quadrant) * 2 * std::numbers::pi_v<long double>;
    const long double s = std::sin(x);
    const long double c = std::cos(x);
    const long double sines[] = {s, c, -s, -c, s};

    const auto [sine, cosine] = sine_cosine_of_turns(turns);

    worst_sine = std::max(worst_sine, ulps(sine, sines[quadrant]));
    worst_cosine = std::max(worst_cosine, ulps(cosine, quadrant == 4 ? c : sines[quadrant + 1]));
  }
  EXPECT_LT(worst_sine, 2.0);
  EXPECT_LT(worst_cosine, 2.0);
  RecordProperty("worst_sine_ulps", std::to_string(worst_sine));
  RecordProperty("worst_cosine_ulps", std::to_string(worst_cosine));
}

TEST(ElementaryTest, SineAndCosineOfTheQuartersAreExact) {
  const double sines[] = {0, 1, 0, -1, 0};
  const double cosines[] = {1, 0, -1, 0, 1};
  for (int quarter = 0; quarter <= 4; ++quarter) {
    const auto [sine, cosine] = sine_cosine_of_turns(quarter * 0.25);
    EXPECT_EQ(sine, sines[quarter]);
    EXPECT_EQ(cosine, cosines[quarter]);
  }
}

TEST(ElementaryTest, VectorsGiveTheSameBitsAsNumbers) {
  using Two = VectorOf<2>::Real;
  Philox random(4, 0);
  for (int i = 0; i < 1000; ++i) {
    const Two u = {1.0 - random.uniform(), 1.0 - random.uniform()};
    const Two e = exponential(u * 100.0 - 50.0);
    const Two l = logarithm(u);
    const SineCosine<Two> a = sine_cosine_of_turns(u);
    const Two r = square_root(u);
    for (int k = 0; k < 2; ++k) {
      EXPECT_EQ(bits_of(double{e[k]}), bits_of(exponential(u[k] * 100.0 - 50.0)));
      EXPECT_EQ(bits_of(double{l[k]}), bits_of(logarithm(double{u[k]})));
      EXPECT_EQ(bits_of(double{r[k]}), bits_of(std::sqrt(u[k])));
      EXPECT_EQ(bits_of(double{a.sine[k]}), bits_of(sine_cosine_of_turns(double{u[k]}).sine));
      EXPECT_EQ(bits_of(double{a.cosine[k]}), bits_of(sine_cosine_of_turns(double{u[k]}).cosine));
    }
  }
}

}  // namespace
}  // namespace regroup::kernels
