// Programs that behave as ssh does stand in for it: what they get as the command, a shell runs.
#include "runtime/host/remote_shell.hpp"

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

using testing::HasSubstr;

class RemoteShell : public testing::Test {
 protected:
  RemoteShell() { is_to("shift; exec sh -c \"$*\""); }

  // What the program does with a host and a command.
  void is_to(const std::string& script) {
    test::write_file(program(), "#!/bin/sh\n" + script + "\n");
    std::filesystem::permissions(program(), std::filesystem::perms::owner_all);
  }
  std::filesystem::path program() const { return scratch_.path() / "shell"; }
  std::filesystem::path out() const { return scratch_.path() / "out"; }
  std::filesystem::path err() const { return scratch_.path() / "err"; }

  static std::string text_of(const std::filesystem::path& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  // The wrapper as the child of a process that stands for mpirun: its id.
  pid_t start(const std::string& command) {
    const pid_t pid = fork();
    if (pid != 0) return pid;
    (void)!freopen(out().c_str(), "w", stdout);
    (void)!freopen(err().c_str(), "w", stderr);
    const int status = run_remote_shell({program().string(), "n1", command});
    std::fflush(nullptr);
    _exit(status);
  }
  static int status_of(pid_t pid) {
    int status = 0;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  // Whether it is still running after a while in which it would have ended.
  static bool stays(pid_t pid) {
    for (int look = 0; look < 50; ++look) {
      if (waitpid(pid, nullptr, WNOHANG) != 0) return false;
      usleep(10'000);
    }
    return true;
  }
  static void end(pid_t pid) {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }

 private:
  test::ScratchDirectory scratch_;
};

TEST_F(RemoteShell, PassesOnWhatTheCommandWritesAndItsStatus) {
  EXPECT_EQ(status_of(start("echo one two; echo three >&2; exit 7")), 7);
  EXPECT_EQ(text_of(out()), "one two\n");
  EXPECT_EQ(text_of(err()), "three\n");
}

TEST_F(RemoteShell, KeepsGreetingsOutOfTheOutput) {
  is_to("shift; echo welcome; sh -c \"$*\"");
  EXPECT_EQ(status_of(start("echo one")), 0);
  EXPECT_EQ(text_of(out()), "one\n");
  EXPECT_EQ(text_of(err()), "welcome\n");
}

TEST_F(RemoteShell, SaysThatThereIsNoConnection) {
  is_to("echo refused >&2; exit 255");
  EXPECT_EQ(status_of(start("echo one")), 255);
  EXPECT_THAT(text_of(err()), HasSubstr("refused"));
}

TEST_F(RemoteShell, SaysThatThereIsNoSuchProgram) {
  std::filesystem::remove(program());
  EXPECT_EQ(status_of(start("echo one")), 127);
  EXPECT_THAT(text_of(err()), HasSubstr("cannot be started: No such file"));
}

TEST_F(RemoteShell, SaysThatACommandCannotBeStartedThere) {
  EXPECT_EQ(status_of(start("/nowhere/daemon")), 127);
}

TEST_F(RemoteShell, HidesThatAConnectionBreaks) {
  is_to("shift; sh -c \"$*\"; exit 255");
  const pid_t wrapper = start("echo one");
  EXPECT_TRUE(stays(wrapper));
  end(wrapper);
  EXPECT_EQ(text_of(out()), "one\n");
}

TEST_F(RemoteShell, HidesThatTheProgramIsKilled) {
  is_to("shift; sh -c \"$*\"; kill -9 $$");
  const pid_t wrapper = start("true");
  EXPECT_TRUE(stays(wrapper));
  end(wrapper);
}

// The one that started it has ended, so it is nobody's any more, nor is what it started.
TEST_F(RemoteShell, EndsWithTheOneWhoStartedIt) {
  for (const char* command : {"exec sleep 100", "exit 255"}) {
    ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    const pid_t caller = fork();
    if (caller == 0) {
      start(command);
      pause();
    }
    EXPECT_TRUE(stays(caller));
    end(caller);
    int ended = 0;
    for (int look = 0; look < 500 && ended < 2; ++look) {
      const pid_t pid = waitpid(-1, nullptr, WNOHANG);
      if (pid < 0) break;  // none is left
      if (pid == 0) usleep(10'000);
    }
    EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << command << ": something goes on";
  }
  prctl(PR_SET_CHILD_SUBREAPER, 0);
}

}  // namespace
}  // namespace regroup
