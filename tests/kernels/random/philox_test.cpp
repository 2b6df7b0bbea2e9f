// Philox against its authors' known answers, and the order in which a stream hands out its words.
#include "kernels/random/philox.hpp"

#include <random>
#include <set>

#include <gtest/gtest.h>

namespace regroup::kernels {
namespace {

static_assert(std::uniform_random_bit_generator<Philox>);

// The three philox4x32 10 lines of kat_vectors, the known answers of the authors' library
// Random123.
TEST(PhiloxTest, GivesThePublishedKnownAnswers) {
  EXPECT_EQ(philox4x32_10({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(
      philox4x32_10({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
      (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(
      philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
      (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(PhiloxTest, CounterIsIndexThenStreamAndKeyIsSeedLowWordsFirst) {
  EXPECT_EQ(philox_block(0x299f31d0'a4093822, 0x03707344'13198a2e, 0x85a308d3'243f6a88),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(PhiloxTest, HandsOutTheBlocksWordsInOrder) {
  Philox random(7, 3);

  for (std::uint64_t index = 0; index < 5; ++index) {
    for (const std::uint32_t word : philox_block(7, 3, index)) EXPECT_EQ(random(), word);
  }
}

TEST(PhiloxTest, SeekGoesToAnyBlockForwardsAndBackwards) {
  Philox random(7, 3);
  random();

  random.seek(1'000'000'000'000);
  EXPECT_EQ(random(), philox_block(7, 3, 1'000'000'000'000)[0]);
  random.seek(0);
  EXPECT_EQ(random(), philox_block(7, 3, 0)[0]);
  EXPECT_EQ(random(), philox_block(7, 3, 0)[1]);
}

TEST(PhiloxTest, SeedsAndStreamsDiffer) {
  std::set<std::uint32_t> first_words;
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    for (std::uint64_t stream = 0; stream < 30; ++stream) {
      first_words.insert(Philox(seed, stream << 30)());
    }
  }
  EXPECT_EQ(first_words.size(), 900);
}

TEST(PhiloxTest, UniformTakesTheUpper53BitsOfTwoWords) {
  Philox random(11, 5);
  const PhiloxCounter block = philox_block(11, 5, 0);

  const double value = random.uniform();

  EXPECT_EQ(value, block[1] * 0x1p-32 + (block[0] >> 11) * 0x1p-53);
  EXPECT_EQ(random(), block[2]);
}

TEST(PhiloxTest, UniformsFillTheUnitIntervalEvenly) {
  constexpr int kBins = 100;
  constexpr int kDraws = 100'000;
  Philox random(1, 1);
  int counts[kBins] = {};

  for (int draw = 0; draw < kDraws; ++draw) {
    const double value = random.uniform();
    ASSERT_GE(value, 0.0);
    ASSERT_LT(value, 1.0);
    ++counts[static_cast<int>(value * kBins)];
  }

  double chi_square = 0;
  for (const int count : counts) chi_square += (count - 1000.0) * (count - 1000.0) / 1000.0;
  EXPECT_LT(chi_square, 148.2);  // 99 degrees of freedom, one in a thousand
}

}  // namespace
}  // namespace regroup::kernels
