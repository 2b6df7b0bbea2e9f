#include "jobs/report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/host/result_file_reader.hpp"
#include "tests/jobs/error_of.hpp"
#include "tests/jobs/temporary_folder.hpp"

namespace regroup {
namespace {

using testing::HasSubstr;

ResultFileWriter writer_in(const TemporaryFolder& folder) {
  auto file = ResultFileWriter::create(folder.path(""));
  REGROUP_CHECK(file.has_value(), "the test's result file");
  return std::move(*file);
}

TEST(Report, ValuesReachTheFileInOrder) {
  const TemporaryFolder folder;
  ResultFileWriter file = writer_in(folder);
  Report report(file);

  report.value("pi", 3.25);
  report.value("name", std::string("circle"));
  report.value("count", std::uint64_t{7});
  report.value("below", std::int64_t{-7});
  ASSERT_EQ(error_of(report.finish()), "");
  ASSERT_EQ(error_of(file.finish()), "");

  const auto reader = ResultFileReader::open(folder.path(""));
  ASSERT_TRUE(reader) << reader.error();
  EXPECT_EQ(reader->scalars(), report.values());
  ASSERT_EQ(reader->scalars().size(), 4u);
  EXPECT_EQ(reader->scalars()[0], (NamedValue{"pi", 3.25}));
  EXPECT_TRUE(reader->columns().empty());
  EXPECT_EQ(report.rows(), 0u);
}

TEST(Report, RowsReachTheFileHoweverMany) {
  for (const std::uint64_t rows : {std::uint64_t{0}, std::uint64_t{1}, Report::kRowsHeld,
                                   Report::kRowsHeld + 1, 3 * Report::kRowsHeld + 5}) {
    const TemporaryFolder folder;
    ResultFileWriter file = writer_in(folder);
    Report report(file);
    report.columns({{"real", ColumnType::kFloat64},
                    {"integer", ColumnType::kInt64},
                    {"number", ColumnType::kUint64},
                    {"text", ColumnType::kText}});
    for (std::uint64_t i = 0; i < rows; ++i) {
      const std::string text(i % 5, static_cast<char>('a' + i % 26));
      report.row({0.5 * static_cast<double>(i), -static_cast<std::int64_t>(i), i, text});
    }
    ASSERT_EQ(error_of(report.finish()), "");
    ASSERT_EQ(error_of(file.finish()), "");

    const auto reader = ResultFileReader::open(folder.path(""));
    ASSERT_TRUE(reader) << reader.error();
    EXPECT_EQ(reader->rows(), rows);
    EXPECT_EQ(report.rows(), rows);
    ResultRows read;
    for (std::uint64_t first = 0; first < rows; first += read.rows) {
      ASSERT_EQ(error_of(reader->read(first, 1000, read)), "");
      for (std::size_t i = 0; i < read.rows; ++i) {
        const std::uint64_t row = first + i;
        ASSERT_EQ(std::get<0>(read.columns[0])[i], 0.5 * static_cast<double>(row));
        ASSERT_EQ(std::get<1>(read.columns[1])[i], -static_cast<std::int64_t>(row));
        ASSERT_EQ(std::get<2>(read.columns[2])[i], row);
        ASSERT_EQ(std::get<3>(read.columns[3])[i],
                  std::string(row % 5, static_cast<char>('a' + row % 26)));
      }
    }
  }
}

TEST(Report, KeepsTheFirstRowsToShow) {
  const TemporaryFolder folder;
  ResultFileWriter file = writer_in(folder);
  Report report(file);
  report.columns({{"number", ColumnType::kUint64}, {"text", ColumnType::kText}});
  for (std::uint64_t i = 0; i < Report::kPreviewRowsMax + 5; ++i) {
    report.row({i, std::string_view("row")});
  }
  ASSERT_EQ(report.preview().size(), Report::kPreviewRowsMax);
  EXPECT_EQ(report.preview().back(),
            (std::vector<ResultValue>{std::uint64_t{Report::kPreviewRowsMax - 1}, "row"}));
}

TEST(Report, ArraysAndPicturesReachTheFile) {
  const TemporaryFolder folder;
  ResultFileWriter file = writer_in(folder);
  Report report(file);

  report.array("field", {2, 2}, std::vector{1.0, 2.0, 3.0, 4.0});
  report.picture({"view", 2, 1, PixelFormat::kGrey, {7, 8}});
  report.array("counts", {2}, std::vector<std::uint64_t>{5, 6});
  ASSERT_EQ(error_of(report.finish()), "");
  ASSERT_EQ(error_of(file.finish()), "");

  EXPECT_THAT(report.picture_files(), testing::ElementsAre("view.png"));
  const auto reader = ResultFileReader::open(folder.path(""));
  ASSERT_TRUE(reader) << reader.error();
  EXPECT_THAT(reader->arrays(),
              testing::ElementsAre(ResultArray{"field", ElementType::kFloat64, {2, 2}},
                                   ResultArray{"view", ElementType::kUint8, {1, 2}, true},
                                   ResultArray{"counts", ElementType::kUint64, {2}}));
}

TEST(Report, TheFirstErrorIsKeptToTheEnd) {
  const TemporaryFolder folder;
  ResultFileWriter file = writer_in(folder);
  Report report(file);
  report.value("no name at all!", 1.0);
  report.value("fine", 2.0);
  EXPECT_THAT(error_of(report.finish()), HasSubstr("no name at all!"));
}

TEST(ReportDeathTest, RowsThatDoNotFitTheTableEndTheRank) {
  const TemporaryFolder folder;
  ResultFileWriter file = writer_in(folder);
  Report report(file);
  report.columns({{"number", ColumnType::kUint64}});
  EXPECT_DEATH(report.row({std::uint64_t{1}, 2.0}), "a row has one cell a column");
  EXPECT_DEATH(report.row({1.0}), "a cell of another type than its column");
  EXPECT_DEATH(report.columns({{"more", ColumnType::kUint64}}), "a report has one table");
}

}  // namespace
}  // namespace regroup
