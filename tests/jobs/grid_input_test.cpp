#include "jobs/grid_input.hpp"

#include <cmath>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/host/hdf5_wrapper.hpp"
#include "tests/jobs/error_of.hpp"
#include "tests/jobs/temporary_folder.hpp"
#include "tests/png_file.hpp"

namespace regroup {
namespace {

using namespace std::string_view_literals;
using kernels::StencilShape;
using test::png_file;
using testing::AllOf;
using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

void write_array(const std::string& path, const std::string& name, ElementType type,
                 const std::vector<std::uint64_t>& shape, std::span<const std::byte> elements) {
  auto file = hdf5::File::create(path).value();
  auto array = file.root().value().create_array(name, type, shape).value();
  ASSERT_TRUE(array.write(elements));
  ASSERT_TRUE(file.close());
}

std::vector<double> block_of(const GridInput& input, const GridBlocks::Extents& start,
                             const StencilShape& shape) {
  std::vector<double> block(shape.nx * shape.ny * shape.planes(), -1);
  const auto read =
      input.read(start, shape, [&](std::size_t y, std::size_t z, std::span<const double> row) {
        EXPECT_EQ(row.size(), shape.nx);
        std::ranges::copy(
            row, block.begin() + static_cast<std::ptrdiff_t>((z * shape.ny + y) * shape.nx));
      });
  EXPECT_EQ(error_of(read), "");
  return block;
}

std::vector<double> numbers_of(const GridInput& input) {
  return block_of(
      input, {},
      {input.extents()[0], input.extents()[1], static_cast<std::size_t>(input.extents()[2])});
}

std::string refusal(const std::string& name) {
  const auto opened = GridInput::open(name);
  return opened ? "" : opened.error();
}

TEST(GridInput, GreyPixelsGoFromBlackToWhite) {
  const TemporaryFolder folder;
  const auto eight =
      GridInput::open(folder.write("a.png", png_file({.width = 3, .height = 1}, "\0\x33\xff"sv)));
  ASSERT_TRUE(eight) << eight.error();
  EXPECT_THAT(eight->extents(), ElementsAre(3, 1, 0));
  EXPECT_THAT(numbers_of(*eight), ElementsAre(0, 0.2, 1));
  EXPECT_EQ(eight->range().least, 0);
  EXPECT_EQ(eight->range().greatest, 1);
  EXPECT_DOUBLE_EQ(eight->range().mean, 0.4);

  const auto sixteen = GridInput::open(
      folder.write("b.png", png_file({.width = 1, .height = 2, .bits = 16}, "\x33\x33\x00\x01"sv)));
  ASSERT_TRUE(sixteen) << sixteen.error();
  EXPECT_THAT(numbers_of(*sixteen), ElementsAre(0.2, 1.0 / 65'535));
}

TEST(GridInput, ColoursAreTheirLuminance) {
  const TemporaryFolder folder;
  const auto input =
      GridInput::open(folder.write("a.png", png_file({.width = 4, .height = 1, .colour_type = 2},
                                                     "\xff\0\0\0\xff\0\0\0\xff\xff\xff\xff"sv)));
  ASSERT_TRUE(input) << input.error();
  EXPECT_THAT(numbers_of(*input), ElementsAre(DoubleNear(0.2126, 1e-12), DoubleNear(0.7152, 1e-12),
                                              DoubleNear(0.0722, 1e-12), DoubleNear(1, 1e-12)));
}

TEST(GridInput, BlocksAreCutOutOfTheWhole) {
  const TemporaryFolder folder;
  std::vector<double> numbers(4 * 5 * 6);
  std::string pixels;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = static_cast<double>(i) / 255;
    pixels += static_cast<char>(i);
  }
  const auto bytes = std::as_bytes(std::span(numbers));
  write_array(folder.path("solid.h5"), "solid", ElementType::kFloat64, {4, 5, 6}, bytes);
  write_array(folder.path("flat.h5"), "flat", ElementType::kFloat64, {20, 6}, bytes);
  folder.write("flat.png", png_file({.width = 6, .height = 20}, pixels));

  for (const char* name : {"flat.h5", "flat.png", "flat.h5:/flat"}) {
    const auto input = GridInput::open(folder.path(name)).value();
    EXPECT_THAT(input.extents(), ElementsAre(6, 20, 0));
    EXPECT_EQ(numbers_of(input), numbers);
    EXPECT_THAT(block_of(input, {1, 2, 0}, {2, 2, 0}),
                ElementsAre(13.0 / 255, 14.0 / 255, 19.0 / 255, 20.0 / 255));
  }
  const auto solid = GridInput::open(folder.path("solid.h5")).value();
  EXPECT_THAT(solid.extents(), ElementsAre(6, 5, 4));
  EXPECT_EQ(numbers_of(solid), numbers);
  EXPECT_THAT(block_of(solid, {4, 1, 2}, {1, 2, 2}),
              ElementsAre(70.0 / 255, 76.0 / 255, 100.0 / 255, 106.0 / 255));
}

TEST(GridInput, SaysWhyAFileIsNoStart) {
  const TemporaryFolder folder;
  const std::vector<double> numbers = {1, 2, std::nan(""), 4};
  const auto bytes = std::as_bytes(std::span(numbers));
  write_array(folder.path("nan.h5"), "a", ElementType::kFloat64, {2, 2}, bytes);
  write_array(folder.path("line.h5"), "a", ElementType::kFloat64, {4}, bytes);
  write_array(folder.path("whole.h5"), "a", ElementType::kInt64, {2, 2}, bytes);
  {
    auto file = hdf5::File::create(folder.path("two.h5")).value();
    auto root = file.root().value();
    for (const char* name : {"a", "b"})
      ASSERT_TRUE(root.create_array(name, ElementType::kFloat64, std::vector<std::uint64_t>{2, 2})
                      .value()
                      .write(bytes));
    ASSERT_TRUE(file.close());
  }
  const std::string png = png_file({.width = 8, .height = 8}, std::string(64, 'x'));
  folder.write("cut.png", png.substr(0, png.size() - 30));
  folder.write("end.png", png.substr(0, png.size() - 3));
  folder.write("text", "no picture at all");
  folder.write("empty", "");
  std::ifstream whole(folder.path("nan.h5"), std::ios::binary);
  const std::string h5{std::istreambuf_iterator<char>(whole), {}};
  folder.write("cut.h5", h5.substr(0, h5.size() / 2));

  const auto refused = [&](const char* name, const char* why) {
    const std::string path = folder.path(name);
    EXPECT_THAT(refusal(path), AllOf(HasSubstr(why), HasSubstr(path.substr(0, path.rfind(':'))),
                                     Not(HasSubstr("\n"))))
        << name;
  };
  refused("none.png", "no such file");
  refused("", "is a directory");
  refused("text", "neither a PNG nor an HDF5 file");
  refused("empty", "neither a PNG nor an HDF5 file");
  refused("cut.png", "give a whole PNG file");
  refused("end.png", "truncated");
  refused("cut.h5", "give a whole HDF5 file");
  refused("nan.h5", "not finite");
  refused("line.h5", "has not 2 or 3 dimensions");
  refused("whole.h5", "of floating-point numbers");
  refused("two.h5", "it has 2 datasets at its top: name one");
  refused("two.h5:/c", "doesn't exist");
  refused("cut.png:/a", "neither a PNG nor an HDF5 file");
  refused("two.h5:/b", "not finite");
}

GridInput sent(const GridInput& input) {
  Buffer bytes;
  Writer writer(bytes);
  input.encode(writer);
  Reader reader(bytes.view());
  auto decoded = GridInput::decode(reader);
  EXPECT_TRUE(decoded) << decoded.error();
  EXPECT_TRUE(reader.complete());
  return *decoded;
}

TEST(GridInput, AnotherRankHoldsItsFileAgainstTheFirstRanks) {
  const TemporaryFolder folder;
  const std::string png = png_file({.width = 8, .height = 8}, std::string(64, 'x'));
  const auto first = GridInput::open(folder.write("a.png", png)).value();
  const GridInput there = sent(first);
  EXPECT_EQ(there.extents(), first.extents());
  EXPECT_EQ(there.range().mean, first.range().mean);
  EXPECT_EQ(numbers_of(there), numbers_of(first));

  const auto error_with = [&](const std::string& contents) {
    folder.write("a.png", contents);
    return error_of(sent(first).read({}, {8, 8, 0}, [](auto, auto, auto) {}));
  };
  EXPECT_EQ(error_with(png), "");
  EXPECT_THAT(error_with(png_file({.width = 8, .height = 8}, std::string(64, 'y'))),
              HasSubstr("is not what it was where the run was started"));
  EXPECT_THAT(error_with(png + "longer"), HasSubstr("is not what it was"));
}

TEST(GridInput, ADescriptionThatIsCutIsRefused) {
  const TemporaryFolder folder;
  const auto input =
      GridInput::open(folder.write("a.png", png_file({.width = 1, .height = 1}, "x"))).value();
  Buffer bytes;
  Writer writer(bytes);
  input.encode(writer);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    Reader reader(bytes.view().first(length));
    EXPECT_FALSE(GridInput::decode(reader)) << length << " bytes";
  }
}

}  // namespace
}  // namespace regroup
