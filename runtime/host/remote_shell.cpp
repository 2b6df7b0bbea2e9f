#include "runtime/host/remote_shell.hpp"

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/host/file_system.hpp"
#include "runtime/host/launch_processes.hpp"

namespace regroup {
namespace {

// The first line that the other node's shell writes.
constexpr std::string_view kBegun = "regroup-remote-command-begins";
// What comes before it, of profiles that greet, is looked through so far.
constexpr std::size_t kGreetingBytesMax = std::size_t{64} << 10;
constexpr int kBroken = 255;  // what ssh returns for what is not the command's
constexpr int kNotStarted = 127;
constexpr int kLookMs = 200;

bool is_named(const std::string& program, std::string_view name) {
  return std::filesystem::path(program).filename() == name;
}

// What the daemon starts has the mark of its launch as well.
std::vector<std::string> shell_command(const std::vector<std::string>& arguments) {
  std::string remote = "echo " + std::string(kBegun) + ";";
  const std::string variable(kLaunchVariable);
  const char* const mark = std::getenv(variable.c_str());
  if (mark != nullptr && is_launch_mark(mark)) {
    remote += " " + variable + "=" + mark + "; export " + variable + ";";
  }
  for (std::size_t i = 2; i < arguments.size(); ++i) remote += " " + arguments[i];
  return remote_command(arguments[0], arguments[1], remote);
}

pid_t start(std::vector<std::string> command, int output) {
  std::vector<char*> words;
  for (std::string& word : command) words.push_back(word.data());
  words.push_back(nullptr);
  const pid_t self = getpid();
  const pid_t child = fork();
  if (child != 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != self) _exit(kNotStarted);
  dup2(output, STDOUT_FILENO);
  execvp(words.front(), words.data());
  dprintf(STDERR_FILENO, "regroup: %s cannot be started: %s\n", words.front(),
          errno_text(errno).c_str());
  _exit(kNotStarted);
}

void write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = write(descriptor, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
}

// Hands on what the command writes, without the line that says that it has begun.
class Output {
 public:
  bool has_begun() const { return begun_; }

  void take(std::string_view text) {
    if (begun_ || is_given_up_) return write_all(STDOUT_FILENO, text);
    held_ += text;
    const std::size_t at = held_.find(kBegun);
    if (at != std::string::npos && held_.find('\n', at) != std::string::npos) {
      begun_ = true;
      write_all(STDERR_FILENO, std::string_view(held_).substr(0, at));
      write_all(STDOUT_FILENO, std::string_view(held_).substr(held_.find('\n', at) + 1));
      held_.clear();
    } else if (held_.size() > kGreetingBytesMax) {
      end();
    }
  }
  void end() {
    is_given_up_ = true;
    write_all(STDERR_FILENO, std::exchange(held_, {}));
  }

 private:
  std::string held_;
  bool begun_ = false;
  bool is_given_up_ = false;
};

// The supervisor's run, as far as it is known: whether it has begun.
class RunStart {
 public:
  bool has_begun() const { return directory_ == nullptr || state() != before_; }

 private:
  using State = std::pair<ino_t, std::int64_t>;

  // Each status is a file of its own.
  State state() const {
    struct stat status {};
    const std::string path = std::string(directory_) + "/status.json";
    if (stat(path.c_str(), &status) != 0) return {};
    return {status.st_ino, status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec};
  }

  const char* directory_ = std::getenv(kRunDirectoryVariable);
  State before_ = directory_ == nullptr ? State() : state();
};

// Whether there is more to come.
bool read_some(int from, Output& output) {
  char bytes[16384];
  const ssize_t count = read(from, bytes, sizeof bytes);
  if (count < 0) return errno == EINTR || errno == EAGAIN;
  if (count == 0) return false;
  output.take({bytes, static_cast<std::size_t>(count)});
  return true;
}

}  // namespace

bool is_slurm_shell(const std::string& program) {
  return is_named(program, kSlurmShell);
}

// A step shares what the job has with others, and has all of it; it is of one task that says itself
// how it ended.
std::vector<std::string> remote_command(const std::string& program, const std::string& host,
                                        const std::string& command) {
  if (is_slurm_shell(program)) {
    return {program,        "--nodelist=" + host,
            "--nodes=1",    "--ntasks=1",
            "--overlap",    "--kill-on-bad-exit=0",
            "--no-kill",    "--mpi=none",
            "--input=none", "--unbuffered",
            "--quiet",      "--cpu-bind=none",
            "--export=ALL", "sh",
            "-c",           command};
  }
  std::vector<std::string> words{program};
  if (is_named(program, kUsualShell)) {
    words.insert(words.end(), {"-x", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20"});
  }
  words.insert(words.end(), {host, command});
  return words;
}

int run_remote_shell(const std::vector<std::string>& arguments) {
  if (arguments.size() < 3) {
    std::fputs("regroup: remote-shell takes a program, a host and a command\n", stderr);
    return 2;
  }
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  const RunStart run;
  const pid_t caller = getppid();
  int pipe_ends[2];
  if (pipe2(pipe_ends, O_CLOEXEC) != 0) return kBroken;
  const pid_t child = start(shell_command(arguments), pipe_ends[1]);
  close(pipe_ends[1]);
  if (child < 0) return kBroken;

  Output output;
  bool open = true;
  int status = 0;
  pid_t ended = 0;
  const auto caller_is_gone = [caller] { return getppid() != caller; };
  while (ended == 0) {
    pollfd waits{open ? pipe_ends[0] : -1, POLLIN, 0};
    if (poll(&waits, 1, kLookMs) > 0 && open) open = read_some(pipe_ends[0], output);
    if (caller_is_gone()) {
      kill(child, SIGTERM);
      return kBroken;
    }
    ended = waitpid(child, &status, WNOHANG);
  }
  fcntl(pipe_ends[0], F_SETFL, O_NONBLOCK);
  while (open) {
    pollfd waits{pipe_ends[0], POLLIN, 0};
    open = poll(&waits, 1, 0) > 0 && read_some(pipe_ends[0], output);
  }
  output.end();
  // srun has no status of its own for a node that failed.
  const bool by_slurm = is_slurm_shell(arguments.front());
  const bool lost = WIFSIGNALED(status) || WEXITSTATUS(status) == kBroken ||
                    (by_slurm && WEXITSTATUS(status) != 0);
  if (!output.has_begun() || !lost) {
    return WIFEXITED(status) ? WEXITSTATUS(status) : kBroken;
  }
  poll(nullptr, 0, kLookMs);  // for a run that has just begun to say so
  while (run.has_begun() && !caller_is_gone()) poll(nullptr, 0, kLookMs);
  return kBroken;
}

}  // namespace regroup
