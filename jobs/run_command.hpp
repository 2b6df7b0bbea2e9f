// The verbs that have files of their own: `run` and `resume`, what the user gave, made into a job
// and its options; and `events`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "jobs/registry.hpp"

namespace regroup {

// The run's exit statuses, which users and scripts rely on.
inline constexpr int kExitDone = 0;
inline constexpr int kExitQuarantined = 1;
inline constexpr int kExitBadInput = 2;
inline constexpr int kExitNotRecovered = 3;
inline constexpr int kExitResumable = 75;

// A call of the program with one verb.
struct Invocation {
  std::string program;                 // as a user calls it: "regroup"
  std::vector<std::string> arguments;  // behind the verb
  const JobRegistry* registry = nullptr;
};

// The place of the first argument that is neither an option of the set nor the value of one.
std::optional<std::size_t> first_word(const std::vector<std::string>& arguments, OptionSet& set);
bool asks_for_help(const std::vector<std::string>& arguments);

// The line that says so.
std::string unknown_job(const Invocation& invocation, const std::string& job);

// Return the exit status.
int run_command(const Invocation& invocation);
int resume_command(const Invocation& invocation);
int events_command(const Invocation& invocation);

}  // namespace regroup
