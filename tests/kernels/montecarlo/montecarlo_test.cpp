// The samplers on each instruction set against the plain reference, to the bit; and both against
// values known in closed form, within the standard error.
#include "kernels/montecarlo/montecarlo.hpp"

#include <bit>
#include <cmath>
#include <limits>
#include <numbers>
#include <ostream>
#include <string>

#include <gtest/gtest.h>

namespace regroup::kernels {

void PrintTo(InstructionSet set, std::ostream* out) {
  *out << instruction_set_name(set);
}

namespace {

constexpr std::uint64_t kSeed = 0x0123456789abcdef;
constexpr OptionParameters kCall{100, 105, 0.03, 0.25, 1.5, OptionKind::kCall};
constexpr OptionParameters kPut{100, 105, 0.03, 0.25, 1.5, OptionKind::kPut};

void expect_same_bits(const PayoffSums& actual, const PayoffSums& expected) {
  EXPECT_EQ(actual.count, expected.count);
  EXPECT_EQ(std::bit_cast<std::uint64_t>(actual.sum), std::bit_cast<std::uint64_t>(expected.sum));
  EXPECT_EQ(std::bit_cast<std::uint64_t>(actual.sum_of_squares),
            std::bit_cast<std::uint64_t>(expected.sum_of_squares));
}

class SamplersOnEverySet : public testing::TestWithParam<InstructionSet> {};

INSTANTIATE_TEST_SUITE_P(MonteCarloTest, SamplersOnEverySet,
                         testing::ValuesIn(available_instruction_sets().begin(),
                                           available_instruction_sets().end()),
                         [](const auto& test) {
                           return std::string(instruction_set_name(test.param));
                         });

// Every length up to two steps and a bit, so that each lane is once the last one; then a long one.
TEST_P(SamplersOnEverySet, PiEqualsTheReference) {
  for (std::uint64_t samples = 0; samples <= 100; ++samples) {
    EXPECT_EQ(sample_pi(kSeed, samples, samples, GetParam()),
              reference::sample_pi(kSeed, samples, samples));
  }
  EXPECT_EQ(sample_pi(kSeed, 9, 100'003, GetParam()), reference::sample_pi(kSeed, 9, 100'003));
}

TEST_P(SamplersOnEverySet, EuropeanEqualsTheReferenceToTheBit) {
  for (std::uint64_t samples = 0; samples <= 100; ++samples) {
    SCOPED_TRACE(samples);
    const auto& option = samples % 2 == 0 ? kCall : kPut;
    expect_same_bits(sample_european(kSeed, samples, samples, option, GetParam()),
                     reference::sample_european(kSeed, samples, samples, option));
  }
  expect_same_bits(sample_european(kSeed, 9, 100'003, kCall, GetParam()),
                   reference::sample_european(kSeed, 9, 100'003, kCall));
}

TEST_P(SamplersOnEverySet, AsianEqualsTheReferenceToTheBit) {
  for (std::uint64_t samples = 0; samples <= 50; ++samples) {
    for (const std::uint32_t steps : {1, 2, 3, 12}) {
      SCOPED_TRACE(std::to_string(samples) + " samples, steps " + std::to_string(steps));
      const auto& option = samples % 2 == 0 ? kCall : kPut;
      expect_same_bits(sample_asian(kSeed, samples, samples, option, steps, GetParam()),
                       reference::sample_asian(kSeed, samples, samples, option, steps));
    }
  }
  expect_same_bits(sample_asian(kSeed, 9, 2'003, kCall, 253, GetParam()),
                   reference::sample_asian(kSeed, 9, 2'003, kCall, 253));
}

TEST_P(SamplersOnEverySet, SeedsAndStreamsOfAllBitsReachTheGenerator) {
  constexpr std::uint64_t kHigh = 0xfedcba9876543210;
  EXPECT_EQ(sample_pi(kHigh, kHigh, 10'000, GetParam()),
            reference::sample_pi(kHigh, kHigh, 10'000));
  EXPECT_NE(sample_pi(kHigh, kHigh, 10'000, GetParam()),
            sample_pi(kHigh, kHigh & 0xffffffff, 10'000, GetParam()));
  EXPECT_NE(sample_pi(kHigh, kHigh, 10'000, GetParam()),
            sample_pi(kHigh & 0xffffffff, kHigh, 10'000, GetParam()));
}

TEST_P(SamplersOnEverySet, ExtremeParametersEqualTheReferenceToo) {
  const OptionParameters wild{1e12, 1e-6, -1, 5, 100, OptionKind::kCall};
  ASSERT_EQ(why_invalid(wild), nullptr);
  expect_same_bits(sample_european(kSeed, 1, 10'000, wild, GetParam()),
                   reference::sample_european(kSeed, 1, 10'000, wild));
  expect_same_bits(sample_asian(kSeed, 1, 1'000, wild, 7, GetParam()),
                   reference::sample_asian(kSeed, 1, 1'000, wild, 7));
}

// The results as they are, so that an upgrade of the compiler or of this code that changes them
// shows.
TEST(MonteCarloTest, ResultsStayTheSameFromReleaseToRelease) {
  EXPECT_EQ(sample_pi(1, 2, 1'000'000), (PiSums{784'384, 1'000'000}));
  expect_same_bits(sample_european(1, 2, 1'000'000, kCall),
                   {1'000'000, 0x1.6f4f982f6a7d9p+23, 0x1.1fcb3010c5c79p+29});
  expect_same_bits(sample_asian(1, 2, 100'000, kPut, 12),
                   {100'000, 0x1.a95bfd7d37502p+19, 0x1.17353244a3c73p+24});
}

TEST(MonteCarloTest, PiIsPi) {
  const PiSums sums = sample_pi(kSeed, 0, 20'000'000);

  EXPECT_NEAR(sums.estimate(), std::numbers::pi, 4 * sums.standard_error());
  EXPECT_NEAR(sums.standard_error(), 1.642 / std::sqrt(20e6), 1e-6);
}

TEST(MonteCarloTest, EuropeanOptionsAgreeWithTheClosedForm) {
  for (const double strike : {60.0, 100.0, 140.0}) {
    for (const OptionKind kind : {OptionKind::kCall, OptionKind::kPut}) {
      const OptionParameters option{100, strike, 0.05, 0.3, 0.75, kind};
      const PayoffSums sums = sample_european(kSeed, 5, 2'000'000, option);
      EXPECT_NEAR(sums.mean(), black_scholes_price(option), 4 * sums.standard_error())
          << "strike " << strike;
      EXPECT_LT(sums.standard_error(), 0.03);
    }
  }
}

TEST(MonteCarloTest, AnAsianOptionOfOneDateIsAEuropeanOne) {
  const PayoffSums sums = sample_asian(kSeed, 6, 1'000'000, kCall, 1);

  EXPECT_NEAR(sums.mean(), black_scholes_price(kCall), 4 * sums.standard_error());
}

// The mean over the dates of E[S_k] = spot e^(r t_k) is exact, and with a strike of nearly 0 the
// option is worth the discounted mean.
TEST(MonteCarloTest, AnAsianOptionWithoutStrikeIsWorthTheDiscountedMean) {
  constexpr int kSteps = 12;
  OptionParameters option = kCall;
  option.strike = 1e-6;
  double mean = 0;
  for (int k = 1; k <= kSteps; ++k) {
    mean += option.spot * std::exp(option.rate * option.maturity_years * k / kSteps) / kSteps;
  }

  const PayoffSums sums = sample_asian(kSeed, 7, 1'000'000, option, kSteps);

  EXPECT_NEAR(sums.mean(), mean * std::exp(-option.rate * option.maturity_years),
              4 * sums.standard_error());
}

TEST(MonteCarloTest, AveragingMakesAnOptionCheaper) {
  const PayoffSums asian = sample_asian(kSeed, 8, 1'000'000, kCall, 50);

  EXPECT_LT(asian.mean() + 4 * asian.standard_error(), black_scholes_price(kCall));
}

// Hull, "Options, Futures, and Other Derivatives", the example of the Black-Scholes-Merton chapter
// (4.76 and 0.81), worked out to 30 digits. The price hardly depends on d1 near the true one, so
// only many digits tell a wrong d1.
TEST(MonteCarloTest, BlackScholesGivesTheTextbookPrices) {
  const OptionParameters call{42, 40, 0.1, 0.2, 0.5, OptionKind::kCall};
  const OptionParameters put{42, 40, 0.1, 0.2, 0.5, OptionKind::kPut};

  EXPECT_NEAR(black_scholes_price(call), 4.75942239287153321960, 1e-13);
  EXPECT_NEAR(black_scholes_price(put), 0.80859937290009358326, 1e-13);
  EXPECT_NEAR(black_scholes_price(call) - black_scholes_price(put), 42 - 40 * std::exp(-0.05),
              1e-12);
}

TEST(MonteCarloTest, SumsAddAndGiveMeanAndError) {
  PayoffSums sums{2, 3, 5};      // payoffs 1 and 2
  sums += PayoffSums{2, 7, 25};  // 3 and 4
  EXPECT_EQ(sums, (PayoffSums{4, 10, 30}));
  EXPECT_DOUBLE_EQ(sums.mean(), 2.5);
  EXPECT_DOUBLE_EQ(sums.standard_error(), std::sqrt(5.0 / 3 / 4));

  PiSums pi{3, 4};
  pi += PiSums{1, 4};
  EXPECT_EQ(pi, (PiSums{4, 8}));
  EXPECT_DOUBLE_EQ(pi.estimate(), 2.0);
  EXPECT_DOUBLE_EQ(pi.standard_error(), 4 * std::sqrt(0.25 / 8));
}

TEST(MonteCarloTest, NoSamplesGiveNoEstimateAndNoError) {
  EXPECT_EQ(PiSums{}.estimate(), 0);
  EXPECT_EQ(PiSums{}.standard_error(), 0);
  EXPECT_EQ(PayoffSums{}.mean(), 0);
  EXPECT_EQ((PayoffSums{1, 4, 16}.standard_error()), 0);
}

TEST(MonteCarloTest, BadParametersAreNamed) {
  EXPECT_EQ(why_invalid(OptionParameters{}), nullptr);
  const auto reason = [](auto change) {
    OptionParameters option;
    change(option);
    const char* const why = why_invalid(option);
    return std::string(why == nullptr ? "" : why);
  };
  EXPECT_TRUE(reason([](auto& o) { o.spot = 0; }).starts_with("spot"));
  EXPECT_TRUE(reason([](auto& o) { o.strike = -1; }).starts_with("strike"));
  EXPECT_TRUE(reason([](auto& o) { o.rate = 5; }).starts_with("rate"));
  EXPECT_TRUE(reason([](auto& o) { o.volatility = 20; }).starts_with("volatility"));
  EXPECT_TRUE(reason([](auto& o) { o.maturity_years = 0; }).starts_with("maturity"));
  EXPECT_TRUE(reason([](auto& o) {
                o.rate = std::numeric_limits<double>::quiet_NaN();
              }).starts_with("rate"));
}

}  // namespace
}  // namespace regroup::kernels
