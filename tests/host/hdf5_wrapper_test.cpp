#include "runtime/host/hdf5_wrapper.hpp"

#include <array>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace regroup
