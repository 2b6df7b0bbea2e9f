// Starts the ranks of a run with mpirun, with the flags that this MPI needs, and waits for them.
// Also tells a process whether a launcher started it as one of several ranks. Binding is left to
// Regroup.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <vector>

namespace regroup {

// This process as one rank of several, as the launcher's environment says, before MPI is started.
struct LaunchedRank {
  std::uint32_t rank = 0;
  std::uint32_t ranks = 1;
};
// Empty when no MPI launcher started this process.
std::optional<LaunchedRank> launched_rank();

// The command that starts `ranks` ranks of `program`: mpirun and its flags, then the program.
std::expected<std::vector<std::string>, std::string> mpirun_command(
    std::uint32_t ranks, const std::vector<std::string>& program);

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

// Runs the command in the foreground, in this environment but for `settings` ("NAME=value"), and
// passes SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 on to it, unless the terminal has sent it to both.
// Returns its exit status, or 128 + signal. One at a time.
std::expected<int, std::string> run_in_foreground(const std::vector<std::string>& command,
                                                  const std::vector<std::string>& settings);

// The SIGINT or SIGTERM that came during the last run_in_foreground, from the terminal or
// elsewhere; 0 if none did.
int stop_signal_passed_on();

// The file of the running program.
std::string own_program();

}  // namespace regroup
