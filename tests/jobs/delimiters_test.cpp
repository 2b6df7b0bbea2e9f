#include "jobs/delimiters.hpp"

#include <cctype>
#include <cstdint>
#include <iterator>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace regroup {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  for_each_word(text, [&](std::string_view word) { words.emplace_back(word); });
  return words;
}

TEST(Delimiters, WhiteSpaceIsWhatIsspaceSaysInTheCLocale) {
  for (int byte = 0; byte < 256; ++byte)
    EXPECT_EQ(WhiteSpace::matches(static_cast<char>(byte)), std::isspace(byte) != 0) << byte;
}

TEST(Delimiters, WordsAreTheRunsBetweenWhiteSpace) {
  EXPECT_THAT(words_of(" one\ttwo\n\v\f\rthree "), ElementsAre("one", "two", "three"));
  EXPECT_THAT(words_of("one"), ElementsAre("one"));
  EXPECT_THAT(words_of(std::string_view("a\0b c", 5)), ElementsAre(std::string("a\0b", 3), "c"));
  EXPECT_THAT(words_of("gr\xc3\xbc\xc3\x9f \xa0"), ElementsAre("gr\xc3\xbc\xc3\x9f", "\xa0"));
}

TEST(Delimiters, WordBitsAgreeWithMatchesForEveryByteAtEveryPlace) {
  for (std::size_t place = 0; place < kBitsBlockBytes; ++place) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string block(kBitsBlockBytes, ' ');
      block[place] = static_cast<char>(byte);
      const bool in_word = !WhiteSpace::matches(block[place]);
      EXPECT_EQ(word_bits(block), std::uint64_t{in_word} << place);
      EXPECT_EQ(word_bits(block.substr(0, place + 1)), std::uint64_t{in_word} << place);
    }
  }
}

// Words that begin, end and run through at the edges of the 64-byte steps, at every length of text.
TEST(Delimiters, WordsAgreeWithThePlainReadingAtEveryLength) {
  std::mt19937_64 random(31);
  for (const unsigned white_in : {2u, 8u, 60u, 200u}) {
    std::string text;
    for (int size = 0; size < 400; ++size) {
      std::istringstream in(text);
      const std::vector<std::string> expected{std::istream_iterator<std::string>(in), {}};
      ASSERT_EQ(words_of(text), expected) << size;
      text += random() % white_in == 0 ? " \t\n\v\f\r"[random() % 6] : 'w';
    }
  }
}

TEST(Delimiters, TextWithoutWordsVisitsNothing) {
  EXPECT_THAT(words_of(""), IsEmpty());
  EXPECT_THAT(words_of(" \n "), IsEmpty());
  EXPECT_THAT(words_of(std::string_view()), IsEmpty());
}

}  // namespace
}  // namespace regroup
