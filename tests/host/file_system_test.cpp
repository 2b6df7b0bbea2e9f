#include "runtime/host/file_system.hpp"

#include <cerrno>
#include <ostream>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

using test::contents_of;
using test::FailingFileSystem;
using test::names_in;
using test::ScratchDirectory;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

TEST(ReplaceFile, ReplacesTheWholeContents) {
  const ScratchDirectory scratch;
  const auto path = scratch.path() / "file";
  ASSERT_TRUE(replace_file(FileSystem::real(), path, "a long first version"));

  ASSERT_TRUE(replace_file(FileSystem::real(), path, "second"));

  EXPECT_EQ(contents_of(path), "second");
  EXPECT_THAT(names_in(scratch.path()), ElementsAre("file"));
}

TEST(ReplaceFile, GoesOnAfterShortWrites) {
  const ScratchDirectory scratch;
  FailingFileSystem file_system;
  file_system.write_bytes_max = 3;

  ASSERT_TRUE(replace_file(file_system, scratch.path() / "file", "ten bytes!"));

  EXPECT_EQ(contents_of(scratch.path() / "file"), "ten bytes!");
}

struct Fault {
  const char* name;
  int FailingFileSystem::*call;
  int error_number;
  const char* text;
};

void PrintTo(const Fault& fault, std::ostream* out) {
  *out << fault.name;
}

class ReplaceFileFault : public testing::TestWithParam<Fault> {};

TEST_P(ReplaceFileFault, KeepsTheOldContentsAndSaysWhyInOneLine) {
  const ScratchDirectory scratch;
  const auto path = scratch.path() / "file";
  ASSERT_TRUE(replace_file(FileSystem::real(), path, "old"));
  FailingFileSystem file_system;
  file_system.*GetParam().call = GetParam().error_number;

  const auto done = replace_file(file_system, path, "new");

  ASSERT_FALSE(done);
  EXPECT_THAT(done.error(),
              AllOf(HasSubstr(path.string()), HasSubstr(GetParam().text), Not(HasSubstr("\n"))));
  EXPECT_EQ(contents_of(path), "old");
  EXPECT_THAT(names_in(scratch.path()), ElementsAre("file"));
}

INSTANTIATE_TEST_SUITE_P(
    EachCall, ReplaceFileFault,
    testing::Values(Fault{"open", &FailingFileSystem::fail_open, EACCES, "Permission denied"},
                    Fault{"write", &FailingFileSystem::fail_write, ENOSPC,
                          "No space left on device"},
                    Fault{"fsync", &FailingFileSystem::fail_fsync, EIO, "Input/output error"},
                    Fault{"close", &FailingFileSystem::fail_close, EDQUOT, "quota"},
                    Fault{"rename", &FailingFileSystem::fail_rename, EROFS, "Read-only"}),
    [](const auto& fault) { return std::string(fault.param.name); });

TEST(SyncDirectory, TakesAFileSystemThatCannotAsDone) {
  const ScratchDirectory scratch;
  FailingFileSystem file_system;
  file_system.fail_fsync = EINVAL;
  EXPECT_TRUE(sync_directory(file_system, scratch.path()));

  file_system.fail_fsync = EIO;
  EXPECT_FALSE(sync_directory(file_system, scratch.path()));
}

TEST(ReadSmallFile, RefusesWhatIsNoSmallFile) {
  const ScratchDirectory scratch;
  test::write_file(scratch.path() / "file", "12345");

  EXPECT_EQ(read_small_file(scratch.path() / "file", 5).value(), "12345");
  EXPECT_THAT(read_small_file(scratch.path() / "file", 4).error(),
              HasSubstr("larger than 4 bytes"));
  EXPECT_THAT(read_small_file(scratch.path(), 5).error(), HasSubstr("not a regular file"));
  EXPECT_THAT(read_small_file(scratch.path() / "none", 5).error(), HasSubstr("No such file"));
}

TEST(ReadAt, FillsAllOrSaysWhy) {
  const ScratchDirectory scratch;
  test::write_file(scratch.path() / "file", "12345");
  FileSystem& file_system = FileSystem::real();
  const FileDescriptor file(file_system,
                            file_system.open((scratch.path() / "file").c_str(), O_RDONLY, 0));
  std::string bytes(3, ' ');

  EXPECT_EQ(read_at(file_system, file.get(), std::as_writable_bytes(std::span(bytes)), 2), 0);
  EXPECT_EQ(bytes, "345");
  EXPECT_EQ(read_at(file_system, file.get(), std::as_writable_bytes(std::span(bytes)), 3), EIO);
  EXPECT_EQ(read_at(file_system, -1, std::as_writable_bytes(std::span(bytes)), 0), EBADF);
}

TEST(NamesInDirectory, AreSortedAndBounded) {
  const ScratchDirectory scratch;
  for (const char* const name : {"b", "a", "c"}) test::write_file(scratch.path() / name, "");
  FileSystem& file_system = FileSystem::real();

  EXPECT_THAT(names_in_directory(file_system, scratch.path(), 3).value(),
              ElementsAre("a", "b", "c"));
  EXPECT_EQ(names_in_directory(file_system, scratch.path(), 2).error(), EOVERFLOW);
  EXPECT_EQ(names_in_directory(file_system, scratch.path() / "none", 2).error(), ENOENT);
}

}  // namespace
}  // namespace regroup
