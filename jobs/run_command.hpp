// The verb `run`: checks what the user gave, starts ranks with mpirun where that is asked for, and
// runs one rank where this process is one.
#pragma once

#include <string>
#include <vector>

#include "jobs/registry.hpp"

namespace regroup {

// The run's exit statuses, which users and scripts rely on.
inline constexpr int kExitDone = 0;
inline constexpr int kExitQuarantined = 1;
inline constexpr int kExitBadInput = 2;
inline constexpr int kExitNotRecovered = 3;

// A call of the program with one verb.
struct Invocation {
  std::string program;                 // as a user calls it: "regroup"
  std::vector<std::string> arguments;  // behind the verb
  const JobRegistry* registry = nullptr;
};

// The line that says so.
std::string unknown_job(const Invocation& invocation, const std::string& job);

// Returns the exit status.
int run_command(const Invocation& invocation);

}  // namespace regroup
