// Runs another program for its output, never through a shell, and never for longer than asked. The
// program gets its own process group, an empty standard input and default signal handling; when the
// time is up, or when it ends and leaves children, its whole group is killed. Nothing of the group
// outlives the call. Safe to call from several threads at once.
#pragma once

#include <chrono>
#include <cstddef>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace regroup {

struct ProgramOutput {
  static constexpr std::size_t kStreamBytesMax = 1 << 20;  // kept of each stream

  int exit_code = 0;  // -1 if a signal ended it
  int signal = 0;     // that signal, otherwise 0
  std::string standard_output;
  std::string standard_error;
  bool truncated = false;  // a stream was longer; its start is kept

  bool ok() const { return exit_code == 0 && signal == 0; }
};

// argv[0] is found on PATH. An exit status other than 0 is no error here: ask ok(). Errors are one
// line: the program is not there, cannot be started, or was still running after `timeout`.
std::expected<ProgramOutput, std::string> run_program(std::span<const std::string> argv,
                                                      std::chrono::milliseconds timeout);

// The full path of an executable file that PATH leads to.
std::optional<std::string> find_on_path(std::string_view program);

}  // namespace regroup
