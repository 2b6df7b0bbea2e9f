// What is tried in a directory before a run, on file systems that work and on ones that fail.
#include "runtime/host/doctor_probe.hpp"

#include <cerrno>
#include <csignal>
#include <filesystem>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class DoctorProbe : public ::testing::Test {
 protected:
  test::ScratchDirectory scratch_;
};

TEST_F(DoctorProbe, HoldsOneFileLockedAndRemovesIt) {
  {
    const DirectoryProbe probe(scratch_.path());

    EXPECT_EQ(probe.tried().create_problem, "");
    EXPECT_EQ(probe.tried().link_problem, "");
    EXPECT_EQ(probe.tried().lock_problem, "");
    const std::filesystem::path file = probe.file();
    EXPECT_THAT(test::names_in(scratch_.path()), ElementsAre(file.filename().string()));
    const FileDescriptor other(FileSystem::real(), ::open(file.c_str(), O_RDWR | O_CLOEXEC));
    EXPECT_NE(::flock(other.get(), LOCK_EX | LOCK_NB), 0);
  }
  EXPECT_THAT(test::names_in(scratch_.path()), IsEmpty());
}

TEST_F(DoctorProbe, ADirectoryThatTakesNoFilesIsToldWithTheReason) {
  test::FailingFileSystem file_system;
  file_system.fail_open = ENOSPC;

  const DirectoryProbe probe(scratch_.path(), file_system);

  EXPECT_EQ(probe.tried().create_problem, "No space left on device");
  EXPECT_EQ(probe.file(), "");
}

// Creates and links what is there already, as if it were not.
class ForgetfulFileSystem : public FileSystem {
 public:
  int open(const char* path, int flags, mode_t mode) override {
    return FileSystem::open(path, flags & ~O_EXCL, mode);
  }
  int link(const char* from, const char* to) override {
    FileSystem::link(from, to);
    return 0;
  }
};

TEST_F(DoctorProbe, NamesThatCanBeTakenTwiceAreNoticed) {
  ForgetfulFileSystem file_system;

  const DirectoryProbe probe(scratch_.path(), file_system);

  EXPECT_NE(probe.tried().create_problem, "");
  EXPECT_NE(probe.tried().link_problem, "");
}

class LinklessFileSystem : public FileSystem {
 public:
  int link(const char*, const char*) override {
    errno = EPERM;
    return -1;
  }
};

TEST_F(DoctorProbe, AFileSystemWithoutLinksIsNoticed) {
  LinklessFileSystem file_system;

  EXPECT_EQ(DirectoryProbe(scratch_.path(), file_system).tried().link_problem,
            "Operation not permitted");
}

TEST_F(DoctorProbe, ASignalThatEndsTheProcessRemovesTheFile) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    const pid_t child = fork();
    if (child == 0) {
      const DirectoryProbe probe(scratch_.path());
      raise(signal);
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == signal) << status;
    EXPECT_THAT(test::names_in(scratch_.path()), IsEmpty());
  }
}

}  // namespace
}  // namespace regroup
