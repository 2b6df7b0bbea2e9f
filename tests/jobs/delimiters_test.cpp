#include "jobs/delimiters.hpp"

#include <cctype>
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

TEST(Delimiters, TextWithoutWordsVisitsNothing) {
  EXPECT_THAT(words_of(""), IsEmpty());
  EXPECT_THAT(words_of(" \n "), IsEmpty());
  EXPECT_THAT(words_of(std::string_view()), IsEmpty());
}

}  // namespace
}  // namespace regroup
