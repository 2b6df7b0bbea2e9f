#include "runtime/host/subprocess.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

using Clock = std::chrono::steady_clock;

class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor() { close(); }
  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_ = -1;
};

struct Pipe {
  FileDescriptor read_end;
  FileDescriptor write_end;
};

std::unexpected<std::string> system_error(const std::string& what, int error) {
  return std::unexpected(fmt::format("{}: {}", what, std::strerror(error)));
}

std::expected<Pipe, std::string> make_pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return system_error("cannot make a pipe", errno);
  Pipe made{FileDescriptor(ends[0]), FileDescriptor(ends[1])};
  // Only our end: what the program writes to is left as programs expect it.
  if (fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) return system_error("cannot set up a pipe", errno);
  return made;
}

// posix_spawn's settings, with every return code checked; they free themselves.
class SpawnSettings {
 public:
  SpawnSettings(int output, int error_output) {
    check(posix_spawn_file_actions_init(&actions_));
    check(posix_spawnattr_init(&attributes_));
    check(posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0));
    check(posix_spawn_file_actions_adddup2(&actions_, output, STDOUT_FILENO));
    check(posix_spawn_file_actions_adddup2(&actions_, error_output, STDERR_FILENO));
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    check(posix_spawnattr_setsigmask(&attributes_, &none));
    check(posix_spawnattr_setsigdefault(&attributes_, &all));
    check(posix_spawnattr_setpgroup(&attributes_, 0));
    check(posix_spawnattr_setflags(
        &attributes_, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF));
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  const posix_spawn_file_actions_t* actions() const { return &actions_; }
  const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  static void check(int error) { REGROUP_CHECK(error == 0, std::strerror(error)); }

  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

// A started program. Its group is killed and it is reaped when this goes out of scope.
class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() { reap(); }

  pid_t pid() const { return pid_; }

  // Kills what is left of the group, then waits. The leader keeps the group's number from being
  // used again until it is waited for, so this never reaches a stranger. Returns the wait status.
  int reap() {
    if (pid_ == 0) return status_;
    ::kill(-pid_, SIGKILL);
    int waited = 0;
    do {
      waited = ::waitpid(pid_, &status_, 0);
    } while (waited < 0 && errno == EINTR);
    if (waited < 0) status_ = -1;  // somebody else waited for it, or SIGCHLD is ignored
    pid_ = 0;
    return status_;
  }

 private:
  pid_t pid_;
  int status_ = -1;
};

// Reads what is there; closes the pipe at its end. Past the bound it reads on, and drops it.
void drain(FileDescriptor& pipe, std::string& text, bool& truncated) {
  std::array<char, 16384> chunk{};
  while (pipe.is_open()) {
    const ssize_t count = ::read(pipe.get(), chunk.data(), chunk.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) {
      pipe.close();
      return;
    }
    const std::size_t room = ProgramOutput::kStreamBytesMax - text.size();
    const std::size_t kept = std::min(room, static_cast<std::size_t>(count));
    text.append(chunk.data(), kept);
    if (kept < static_cast<std::size_t>(count)) {
      truncated = true;
      return;  // one chunk a turn, so that an endless writer cannot outlast the deadline
    }
  }
}

int milliseconds_left(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
  return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 1'000'000));
}

enum class Ending { kExited, kOutOfTime };

// Collects output until the program itself has ended, whoever still holds its pipes.
Ending collect(const FileDescriptor& exited, Pipe& out, Pipe& err, ProgramOutput& output,
               Clock::time_point deadline) {
  while (true) {
    std::array<pollfd, 3> waits = {pollfd{exited.get(), POLLIN, 0},
                                   pollfd{out.read_end.get(), POLLIN, 0},
                                   pollfd{err.read_end.get(), POLLIN, 0}};
    const int ready = ::poll(waits.data(), waits.size(), milliseconds_left(deadline));
    REGROUP_CHECK(ready >= 0 || errno == EINTR, "poll takes its arguments");
    drain(out.read_end, output.standard_output, output.truncated);
    drain(err.read_end, output.standard_error, output.truncated);
    if (ready > 0 && waits[0].revents != 0) return Ending::kExited;
    if (Clock::now() >= deadline) return Ending::kOutOfTime;
  }
}

bool is_executable_file(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
         ::access(path.c_str(), X_OK) == 0;
}

std::expected<pid_t, std::string> spawn(const std::string& path, std::span<const std::string> argv,
                                        const Pipe& out, const Pipe& err) {
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const SpawnSettings settings(out.write_end.get(), err.write_end.get());
  pid_t pid = 0;
  const int error = posix_spawn(&pid, path.c_str(), settings.actions(), settings.attributes(),
                                arguments.data(), environ);
  if (error != 0) return system_error(fmt::format("cannot start {}", path), error);
  return pid;
}

}  // namespace

std::optional<std::string> find_on_path(std::string_view program) {
  if (program.empty()) return std::nullopt;
  if (program.find('/') != std::string_view::npos) {
    std::string path(program);
    return is_executable_file(path) ? std::optional(std::move(path)) : std::nullopt;
  }
  const char* variable = std::getenv("PATH");
  std::string_view folders = variable == nullptr ? "/usr/bin:/bin" : variable;
  while (!folders.empty()) {
    const std::size_t colon = std::min(folders.find(':'), folders.size());
    const std::string_view folder = folders.substr(0, colon);
    folders.remove_prefix(std::min(colon + 1, folders.size()));
    std::string path = fmt::format("{}/{}", folder.empty() ? "." : folder, program);
    if (is_executable_file(path)) return path;
  }
  return std::nullopt;
}

std::expected<ProgramOutput, std::string> run_program(std::span<const std::string> argv,
                                                      std::chrono::milliseconds timeout) {
  REGROUP_CHECK(!argv.empty(), "a program to run has a name");
  const Clock::time_point deadline = Clock::now() + timeout;
  const auto path = find_on_path(argv[0]);
  if (!path) return std::unexpected(fmt::format("{}: not found on PATH", argv[0]));
  auto out = make_pipe();
  if (!out) return std::unexpected(out.error());
  auto err = make_pipe();
  if (!err) return std::unexpected(err.error());
  const auto pid = spawn(*path, argv, *out, *err);
  if (!pid) return std::unexpected(pid.error());

  Child child(*pid);
  out->write_end.close();
  err->write_end.close();
  const FileDescriptor exited(static_cast<int>(::syscall(SYS_pidfd_open, child.pid(), 0)));
  if (!exited.is_open()) return system_error("cannot watch a program (pidfd_open)", errno);

  ProgramOutput output;
  if (collect(exited, *out, *err, output, deadline) == Ending::kOutOfTime) {
    return std::unexpected(
        fmt::format("{}: no answer within {} ms; killed", argv[0], timeout.count()));
  }
  const int status = child.reap();
  drain(out->read_end, output.standard_output, output.truncated);
  drain(err->read_end, output.standard_error, output.truncated);
  output.signal = status >= 0 && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  output.exit_code = status >= 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return output;
}

}  // namespace regroup
