#include "runtime/host/result_file_reader.hpp"

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include "runtime/host/hdf5_wrapper.hpp"
#include "runtime/host/result_file_writer.hpp"
#include "tests/host/outside_programs.hpp"
#include "tests/host/scratch.hpp"
#include "tests/host/word_table.hpp"

namespace regroup {
namespace {

using namespace std::string_view_literals;
using test::contents_of;
using test::expect_one_line;
using test::runs;
using test::ScratchDirectory;
using test::WordRows;
using test::write_words;
using testing::AllOf;
using testing::HasSubstr;

// ---- Damaged and foreign files ----

std::string error_of_opening(const std::filesystem::path& directory) {
  const auto reader = ResultFileReader::open(directory);
  return reader ? "" : reader.error();
}

TEST(ResultFileReader, SaysWhatIsWrongAndWhatToDo) {
  const ScratchDirectory scratch;
  const auto path = scratch.path() / "result.h5";

  expect_one_line(error_of_opening(scratch.path() / "none"), scratch.path() / "none",
                  "no such directory");
  expect_one_line(error_of_opening(scratch.path()), scratch.path(), "regroup resume");
  std::filesystem::create_directory(path);
  expect_one_line(error_of_opening(scratch.path()), scratch.path(), "not a regular file");
  std::filesystem::remove(path);
  test::write_file(path, "");
  expect_one_line(error_of_opening(scratch.path()), scratch.path(), "truncated");
  test::write_file(path, "this is some other file");
  expect_one_line(error_of_opening(scratch.path()), scratch.path(), "not an HDF5 file");
}

TEST(ResultFileReader, TellsOtherHdf5FilesAndOtherVersions) {
  const ScratchDirectory scratch;
  {
    auto file = hdf5::File::create(scratch.path() / "result.h5").value();
    ASSERT_TRUE(file.close());
  }
  expect_one_line(error_of_opening(scratch.path()), scratch.path(), "not a result of Regroup");
  std::filesystem::remove(scratch.path() / "result.h5");
  {
    auto file = hdf5::File::create(scratch.path() / "result.h5").value();
    auto root = file.root().value();
    ASSERT_TRUE(root.put_attribute("format", hdf5::Value("regroup-result")));
    ASSERT_TRUE(root.put_attribute("format_version", hdf5::Value(std::int64_t{3})));
    ASSERT_TRUE(file.close());
  }
  expect_one_line(error_of_opening(scratch.path()), scratch.path(), "format version 3");
}

TEST(ResultFileReader, NoTruncatedFilePasses) {
  const ScratchDirectory scratch;
  write_words(scratch.path(), WordRows(5), 5);
  const auto path = scratch.path() / "result.h5";
  const std::string whole = contents_of(path);
  for (std::size_t size = 0; size < whole.size(); size += 11) {
    test::write_file(path, whole.substr(0, size));

    const std::string error = error_of_opening(scratch.path());

    expect_one_line(error, scratch.path(), size < 8 ? "truncated" : "damaged");
  }
}

// Everything there is to read, as text; empty when something is found to be wrong.
std::string all_of(const std::filesystem::path& directory) {
  const auto reader = ResultFileReader::open(directory);
  ResultRows rows;
  if (!reader || !reader->verify() || !reader->read(0, 1'000'000, rows)) return "";
  std::string all;
  for (const auto* values : {&reader->attributes(), &reader->scalars()})
    for (const auto& value : *values) all += value.name + std::to_string(value.value.index()) + ";";
  for (const auto& column : reader->columns()) all += column.name + ";";
  for (std::size_t row = 0; row < rows.rows; ++row)
    for (const auto& column : rows.columns)
      std::visit(
          [&](const auto& values) {
            if constexpr (std::is_same_v<std::remove_cvref_t<decltype(values)>, TextRows>)
              all += std::string(values[row]) + ";";
            else
              all += std::to_string(values[row]) + ";";
          },
          column);
  return all;
}

// HDF5 1.10 loses a few hundred bytes for each damaged object header that it refuses.
class WithoutLeakCheck {
#ifdef __SANITIZE_ADDRESS__
  __lsan::ScopedDisabler disabler_;
#endif
};

TEST(ResultFileReader, AFlippedBitIsFoundOrChangesNothing) {
  [[maybe_unused]] const WithoutLeakCheck without_leak_check;
  const ScratchDirectory scratch;
  write_words(scratch.path(), WordRows(5), 5);
  const auto path = scratch.path() / "result.h5";
  const std::string good = contents_of(path);
  const std::string expected = all_of(scratch.path());
  ASSERT_NE(expected, "");
  std::size_t found = 0;
  for (std::size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ (1 << (at % 8)));
    test::write_file(path, bad);

    const std::string read = all_of(scratch.path());

    EXPECT_TRUE(read.empty() || read == expected) << "byte " << at;
    if (read.empty()) ++found;
  }
  EXPECT_GT(found, good.size() / 4);
}

TEST(ResultFileReader, VerifyFindsAChangedValueInALargeTable) {
  const ScratchDirectory scratch;
  const WordRows rows(150'000);
  write_words(scratch.path(), rows, 150'000);
  const auto path = scratch.path() / "result.h5";
  std::string bytes = contents_of(path);
  const std::uint64_t needle = rows.counts[140'000];
  const auto at = bytes.find(std::string(reinterpret_cast<const char*>(&needle), sizeof needle));
  ASSERT_NE(at, bytes.npos);
  bytes[at] = static_cast<char>(bytes[at] ^ 1);
  test::write_file(path, bytes);

  const auto reader = ResultFileReader::open(scratch.path()).value();
  const auto verified = reader.verify();

  ASSERT_FALSE(verified);
  expect_one_line(verified.error(), scratch.path(), "column 'count': its content hash is");
}

// ---- Other people's readers ----

TEST(ResultFileElsewhere, H5pyReadsTheWordColumn) {
  const std::string& python = test::python_with_h5py();
  if (python.empty()) GTEST_SKIP() << "no python3 with h5py is installed";
  const ScratchDirectory scratch;
  const std::vector<std::string_view> words = {"one", "", "nul\0\xff"sv};
  const std::vector<std::uint64_t> counts = {3, 2, 1};
  {
    auto writer = ResultFileWriter::create(scratch.path()).value();
    ASSERT_TRUE(writer.attribute("job", "wordcount"));
    ASSERT_TRUE(writer.scalar("total", std::uint64_t{6}));
    ASSERT_TRUE(writer.columns({{"count", ColumnType::kUint64}, {"word", ColumnType::kText}}));
    ASSERT_TRUE(writer.append_rows({std::span(counts), std::span(words)}));
    ASSERT_TRUE(writer.finish());
  }
  test::write_file(scratch.path() / "read.py", R"(import h5py, sys
with h5py.File(sys.argv[1]) as f:
    result = f["result"]
    data = result["word_bytes"][:].tobytes()
    offset = result["word_offset"][:]
    words = [data[a:b] for a, b in zip(offset[:-1], offset[1:])]
    assert words == [b"one", b"", b"nul\0\xff"], words
    assert list(result["count"][:]) == [3, 2, 1]
    assert f.attrs["job"].decode() == "wordcount"
    assert f.attrs["format_version"] == 1
    assert result.attrs["total"] == 6
    assert [c.decode() for c in result.attrs["columns"]] == ["count", "word"]
)");

  const std::string command = python + " " + (scratch.path() / "read.py").string() + " " +
                              (scratch.path() / "result.h5").string();

  EXPECT_EQ(std::system(command.c_str()), 0);
}

// As the HDF5 Image and Palette Specification has it, down to the kind of its texts.
TEST(ResultFileElsewhere, H5pyReadsPicturesAndArrays) {
  const std::string& python = test::python_with_h5py();
  if (python.empty()) GTEST_SKIP() << "no python3 with h5py is installed";
  const ScratchDirectory scratch;
  const std::vector<double> field = {0.5, 1.5, 2.5, 3.5, 4.5, 5.5};
  {
    auto writer = ResultFileWriter::create(scratch.path()).value();
    ASSERT_TRUE(writer.picture({"grey", 2, 3, PixelFormat::kGrey, {1, 2, 3, 4, 5, 6}}));
    ASSERT_TRUE(writer.picture({"colour", 2, 1, PixelFormat::kRgb, {1, 2, 3, 4, 5, 6}}));
    ASSERT_TRUE(
        writer.array({"field", ElementType::kFloat64, {1, 2, 3}}, std::as_bytes(std::span(field))));
    ASSERT_TRUE(writer.finish());
  }
  test::write_file(scratch.path() / "read.py", R"(import h5py, sys
with h5py.File(sys.argv[1]) as f:
    result = f["result"]
    assert f.attrs["format_version"] == 2
    assert [name.decode() for name in result.attrs["arrays"]] == ["grey", "colour", "field"]
    assert result["grey"][:].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert result["colour"][:].tolist() == [[[1, 2, 3], [4, 5, 6]]]
    assert result["field"][:].tolist() == [[[0.5, 1.5, 2.5], [3.5, 4.5, 5.5]]]
    expected = {"CLASS": b"IMAGE", "IMAGE_VERSION": b"1.2", "IMAGE_SUBCLASS": b"IMAGE_TRUECOLOR",
                "INTERLACE_MODE": b"INTERLACE_PIXEL", "DISPLAY_ORIGIN": b"UL"}
    attributes = result["colour"].attrs
    assert {name: bytes(attributes[name]) for name in expected} == expected
    for name in expected:
        text = attributes.get_id(name).get_type()
        assert text.get_size() == len(expected[name]) + 1
        assert text.get_strpad() == h5py.h5t.STR_NULLTERM and text.get_cset() == h5py.h5t.CSET_ASCII
    assert bytes(result["grey"].attrs["IMAGE_SUBCLASS"]) == b"IMAGE_GRAYSCALE"
    assert "INTERLACE_MODE" not in result["grey"].attrs
    assert "CLASS" not in result["field"].attrs
)");

  const std::string command = python + " " + (scratch.path() / "read.py").string() + " " +
                              (scratch.path() / "result.h5").string();

  EXPECT_EQ(std::system(command.c_str()), 0);
}

TEST(ResultFileElsewhere, H5dumpReadsIt) {
  if (!runs("h5dump --version")) GTEST_SKIP() << "h5dump is not installed";
  const ScratchDirectory scratch;
  write_words(scratch.path(), WordRows(70'000), 70'000);
  const std::string file = (scratch.path() / "result.h5").string();

  EXPECT_EQ(std::system(("h5dump -H " + file + " >" + file + ".header").c_str()), 0);
  EXPECT_EQ(
      std::system(("h5dump -d /result/count -s 69999 -c 1 " + file + " >" + file + ".row").c_str()),
      0);

  EXPECT_THAT(contents_of(file + ".header"),
              AllOf(HasSubstr("word_bytes"), HasSubstr("word_offset"), HasSubstr("xxh3_128"),
                    HasSubstr("( 70001 )"), HasSubstr("column_types")));
  EXPECT_THAT(contents_of(file + ".row"), HasSubstr("(69999): 4899860001"));
}

}  // namespace
}  // namespace regroup
