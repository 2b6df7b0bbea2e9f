#include "jobs/content_sample.hpp"

#include <algorithm>
#include <cerrno>
#include <string>

#include <gtest/gtest.h>
#include <unistd.h>

#include "jobs/input_io.hpp"
#include "tests/jobs/temporary_folder.hpp"

namespace regroup {
namespace {

constexpr std::size_t kBlock = SampleLimits::block_bytes;

std::string varied_text(std::size_t bytes) {
  std::string text(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>('a' + i * i % 26);
  return text;
}

std::expected<ContentSample, int> sample_of(const std::string& path, std::uint64_t bytes,
                                            std::uint8_t blocks) {
  const int fd = open_input(path.c_str());
  auto sample = sample_content(fd, bytes, blocks);
  ::close(fd);
  return sample;
}

// A file, to be changed at single bytes and sampled over its first `bytes` bytes.
class SampledFile {
 public:
  SampledFile(std::size_t bytes, std::uint8_t blocks)
      : text_(varied_text(bytes)), blocks_(blocks), before_(sample().value()) {}

  ContentSample before() const { return before_; }
  bool notices_change_at(std::size_t at) {
    text_[at] ^= 1;
    const bool noticed = sample() != before_;
    text_[at] ^= 1;
    return noticed;
  }

 private:
  std::expected<ContentSample, int> sample() const {
    return sample_of(folder_.write("f", text_), text_.size(), blocks_);
  }

  TemporaryFolder folder_;
  std::string text_;
  std::uint8_t blocks_;
  ContentSample before_;
};

TEST(ContentSample, NoticesAnyChangeWhereTheBlocksTakeTheWholeFile) {
  for (const std::size_t bytes : {std::size_t{1}, kBlock - 1, kBlock, kBlock + 1, 3 * kBlock}) {
    SampledFile file(bytes, 3);
    for (std::size_t at = 0; at < bytes; at += 997) EXPECT_TRUE(file.notices_change_at(at)) << at;
    EXPECT_TRUE(file.notices_change_at(bytes - 1)) << bytes;
  }
}

TEST(ContentSample, OfALargerFileNoticesItsEndsAndBlocksBetween) {
  constexpr std::size_t kBytes = 9 * kBlock + 5;
  SampledFile file(kBytes, 3);
  constexpr std::size_t kMiddle = (kBytes - kBlock) / 2;

  for (const std::size_t at :
       {std::size_t{0}, kBlock - 1, kMiddle, kMiddle + kBlock - 1, kBytes - kBlock, kBytes - 1})
    EXPECT_TRUE(file.notices_change_at(at)) << at;
  for (const std::size_t at : {kBlock, kMiddle - 1, kMiddle + kBlock, kBytes - kBlock - 1})
    EXPECT_FALSE(file.notices_change_at(at)) << at;
}

TEST(ContentSample, OneBlockIsTheFirst) {
  SampledFile file(4 * kBlock, 1);
  EXPECT_TRUE(file.notices_change_at(kBlock - 1));
  EXPECT_FALSE(file.notices_change_at(kBlock));
}

TEST(ContentSample, NoBlocksFitAnyContent) {
  SampledFile file(1000, 0);
  EXPECT_EQ(file.before(), ContentSample());
  EXPECT_FALSE(file.notices_change_at(0));
}

TEST(ContentSample, TellsBlocksThatChangedPlaces) {
  const TemporaryFolder folder;
  const std::string a(kBlock, 'a');
  const std::string b(kBlock, 'b');
  EXPECT_NE(sample_of(folder.write("ab", a + b), 2 * kBlock, 8),
            sample_of(folder.write("ba", b + a), 2 * kBlock, 8));
}

TEST(ContentSample, WhatWasAppendedDoesNotCount) {
  const TemporaryFolder folder;
  const std::string text = varied_text(10 * kBlock);
  const auto before = sample_of(folder.write("f", text), text.size(), 4);
  EXPECT_EQ(sample_of(folder.write("f", text + "more"), text.size(), 4), before);
}

TEST(ContentSample, TellsAShorterFileFromOneThatCannotBeRead) {
  const TemporaryFolder folder;
  EXPECT_EQ(sample_of(folder.write("f", "short"), 6, 1).error(), 0);
  EXPECT_EQ(sample_of(folder.path(""), 6, 1).error(), EISDIR);
  EXPECT_EQ(sample_of(folder.path("gone"), 6, 1).error(), EBADF);
}

TEST(BlocksToSample, AreBoundedForEveryNumberOfFiles) {
  for (const std::uint64_t files :
       {1, 2, 2'048, 2'049, 6'000, 16'384, 16'385, 100'000, 3'000'000}) {
    std::uint64_t blocks = 0;
    std::uint64_t sampled = 0;
    for (std::uint64_t file = 0; file < files; ++file) {
      const std::uint8_t mine = blocks_to_sample(file, files);
      EXPECT_LE(mine, SampleLimits::blocks_of_file_max);
      blocks += mine;
      sampled += mine != 0;
    }
    EXPECT_LE(blocks, SampleLimits::blocks_max) << files;
    EXPECT_EQ(sampled, std::min(files, SampleLimits::blocks_max)) << files;
  }
}

TEST(BlocksToSample, AreManyForFewFilesAndSpreadOverMany) {
  EXPECT_EQ(blocks_to_sample(0, 1), SampleLimits::blocks_of_file_max);
  EXPECT_EQ(blocks_to_sample(5'999, 6'000), 2);
  constexpr std::uint64_t kFiles = 10 * SampleLimits::blocks_max;
  for (std::uint64_t first = 0; first < kFiles; first += 1'000 * 10) {
    std::uint64_t sampled = 0;
    for (std::uint64_t file = first; file < std::min(first + 10, kFiles); ++file)
      sampled += blocks_to_sample(file, kFiles);
    EXPECT_EQ(sampled, 1u) << first;
  }
}

}  // namespace
}  // namespace regroup
