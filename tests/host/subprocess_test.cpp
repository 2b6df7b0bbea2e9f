// Programs that answer, fail, hang, flood and leave children behind.
#include "runtime/host/subprocess.hpp"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace regroup {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

using Argv = std::vector<std::string>;

// The shell here is the program under test's stand-in: run_program itself starts none.
Argv script(const std::string& text) {
  return {"/bin/sh", "-c", text};
}

// A zombie that nobody has waited for yet runs no more, either.
bool runs(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string number, name, state;
  return file >> number >> name >> state && state != "Z" && state != "X";
}

TEST(Subprocess, GivesOutputAndStatusApart) {
  const auto output = run_program(script("echo out; echo err >&2; exit 3"), 10s);

  ASSERT_TRUE(output.has_value()) << output.error();
  EXPECT_EQ(output->exit_code, 3);
  EXPECT_FALSE(output->ok());
  EXPECT_EQ(output->standard_output, "out\n");
  EXPECT_EQ(output->standard_error, "err\n");
  EXPECT_FALSE(output->truncated);
}

TEST(Subprocess, ArgumentsAreNeverReadByAShell) {
  const auto output = run_program(Argv{"echo", "$HOME; `id` | *"}, 10s);

  ASSERT_TRUE(output.has_value()) << output.error();
  EXPECT_EQ(output->standard_output, "$HOME; `id` | *\n");
}

TEST(Subprocess, AMissingProgramIsOneLine) {
  const auto output = run_program(Argv{"no-such-program-anywhere"}, 10s);

  ASSERT_FALSE(output.has_value());
  EXPECT_EQ(output.error(), "no-such-program-anywhere: not found on PATH");
}

TEST(Subprocess, ASignalIsToldFromAnExit) {
  const auto output = run_program(script("kill -SEGV $$"), 10s);

  ASSERT_TRUE(output.has_value()) << output.error();
  EXPECT_EQ(output->signal, SIGSEGV);
  EXPECT_EQ(output->exit_code, -1);
}

TEST(Subprocess, AHangingProgramIsKilledWithItsChildren) {
  const std::string pid_file = "/tmp/regroup-subprocess-" + std::to_string(::getpid());
  const auto start = std::chrono::steady_clock::now();

  // The child ignores SIGTERM and keeps both pipes open.
  const auto output = run_program(
      script("(trap '' TERM; exec sleep 1000) & echo $! > " + pid_file + "; wait"), 300ms);

  const auto took = std::chrono::steady_clock::now() - start;
  ASSERT_FALSE(output.has_value());
  EXPECT_THAT(output.error(), HasSubstr("no answer within 300 ms"));
  EXPECT_LT(took, 10s);
  pid_t child = 0;
  ASSERT_TRUE(std::ifstream(pid_file) >> child);
  std::remove(pid_file.c_str());
  const auto deadline = std::chrono::steady_clock::now() + 10s;
  while (runs(child) && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  EXPECT_FALSE(runs(child));
}

TEST(Subprocess, AChildThatStaysBehindIsNotWaitedFor) {
  const auto output = run_program(script("sleep 1000 & echo done"), 60s);

  ASSERT_TRUE(output.has_value()) << output.error();
  EXPECT_EQ(output->standard_output, "done\n");
  EXPECT_TRUE(output->ok());
}

TEST(Subprocess, AFloodIsCutAtTheBoundAndDoesNotBlockTheProgram) {
  const auto output = run_program(script("head -c 3000000 /dev/zero; echo end >&2"), 30s);

  ASSERT_TRUE(output.has_value()) << output.error();
  EXPECT_TRUE(output->ok());
  EXPECT_TRUE(output->truncated);
  EXPECT_EQ(output->standard_output.size(), ProgramOutput::kStreamBytesMax);
  EXPECT_EQ(output->standard_error, "end\n");
}

TEST(Subprocess, AnEndlessWriterEndsAtTheDeadline) {
  const auto output = run_program(script("exec cat /dev/zero"), 300ms);

  EXPECT_FALSE(output.has_value());
}

TEST(Subprocess, StandardInputIsEmpty) {
  const auto output = run_program(Argv{"cat"}, 10s);

  ASSERT_TRUE(output.has_value()) << output.error();
  EXPECT_TRUE(output->ok());
}

TEST(Subprocess, BlockedAndIgnoredSignalsAreNotPassedOn) {
  sigset_t blocked;
  sigset_t before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &blocked, &before), 0);
  const auto pipe_before = std::signal(SIGPIPE, SIG_IGN);

  const auto output = run_program(Argv{"grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"}, 10s);

  std::signal(SIGPIPE, pipe_before);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ASSERT_TRUE(output.has_value()) << output.error();
  unsigned long long blocked_bits = 1;
  unsigned long long ignored_bits = 1;
  ASSERT_EQ(std::sscanf(output->standard_output.c_str(), "SigBlk: %llx SigIgn: %llx", &blocked_bits,
                        &ignored_bits),
            2);
  EXPECT_EQ(blocked_bits, 0U);
  // The C library ignores its own signals 32 and 33 in what it spawns.
  EXPECT_EQ(ignored_bits & 0x7FFFFFFFU, 0U);
}

TEST(Subprocess, FindOnPathWantsAnExecutableFile) {
  EXPECT_TRUE(find_on_path("sh").has_value());
  EXPECT_EQ(find_on_path("/bin/sh"), "/bin/sh");
  EXPECT_FALSE(find_on_path("/etc/passwd").has_value());
  EXPECT_FALSE(find_on_path("/tmp").has_value());
  EXPECT_FALSE(find_on_path("").has_value());
}

}  // namespace
}  // namespace regroup
