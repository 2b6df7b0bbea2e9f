// The word splitter on each instruction set against the plain reference, on random bytes.
#include "kernels/text/words.hpp"

#include <cctype>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/random/philox.hpp"
#include "kernels/text/reference.hpp"

namespace regroup::kernels {
namespace {

using Words = std::vector<std::string>;

Words words_of(std::span<const char> text, InstructionSet set) {
  Words words;
  for_each_word(
      text, [&](std::string_view word) { words.emplace_back(word); }, set);
  return words;
}

Words reference_words_of(std::span<const char> text) {
  Words words;
  reference::for_each_word(text, [&](std::string_view word) { words.emplace_back(word); });
  return words;
}

enum class Bytes { kAll, kMostlyLetters, kMostlySpaces };

std::string random_text(Philox& random, std::size_t size, Bytes bytes) {
  constexpr std::string_view kSpaces = " \t\n\v\f\r";
  std::string text(size, '\0');
  for (char& c : text) {
    const std::uint32_t draw = random();
    const bool space = bytes == Bytes::kMostlyLetters ? draw % 7 == 0 : draw % 7 != 0;
    if (bytes == Bytes::kAll || !space) {
      c = static_cast<char>(draw >> 8);
    } else {
      c = kSpaces[(draw >> 8) % kSpaces.size()];
    }
  }
  return text;
}

class WordsOnEverySet : public testing::TestWithParam<InstructionSet> {};

INSTANTIATE_TEST_SUITE_P(WordsTest, WordsOnEverySet,
                         testing::ValuesIn(available_instruction_sets().begin(),
                                           available_instruction_sets().end()),
                         [](const auto& test) {
                           return std::string(instruction_set_name(test.param));
                         });

TEST_P(WordsOnEverySet, EveryByteIsClassifiedAsIsspaceDoes) {
  for (int value = 0; value < 256; ++value) {
    const std::string text = std::string("a") + static_cast<char>(value) + "b";
    const bool space = std::isspace(value) != 0;  // the program runs in the C locale
    EXPECT_EQ(words_of(text, GetParam()), space ? (Words{"a", "b"}) : Words{text}) << value;
  }
}

// Each text is copied to each of 64 alignments, with letters before and after that must not be
// seen.
TEST_P(WordsOnEverySet, EqualsTheReferenceForEveryLengthAndAlignment) {
  Philox random(1, 0);
  for (std::size_t size = 0; size <= 300; ++size) {
    for (const Bytes bytes : {Bytes::kAll, Bytes::kMostlyLetters, Bytes::kMostlySpaces}) {
      const std::string text = random_text(random, size, bytes);
      const Words expected = reference_words_of(text);
      // Without a byte to spare, so that the address sanitizer sees a read past either end.
      ASSERT_EQ(words_of(std::vector<char>(text.begin(), text.end()), GetParam()), expected)
          << size;
      std::vector<char> memory(size + 128, 'x');
      const std::size_t offset = random() % 64;
      std::copy(text.begin(), text.end(), memory.begin() + static_cast<std::ptrdiff_t>(offset));
      ASSERT_EQ(words_of(std::span<const char>(memory).subspan(offset, size), GetParam()), expected)
          << "size " << size << " offset " << offset;
    }
  }
  const std::string text = random_text(random, 200, Bytes::kMostlyLetters);
  const Words expected = reference_words_of(text);
  for (std::size_t offset = 0; offset < 64; ++offset) {
    std::vector<char> memory(328, 'x');
    std::copy(text.begin(), text.end(), memory.begin() + static_cast<std::ptrdiff_t>(offset));
    ASSERT_EQ(words_of(std::span<const char>(memory).subspan(offset, 200), GetParam()), expected)
        << "offset " << offset;
  }
}

TEST_P(WordsOnEverySet, WordsMayCrossMasksAndChunks) {
  Philox random(2, 0);
  for (const std::size_t size : {4095, 4096, 4097, 8192, 20'000}) {
    const std::string one_word(size, 'w');
    EXPECT_EQ(words_of(one_word, GetParam()), Words{one_word});
    const std::string text = random_text(random, size, Bytes::kMostlyLetters);
    EXPECT_EQ(words_of(text, GetParam()), reference_words_of(text));
  }
}

TEST_P(WordsOnEverySet, ViewsPointIntoTheText) {
  const std::string text = "  to be";
  std::vector<const char*> starts;

  for_each_word(
      text, [&](std::string_view word) { starts.push_back(word.data()); }, GetParam());

  EXPECT_EQ(starts, (std::vector<const char*>{text.data() + 2, text.data() + 5}));
}

TEST_P(WordsOnEverySet, BitsPastTheEndAreClear) {
  const std::string text(70, 'w');
  std::uint64_t masks[2] = {};

  classify_words(text, masks, GetParam());

  EXPECT_EQ(masks[0], ~std::uint64_t{0});
  EXPECT_EQ(masks[1], 0b111111);
}

TEST(WordsTest, MaskCountRoundsUp) {
  EXPECT_EQ(mask_count(0), 0);
  EXPECT_EQ(mask_count(1), 1);
  EXPECT_EQ(mask_count(64), 1);
  EXPECT_EQ(mask_count(65), 2);
}

TEST(WordsTest, LowerCasesAsciiLettersOnly) {
  for (int value = 0; value < 256; ++value) {
    std::string text(1, static_cast<char>(value));
    to_lower_ascii(text);
    EXPECT_EQ(static_cast<unsigned char>(text[0]), std::tolower(value)) << value;
  }
}

TEST(WordsTest, LowerCasingEqualsTheReferenceForEveryLength) {
  Philox random(3, 0);
  for (std::size_t size = 0; size <= 300; ++size) {
    std::string text = random_text(random, size + 2, Bytes::kAll);
    std::string expected = text;
    const std::size_t offset = size % 2;
    to_lower_ascii(std::span(text).subspan(offset, size));
    reference::to_lower_ascii(std::span(expected).subspan(offset, size));
    ASSERT_EQ(text, expected) << size;
  }
}

}  // namespace
}  // namespace regroup::kernels
