#include "jobs/byte_ranges.hpp"

#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/jobs/error_of.hpp"
#include "tests/jobs/temporary_folder.hpp"

namespace regroup {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::Not;

std::string open_error(const std::vector<std::string>& paths) {
  return error_of(open_inputs(paths));
}

ByteRanges cut(std::vector<InputFile> files, std::uint64_t shard_bytes) {
  auto ranges = ByteRanges::cut(std::move(files), shard_bytes);
  EXPECT_TRUE(ranges) << ranges.error();
  return std::move(*ranges);
}

auto IsFile(const std::string& path, std::uint64_t bytes) {
  return AllOf(Field(&InputFile::path, path), Field(&InputFile::bytes, bytes));
}

// Every byte of every file is in exactly one piece, in order, and no piece or shard is empty.
void expect_whole(const ByteRanges& ranges) {
  std::vector<InputFile> covered;
  for (const auto& file : ranges.files()) covered.push_back({file.path, 0});
  std::uint32_t file_before = 0;
  for (std::uint64_t s = 0; s < ranges.shards(); ++s) {
    const auto pieces = ranges.pieces(ShardId{s});
    EXPECT_FALSE(pieces.empty());
    std::uint64_t shard_bytes = 0;
    for (const FilePiece& piece : pieces) {
      EXPECT_GE(piece.file, file_before);
      EXPECT_EQ(piece.begin, covered[piece.file].bytes);
      EXPECT_LT(piece.begin, piece.end);
      covered[piece.file].bytes = piece.end;
      shard_bytes += piece.end - piece.begin;
      file_before = piece.file;
    }
    EXPECT_LE(shard_bytes, ranges.shard_bytes());
  }
  EXPECT_EQ(covered, ranges.files());
}

TEST(OpenInputs, MeasuresFilesInTheGivenOrder) {
  const TemporaryFolder folder;
  const std::string b = folder.write("b", "12345");
  const std::string a = folder.write("a", "");
  const std::vector<std::string> paths{b, a, b};
  EXPECT_THAT(*open_inputs(paths), ElementsAre(IsFile(b, 5), IsFile(a, 0), IsFile(b, 5)));
}

TEST(OpenInputs, FollowsSymbolicLinks) {
  const TemporaryFolder folder;
  const std::string link = folder.path("link");
  std::filesystem::create_symlink(folder.write("file", "123"), link);
  EXPECT_THAT(*open_inputs(std::vector{link}), ElementsAre(IsFile(link, 3)));
}

TEST(OpenInputs, SamplesTheContent) {
  const TemporaryFolder folder;
  const std::string path = folder.write("f", "some text");
  const auto before = open_inputs(std::vector{path}).value();
  folder.write("f", "same size");
  const auto after = open_inputs(std::vector{path}).value();
  EXPECT_EQ(before[0].sample.blocks, SampleLimits::blocks_of_file_max);
  EXPECT_NE(before[0].sample, after[0].sample);
}

TEST(OpenInputs, SaysWhatWhereAndWhatToDo) {
  const TemporaryFolder folder;
  const std::string file = folder.write("file", "text");
  const std::string missing = folder.path("missing");
  const std::string pipe = folder.path("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);

  EXPECT_EQ(open_error({file, missing}), missing +
                                             ": no such file; check the name, and that this node "
                                             "sees its file system");
  EXPECT_THAT(open_error({file + "/below"}), HasSubstr(file + "/below: no such file"));
  EXPECT_EQ(open_error({folder.path("")}), folder.path("") +
                                               ": is a directory; name files, e.g. "
                                               "with find " +
                                               folder.path("") + " -type f");
  EXPECT_THAT(open_error({pipe}), HasSubstr(pipe + ": is a named pipe; copy"));
  EXPECT_THAT(open_error({"/dev/null"}), HasSubstr("/dev/null: is a device; copy"));
  EXPECT_THAT(open_error({""}), HasSubstr("empty name"));
  EXPECT_THAT(open_error({missing}), Not(HasSubstr("\n")));
}

// Root may read everything, so as root it looks with the eyes of another user.
TEST(OpenInputs, NamesAFileThatMayNotBeRead) {
  constexpr uid_t kNobody = 65534;
  const TemporaryFolder folder;
  const std::string file = folder.write("file", "text");
  std::filesystem::permissions(folder.path(""), std::filesystem::perms(0755));
  std::filesystem::permissions(file, std::filesystem::perms::none);
  const bool is_root = ::geteuid() == 0;
  if (is_root && ::seteuid(kNobody) != 0) GTEST_SKIP() << "cannot become another user";

  const std::string error = open_error({file});

  if (is_root) {
    ASSERT_EQ(::seteuid(0), 0);
  }
  EXPECT_THAT(error, HasSubstr(file + ": may not be read by this user; "));
}

TEST(ByteRanges, CutsOneFileAtMultiplesOfTheShardSize) {
  const ByteRanges ranges = cut({{"f", 25}}, 10);
  ASSERT_EQ(ranges.shards(), 3u);
  EXPECT_THAT(ranges.pieces(ShardId{0}), ElementsAre(FilePiece{0, 0, 10}));
  EXPECT_THAT(ranges.pieces(ShardId{1}), ElementsAre(FilePiece{0, 10, 20}));
  EXPECT_THAT(ranges.pieces(ShardId{2}), ElementsAre(FilePiece{0, 20, 25}));
}

TEST(ByteRanges, SmallFilesShareAShardAndEmptyOnesTakeNoPart) {
  const ByteRanges ranges = cut({{"a", 0}, {"b", 10}, {"c", 0}, {"d", 20}, {"e", 0}}, 10'000);
  ASSERT_EQ(ranges.shards(), 1u);
  EXPECT_THAT(ranges.pieces(ShardId{0}), ElementsAre(FilePiece{1, 0, 10}, FilePiece{3, 0, 20}));
}

TEST(ByteRanges, NoBytesAreNoShards) {
  EXPECT_EQ(cut({}, 10).shards(), 0u);
  EXPECT_EQ(cut({{"a", 0}, {"b", 0}}, 10).shards(), 0u);
  EXPECT_EQ(ByteRanges::cut({})->shards(), 0u);
}

TEST(ByteRanges, EveryByteIsInOnePiece) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 200; ++round) {
    std::vector<InputFile> files;
    for (std::uint64_t i = random() % 12; i > 0; --i)
      files.push_back({"f" + std::to_string(i), random() % 3 == 0 ? 0 : random() % 20'000});
    expect_whole(cut(files, 40 + random() % 30'000));
    expect_whole(*ByteRanges::cut(files));
  }
}

TEST(ByteRanges, ManyTinyFilesMakeFewShardsOfFewFiles) {
  const std::vector<InputFile> files(100'000, InputFile{"tiny", 40});
  const auto ranges = ByteRanges::cut(files);
  expect_whole(*ranges);
  EXPECT_LE(ranges->shards(), 512u);
  for (std::uint64_t s = 0; s < ranges->shards(); ++s)
    EXPECT_LE(ranges->pieces(ShardId{s}).size(), 1100u);
}

TEST(ByteRanges, DefaultShardSizeGrowsWithTheInput) {
  const auto shard_bytes = [](std::uint64_t bytes) {
    const std::vector<InputFile> files{{"f", bytes}};
    return ByteRanges::default_shard_bytes(files);
  };
  EXPECT_EQ(shard_bytes(0), ByteRanges::kShardBytesMin);
  EXPECT_EQ(shard_bytes(1 << 20), ByteRanges::kShardBytesMin);
  EXPECT_EQ(shard_bytes(16ULL << 30), ByteRanges::kShardBytesUsual);
  EXPECT_GT(shard_bytes(1ULL << 50), 1ULL << 33);
}

TEST(ByteRanges, DefaultNumberOfShardsIsBounded) {
  const std::vector<InputFile> large(7, InputFile{"f", (1ULL << 50) + 12'345});
  EXPECT_LE(ByteRanges::cut(large)->shards(), ByteRanges::kShardsUsualMax);
  const std::vector<InputFile> many(3'000'000, InputFile{"f", 130'000});
  EXPECT_LE(ByteRanges::cut(many)->shards(), ByteRanges::kShardsUsualMax);
}

TEST(ByteRanges, RefusesAbsurdCuts) {
  EXPECT_THAT(error_of(ByteRanges::cut({{"f", 1}}, 0)), HasSubstr("choose at least 1"));
  EXPECT_THAT(error_of(ByteRanges::cut({{"f", 1ULL << 40}}, 10)), HasSubstr("choose larger ones"));
  EXPECT_THAT(error_of(ByteRanges::cut({{"f", ~0ULL}})), HasSubstr("name fewer files"));
  EXPECT_THAT(error_of(ByteRanges::cut({{"f", 1ULL << 60}, {"g", 1}})), HasSubstr("g: 1 bytes"));
}

TEST(ByteRanges, ComesBackFromItsBytes) {
  const ByteRanges ranges = cut({{"a", 100, {8, 77}}, {"", 0}, {"b\n", 12'345, {1, ~0ULL}}}, 1000);
  Buffer bytes;
  Writer out(bytes);
  ranges.encode(out);
  Reader in(bytes.view());

  const auto read = ByteRanges::decode(in);

  ASSERT_TRUE(read) << read.error();
  EXPECT_TRUE(in.complete());
  EXPECT_EQ(read->files(), ranges.files());
  ASSERT_EQ(read->shards(), ranges.shards());
  for (std::uint64_t s = 0; s < ranges.shards(); ++s)
    EXPECT_EQ(read->pieces(ShardId{s}), ranges.pieces(ShardId{s}));
}

TEST(ByteRanges, DamagedBytesAreAnError) {
  Buffer bytes;
  Writer out(bytes);
  cut({{"a", 100}, {"b", 12'345}}, 1000).encode(out);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    Reader in(bytes.view().first(size));
    EXPECT_FALSE(ByteRanges::decode(in)) << size;
  }
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    Buffer flipped(bytes.view());
    flipped.data()[i] ^= std::byte{0x80};
    Reader in(flipped.view());
    if (const auto ranges = ByteRanges::decode(in)) {
      EXPECT_LE(ranges->shards(), ByteRanges::kShardsMax);
    }
  }
}

TEST(ByteRangesDeathTest, AShardOfAnotherCutIsABrokenInvariant) {
  const ByteRanges ranges = cut({{"f", 25}}, 10);
  EXPECT_DEATH(ranges.pieces(ShardId{3}), "broken invariant");
}

}  // namespace
}  // namespace regroup
