// What the tests of result files share: a table with a column of each type, made up from row
// numbers, and what an error about a result file must say.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/host/result_file_reader.hpp"
#include "runtime/host/result_file_writer.hpp"

namespace regroup::test {

inline const std::vector<ResultColumn> kWordTable = {{"count", ColumnType::kUint64},
                                                     {"word", ColumnType::kText},
                                                     {"share", ColumnType::kFloat64},
                                                     {"delta", ColumnType::kInt64}};

// `rows` rows of kWordTable, made up from the row's number.
struct WordRows {
  explicit WordRows(std::size_t rows) {
    for (std::size_t row = 0; row < rows; ++row) {
      counts.push_back(row * row);
      texts.push_back(std::string(row % 23, static_cast<char>('a' + row % 26)));
      shares.push_back(1.0 / static_cast<double>(row + 1));
      deltas.push_back(-static_cast<std::int64_t>(row));
    }
    words.assign(texts.begin(), texts.end());
  }
  std::expected<void, std::string> append_to(ResultFileWriter& writer, std::size_t first,
                                             std::size_t count) const {
    return writer.append_rows(
        {std::span(counts).subspan(first, count), std::span(words).subspan(first, count),
         std::span(shares).subspan(first, count), std::span(deltas).subspan(first, count)});
  }

  std::vector<std::uint64_t> counts;
  std::vector<std::string> texts;
  std::vector<std::string_view> words;
  std::vector<double> shares;
  std::vector<std::int64_t> deltas;
};

// Writes the rows in calls of `step` rows.
inline void write_words(const std::filesystem::path& directory, const WordRows& rows,
                        std::size_t step, const ResultFileOptions& options = {}) {
  auto writer = ResultFileWriter::create(directory, options).value();
  ASSERT_TRUE(writer.attribute("job", "wordcount"));
  ASSERT_TRUE(writer.scalar("total", std::uint64_t{rows.counts.size()}));
  ASSERT_TRUE(writer.columns(kWordTable));
  for (std::size_t first = 0; first < rows.counts.size(); first += step)
    ASSERT_TRUE(rows.append_to(writer, first, std::min(step, rows.counts.size() - first)));
  const auto done = writer.finish();
  ASSERT_TRUE(done) << done.error();
}

inline void expect_words(const std::filesystem::path& directory, const WordRows& expected) {
  const auto reader = ResultFileReader::open(directory).value();
  EXPECT_TRUE(reader.verify());
  EXPECT_EQ(reader.columns(), kWordTable);
  ASSERT_EQ(reader.rows(), expected.counts.size());
  ResultRows block;
  for (std::size_t row = 0; row < expected.counts.size(); row += block.rows) {
    ASSERT_TRUE(reader.read(row, 10'000, block));
    ASSERT_GT(block.rows, 0u);
    for (std::size_t i = 0; i < block.rows; ++i) {
      ASSERT_EQ(std::get<std::vector<std::uint64_t>>(block.columns[0])[i],
                expected.counts[row + i]);
      ASSERT_EQ(std::get<TextRows>(block.columns[1])[i], expected.words[row + i]);
      ASSERT_EQ(std::get<std::vector<double>>(block.columns[2])[i], expected.shares[row + i]);
      ASSERT_EQ(std::get<std::vector<std::int64_t>>(block.columns[3])[i], expected.deltas[row + i]);
    }
  }
}

// The error is one line that names the result file of `directory` and says `text`.
inline void expect_one_line(const std::string& error, const std::filesystem::path& directory,
                            const std::string& text) {
  EXPECT_THAT(error,
              testing::AllOf(testing::HasSubstr((directory / "result.h5").string()),
                             testing::HasSubstr(text), testing::Not(testing::HasSubstr("\n"))));
}

}  // namespace regroup::test
