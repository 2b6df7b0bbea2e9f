#include "runtime/host/hdf5_wrapper.hpp"

#include <array>
#include <cstring>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/host/outside_programs.hpp"
#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

using hdf5::Value;
using test::ScratchDirectory;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

TEST(Hdf5, DescribesItself) {
  EXPECT_THAT(hdf5_description(),
              AllOf(StartsWith("HDF5 1."), HasSubstr("thread-safe"), Not(HasSubstr("unknown"))));
}

TEST(Hdf5, AFailureIsOneLineAndNothingOnStandardError) {
  const ScratchDirectory scratch;
  testing::internal::CaptureStderr();

  const auto file = hdf5::File::open_read_only(scratch.path() / "none.h5");

  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error(), "No such file or directory (HDF5: H5Fopen)");
}

TEST(Hdf5, AFailureInAnotherThreadPrintsNothingEither) {
  const ScratchDirectory scratch;
  testing::internal::CaptureStderr();

  std::thread([&] { EXPECT_FALSE(hdf5::File::open_read_only(scratch.path() / "none.h5")); }).join();

  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(Hdf5, AttributesComeBackWithTheirTypes) {
  const ScratchDirectory scratch;
  const auto path = scratch.path() / "file.h5";
  const std::vector<Value> values = {Value("text"), Value(""), Value(std::int64_t{INT64_MIN}),
                                     Value(std::uint64_t{UINT64_MAX}), Value(-0.5)};
  {
    auto file = hdf5::File::create(path).value();
    auto root = file.root().value();
    for (std::size_t i = 0; i < values.size(); ++i)
      ASSERT_TRUE(root.put_attribute(std::string(1, static_cast<char>('a' + i)), values[i]));
    ASSERT_TRUE(root.put_attribute("texts", std::vector<std::string>{"one", "", "three"}));
    ASSERT_TRUE(file.close());
  }

  const auto file = hdf5::File::open_read_only(path).value();
  const auto root = file.root().value();

  EXPECT_THAT(root.attribute_names().value(), ElementsAre("a", "b", "c", "d", "e", "texts"));
  for (std::size_t i = 0; i < values.size(); ++i)
    EXPECT_EQ(root.attribute(std::string(1, static_cast<char>('a' + i))).value(), values[i]);
  EXPECT_THAT(root.text_attributes("texts").value(), ElementsAre("one", "", "three"));
  EXPECT_EQ(root.attribute("none").value(), std::nullopt);
  EXPECT_THAT(root.attribute("texts").error(), HasSubstr("does not hold one value"));
}

TEST(Hdf5, ArraysReadBackBlockByBlock) {
  const ScratchDirectory scratch;
  const std::vector<std::uint64_t> shape = {2, 3, 4};
  std::vector<double> numbers(24);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = 0.5 + static_cast<double>(i);
  {
    auto file = hdf5::File::create(scratch.path() / "file.h5").value();
    auto group = file.root().value().create_group("group").value();
    auto array = group.create_array("array", ElementType::kFloat64, shape).value();
    ASSERT_TRUE(array.write(std::as_bytes(std::span(numbers))));
    ASSERT_TRUE(array.put_terminated_text("CLASS", "IMAGE"));
    ASSERT_TRUE(file.close());
  }

  const auto file = hdf5::File::open_read_only(scratch.path() / "file.h5").value();
  const auto root = file.root().value();
  const auto array = root.open_array("group/array").value();
  std::vector<double> block(4);
  const std::vector<std::uint64_t> start = {1, 0, 2};
  const std::vector<std::uint64_t> extent = {1, 2, 2};
  ASSERT_TRUE(array.read(start, extent, std::as_writable_bytes(std::span(block))));

  EXPECT_EQ(array.type(), ElementType::kFloat64);
  EXPECT_EQ(array.shape(), shape);
  EXPECT_THAT(block, ElementsAre(14.5, 15.5, 18.5, 19.5));
  EXPECT_EQ(array.attribute("CLASS").value(), Value("IMAGE"));
  EXPECT_FALSE(root.open_array("group"));
  EXPECT_FALSE(root.open_array("none"));
}

TEST(Hdf5, NamesTheDatasetsOfAGroup) {
  const ScratchDirectory scratch;
  const std::vector<std::uint64_t> shape = {1};
  auto file = hdf5::File::create(scratch.path() / "file.h5").value();
  auto root = file.root().value();
  auto group = root.create_group("group").value();
  ASSERT_TRUE(root.create_array("b", ElementType::kUint8, shape));
  ASSERT_TRUE(root.create_array("a", ElementType::kUint8, shape));
  ASSERT_TRUE(group.create_array("c", ElementType::kUint8, shape));

  EXPECT_THAT(root.dataset_names().value(), ElementsAre("a", "b"));
  EXPECT_THAT(group.dataset_names().value(), ElementsAre("c"));
}

TEST(Hdf5, FloatingPointNumbersOfOtherKindsReadAsFloat64) {
  const std::string& python = test::python_with_h5py();
  if (python.empty()) GTEST_SKIP() << "no python3 with h5py is installed";
  const ScratchDirectory scratch;
  const auto path = scratch.path() / "file.h5";
  test::write_file(scratch.path() / "write.py", R"(import h5py, sys
with h5py.File(sys.argv[1], "w") as f:
    for kind in ("<f4", ">f4", ">f8", "<f2"):
        f.create_dataset(kind[1:] + kind[0], data=[[0.5, -2.0]], dtype=kind)
    f.create_dataset("packed", data=[[0.5, -2.0]], chunks=(1, 1), compression="gzip")
)");
  const std::string command =
      python + " " + (scratch.path() / "write.py").string() + " " + path.string();
  ASSERT_EQ(std::system(command.c_str()), 0);

  const auto file = hdf5::File::open_read_only(path).value();
  const auto root = file.root().value();
  const auto names = root.dataset_names().value();
  EXPECT_EQ(names.size(), 5u);
  for (const std::string& name : names) {
    const auto array = root.open_array(name).value();
    std::vector<double> numbers(2);
    const std::vector<std::uint64_t> start = {0, 0};
    ASSERT_TRUE(array.read(start, array.shape(), std::as_writable_bytes(std::span(numbers))));
    EXPECT_EQ(array.type(), ElementType::kFloat64) << name;
    EXPECT_THAT(numbers, ElementsAre(0.5, -2)) << name;
  }
}

TEST(Hdf5, DatasetsGrowAndReadBack) {
  const ScratchDirectory scratch;
  const std::array<std::int64_t, 3> first = {1, 2, 3};
  const std::array<std::int64_t, 2> second = {4, 5};
  auto file = hdf5::File::create(scratch.path() / "file.h5").value();
  auto root = file.root().value();
  auto group = root.create_group("group").value();
  auto dataset = group.create_dataset("numbers", hdf5::ElementType::kInt64, {0, 2, 0}).value();

  ASSERT_TRUE(dataset.append(std::as_bytes(std::span(first))));
  ASSERT_TRUE(dataset.append(std::as_bytes(std::span(second))));

  EXPECT_EQ(dataset.rows(), 5u);
  std::array<std::int64_t, 3> middle{};
  ASSERT_TRUE(dataset.read(1, std::as_writable_bytes(std::span(middle))));
  EXPECT_THAT(middle, ElementsAre(2, 3, 4));
  EXPECT_TRUE(root.open_group("group").value().has("numbers").value());
  EXPECT_EQ(group.open_dataset("numbers").value().rows(), 5u);
  EXPECT_THAT(group.open_dataset("none").error(), HasSubstr("H5Dopen2"));
}

TEST(Hdf5, ObjectsMayOutliveTheirFile) {
  const ScratchDirectory scratch;
  auto file = hdf5::File::create(scratch.path() / "file.h5").value();
  auto root = file.root().value();

  ASSERT_TRUE(file.close());

  EXPECT_FALSE(root.put_attribute("late", Value(std::int64_t{1})));
}

// ---- What checkpoints need ----

std::span<const std::byte> bytes_of(const std::vector<std::int64_t>& numbers) {
  return std::as_bytes(std::span(numbers));
}

TEST(Hdf5, AUserBlockComesBeforeTheFileAndIsLeftAlone) {
  const ScratchDirectory scratch;
  const auto path = scratch.path() / "file.h5";
  {
    auto file = hdf5::File::create(path, FileSystem::real(), {.user_block_bytes = 512}).value();
    ASSERT_TRUE(file.write_user_block(std::as_bytes(std::span("mine", 4))));
    ASSERT_TRUE(file.root().value().put_attribute("one", Value(std::int64_t{1})));
    ASSERT_TRUE(file.close());
  }

  EXPECT_THAT(test::contents_of(path), StartsWith(std::string("mine\0", 5)));
  EXPECT_EQ(hdf5::File::open_read_only(path).value().root().value().attribute("one").value(),
            Value(std::int64_t{1}));
}

// Where the wrapper says that elements are, they are; and HDF5 finds them there as well.
TEST(Hdf5, ElementsThatBypassItAreWhereItLooksForThem) {
  const ScratchDirectory scratch;
  const auto path = scratch.path() / "file.h5";
  const std::vector<std::int64_t> numbers = {1, 2, 3, 4, 5, 6};
  hdf5::Extent storage;
  hdf5::Extent chunk;
  {
    auto file = hdf5::File::create(path, FileSystem::real(), {.user_block_bytes = 512}).value();
    auto root = file.root().value();
    const auto type = hdf5::ElementType::kInt64;
    auto plain = root.create_dataset("plain", type, {6, 0, 0, hdf5::Fill::kNothing}).value();
    storage = plain.storage().value();
    ASSERT_TRUE(plain.write_raw(storage, 0, bytes_of(numbers).first(24)));
    ASSERT_TRUE(plain.write_raw(storage, 3, bytes_of(numbers).last(24)));
    auto chunked = root.create_dataset("chunked", type, {6, 3, 1, hdf5::Fill::kNothing}).value();
    ASSERT_TRUE(chunked.write_chunk(0, bytes_of(numbers).first(24), hdf5::Filters::kSkipped));
    chunk = chunked.write_chunk(3, bytes_of(numbers).last(24), hdf5::Filters::kSkipped).value();
    EXPECT_EQ(root.create_dataset("empty", type, {0, 0, 0, hdf5::Fill::kNothing})
                  .value()
                  .storage()
                  .value(),
              hdf5::Extent{});
    ASSERT_TRUE(file.close());
  }

  const std::string contents = test::contents_of(path);
  EXPECT_EQ(storage.bytes, 48u);
  EXPECT_EQ(std::memcmp(contents.data() + storage.offset, numbers.data(), 48), 0);
  EXPECT_EQ(std::memcmp(contents.data() + chunk.offset, numbers.data() + 3, 24), 0);
  const auto file = hdf5::File::open_read_only(path).value();
  for (const char* const name : {"plain", "chunked"}) {
    std::vector<std::int64_t> back(6);
    const auto dataset = file.root().value().open_dataset(name).value();
    ASSERT_TRUE(dataset.read(0, std::as_writable_bytes(std::span(back))));
    EXPECT_EQ(back, numbers) << name;
  }
}

TEST(Hdf5, AVirtualDatasetIsThePiecesOfOtherFiles) {
  const ScratchDirectory scratch;
  const std::vector<std::int64_t> numbers = {1, 2, 3};
  const auto type = hdf5::ElementType::kInt64;
  for (const std::string name : {"a.h5", "b.h5"}) {
    auto file = hdf5::File::create(scratch.path() / name).value();
    auto root = file.root().value();
    auto dataset = root.create_dataset("numbers", type, {3}).value();
    ASSERT_TRUE(dataset.write(0, bytes_of(numbers)));
    ASSERT_TRUE(file.close());
  }
  const std::vector<hdf5::VirtualPiece> pieces = {{"b.h5", "/numbers", {4}, {3}},
                                                  {"a.h5", "/numbers", {0}, {3}}};
  {
    auto file = hdf5::File::create(scratch.path() / "view.h5", FileSystem::real(),
                                   {.format = hdf5::Format::k110})
                    .value();
    ASSERT_TRUE(file.root().value().create_virtual_dataset("all", type, {{7}}, pieces));
    ASSERT_TRUE(file.close());
  }

  const auto file = hdf5::File::open_read_only(scratch.path() / "view.h5").value();
  std::vector<std::int64_t> back(7);
  ASSERT_TRUE(file.root().value().open_dataset("all").value().read(
      0, std::as_writable_bytes(std::span(back))));

  EXPECT_THAT(back, ElementsAre(1, 2, 3, 0, 1, 2, 3));
}

}  // namespace
}  // namespace regroup
