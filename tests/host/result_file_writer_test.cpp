#include "runtime/host/result_file_writer.hpp"

#include <cmath>
#include <cstring>
#include <ctime>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include "runtime/host/content_hash.hpp"
#include "runtime/host/hdf5_wrapper.hpp"
#include "runtime/host/png_wrapper.hpp"
#include "runtime/host/result_file_reader.hpp"
#include "tests/host/scratch.hpp"
#include "tests/host/word_table.hpp"

namespace regroup {
namespace {

using namespace std::string_view_literals;
using test::contents_of;
using test::expect_one_line;
using test::expect_words;
using test::names_in;
using test::ScratchDirectory;
using test::WordRows;
using test::write_words;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Waits for the clock to show another second, with a deadline of its own making.
void let_a_second_pass() {
  const std::time_t before = std::time(nullptr);
  while (std::time(nullptr) == before) {
  }
}

TEST(ResultFile, GivesBackAttributesAndScalarsWithTheirTypes) {
  const ScratchDirectory scratch;
  {
    auto writer = ResultFileWriter::create(scratch.path()).value();
    ASSERT_TRUE(writer.attribute("seed", std::uint64_t{UINT64_MAX}));
    ASSERT_TRUE(writer.attribute("job", "pi"));
    ASSERT_TRUE(writer.scalar("pi", 3.25));
    ASSERT_TRUE(writer.scalar("balance", std::int64_t{-7}));
    ASSERT_TRUE(writer.scalar("a", "text, with comma"));
    ASSERT_TRUE(writer.finish());
  }

  const auto reader = ResultFileReader::open(scratch.path()).value();

  EXPECT_THAT(reader.attributes(),
              ElementsAre(NamedValue{"job", "pi"}, NamedValue{"seed", std::uint64_t{UINT64_MAX}}));
  EXPECT_THAT(reader.scalars(),
              ElementsAre(NamedValue{"pi", 3.25}, NamedValue{"balance", std::int64_t{-7}},
                          NamedValue{"a", "text, with comma"}));
  EXPECT_THAT(reader.columns(), IsEmpty());
  EXPECT_EQ(reader.rows(), 0u);
  EXPECT_TRUE(reader.verify());
}

TEST(ResultFile, HasTheDigestOfItsBytes) {
  const ScratchDirectory scratch;
  auto writer = ResultFileWriter::create(scratch.path()).value();
  ASSERT_TRUE(writer.columns(test::kWordTable));
  ASSERT_TRUE(WordRows(100).append_to(writer, 0, 100));
  ASSERT_TRUE(writer.finish());

  EXPECT_EQ(writer.digest(), digest_of_file(scratch.path() / "result.h5").value());
}

TEST(ResultFile, KeepsManyScalars) {
  const ScratchDirectory scratch;
  {
    auto writer = ResultFileWriter::create(scratch.path()).value();
    for (std::uint64_t i = 0; i < ResultLimits::named_values_max; ++i)
      ASSERT_TRUE(writer.scalar("value-" + std::to_string(i), i));
    ASSERT_TRUE(writer.finish());
  }

  const auto reader = ResultFileReader::open(scratch.path()).value();

  ASSERT_EQ(reader.scalars().size(), ResultLimits::named_values_max);
  EXPECT_EQ(reader.scalars()[200], (NamedValue{"value-200", std::uint64_t{200}}));
}

TEST(ResultFile, KeepsTheLongestTextAndNames) {
  const ScratchDirectory scratch;
  const std::string text(60'000, 'x');
  const std::string name(ResultLimits::name_bytes_max, 'n');
  {
    auto writer = ResultFileWriter::create(scratch.path()).value();
    ASSERT_TRUE(writer.attribute(name, text));
    ASSERT_TRUE(writer.scalar(name, text));
    std::vector<ResultColumn> columns;
    for (std::size_t i = 0; i < ResultLimits::columns_max; ++i) {
      const std::string number = std::to_string(i);
      columns.push_back({name.substr(number.size()) + number, ColumnType::kInt64});
    }
    ASSERT_TRUE(writer.columns(columns));
    const auto done = writer.finish();
    ASSERT_TRUE(done) << done.error();
  }

  const auto reader = ResultFileReader::open(scratch.path()).value();

  EXPECT_THAT(reader.attributes(), ElementsAre(NamedValue{name, text}));
  EXPECT_EQ(reader.columns().size(), ResultLimits::columns_max);
}

TEST(ResultFile, TextColumnsTakeAnyBytes) {
  const ScratchDirectory scratch;
  const std::vector<std::string_view> words = {"plain", "", "nul\0inside"sv, "\xff\xfe broken \xc3",
                                               "\0"sv,  ""};
  {
    auto writer = ResultFileWriter::create(scratch.path()).value();
    ASSERT_TRUE(writer.columns({{"word", ColumnType::kText}}));
    ASSERT_TRUE(writer.append_rows({std::span(words)}));
    ASSERT_TRUE(writer.finish());
  }

  const auto reader = ResultFileReader::open(scratch.path()).value();
  ResultRows rows;
  ASSERT_TRUE(reader.read(0, 100, rows));

  ASSERT_EQ(rows.rows, words.size());
  for (std::size_t i = 0; i < words.size(); ++i)
    EXPECT_EQ(std::get<TextRows>(rows.columns[0])[i], words[i]);
}

TEST(ResultFile, NumbersKeepEveryBit) {
  const ScratchDirectory scratch;
  const std::vector<double> numbers = {-0.0, kNan, INFINITY, -INFINITY, 5e-324, 0.1};
  {
    auto writer = ResultFileWriter::create(scratch.path()).value();
    ASSERT_TRUE(writer.columns({{"x", ColumnType::kFloat64}}));
    ASSERT_TRUE(writer.append_rows({std::span(numbers)}));
    ASSERT_TRUE(writer.finish());
  }

  const auto reader = ResultFileReader::open(scratch.path()).value();
  ResultRows rows;
  ASSERT_TRUE(reader.read(0, 100, rows));

  const auto& read = std::get<std::vector<double>>(rows.columns[0]);
  ASSERT_EQ(read.size(), numbers.size());
  EXPECT_EQ(std::memcmp(read.data(), numbers.data(), numbers.size() * sizeof(double)), 0);
}

TEST(ResultFile, ATableMayHaveNoRows) {
  const ScratchDirectory scratch;
  write_words(scratch.path(), WordRows(0), 1);

  expect_words(scratch.path(), WordRows(0));
}

// 65536 rows fill a chunk of numbers, 65535 one of offsets.
class ResultFileRows : public testing::TestWithParam<std::size_t> {};

TEST_P(ResultFileRows, ComeBackAcrossChunkBorders) {
  const ScratchDirectory scratch;
  const WordRows rows(GetParam());
  write_words(scratch.path(), rows, 50'000);

  expect_words(scratch.path(), rows);
}

INSTANTIATE_TEST_SUITE_P(AroundChunkBorders, ResultFileRows,
                         testing::Values(1, 65'534, 65'535, 65'536, 65'537, 131'072, 200'001));

TEST(ResultFile, CompressedRowsComeBack) {
  const ScratchDirectory scratch;
  const ScratchDirectory plain;
  const WordRows rows(200'000);
  write_words(scratch.path(), rows, 70'000, {.deflate_level = 1});
  write_words(plain.path(), rows, 70'000);

  expect_words(scratch.path(), rows);
  EXPECT_LT(std::filesystem::file_size(scratch.path() / "result.h5"),
            std::filesystem::file_size(plain.path() / "result.h5") / 2);
}

TEST(ResultFile, BytesDoNotDependOnTheTimeOrTheDirectory) {
  const ScratchDirectory first;
  const ScratchDirectory second;
  const WordRows rows(100'000);

  write_words(first.path(), rows, 30'000);
  let_a_second_pass();
  write_words(second.path(), rows, 30'000);

  EXPECT_TRUE(contents_of(first.path() / "result.h5") == contents_of(second.path() / "result.h5"));
}

TEST(ResultFile, BytesDoNotDependOnHowRowsAreCutIntoCalls) {
  const ScratchDirectory whole;
  const ScratchDirectory cut;
  const ScratchDirectory single;
  WordRows rows(200'000);
  // A chunk of text fills up 100 rows after a chunk of numbers, where a call goes across both.
  for (std::size_t row = 0; row < 70'000; ++row)
    rows.texts[row] = row < 100 ? "" : "sixteen bytes..!";
  rows.words.assign(rows.texts.begin(), rows.texts.end());

  write_words(whole.path(), rows, 200'000);
  write_words(cut.path(), rows, 999);
  write_words(single.path(), rows, 1);

  EXPECT_TRUE(contents_of(whole.path() / "result.h5") == contents_of(cut.path() / "result.h5"));
  EXPECT_TRUE(contents_of(whole.path() / "result.h5") == contents_of(single.path() / "result.h5"));
}

TEST(ResultFile, BytesOfManyScalarsDoNotDependOnTheTimeOrTheDirectory) {
  const ScratchDirectory first;
  const ScratchDirectory second;
  for (const auto* directory : {&first.path(), &second.path()}) {
    auto writer = ResultFileWriter::create(*directory).value();
    for (std::uint64_t i = 0; i < ResultLimits::named_values_max; ++i) {
      ASSERT_TRUE(writer.scalar("value-" + std::to_string(i), std::string(i, 'v')));
      ASSERT_TRUE(writer.attribute("attribute-" + std::to_string(i), i));
    }
    ASSERT_TRUE(writer.finish());
    if (directory == &first.path()) let_a_second_pass();
  }

  EXPECT_TRUE(contents_of(first.path() / "result.h5") == contents_of(second.path() / "result.h5"));
}

TEST(ResultFile, BytesDependOnWhatIsWritten) {
  const ScratchDirectory first;
  const ScratchDirectory second;
  WordRows rows(10);
  write_words(first.path(), rows, 10);

  rows.deltas[9] ^= 1;
  write_words(second.path(), rows, 10);

  EXPECT_FALSE(contents_of(first.path() / "result.h5") == contents_of(second.path() / "result.h5"));
}

TEST(ResultFile, OneTextMayBeLargerThanAnyBlock) {
  const ScratchDirectory scratch;
  const std::string large(std::size_t{9} << 20, 'L');
  const std::vector<std::string_view> words = {"before", large, large, "after"};
  {
    auto writer = ResultFileWriter::create(scratch.path()).value();
    ASSERT_TRUE(writer.columns({{"word", ColumnType::kText}}));
    ASSERT_TRUE(writer.append_rows({std::span(words)}));
    ASSERT_TRUE(writer.finish());
  }

  const auto reader = ResultFileReader::open(scratch.path()).value();
  ASSERT_TRUE(reader.verify());
  ResultRows rows;
  std::vector<std::size_t> lengths;
  for (std::uint64_t row = 0; row < reader.rows(); row += rows.rows) {
    ASSERT_TRUE(reader.read(row, 100, rows));
    for (std::size_t i = 0; i < rows.rows; ++i)
      lengths.push_back(std::get<TextRows>(rows.columns[0])[i].size());
  }

  EXPECT_THAT(lengths, ElementsAre(6, large.size(), large.size(), 5));
}

// ---- Arrays and pictures ----

const ResultArray kField = {"field", ElementType::kFloat64, {3, 2}};

TEST(ResultFile, GivesBackArraysAndPictures) {
  const ScratchDirectory scratch;
  const std::vector<double> field = {-0.0, 0.1, kNan, 5e-324, INFINITY, 1};
  const std::vector<std::uint64_t> counts = {1, UINT64_MAX};
  const ResultArray counted = {"counts", ElementType::kUint64, {2}};
  const Picture picture{"view", 3, 2, PixelFormat::kGrey, {1, 2, 3, 4, 5, 6}};
  {
    auto writer = ResultFileWriter::create(scratch.path()).value();
    ASSERT_TRUE(writer.array(kField, std::as_bytes(std::span(field))));
    ASSERT_TRUE(writer.picture(picture));
    ASSERT_TRUE(writer.array(counted, std::as_bytes(std::span(counts))));
    const auto done = writer.finish();
    ASSERT_TRUE(done) << done.error();
  }

  const auto reader = ResultFileReader::open(scratch.path()).value();

  EXPECT_TRUE(reader.verify());
  EXPECT_THAT(reader.arrays(),
              ElementsAre(kField, ResultArray{"view", ElementType::kUint8, {2, 3}, true}, counted));
  std::vector<std::byte> row;
  ASSERT_TRUE(reader.read_array_row(0, 2, row));
  EXPECT_TRUE(std::ranges::equal(row, std::as_bytes(std::span(field).subspan(4))));
  ASSERT_TRUE(reader.read_array_row(1, 1, row));
  EXPECT_THAT(row, ElementsAre(std::byte{4}, std::byte{5}, std::byte{6}));
  EXPECT_THAT(names_in(scratch.path()), ElementsAre("result.h5", "view.png"));
  EXPECT_EQ(contents_of(scratch.path() / "view.png"), encode_png(picture).value());
}

// Longer along each dimension than what is hashed at a time.
TEST(ResultFile, HashesOfLargeArraysCoverEveryElement) {
  for (const std::vector<std::uint64_t>& shape : std::vector<std::vector<std::uint64_t>>{
           {300'000}, {3, 200'000}, {200'000, 3}, {2, 2, 150'000}, {2, 150'000, 2}, {90, 80, 70}}) {
    const ScratchDirectory scratch;
    std::uint64_t elements = 1;
    for (const auto extent : shape) elements *= extent;
    std::vector<double> numbers(elements);
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<double>(i);
    auto writer = ResultFileWriter::create(scratch.path()).value();
    ASSERT_TRUE(
        writer.array({"a", ElementType::kFloat64, shape}, std::as_bytes(std::span(numbers))));
    const auto done = writer.finish();
    ASSERT_TRUE(done) << done.error();
    const std::string bytes = contents_of(scratch.path() / "result.h5");
    for (const std::size_t element : {std::size_t{1}, numbers.size() / 2, numbers.size() - 1}) {
      std::string damaged = bytes;
      const auto* const number = reinterpret_cast<const char*>(&numbers[element]);
      damaged[damaged.rfind(std::string_view(number, sizeof(double)))] ^= 1;
      test::write_file(scratch.path() / "result.h5", damaged);

      const auto verified = ResultFileReader::open(scratch.path()).value().verify();

      ASSERT_FALSE(verified) << "element " << element;
      EXPECT_THAT(verified.error(), HasSubstr("array 'a'"));
    }
  }
}

// What ParaView needs: the grid, and where the numbers are.
TEST(ResultFile, FieldsAreDescribedBesideIt) {
  const ScratchDirectory scratch;
  const GridField field{
      .name = "heat", .units = "K", .shape = {2, 3}, .spacing = {0.5, 0.25}, .origin = {0, 1}};
  const std::vector<double> numbers = {1, 2, 3, 4, 5, 6};
  {
    auto writer = ResultFileWriter::create(scratch.path()).value();
    ASSERT_TRUE(writer.field(field, 7.5, numbers));
    const auto done = writer.finish();
    ASSERT_TRUE(done) << done.error();
  }

  const auto reader = ResultFileReader::open(scratch.path()).value();
  EXPECT_TRUE(reader.verify());
  EXPECT_THAT(reader.arrays(),
              ElementsAre(ResultArray{"heat", ElementType::kFloat64, {2, 3}, false}));
  const std::string xdmf = contents_of(scratch.path() / "result.xdmf");
  EXPECT_EQ(reader.xdmf_hash(), content_hash(xdmf));
  for (const char* part :
       {"<Time Value=\"7.5\"/>", "Dimensions=\"3 4\"", "ORIGIN_DXDY", "0.5 0.25", "Name=\"heat\"",
        "Center=\"Cell\"", "Dimensions=\"2 3\"", "result.h5:/result/heat", "Value=\"K\""})
    EXPECT_THAT(xdmf, HasSubstr(part));
  const auto file = hdf5::File::open_read_only(scratch.path() / "result.h5").value();
  const auto array = file.root().value().open_array("result/heat").value();
  EXPECT_EQ(array.attribute("field").value(), hdf5::Value("heat"));
  EXPECT_EQ(array.attribute("centred").value(), hdf5::Value("cells"));
  EXPECT_EQ(array.attribute("time").value(), hdf5::Value(7.5));
}

// As before there were arrays, so that a Regroup of then reads it.
TEST(ResultFile, WithoutArraysItIsOfVersion1) {
  const ScratchDirectory scratch;
  for (const bool with_array : {false, true}) {
    {
      auto writer = ResultFileWriter::create(scratch.path()).value();
      const std::vector<double> field(6);
      if (with_array) {
        ASSERT_TRUE(writer.array(kField, std::as_bytes(std::span(field))));
      }
      ASSERT_TRUE(writer.finish());
    }
    const auto file = hdf5::File::open_read_only(scratch.path() / "result.h5").value();
    EXPECT_EQ(file.root().value().attribute("format_version").value(),
              hdf5::Value(std::int64_t{with_array ? 2 : 1}));
  }
}

TEST(ResultFile, BytesOfPicturesDoNotDependOnTheTimeOrTheDirectory) {
  const ScratchDirectory first;
  const ScratchDirectory second;
  for (const auto* directory : {&first.path(), &second.path()}) {
    auto writer = ResultFileWriter::create(*directory).value();
    ASSERT_TRUE(
        writer.picture({"a", 200, 100, PixelFormat::kRgb, std::vector<uint8_t>(60'000, 7)}));
    ASSERT_TRUE(writer.finish());
    if (directory == &first.path()) let_a_second_pass();
  }

  for (const char* name : {"result.h5", "a.png"})
    EXPECT_TRUE(contents_of(first.path() / name) == contents_of(second.path() / name)) << name;
}

TEST(ResultFile, NothingIsLeftOfAnUnfinishedOne) {
  const ScratchDirectory scratch;
  {
    auto writer = ResultFileWriter::create(scratch.path()).value();
    EXPECT_THAT(names_in(scratch.path()), ElementsAre("result.h5.tmp"));
  }

  EXPECT_THAT(names_in(scratch.path()), IsEmpty());
}

TEST(ResultFile, ReplacesAnOlderOneOnlyWhenFinished) {
  const ScratchDirectory scratch;
  write_words(scratch.path(), WordRows(3), 3);
  const std::string before = contents_of(scratch.path() / "result.h5");
  test::write_file(scratch.path() / "result.h5.tmp", "left over from a writer that was killed");
  {
    auto writer = ResultFileWriter::create(scratch.path()).value();
    ASSERT_TRUE(writer.scalar("new", std::int64_t{1}));
    EXPECT_EQ(contents_of(scratch.path() / "result.h5"), before);
    ASSERT_TRUE(writer.finish());
  }

  EXPECT_THAT(ResultFileReader::open(scratch.path()).value().scalars(),
              ElementsAre(NamedValue{"new", std::int64_t{1}}));
  EXPECT_THAT(names_in(scratch.path()), ElementsAre("result.h5"));
}

TEST(ResultFile, RefusesBadNamesAndValues) {
  const ScratchDirectory scratch;
  const auto error_of = [&](auto use) {
    auto writer = ResultFileWriter::create(scratch.path()).value();
    const auto done = use(writer);
    EXPECT_FALSE(writer.finish()) << "the first error stays";
    return done.has_value() ? std::string("no error") : done.error();
  };

  EXPECT_THAT(error_of([](auto& w) { return w.scalar("a/b", 1.0); }),
              HasSubstr("'a/b' is no name"));
  EXPECT_THAT(error_of([](auto& w) { return w.scalar("", 1.0); }), HasSubstr("'' is no name"));
  EXPECT_THAT(error_of([](auto& w) { return w.scalar("columns", 1.0); }), HasSubstr("taken"));
  EXPECT_THAT(error_of([](auto& w) { return w.attribute("format", 1.0); }), HasSubstr("taken"));
  EXPECT_THAT(error_of([](auto& w) { return w.scalar("nul", std::string("a\0b", 3)); }),
              HasSubstr("NUL"));
  EXPECT_THAT(error_of([](auto& w) { return w.scalar("long", std::string(60'001, 'x')); }),
              HasSubstr("60000 bytes"));
  EXPECT_THAT(error_of([](auto& w) {
                return w.columns({{"a", ColumnType::kText}, {"a_offset", ColumnType::kUint64}});
              }),
              HasSubstr("rename one"));
  EXPECT_THAT(error_of([](auto& w) { return w.columns({}); }), HasSubstr("1 to 256 columns"));

  const std::vector<double> field(6);
  const auto elements = std::as_bytes(std::span(field));
  EXPECT_THAT(error_of([&](auto& w) {
                return w.array({"a/b", ElementType::kFloat64, {6}}, elements);
              }),
              HasSubstr("'a/b' is no name"));
  EXPECT_THAT(error_of([&](auto& w) {
                return w.array({"a", ElementType::kFloat64, {0, 6}}, {});
              }),
              HasSubstr("has not 1 to 3 dimensions"));
  EXPECT_THAT(error_of([&](auto& w) {
                return w.array({"a", ElementType::kFloat64, {1, 1, 6, 1}}, elements);
              }),
              HasSubstr("has not 1 to 3 dimensions"));
  EXPECT_THAT(error_of([&](auto& w) {
                return w.array(kField, elements) ? w.array(kField, elements) : w.finish();
              }),
              HasSubstr("taken"));
  EXPECT_THAT(
      error_of([&](auto& w) {
        return w.columns({{"field", ColumnType::kInt64}}) ? w.array(kField, elements) : w.finish();
      }),
      HasSubstr("taken by a column"));
  EXPECT_THAT(
      error_of([&](auto& w) {
        return w.array(kField, elements) ? w.columns({{"field", ColumnType::kInt64}}) : w.finish();
      }),
      HasSubstr("that an array has"));
  EXPECT_THAT(error_of([](auto& w) {
                return w.picture({"p", 0, 3, PixelFormat::kGrey, {}});
              }),
              HasSubstr("empty or has more than 64 MiB"));
  EXPECT_THAT(error_of([](auto& w) {
                return w.picture({"p", 1u << 31, 1u << 31, PixelFormat::kRgb, {}});
              }),
              HasSubstr("empty or has more than 64 MiB"));
}

TEST(ResultFileDeathTest, RowsThatDoNotFitTheTableBreakAnInvariant) {
  const ScratchDirectory scratch;
  auto writer = ResultFileWriter::create(scratch.path()).value();
  ASSERT_TRUE(writer.columns({{"a", ColumnType::kInt64}, {"b", ColumnType::kInt64}}));
  const std::vector<std::int64_t> one = {1};
  const std::vector<std::int64_t> two = {1, 2};
  const std::vector<double> real = {1};

  EXPECT_DEATH(static_cast<void>(writer.append_rows({std::span(one), std::span(two)})),
               "same number of rows");
  EXPECT_DEATH(static_cast<void>(writer.append_rows({std::span(one), std::span(real)})),
               "column's type");
  EXPECT_DEATH(static_cast<void>(writer.append_rows({std::span(one)})), "one span for each column");
}

// ---- Faults ----

// Writes until something fails, and returns that error.
std::string error_of_writing(const std::filesystem::path& directory, std::size_t blocks,
                             FileSystem& file_system = FileSystem::real()) {
  auto writer = ResultFileWriter::create(directory, {}, file_system);
  if (!writer) return writer.error();
  const std::vector<double> numbers(65'536, 0.5);
  auto done = writer->columns({{"x", ColumnType::kFloat64}});
  for (std::size_t i = 0; done && i < blocks; ++i) done = writer->append_rows({std::span(numbers)});
  if (done) done = writer->finish();
  return done ? "" : done.error();
}

// Full at every point of the writing in turn: no size may pass for success, crash, or leave a
// piece.
TEST(ResultFileFault, AFullDiskIsAnErrorAtEverySize) {
  const ScratchDirectory scratch;
  const test::TinyFileSystem disk(scratch.path(), "size=4m");
  if (!disk.mounted()) GTEST_SKIP() << "mounting a file system needs root, outside a container";
  testing::internal::CaptureStderr();
  std::size_t failures = 0;
  for (std::size_t pages = 0; pages < 560; pages += 7) {
    const auto filler = scratch.path() / "filler";
    test::write_file(filler, std::string(pages * 4096, 'f'));

    const std::string error = error_of_writing(scratch.path(), 4);

    if (error.empty()) {
      EXPECT_TRUE(ResultFileReader::open(scratch.path()).value().verify());
      std::filesystem::remove(scratch.path() / "result.h5");
    } else {
      expect_one_line(error, scratch.path(), "No space left on device");
      ++failures;
    }
    EXPECT_THAT(names_in(scratch.path()), ElementsAre("filler"));
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_GT(failures, 5u);
}

// The same without a real disk, for any user, at every write in turn.
TEST(ResultFileFault, AFullDiskIsAnErrorAtEveryWrite) {
  const ScratchDirectory scratch;
  std::size_t disk_bytes = 0;
  for (; disk_bytes < 3'000'000; disk_bytes += disk_bytes < 4096 ? 16 : 65'521) {
    test::FailingFileSystem file_system;
    file_system.disk_bytes = disk_bytes;

    const std::string error = error_of_writing(scratch.path(), 4, file_system);

    if (error.empty()) break;
    expect_one_line(error, scratch.path(), "No space left on device");
    EXPECT_THAT(names_in(scratch.path()), IsEmpty());
  }
  EXPECT_GT(disk_bytes, 4u * 65'536 * sizeof(double));
  EXPECT_TRUE(ResultFileReader::open(scratch.path()).value().verify());
}

// HDF5's writes are at an offset; these are of the other files.
class FullForPictures : public FileSystem {
 public:
  ssize_t write(int, const void*, std::size_t) override {
    errno = ENOSPC;
    return -1;
  }
};

// The result itself does not appear before its picture is there.
TEST(ResultFileFault, AFullDiskForAPictureIsAnError) {
  const ScratchDirectory scratch;
  FullForPictures file_system;
  {
    auto writer = ResultFileWriter::create(scratch.path(), {}, file_system).value();
    ASSERT_TRUE(writer.picture({"view", 1, 1, PixelFormat::kGrey, {1}}));

    const auto done = writer.finish();

    ASSERT_FALSE(done);
    EXPECT_THAT(done.error(),
                testing::AllOf(HasSubstr((scratch.path() / "view.png").string()),
                               HasSubstr("No space left on device"), HasSubstr("resume the run"),
                               testing::Not(HasSubstr("\n"))));
  }
  EXPECT_THAT(names_in(scratch.path()), IsEmpty());
}

TEST(ResultFileFault, ShortWritesAreContinued) {
  const ScratchDirectory scratch;
  test::FailingFileSystem file_system;
  file_system.write_bytes_max = 1000;

  EXPECT_EQ(error_of_writing(scratch.path(), 2, file_system), "");

  EXPECT_TRUE(ResultFileReader::open(scratch.path()).value().verify());
}

TEST(ResultFileFault, AnOlderResultSurvivesAFullDisk) {
  const ScratchDirectory scratch;
  const test::TinyFileSystem disk(scratch.path(), "size=1m");
  if (!disk.mounted()) GTEST_SKIP() << "mounting a file system needs root, outside a container";
  write_words(scratch.path(), WordRows(10), 10);

  EXPECT_NE(error_of_writing(scratch.path(), 8), "");

  expect_words(scratch.path(), WordRows(10));
}

// As a full disk, but for any user: the process may write no more than so many bytes to a file.
TEST(ResultFileFault, AFileSizeLimitIsAnErrorAtEverySize) {
  const ScratchDirectory scratch;
  const auto old_handler = ::signal(SIGXFSZ, SIG_IGN);
  rlimit old_limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  for (const rlim_t bytes : {0, 1, 100, 1000, 5000, 100'000, 600'000, 1'048'576, 1'100'000}) {
    const rlimit limit{bytes, old_limit.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);

    const std::string error = error_of_writing(scratch.path(), 4);

    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old_limit), 0);
    expect_one_line(error, scratch.path(), "File too large");
    EXPECT_THAT(names_in(scratch.path()), IsEmpty());
  }
  ::signal(SIGXFSZ, old_handler);
}

TEST(ResultFileFault, ADirectoryRemovedUnderItIsAnError) {
  const ScratchDirectory scratch;
  const auto directory = scratch.path() / "run";
  std::filesystem::create_directory(directory);
  auto writer = ResultFileWriter::create(directory).value();
  ASSERT_TRUE(writer.scalar("x", 1.0));
  std::filesystem::remove_all(directory);

  const auto done = writer.finish();

  ASSERT_FALSE(done);
  expect_one_line(done.error(), directory, "no such directory");
}

TEST(ResultFileFault, AMissingDirectoryIsAnError) {
  const ScratchDirectory scratch;
  const auto writer = ResultFileWriter::create(scratch.path() / "none");

  ASSERT_FALSE(writer);
  expect_one_line(writer.error(), scratch.path() / "none", "No such file or directory");
}

TEST(ResultFileFault, SyncAndRenameFailuresAreErrors) {
  const ScratchDirectory scratch;
  for (const auto call :
       {&test::FailingFileSystem::fail_fsync, &test::FailingFileSystem::fail_close,
        &test::FailingFileSystem::fail_rename}) {
    test::FailingFileSystem file_system;
    auto writer = ResultFileWriter::create(scratch.path(), {}, file_system).value();
    file_system.*call = EIO;

    const auto done = writer.finish();

    ASSERT_FALSE(done);
    expect_one_line(done.error(), scratch.path(), "Input/output error");
    EXPECT_FALSE(std::filesystem::exists(scratch.path() / "result.h5"));
  }
}

}  // namespace
}  // namespace regroup
