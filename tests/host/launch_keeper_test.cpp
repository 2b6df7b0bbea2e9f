#include "runtime/host/launch_keeper.hpp"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

// A supervisor, in a process of its own, with a child that outlives it unless a keeper sees to
// that.
class Keeper : public testing::Test {
 protected:
  // Runs it with the child (a shell's words), until it dies in the way given.
  void supervise(const char* child, void (*die)()) {
    const pid_t supervisor = fork();
    if (supervisor == 0) {
      const pid_t launched = fork();
      if (launched == 0) {
        execl("/bin/sh", "sh", "-c", child, nullptr);
        _exit(1);
      }
      test::write_file(pid_file(), std::to_string(launched));
      LaunchKeeper keeper(launched, [this] { test::write_file(mark(), "cleared up"); });
      die();
    }
    waitpid(supervisor, nullptr, 0);
  }
  std::filesystem::path mark() const { return scratch_.path() / "mark"; }
  std::filesystem::path pid_file() const { return scratch_.path() / "pid"; }
  bool clears_up() const {
    for (int look = 0; look < 800; ++look) {
      if (std::filesystem::exists(mark())) return true;
      usleep(10'000);
    }
    return false;
  }
  bool launched_is_gone() const {
    pid_t pid = 0;
    std::ifstream(pid_file()) >> pid;
    for (int look = 0; look < 200; ++look) {
      if (kill(pid, 0) != 0) return true;
      usleep(10'000);
    }
    return false;
  }

 private:
  test::ScratchDirectory scratch_;
};

void by_kill() {
  kill(getpid(), SIGKILL);
}

TEST_F(Keeper, EndsWhatASupervisorThatWasKilledHasStarted) {
  supervise("exec sleep 100", by_kill);
  EXPECT_TRUE(clears_up());
  EXPECT_TRUE(launched_is_gone());
}

TEST_F(Keeper, SurvivesWhatEndsTheSupervisorsProcessGroup) {
  supervise("setsid sleep 100", [] {
    setpgid(0, 0);
    kill(0, SIGKILL);
  });
  EXPECT_TRUE(clears_up());
}

TEST_F(Keeper, ClearsUpAtOnceWhereWhatWasStartedHasEnded) {
  supervise("exit 0", [] {
    siginfo_t ended;
    waitid(P_ALL, 0, &ended, WEXITED | WNOWAIT);
    by_kill();
  });
  for (int look = 0; look < 200 && !std::filesystem::exists(mark()); ++look) usleep(10'000);
  EXPECT_TRUE(std::filesystem::exists(mark()));
}

// By a signal of its own, which nobody expects: the supervisor goes on.
TEST_F(Keeper, ThatIsKilledDoesNotEndItsSupervisor) {
  const pid_t supervisor = fork();
  if (supervisor == 0) {
    const pid_t launched = fork();
    if (launched == 0) {
      pause();
      _exit(0);
    }
    {
      const LaunchKeeper keeper(launched, [] {});
      // Of a process with two children the keeper is the second.
      std::ifstream children("/proc/thread-self/children");
      pid_t first = 0;
      pid_t second = 0;
      children >> first >> second;
      kill(second, SIGKILL);
      siginfo_t ended;
      waitid(P_PID, static_cast<id_t>(second), &ended, WEXITED | WNOWAIT);
    }
    kill(launched, SIGKILL);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(supervisor, &status, 0), supervisor);
  EXPECT_TRUE(WIFEXITED(status)) << status;
}

TEST(LaunchKeeper, OfASupervisorThatHasComeToItsEndDoesNothing) {
  const test::ScratchDirectory scratch;
  const auto mark = scratch.path() / "mark";
  const pid_t launched = fork();
  if (launched == 0) {
    execl("/bin/sleep", "sleep", "100", nullptr);
    _exit(1);
  }
  {
    const LaunchKeeper keeper(launched, [&] { test::write_file(mark, "cleared up"); });
  }
  usleep(100'000);
  EXPECT_EQ(waitpid(launched, nullptr, WNOHANG), 0) << "it goes on";
  EXPECT_FALSE(std::filesystem::exists(mark));
  kill(launched, SIGKILL);
  waitpid(launched, nullptr, 0);
}

}  // namespace
}  // namespace regroup
