// Starts the ranks of a run with mpirun, with the flags that this MPI needs, and waits for them.
// Also tells a process whether a launcher started it as one of several ranks. Binding is left to
// Regroup.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

#include "runtime/host/node_list.hpp"
#include "runtime/host/recovery_backend.hpp"

namespace regroup {

// This process as one rank of several, as the launcher's environment says, before MPI is started.
struct LaunchedRank {
  std::uint32_t rank = 0;
  std::uint32_t ranks = 1;
};
// Empty when no MPI launcher started this process.
std::optional<LaunchedRank> launched_rank();

// Whether a rank's death leaves the other ranks running.
inline constexpr bool kSurviveByDefault = true;

struct LaunchOptions {
  std::uint32_t ranks = 1;
  bool survive = kSurviveByDefault;
  RecoveryChoice recovery = RecoveryChoice::kAuto;  // one without a problem

  // Where to start them; empty: where mpirun thinks fit.
  std::vector<LaunchNode> nodes;
  // The command that starts another on a node: a host, then that command follow. No word may have
  // spaces, or colons, which mpirun takes for its own.
  std::vector<std::string> remote_shell;
  // An interface by name, or a subnet ("10.1.0.0/16"), that all have; empty: MPI's choice.
  std::string network;
  // Daemons on other nodes stay with the shells that start them, instead of going their own way.
  bool daemons_stay = false;
  bool tag_output = false;  // each line that a rank writes begins with its number
  // Variables of this environment that ranks on other nodes are to have as well.
  std::vector<std::string> variables;
};

// The command that starts ranks of `program`: mpirun and its flags, then the program.
std::expected<std::vector<std::string>, std::string> mpirun_command(
    const LaunchOptions& options, const std::vector<std::string>& program);

// As a user would type it into a shell.
std::string shell_text(const std::vector<std::string>& command);

// The names of this environment's variables that begin so.
std::vector<std::string> variables_named(std::string_view prefix);

// How a command is looked after while it runs.
struct Watch {
  static constexpr std::chrono::milliseconds kLook{100};

  // Called once it has been started, with its process.
  std::function<void(pid_t)> on_start;
  // Asked every kLook: whether the command has nothing more to do. It is then given `leave` to end
  // by itself, then sent SIGTERM and given `terminate`, then sent SIGKILL.
  std::function<bool()> is_over;
  // As well: whether there is nobody whose words it might still pass on. Then nothing is waited for
  // before that SIGTERM.
  std::function<bool()> is_deserted;
  std::chrono::milliseconds leave{2000};
  std::chrono::milliseconds terminate{3000};
  // Called once, just before that SIGTERM.
  std::function<void()> on_terminate;
  // Its standard error comes here as it is written, empty when nothing came for a while, and never
  // reaches ours. Without it the command has our standard error.
  std::function<void(std::string_view bytes)> on_error_output;

  // What the first SIGINT or SIGTERM is passed on as, for commands that end gracefully at another
  // signal; 0: as it is. The command then has a process group of its own, so that the terminal's
  // ctrl-c reaches it through us alone, and nothing to read where our standard input is a terminal.
  // With stop_within, it is sent again every second while the command goes on.
  int stop_signal = 0;
  // How long after that signal the command may go on. Then it is over.
  std::optional<std::chrono::milliseconds> stop_within;
};

// A directory for what mpirun itself writes while it runs, removed with this. Open MPI 5 names its
// own after its process id and refuses to start where a killed mpirun left one of that name, as
// happens where process ids repeat (containers). Elsewhere, or if the user chose one, nothing.
class LauncherDirectory {
 public:
  LauncherDirectory();
  ~LauncherDirectory();
  LauncherDirectory(const LauncherDirectory&) = delete;
  LauncherDirectory& operator=(const LauncherDirectory&) = delete;

  // "NAME=value" that leads mpirun there, or nothing.
  std::vector<std::string> settings() const;

 private:
  std::string path_;  // empty: none
};

// While it lives, what the user says by SIGINT, SIGTERM, SIGUSR1 or SIGUSR2 is noted and passed on
// to commands in the foreground, to the next one if there is none. One at a time.
class ForegroundSignals {
 public:
  // `stop_as`: see Watch::stop_signal.
  explicit ForegroundSignals(int stop_as);
  ~ForegroundSignals();
  ForegroundSignals(const ForegroundSignals&) = delete;
  ForegroundSignals& operator=(const ForegroundSignals&) = delete;

 private:
  struct Before;
  std::unique_ptr<Before> before_;
};

// Runs the command in the foreground, in this environment but for `settings` ("NAME=value"), and
// passes SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 on to it, unless the terminal has sent it to both: as
// the ForegroundSignals that live say, or some of its own. Returns its exit status, or 128 +
// signal. One at a time.
std::expected<int, std::string> run_in_foreground(const std::vector<std::string>& command,
                                                  const std::vector<std::string>& settings,
                                                  const Watch& watch = {});

// The SIGINT, SIGTERM or SIGUSR1 that came last, from the terminal or elsewhere, while the last
// ForegroundSignals lived; 0 if none did.
int stop_signal_passed_on();

// The file of the running program.
std::string own_program();

}  // namespace regroup
