#include "runtime/host/launch_processes.hpp"

#include <csignal>
#include <cstdlib>
#include <string>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace regroup {
namespace {

// A shell with the mark in its environment, and a child of its own.
pid_t start_marked(const std::string& mark) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  setenv(std::string(kLaunchVariable).c_str(), mark.c_str(), 1);
  execl("/bin/sh", "sh", "-c", "sleep 60 & wait", nullptr);
  _exit(1);
}

// Waits until it and its child have been started.
std::size_t end_all_of(const std::string& mark, std::size_t processes) {
  std::size_t ended = 0;
  for (int look = 0; look < 500 && ended < processes; ++look) {
    usleep(10'000);
    ended += end_launch(mark);
  }
  return ended;
}

TEST(LaunchProcesses, AreEndedWithWhatTheyStarted) {
  const std::string mark = new_launch_mark();
  const pid_t pid = start_marked(mark);
  usleep(300'000);  // so that its child is there
  EXPECT_GE(end_all_of(mark, 2), 2u);
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
  EXPECT_EQ(end_launch(mark), 0u);
}

TEST(LaunchProcesses, OfOtherLaunchesAreSpared) {
  const std::string mark = new_launch_mark();
  const pid_t pid = start_marked(mark);
  usleep(100'000);
  EXPECT_EQ(end_launch(new_launch_mark()), 0u);
  EXPECT_EQ(end_launch(mark.substr(0, 31)), 0u);
  EXPECT_EQ(waitpid(pid, nullptr, WNOHANG), 0);
  EXPECT_GE(end_all_of(mark, 1), 1u);
  waitpid(pid, nullptr, 0);
}

TEST(LaunchProcesses, HaveMarksThatDiffer) {
  const std::string mark = new_launch_mark();
  EXPECT_TRUE(is_launch_mark(mark));
  EXPECT_NE(mark, new_launch_mark());
  for (const char* text : {"", "1", "0123456789abcdef0123456789abcdeg", "; reboot"}) {
    EXPECT_FALSE(is_launch_mark(text)) << text;
  }
}

}  // namespace
}  // namespace regroup
