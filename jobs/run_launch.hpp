// What `run` and `resume` have in common once they know the job: checks the options, starts ranks
// with mpirun where that is asked for, and runs one rank where this process is one.
#pragma once

#include <chrono>
#include <expected>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "jobs/rank_run.hpp"
#include "jobs/resumption.hpp"
#include "jobs/run_options.hpp"
#include "runtime/host/launcher.hpp"

namespace regroup {

struct LaunchRequest {
  std::string called;                  // as a user calls the program: "regroup"
  std::string verb;                    // "run" or "resume"
  std::vector<std::string> arguments;  // behind it, for the ranks that mpirun is to start
  // Behind `resume` and the directory, for ranks that are to go on.
  std::vector<std::string> resume_arguments;
  std::unique_ptr<Program> program;
  RunOptions options;
  std::uint32_t usual_ranks = 1;  // where nothing says how many
  // Of `resume`: true on every rank; the rest where this process looked for the checkpoint.
  bool resumes = false;
  CheckpointNumber from;
  std::optional<Buffer> description;  // of the job; without it the job is prepared
};

// Of several ranks with the same arguments the first one says what is wrong with them. Returns the
// exit status.
int refuse(const std::string& message, int exit_status);
// This process is the one of several ranks that speaks to the user.
bool speaks();

class RunLaunch {
 public:
  explicit RunLaunch(LaunchRequest request)
      : request_(std::move(request)), options_(request_.options) {}
  RunLaunch(const RunLaunch&) = delete;
  RunLaunch& operator=(const RunLaunch&) = delete;

  // Returns the exit status.
  int start();

 private:
  std::expected<void, std::string> prepare() const;
  std::expected<void, std::string> check_ranks() const;
  std::expected<FaultPlan, std::string> check_faults() const;
  std::expected<void, std::string> check_recovery() const;
  std::expected<void, std::string> check_directory(const std::filesystem::path& path) const;
  std::expected<void, std::string> find_nodes();
  int supervise();
  int run_one_rank();
  void set_up_progress(RankRunRequest& request) const;

  LaunchRequest request_;
  RunOptions& options_;
  ScheduleOptions schedule_;
  BindingOptions binding_;
  FaultPlan faults_;
  RunOptions::Nodes nodes_;
  std::optional<LaunchedRank> launched_ = launched_rank();
  std::chrono::nanoseconds prepared_within_{0};
};

}  // namespace regroup
