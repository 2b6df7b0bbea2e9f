#include "runtime/host/launch_keeper.hpp"

#include <cerrno>
#include <csignal>

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace regroup {
namespace {

constexpr int kEndsWithinMs = 5000;
constexpr const char* kName = "regroup-keeper";

// In the keeper: the descriptors that it needs, by number, and no other.
constexpr int kLifeline = STDERR_FILENO + 1;
constexpr int kLaunched = kLifeline + 1;

// The output that this process has is for others to see the end of.
void keep_only(int lifeline, int launched) {
  const int nothing = open("/dev/null", O_RDWR);
  const int high_lifeline = fcntl(lifeline, F_DUPFD, kLaunched + 1);
  const int high_launched = fcntl(launched, F_DUPFD, kLaunched + 1);
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(nothing, standard);
  dup2(high_lifeline, kLifeline);
  dup2(high_launched, kLaunched);
  if (syscall(SYS_close_range, kLaunched + 1, ~0u, 0) == 0) return;
  const auto most = static_cast<int>(sysconf(_SC_OPEN_MAX));
  for (int other = kLaunched + 1; other < most; ++other) close(other);
}

// Whether the supervisor has died without a word.
bool is_left_alone() {
  char word = 0;
  ssize_t count = 0;
  do count = read(kLifeline, &word, 1);
  while (count < 0 && errno == EINTR);
  return count == 0;
}

void end_launched() {
  pollfd wait{kLaunched, POLLIN, 0};
  if (poll(&wait, 1, kEndsWithinMs) == 0) {
    syscall(SYS_pidfd_send_signal, kLaunched, SIGKILL, nullptr, 0);
  }
}

}  // namespace

LaunchKeeper::LaunchKeeper(pid_t launched, const std::function<void()>& clear_up) {
  FileDescriptor process(FileSystem::real(),
                         static_cast<int>(syscall(SYS_pidfd_open, launched, 0)));
  int ends[2] = {-1, -1};
  if (!process.is_open() || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return;
  FileDescriptor to_read(FileSystem::real(), ends[0]);
  lifeline_ = FileDescriptor(FileSystem::real(), ends[1]);
  keeper_ = fork();
  if (keeper_ != 0) return;
  lifeline_.close();
  setsid();
  prctl(PR_SET_NAME, kName);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2}) signal(number, SIG_IGN);
  keep_only(to_read.get(), process.get());
  if (is_left_alone()) {
    end_launched();
    clear_up();
  }
  _exit(0);
}

LaunchKeeper::~LaunchKeeper() {
  if (keeper_ <= 0) return;
  (void)send(lifeline_.get(), ".", 1, MSG_NOSIGNAL);  // it may have been killed
  lifeline_.close();
  waitpid(keeper_, nullptr, 0);
}

}  // namespace regroup
