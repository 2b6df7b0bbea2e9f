// Sums on each instruction set against whole numbers of 2^-1074 added by schoolbook arithmetic, and
// against each other, whatever the order, the cut and the range of the terms.
#include "kernels/reduction/reduction.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <type_traits>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/random/philox.hpp"

namespace regroup::kernels {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kLargest = std::numeric_limits<double>::max();
constexpr double kSmallest = std::numeric_limits<double>::denorm_min();

static_assert(std::is_trivially_copyable_v<ExactSum> && sizeof(ExactSum) == 35 * 8);

// Multiples of 2^-1074 in binary digits, one an element: slow, and hard to get wrong.
class Digits {
 public:
  void add(double term) {
    int exponent = 0;
    const double fraction = std::frexp(std::abs(term), &exponent);
    auto whole = static_cast<std::uint64_t>(std::ldexp(fraction, 53));
    int place = exponent - 53 + 1074;
    for (; place < 0; ++place) whole >>= 1;  // those bits are 0
    std::vector<int>& side = std::signbit(term) ? negative_ : positive_;
    for (; whole != 0; whole >>= 1, ++place) side[static_cast<std::size_t>(place)] += whole & 1;
  }

  double rounded() const {
    std::vector<int> digits(kDigits);
    for (std::size_t i = 0; i < kDigits; ++i) digits[i] = positive_[i] - negative_[i];
    carry(digits);
    const bool minus = digits.back() < 0;
    if (minus) {
      for (int& digit : digits) digit = -digit;
      carry(digits);
    }
    std::size_t top = kDigits;
    while (top > 0 && digits[top - 1] == 0) --top;
    if (top == 0) return 0;
    const std::size_t lowest = top > 53 ? top - 53 : 0;
    std::uint64_t kept = 0;
    for (std::size_t i = top; i-- > lowest;)
      kept = 2 * kept + static_cast<std::uint64_t>(digits[i]);
    if (lowest > 0 && digits[lowest - 1] == 1) {
      const bool above_half = std::ranges::count(digits.begin(), digits.begin() + lowest, 1) > 1;
      if (above_half || kept % 2 == 1) ++kept;
    }
    const double magnitude = std::ldexp(static_cast<double>(kept), static_cast<int>(lowest) - 1074);
    return minus ? -magnitude : magnitude;
  }

 private:
  static constexpr std::size_t kDigits = 2200;

  // Each digit to 0 or 1, but for the last, which keeps the sign.
  static void carry(std::vector<int>& digits) {
    for (std::size_t i = 0; i + 1 < digits.size(); ++i) {
      const int digit = digits[i] & 1;
      digits[i + 1] += (digits[i] - digit) / 2;
      digits[i] = digit;
    }
  }

  std::vector<int> positive_ = std::vector<int>(kDigits);
  std::vector<int> negative_ = std::vector<int>(kDigits);
};

double oracle(std::span<const double> terms) {
  Digits digits;
  for (const double term : terms) digits.add(term);
  return digits.rounded();
}

std::uint64_t bits(double value) {
  return std::bit_cast<std::uint64_t>(value);
}

double sum_of(std::span<const double> terms, InstructionSet set = best_instruction_set()) {
  ExactSum sum;
  add_sum(sum, terms, set);
  return sum.value();
}

struct Terms {
  const char* what;
  std::vector<double> values;
};

// Powers of two from `low` to `high` with random fractions and signs.
std::vector<double> spread(std::size_t count, int low, int high, std::uint64_t stream) {
  Philox random(0xfeedface, stream);
  std::vector<double> values(count);
  for (double& value : values) {
    const int exponent = low + static_cast<int>(random.uniform() * (high - low + 1));
    value = std::ldexp(1 + random.uniform(), exponent) * (random.uniform() < 0.5 ? -1 : 1);
  }
  return values;
}

// Each of the values and its opposite, so that all but `rest` cancels.
std::vector<double> cancelling(std::vector<double> values, double rest) {
  const std::size_t count = values.size();
  for (std::size_t i = 0; i < count; ++i) values.push_back(-values[i]);
  values.push_back(rest);
  return values;
}

std::vector<Terms> all_terms() {
  std::vector<Terms> all;
  all.push_back({"none", {}});
  all.push_back({"zeros", std::vector<double>(100, 0.0)});
  all.push_back({"negative zeros", std::vector<double>(100, -0.0)});
  all.push_back({"like ones", spread(5000, -3, 3, 1)});
  all.push_back({"all levels", spread(5000, -60, 0, 2)});
  all.push_back({"more than all levels", spread(5000, -200, 200, 3)});
  all.push_back({"the whole range", spread(5000, -1080, 1013, 4)});
  all.push_back({"denormals", spread(5000, -1074, -1020, 5)});
  all.push_back({"the least ones", std::vector<double>(5000, kSmallest)});
  all.push_back({"near the largest", spread(3000, 1000, 1012, 6)});
  all.push_back({"cancelling", cancelling(spread(3000, -20, 20, 7), 0x1p-1000)});
  all.push_back({"cancelling everywhere", cancelling(spread(3000, -1000, 1000, 8), -kSmallest)});
  all.push_back({"large ones that cancel", cancelling(std::vector<double>(50, kLargest), 3)});
  Terms steps{"ever larger blocks", {}};
  for (int scale = -900; scale <= 900; scale += 60) {
    const auto more = spread(2048, scale, scale + 2, static_cast<std::uint64_t>(scale + 1000));
    steps.values.insert(steps.values.end(), more.begin(), more.end());
  }
  all.push_back(steps);
  Terms outliers{"outliers", spread(8000, 0, 3, 9)};
  for (std::size_t i = 100; i < outliers.values.size(); i += 1000) {
    outliers.values[i] = std::ldexp(i % 2000 == 100 ? 1.7 : -1.3, static_cast<int>(i / 10) - 400);
  }
  all.push_back(outliers);
  return all;
}

class ReductionOnEverySet : public testing::TestWithParam<InstructionSet> {};

INSTANTIATE_TEST_SUITE_P(ReductionTest, ReductionOnEverySet,
                         testing::ValuesIn(available_instruction_sets().begin(),
                                           available_instruction_sets().end()),
                         [](const auto& test) {
                           return std::string(instruction_set_name(test.param));
                         });

TEST_P(ReductionOnEverySet, SumsAreTheNearestDoubles) {
  for (const Terms& terms : all_terms()) {
    EXPECT_EQ(bits(sum_of(terms.values, GetParam())), bits(oracle(terms.values))) << terms.what;
  }
}

TEST_P(ReductionOnEverySet, HasTheReferencesBytes) {
  for (const Terms& terms : all_terms()) {
    ExactSum expected;
    reference::add_sum(expected, terms.values);
    ExactSum sum;
    add_sum(sum, terms.values, GetParam());
    EXPECT_EQ(std::memcmp(&sum, &expected, sizeof sum), 0) << terms.what;
  }
}

// Every length around a group of terms and a block of them, from any address.
TEST_P(ReductionOnEverySet, VectorsOfAnyLength) {
  const std::vector<double> values = spread(4200, -40, 2, 10);
  for (std::size_t count = 0; count <= 4150; count += count < 100 || count % 512 > 480 ? 1 : 31) {
    const auto terms = std::span(values).subspan(count % 7, count);
    ExactSum expected;
    reference::add_sum(expected, terms);
    ExactSum sum;
    add_sum(sum, terms, GetParam());
    ASSERT_EQ(sum, expected) << count;
  }
}

// Terms that take the first level to its ends, and just beyond what it takes.
TEST_P(ReductionOnEverySet, BlocksOfEqualTerms) {
  for (const double value : {1.0, 2 - 0x1p-52, -1.0, -2 + 0x1p-52, 1 + 0x1p-52}) {
    std::vector<double> values(2048, value);
    for (double factor = 1; factor <= 0x1p12; factor *= 2) {
      values.insert(values.end(), 2048, value * factor);
    }
    EXPECT_EQ(bits(sum_of(values, GetParam())), bits(oracle(values))) << value;
  }
}

TEST_P(ReductionOnEverySet, DotProductsSumRoundedProducts) {
  const std::array<std::pair<std::vector<double>, std::vector<double>>, 4> pairs = {{
      {spread(5001, -3, 3, 11), spread(5001, -3, 3, 12)},
      {spread(5001, -500, 500, 13), spread(5001, -500, 500, 14)},
      {spread(5001, -600, -500, 15), spread(5001, -600, -500, 16)},
      {{}, {}},
  }};
  for (const auto& [a, b] : pairs) {
    std::vector<double> products(a.size());
    std::ranges::transform(a, b, products.begin(), std::multiplies<>());
    ExactSum dot;
    add_dot(dot, a, b, GetParam());
    ExactSum expected;
    reference::add_dot(expected, a, b);
    EXPECT_EQ(dot, expected);
    EXPECT_EQ(bits(dot.value()), bits(oracle(products)));
  }
}

TEST_P(ReductionOnEverySet, TermsThatAreNotFinite) {
  for (const std::size_t place : {0, 5, 2047, 2048, 4999}) {
    const auto with = [&](std::vector<double> special) {
      std::vector<double> values = spread(5000, -3, 3, 17);
      for (std::size_t i = 0; i < special.size(); ++i) {
        values[(place + 31 * i) % values.size()] = special[i];
      }
      return sum_of(values, GetParam());
    };
    EXPECT_EQ(with({kInfinity}), kInfinity);
    EXPECT_EQ(with({-kInfinity, -kInfinity}), -kInfinity);
    EXPECT_EQ(bits(with({kInfinity, -kInfinity})), bits(kNaN));
    EXPECT_EQ(bits(with({-kNaN})), bits(kNaN));
    EXPECT_EQ(bits(with({kInfinity, kNaN})), bits(kNaN));
  }
  const std::vector<double> large(100, 1e200);
  std::vector<double> signs(100, 1e200);
  ExactSum overflowing;
  add_dot(overflowing, large, signs, GetParam());
  EXPECT_EQ(overflowing.value(), kInfinity);
  signs[50] = -1e200;
  add_dot(overflowing, large, signs, GetParam());
  EXPECT_EQ(bits(overflowing.value()), bits(kNaN));
}

// Cut anywhere, each piece shuffled, and merged in any order and grouping.
TEST(ReductionTest, NeitherOrderNorGroupingMatters) {
  Philox random(7, 7);
  const auto below = [&](std::size_t count) {
    return static_cast<std::size_t>(random.uniform() * static_cast<double>(count));
  };
  for (const Terms& terms : all_terms()) {
    ExactSum expected;
    reference::add_sum(expected, terms.values);
    for (int round = 0; round < 6; ++round) {
      std::vector<double> values = terms.values;
      for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(i)]);
      std::vector<ExactSum> pieces;
      for (std::size_t begin = 0; begin < values.size();) {
        const std::size_t count = std::min(values.size() - begin, 1 + below(3000));
        const auto sets = available_instruction_sets();
        add_sum(pieces.emplace_back(), std::span(values).subspan(begin, count),
                sets[below(sets.size())]);
        begin += count;
      }
      if (pieces.empty()) pieces.emplace_back();
      while (pieces.size() > 1) {
        std::swap(pieces[below(pieces.size())], pieces.back());
        const ExactSum last = pieces.back();
        pieces.pop_back();
        pieces[below(pieces.size())].merge(last);
      }
      ASSERT_EQ(pieces.front(), expected) << terms.what;
    }
  }
}

TEST(ReductionTest, InfinitiesOutliveAMerge) {
  ExactSum plus;
  ExactSum minus;
  plus.add(kInfinity);
  minus.add(-kInfinity);
  ExactSum sum;
  sum.add(1);
  sum.merge(plus);
  EXPECT_EQ(sum.value(), kInfinity);
  sum.merge(minus);
  EXPECT_EQ(bits(sum.value()), bits(kNaN));
}

TEST(ReductionTest, RoundsHalfwayToEven) {
  EXPECT_EQ(sum_of(std::vector{1.0, 0x1p-53}), 1.0);
  EXPECT_EQ(sum_of(std::vector{1.0, 0x1p-53, kSmallest}), 1 + 0x1p-52);
  EXPECT_EQ(sum_of(std::vector{1.0, 0x1p-53, -kSmallest}), 1.0);
  EXPECT_EQ(sum_of(std::vector{1 + 0x1p-52, 0x1p-53}), 1 + 0x1p-51);
  EXPECT_EQ(sum_of(std::vector{-1.0, -0x1p-53, -kSmallest}), -1 - 0x1p-52);
  EXPECT_EQ(sum_of(std::vector{2 - 0x1p-52, 0x1p-53}), 2.0);
}

TEST(ReductionTest, SumsBeyondTheLargestDouble) {
  EXPECT_EQ(sum_of(std::vector{kLargest, kLargest}), kInfinity);
  EXPECT_EQ(sum_of(std::vector{-kLargest, -kLargest}), -kInfinity);
  EXPECT_EQ(sum_of(std::vector{kLargest, kLargest, -kLargest}), kLargest);
  EXPECT_EQ(sum_of(std::vector{kLargest, 0x1p969}), kLargest);
  EXPECT_EQ(sum_of(std::vector{kLargest, 0x1p970}), kInfinity);
}

TEST(ReductionTest, ScaledWholeNumbers) {
  ExactSum highest;
  highest.add_scaled(-(std::int64_t{1} << 53) + 1, 971);
  EXPECT_EQ(highest.value(), -kLargest);
  for (const int exponent : {-1074, -1011, -64, 0, 700, 950}) {
    for (const std::int64_t n : {std::int64_t{1}, std::int64_t{-1}, INT64_MAX, INT64_MIN}) {
      ExactSum scaled;
      scaled.add_scaled(n, exponent);
      ExactSum expected;  // in halves, which are doubles
      const std::int64_t high = n >> 32;
      const std::int64_t low = n - high * (std::int64_t{1} << 32);
      expected.add_scaled(low, exponent);
      for (int i = 0; i < 2; ++i)
        expected.add(std::ldexp(static_cast<double>(high), exponent + 31));
      EXPECT_EQ(scaled, expected) << n << " * 2^" << exponent;
    }
  }
}

TEST(ReductionTest, ASumThatIsZeroIsTheEmptyOne) {
  ExactSum sum;
  for (const double term : {1.5, -0x1p-1074, kLargest, -1.5, 0x1p-1074, -kLargest}) sum.add(term);
  EXPECT_EQ(sum, ExactSum());
  EXPECT_EQ(bits(sum.value()), bits(0.0));
}

TEST(ReductionDeathTest, VectorsOfDifferentSizesEndTheProcess) {
  const std::vector<double> a(3);
  const std::vector<double> b(4);
  ExactSum sum;
  EXPECT_DEATH(add_dot(sum, a, b), "dot product: the vectors have 3 and 4 elements");
  EXPECT_DEATH(reference::add_dot(sum, a, b), "dot product: the vectors have 3 and 4 elements");
}

}  // namespace
}  // namespace regroup::kernels
