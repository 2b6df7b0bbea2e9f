// Matrix Market files: what is read, whole and by rows, and how bad ones are refused.
#include "jobs/matrix_market.hpp"

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/jobs/error_of.hpp"
#include "tests/jobs/temporary_folder.hpp"

namespace regroup {

void PrintTo(const MatrixEntry& entry, std::ostream* out) {
  *out << entry.row << "," << entry.column << "=" << entry.value;
}

namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Entries = std::vector<MatrixEntry>;

struct Read {
  MatrixHeader header;
  Entries entries;
};

Entries entries_of(MatrixMarketFile& file) {
  Entries all;
  const auto read = file.read([&](std::span<const MatrixEntry> entries) {
    all.insert(all.end(), entries.begin(), entries.end());
  });
  EXPECT_EQ(error_of(read), "");
  return all;
}

Entries rows_of(const MatrixMarketFile& file, std::uint64_t begin, std::uint64_t end) {
  LineRangeReader reader;
  Entries all;
  const auto read = file.read_rows(begin, end, reader, [&](std::span<const MatrixEntry> entries) {
    all.insert(all.end(), entries.begin(), entries.end());
  });
  EXPECT_EQ(error_of(read), "");
  std::ranges::sort(all, {}, [](const MatrixEntry& entry) {
    return std::tuple(entry.row, entry.column, entry.value);
  });
  return all;
}

Read read(const std::string& text) {
  const TemporaryFolder folder;
  auto file = MatrixMarketFile::open(folder.write("matrix.mtx", text));
  EXPECT_EQ(error_of(file), "");
  if (!file) return {};
  Entries entries = entries_of(*file);
  return {file->header(), entries};
}

// Without the folder's name before the file's.
std::string refusal(const std::string& text) {
  const TemporaryFolder folder;
  const std::string path = folder.write("matrix.mtx", text);
  auto file = MatrixMarketFile::open(path);
  std::string error = error_of(file);
  if (file) error = error_of(file->read([](std::span<const MatrixEntry>) {}));
  EXPECT_EQ(std::ranges::count(error, '\n'), 0);
  EXPECT_THAT(error, testing::StartsWith(path));
  return error.substr(std::min(error.size(), path.size()));
}

constexpr const char* kReal = "%%MatrixMarket matrix coordinate real general\n";

TEST(MatrixMarket, ReadsEntriesOfEachKind) {
  const Read real = read(std::string(kReal) + "2 3 3\n1 1 -1.5\n2 3 +2e3\n1 1 4.9e-324\n");
  EXPECT_EQ(real.header.rows, 2u);
  EXPECT_EQ(real.header.columns, 3u);
  EXPECT_EQ(real.header.symmetry, MatrixHeader::Symmetry::kGeneral);
  EXPECT_THAT(real.entries, ElementsAre(MatrixEntry{0, 0, -1.5}, MatrixEntry{1, 2, 2000},
                                        MatrixEntry{0, 0, 4.9e-324}));

  const Read whole = read("%%matrixMARKET Matrix Coordinate Integer Symmetric\n2 2 1\n2 1 -7\n");
  EXPECT_EQ(whole.header.field, MatrixHeader::Field::kInteger);
  EXPECT_EQ(whole.header.symmetry, MatrixHeader::Symmetry::kSymmetric);
  EXPECT_THAT(whole.entries, ElementsAre(MatrixEntry{1, 0, -7}));

  const Read pattern = read("%%MatrixMarket matrix coordinate pattern general\n2 2 1\n1 2\n");
  EXPECT_THAT(pattern.entries, ElementsAre(MatrixEntry{0, 1, 1}));

  const Read skew = read("%%MatrixMarket matrix coordinate real skew-symmetric\n2 2 1\n2 1 3\n");
  EXPECT_EQ(skew.header.symmetry, MatrixHeader::Symmetry::kSkewSymmetric);

  const Read array = read("%%MatrixMarket matrix array real general\n2 2\n1\n2\n3\n4\n");
  EXPECT_EQ(array.header.entries, 4u);
  EXPECT_THAT(array.entries, ElementsAre(MatrixEntry{0, 0, 1}, MatrixEntry{1, 0, 2},
                                         MatrixEntry{0, 1, 3}, MatrixEntry{1, 1, 4}));
}

TEST(MatrixMarket, PassesOverCommentsBlanksAndCarriageReturns) {
  const Read dressed = read(
      "%%MatrixMarket matrix coordinate real general\r\n% a comment\r\n%\r\n\r\n \t 2  2\t2 \r\n"
      "\r\n  1\t1   5  \r\n% between\r\n2 2 6\r\n\r\n");
  EXPECT_THAT(dressed.entries, ElementsAre(MatrixEntry{0, 0, 5}, MatrixEntry{1, 1, 6}));
  EXPECT_THAT(read(std::string(kReal) + "1 1 1\n1 1 5").entries, ElementsAre(MatrixEntry{0, 0, 5}));
  EXPECT_THAT(read(std::string(kReal) + "3 3 0\n").entries, ElementsAre());
}

TEST(MatrixMarket, RefusesHeaders) {
  EXPECT_THAT(refusal(""), HasSubstr(": ends before its first line"));
  EXPECT_THAT(refusal("1 2 3\n"),
              HasSubstr(", line 1: does not begin with '%%MatrixMarket matrix'"));
  EXPECT_THAT(refusal("%%MatrixMarket vector coordinate real general\n"), HasSubstr(", line 1: "));
  EXPECT_THAT(refusal("%%MatrixMarket matrix coordinate complex general\n1 1 0\n"),
              HasSubstr("line 1: 'complex' is not among what is read: real, double, integer, "
                        "pattern"));
  EXPECT_THAT(refusal("%%MatrixMarket matrix coordinate real hermitian\n1 1 0\n"),
              HasSubstr("'hermitian' is not among"));
  EXPECT_THAT(refusal("%%MatrixMarket matrix coordinate real\n1 1 0\n"), HasSubstr("'' is not"));
  EXPECT_THAT(refusal("%%MatrixMarket matrix array real symmetric\n1 1\n1\n"),
              HasSubstr("line 1: "));
  EXPECT_THAT(refusal(kReal), HasSubstr(": ends before its size line"));
  EXPECT_THAT(refusal(std::string(kReal) + "%\n3 3\n"),
              HasSubstr(", line 3: '3 3' is no size line: wanted are rows, columns and entries"));
  EXPECT_THAT(refusal(std::string(kReal) + "3 3 1 1\n"), HasSubstr("is no size line"));
  EXPECT_THAT(refusal(std::string(kReal) + "3 -3 1\n"), HasSubstr("is no size line"));
  EXPECT_THAT(refusal(std::string(kReal) + "0 3 0\n"), HasSubstr("no rows or columns"));
  EXPECT_THAT(refusal(std::string(kReal) + "3000000000 3 0\n"), HasSubstr("2^31"));
  EXPECT_THAT(refusal("%%MatrixMarket matrix coordinate real symmetric\n2 3 0\n"),
              HasSubstr("line 2: a matrix of 2 x 3 cannot be symmetric"));
}

TEST(MatrixMarket, RefusesEntriesByTheirLine) {
  const auto with = [](const std::string& line) {
    return refusal(std::string(kReal) + "% comment\n3 4 2\n1 1 1\n\n" + line + "\n");
  };
  for (const char* line : {"1 1", "1", "x 1 1", "1 1 1 1", "1 1 1x", "1.0 1 1", "-1 1 1",
                           "1 1 1e400", "1 1 1d3", "1 1 +-1", "1 1 0x10", "1 1 +", "1 1 1e-999"}) {
    EXPECT_THAT(with(line), HasSubstr(fmt::format(", line 6: '{}' is no entry", line)));
  }
  for (const char* value : {"nan", "inf", "-inf", "NaN", "infinity"}) {
    EXPECT_THAT(with(std::string("1 1 ") + value), HasSubstr(", line 6: a value is not finite"));
  }
  EXPECT_THAT(with("4 1 1"), HasSubstr("line 6: row 4, column 1 is outside the matrix of 3 x 4"));
  EXPECT_THAT(with("3 5 1"), HasSubstr("line 6: row 3, column 5 is outside"));
  EXPECT_THAT(with("0 1 1"), HasSubstr("line 6: row 0, column 1 is outside"));
  EXPECT_THAT(with("1 0 1"), HasSubstr("line 6: row 1, column 0 is outside"));
  EXPECT_THAT(with("1 2 3\n1 3 4"), HasSubstr("line 7: is behind the last of the 2 entries"));
  EXPECT_THAT(with(""), HasSubstr("line 6: the file ends here, with 1 of the 2 entries"));
  EXPECT_THAT(with(std::string(100, '7') + "\x01"), HasSubstr("77...' is no entry"));

  const std::string symmetric = "%%MatrixMarket matrix coordinate real symmetric\n3 3 1\n";
  EXPECT_THAT(refusal(symmetric + "1 2 1\n"),
              HasSubstr("line 3: row 1, column 2 is above the diag"));
  EXPECT_THAT(refusal("%%MatrixMarket matrix coordinate real skew-symmetric\n3 3 1\n2 2 1\n"),
              HasSubstr("line 3: is on the diagonal"));
  const std::string whole = "%%MatrixMarket matrix coordinate integer general\n3 3 1\n";
  EXPECT_THAT(refusal(whole + "1 1 1.5\n"), HasSubstr("line 3: '1 1 1.5' is no entry"));
  EXPECT_THAT(refusal(whole + "1 1 9007199254740993\n"), HasSubstr("is no exact double"));
  EXPECT_THAT(refusal("%%MatrixMarket matrix array real general\n2 1\n1\n1 2\n"),
              HasSubstr("line 4: '1 2' is no entry: wanted is a value"));
}

// Of several pieces, in an order that has rows together and in one that has not.
TEST(MatrixMarket, ReadsRangesOfRows) {
  constexpr std::uint32_t kRows = 30'000;
  const TemporaryFolder folder;
  for (const char* symmetry : {"general", "symmetric", "skew-symmetric"}) {
    for (const std::uint32_t stride : {1u, 7919u}) {
      std::string text = fmt::format("%%MatrixMarket matrix coordinate real {}\n{} {} {}\n",
                                     symmetry, kRows, kRows, 2 * (kRows - 3));
      Entries expected;
      const bool mirrored = std::string(symmetry) != "general";
      const double sign = std::string(symmetry) == "symmetric" ? 1 : -1;
      for (std::uint32_t i = 0; i < kRows - 3; ++i) {
        const std::uint32_t row = 3 + i * stride % (kRows - 3);
        for (const std::uint32_t column : {row - 1, row - 3}) {
          const double value = row + 0.5 * column;
          text += fmt::format("{} {} {}\n", row + 1, column + 1, value);
          expected.push_back({row, column, value});
          if (mirrored) expected.push_back({column, row, sign * value});
        }
      }
      std::ranges::sort(expected, {}, [](const MatrixEntry& entry) {
        return std::tuple(entry.row, entry.column, entry.value);
      });
      auto file = MatrixMarketFile::open(folder.write("rows.mtx", text));
      ASSERT_EQ(error_of(file), "");
      entries_of(*file);
      Buffer encoded;
      Writer writer(encoded);
      file->encode(writer);
      Reader reader(encoded.view());
      const auto decoded = MatrixMarketFile::decode(reader);
      ASSERT_EQ(error_of(decoded), "");
      EXPECT_TRUE(reader.complete());
      EXPECT_EQ(decoded->header(), file->header());
      Entries joined;
      for (const auto& [begin, end] : {std::pair{0u, 1u},
                                       {1u, 10'000u},
                                       {10'000u, 10'001u},
                                       {10'001u, 10'001u},
                                       {10'001u, kRows}}) {
        const Entries part = rows_of(*decoded, begin, end);
        joined.insert(joined.end(), part.begin(), part.end());
      }
      EXPECT_TRUE(joined == expected) << symmetry << " " << stride;
    }
  }
}

TEST(MatrixMarket, RowsOfAnArrayAreCountedOnInLaterPieces) {
  constexpr std::uint64_t kRows = 100'000;
  const TemporaryFolder folder;
  std::string text = fmt::format("%%MatrixMarket matrix array real general\n{} 1\n", kRows);
  for (std::uint64_t row = 0; row < kRows; ++row) text += fmt::format("{}.25\n", row);
  auto file = MatrixMarketFile::open(folder.write("vector.mtx", text));
  ASSERT_EQ(error_of(file), "");
  entries_of(*file);
  const Entries part = rows_of(*file, 60'000, 90'000);
  ASSERT_EQ(part.size(), 30'000u);
  for (std::uint32_t i = 0; i < part.size(); ++i) {
    ASSERT_EQ(part[i], (MatrixEntry{60'000 + i, 0, 60'000.25 + i}));
  }
}

TEST(MatrixMarket, AFileThatChangesIsNoticed) {
  const TemporaryFolder folder;
  const std::string path = folder.write("matrix.mtx", std::string(kReal) + "2 2 1\n2 2 5\n");
  auto file = MatrixMarketFile::open(path);
  ASSERT_EQ(error_of(file), "");
  entries_of(*file);
  LineRangeReader reader;
  const auto ignore = [](std::span<const MatrixEntry>) {};
  folder.write("matrix.mtx", std::string(kReal) + "2 2 1\n2 2 6\n");
  EXPECT_THAT(error_of(file->read_rows(0, 2, reader, ignore)), HasSubstr("holds something else"));
}

TEST(MatrixMarket, DamagedDescriptionsAreRefused) {
  const TemporaryFolder folder;
  auto file = MatrixMarketFile::open(folder.write("m", std::string(kReal) + "2 2 1\n2 2 5\n"));
  ASSERT_EQ(error_of(file), "");
  entries_of(*file);
  Buffer encoded;
  Writer writer(encoded);
  file->encode(writer);
  for (std::size_t bytes = 0; bytes < encoded.size(); ++bytes) {
    Reader reader(encoded.view().first(bytes));
    EXPECT_EQ(error_of(MatrixMarketFile::decode(reader)),
              "the description of a matrix file is damaged");
  }
}

}  // namespace
}  // namespace regroup
