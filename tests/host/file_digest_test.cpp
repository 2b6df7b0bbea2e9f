#include "runtime/host/file_digest.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/host/content_hash.hpp"
#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

using test::ScratchDirectory;
using testing::AllOf;
using testing::HasSubstr;

TEST(FileDigest, IsOfAllBytes) {
  const ScratchDirectory scratch;
  for (const std::size_t bytes : {0u, 1u, 262'144u, 262'145u, 1'000'000u}) {
    std::string contents(bytes, 'x');
    for (std::size_t i = 0; i < bytes; ++i) contents[i] = static_cast<char>(i * i >> 3);
    test::write_file(scratch.path() / "file", contents);
    ContentHasher hasher;
    hasher.update(std::as_bytes(std::span(contents)));

    EXPECT_EQ(digest_of_file(scratch.path() / "file").value(), (FileDigest{bytes, hasher.hex()}));
  }
}

TEST(FileDigest, OfWhatIsNoFileIsALineThatNamesIt) {
  const ScratchDirectory scratch;
  const auto missing = digest_of_file(scratch.path() / "missing");
  const auto directory = digest_of_file(scratch.path());

  ASSERT_FALSE(missing);
  ASSERT_FALSE(directory);
  EXPECT_THAT(missing.error(),
              AllOf(HasSubstr((scratch.path() / "missing").string()), HasSubstr("No such file")));
  EXPECT_THAT(directory.error(),
              AllOf(HasSubstr(scratch.path().string()), HasSubstr("not a regular file")));
}

// A file that another process cuts short while it is read.
class ShorteningFileSystem : public FileSystem {
 public:
  ssize_t pread(int, void*, std::size_t, off_t) override { return 0; }
};

TEST(FileDigest, OfAFileThatEndsTooSoonIsAnError) {
  const ScratchDirectory scratch;
  test::write_file(scratch.path() / "file", "contents");
  ShorteningFileSystem file_system;

  EXPECT_FALSE(digest_of_file(scratch.path() / "file", file_system));
}

}  // namespace
}  // namespace regroup
