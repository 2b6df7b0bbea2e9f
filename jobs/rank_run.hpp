// One rank of a run, from the start of MPI to its end: binds the rank, composes Node, scheduler,
// transport and job, drives them, and while it coordinates keeps status and progress and has the
// result written.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "jobs/program.hpp"
#include "jobs/run_options.hpp"
#include "jobs/run_summary.hpp"
#include "runtime/host/launcher.hpp"
#include "runtime/host/run_directory.hpp"

namespace regroup {

struct RankRunRequest {
  Program* program = nullptr;
  RunOptions options;
  ScheduleOptions schedule;
  BindingOptions binding;
  FaultPlan faults;
  std::optional<LaunchedRank> launched;
  // A supervisor started the ranks and reads the verdict from the run directory.
  bool supervised = false;
  std::uint64_t relaunches = 0;  // of its: before this launch
  // Rank 0 only: the claimed run directory.
  RunDirectory* directory = nullptr;
  // Rank 0 only: what job it is, if a run goes on; else that of the program is described.
  std::optional<Buffer> description = {};
  int progress_columns = 80;
  // Called on the rank that coordinates at the end, when the run is over and before MPI ends.
  std::function<void(const RunSummary&)> show;
};

// Before a run, in its directory: the marks of faults that struck an earlier one.
void forget_strikes(const std::filesystem::path& directory);

// Returns the exit status of the run, the same on every rank.
int run_rank(RankRunRequest request);

}  // namespace regroup
