#include "jobs/range_reader.hpp"

#include <algorithm>
#include <filesystem>
#include <locale>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/jobs/error_of.hpp"
#include "tests/jobs/temporary_folder.hpp"

namespace regroup {
namespace {

using testing::HasSubstr;
using Words = std::vector<std::string>;

// The plain reading: no blocks, no pieces, and the standard library's idea of white space.
Words plain_words(const std::string& text) {
  std::istringstream in(text);
  in.imbue(std::locale::classic());
  Words words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

struct Reading {
  std::string bytes;  // all blocks of all pieces, one after the other
  Words words;
  std::size_t block_bytes_max = 0;
};

// Reads all pieces of all shards with one reader. Words are split within each block alone.
template <class Delimiter>
std::expected<Reading, std::string> read_all(const ByteRanges& ranges, RangeReaderLimits limits) {
  RangeReader<Delimiter> reader(limits);
  Reading reading;
  for (std::uint64_t s = 0; s < ranges.shards(); ++s) {
    for (const FilePiece& piece : ranges.pieces(ShardId{s})) {
      const auto opened = reader.open(ranges.files()[piece.file], piece.begin, piece.end);
      if (!opened) return std::unexpected(opened.error());
      while (true) {
        const auto block = reader.next();
        if (!block) return std::unexpected(block.error());
        if (block->empty()) break;
        reading.bytes += *block;
        reading.block_bytes_max = std::max(reading.block_bytes_max, block->size());
        for_each_word(*block, [&](std::string_view word) { reading.words.emplace_back(word); });
      }
    }
  }
  return reading;
}

// `letters` in `of` bytes are letters, in mean; the rest is white space of all six kinds.
std::string random_text(std::mt19937_64& random, std::size_t size, unsigned letters, unsigned of) {
  std::string text(size, '\0');
  for (char& byte : text)
    byte = random() % of < letters ? static_cast<char>('a' + random() % 26)
                                   : " \t\n\v\f\r"[random() % 6];
  return text;
}

std::vector<std::string> random_texts(std::mt19937_64& random) {
  std::vector<std::string> texts;
  for (const auto& [letters, of] : {std::pair{3u, 4u}, {9u, 10u}, {39u, 40u}, {1u, 1u}, {0u, 1u}})
    texts.push_back(random_text(random, 1 + random() % 120, letters, of));
  texts.push_back("");
  texts.push_back("a");
  std::shuffle(texts.begin(), texts.end(), random);
  return texts;
}

std::vector<InputFile> write_all(const TemporaryFolder& folder,
                                 const std::vector<std::string>& texts) {
  std::vector<InputFile> files;
  for (std::size_t i = 0; i < texts.size(); ++i)
    files.push_back({folder.write(std::to_string(i), texts[i]), texts[i].size()});
  return files;
}

std::string joined(const std::vector<std::string>& texts) {
  std::string all;
  for (const auto& text : texts) all += text;
  return all;
}

// The whole file as one piece, from `begin` to `end`.
std::expected<std::string, std::string> read_piece(const InputFile& file, std::uint64_t begin,
                                                   std::uint64_t end, RangeReaderLimits limits) {
  WordRangeReader reader(limits);
  if (const auto opened = reader.open(file, begin, end); !opened)
    return std::unexpected(opened.error());
  std::string bytes;
  while (true) {
    const auto block = reader.next();
    if (!block) return std::unexpected(block.error());
    if (block->empty()) return bytes;
    bytes += *block;
  }
}

TEST(RangeReader, WordsOverAllShardsAreThoseOfEachFileForEveryShardSize) {
  std::mt19937_64 random(21);
  for (int round = 0; round < 6; ++round) {
    const TemporaryFolder folder;
    const auto texts = random_texts(random);
    const auto files = write_all(folder, texts);
    Words expected;
    for (const auto& text : texts)
      for (auto& word : plain_words(text)) expected.push_back(word);
    std::sort(expected.begin(), expected.end());
    for (std::uint64_t shard_bytes = 1; shard_bytes <= joined(texts).size() + 1; ++shard_bytes) {
      const auto ranges = ByteRanges::cut(files, shard_bytes);
      for (const std::size_t block_bytes : {1u, 2u, 7u, 64u, 4096u}) {
        auto reading = read_all<WhiteSpace>(*ranges, {.block_bytes = block_bytes});
        ASSERT_TRUE(reading) << reading.error();
        std::sort(reading->words.begin(), reading->words.end());
        ASSERT_EQ(reading->words, expected)
            << "shards of " << shard_bytes << ", blocks of " << block_bytes << ", round " << round;
      }
    }
  }
}

// Stronger than words alone: no byte is handed out twice or lost, and order within files holds.
TEST(RangeReader, BlocksOverAllShardsAreTheBytesOfTheFiles) {
  std::mt19937_64 random(22);
  const TemporaryFolder folder;
  const auto texts = random_texts(random);
  const auto files = write_all(folder, texts);
  for (std::uint64_t shard_bytes = 1; shard_bytes <= 300; ++shard_bytes) {
    const auto ranges = ByteRanges::cut(files, shard_bytes);
    for (const std::size_t block_bytes : {1u, 5u, 64u}) {
      EXPECT_EQ(read_all<WhiteSpace>(*ranges, {.block_bytes = block_bytes})->bytes, joined(texts));
      EXPECT_EQ(read_all<LineFeed>(*ranges, {.block_bytes = block_bytes})->bytes, joined(texts));
    }
  }
}

TEST(RangeReader, BlocksOfLinesEndAtLineFeedsAlone) {
  const TemporaryFolder folder;
  const std::string text = "one two\n\n three\n\nfour five six";
  const auto files = write_all(folder, {text});
  for (std::uint64_t shard_bytes = 1; shard_bytes <= text.size(); ++shard_bytes) {
    const auto ranges = ByteRanges::cut(files, shard_bytes);
    LineRangeReader reader({.block_bytes = 3});
    std::size_t taken = 0;
    for (std::uint64_t s = 0; s < ranges->shards(); ++s) {
      const FilePiece piece = ranges->pieces(ShardId{s})[0];
      ASSERT_TRUE(reader.open(files[0], piece.begin, piece.end));
      for (auto block = reader.next(); !block->empty(); block = reader.next()) {
        taken += block->size();
        EXPECT_TRUE(block->back() == '\n' || taken == text.size()) << *block;
      }
    }
    EXPECT_EQ(taken, text.size());
  }
}

TEST(RangeReader, AWordBelongsToThePieceOfItsFirstByte) {
  const TemporaryFolder folder;
  const InputFile file{folder.write("f", "alpha beta gamma"), 16};
  EXPECT_EQ(*read_piece(file, 0, 1, {}), "alpha ");
  EXPECT_EQ(*read_piece(file, 0, 6, {}), "alpha ");
  EXPECT_EQ(*read_piece(file, 1, 5, {}), "");
  EXPECT_EQ(*read_piece(file, 1, 7, {}), "beta ");
  EXPECT_EQ(*read_piece(file, 6, 11, {}), "beta ");
  EXPECT_EQ(*read_piece(file, 6, 12, {}), "beta gamma");
  EXPECT_EQ(*read_piece(file, 12, 16, {}), "");
  EXPECT_EQ(*read_piece(file, 5, 5, {}), "");
}

TEST(RangeReader, AWordLongerThanBlocksAndShardsIsReadWhole) {
  const TemporaryFolder folder;
  const std::string word(300'000, 'w');
  const auto files = write_all(folder, {"a " + word + " b"});
  const auto reading = read_all<WhiteSpace>(*ByteRanges::cut(files, 1000), {.block_bytes = 512});
  EXPECT_EQ(reading->words, (Words{"a", word, "b"}));
}

TEST(RangeReader, BlocksAreBoundedWhileWordsAreShort) {
  std::mt19937_64 random(23);
  const TemporaryFolder folder;
  const auto files = write_all(folder, {random_text(random, 100'000, 3, 4)});
  const auto reading =
      read_all<WhiteSpace>(*ByteRanges::cut(files, 1 << 20), {.block_bytes = 1000});
  EXPECT_LE(reading->block_bytes_max, 1100u);
}

TEST(RangeReader, AWordOfTheLimitIsReadAndALongerOneIsAnErrorForEveryCut) {
  constexpr std::size_t kLimit = 50;
  for (const char* after : {"", " ", " tail words", "\n\n\n"}) {
    const TemporaryFolder folder;
    const std::string longest(kLimit, 'w');
    const auto good = write_all(folder, {"ab " + longest + after});
    const InputFile bad{folder.write("bad", "ab w" + longest + after), good[0].bytes + 1};
    for (std::uint64_t shard_bytes = 1; shard_bytes <= 70; ++shard_bytes) {
      for (const std::size_t block_bytes : {1u, 8u, 49u, 50u, 51u, 52u, 53u, 54u, 1000u}) {
        const RangeReaderLimits limits{.block_bytes = block_bytes, .record_bytes_max = kLimit};
        const auto read = read_all<WhiteSpace>(*ByteRanges::cut(good, shard_bytes), limits);
        ASSERT_TRUE(read) << read.error() << " shards " << shard_bytes << " blocks " << block_bytes;
        EXPECT_EQ(read->words[1], longest);
        const auto failed = read_all<WhiteSpace>(*ByteRanges::cut({bad}, shard_bytes), limits);
        ASSERT_FALSE(failed) << "shards " << shard_bytes << " blocks " << block_bytes;
        EXPECT_EQ(failed.error(), bad.path +
                                      ": word longer than 50 bytes at byte 3; "
                                      "leave this file out, or break it up");
      }
    }
  }
}

TEST(RangeReader, AFileThatBecameShorterIsAnErrorThatNamesIt) {
  const TemporaryFolder folder;
  const std::string path = folder.write("f", std::string(100'000, 'w'));
  const InputFile file{path, 100'000};
  WordRangeReader reader({.block_bytes = 1000});
  ASSERT_TRUE(reader.open(file, 0, 100'000));

  std::filesystem::resize_file(path, 5'000);

  const auto block = reader.next();
  ASSERT_FALSE(block);
  EXPECT_THAT(block.error(), HasSubstr(path + ": is shorter than the 100000 bytes"));
  EXPECT_THAT(error_of(reader.open(file, 0, 10)), HasSubstr(path + ": is shorter than"));
}

TEST(RangeReader, AFileOfTheSameSizeWithOtherContentIsAnErrorThatNamesIt) {
  const TemporaryFolder folder;
  const std::string path = folder.write("f", "what the coordinator saw");
  const InputFile file = open_inputs(std::vector{path})->front();
  folder.write("f", "what is on another node!");
  WordRangeReader reader;

  for (int attempt = 0; attempt < 2; ++attempt)
    EXPECT_THAT(
        error_of(reader.open(file, 5, 10)),
        HasSubstr(path + ": is as long as where it was measured, but holds something else"));
  folder.write("f", "what the coordinator saw");
  EXPECT_EQ(error_of(reader.open(file, 5, 10)), "");
  EXPECT_EQ(*reader.next(), "the ");
}

// A piece must not cost a sample of its file.
TEST(RangeReader, ContentIsLookedAtOnceAFile) {
  const TemporaryFolder folder;
  const std::string path = folder.write("f", "as it was");
  const InputFile file = open_inputs(std::vector{path})->front();
  WordRangeReader reader;
  ASSERT_TRUE(reader.open(file, 0, 2));
  folder.write("f", "not so!!!");
  EXPECT_EQ(error_of(reader.open(file, 2, 9)), "");
}

TEST(RangeReader, WhatWasAppendedSinceIsNotRead) {
  const TemporaryFolder folder;
  const InputFile file{folder.write("f", "one two three"), 7};
  EXPECT_EQ(*read_piece(file, 0, 7, {}), "one two");
  EXPECT_EQ(*read_piece(file, 0, 5, {}), "one two");
}

TEST(RangeReader, AMissingFileIsAnErrorThatNamesIt) {
  const TemporaryFolder folder;
  const InputFile file{folder.path("gone"), 7};
  EXPECT_THAT(error_of(read_piece(file, 0, 7, {})), HasSubstr(file.path + ": cannot be opened"));
}

TEST(RangeReader, AfterAnErrorTheNextPieceCanBeOpened) {
  const TemporaryFolder folder;
  const InputFile good{folder.write("f", "one two"), 7};
  WordRangeReader reader;
  ASSERT_FALSE(reader.open({folder.path("gone"), 7}, 0, 7));
  ASSERT_TRUE(reader.open(good, 0, 7));
  EXPECT_EQ(*reader.next(), "one two");
  EXPECT_EQ(*reader.next(), "");
  EXPECT_EQ(*reader.next(), "");
}

TEST(RangeReaderDeathTest, APieceBeyondItsFileIsABrokenInvariant) {
  WordRangeReader reader;
  EXPECT_DEATH((void)reader.open({"f", 7}, 0, 8), "broken invariant");
}

}  // namespace
}  // namespace regroup
