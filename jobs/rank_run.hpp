// One rank of a run, from the start of MPI to its end: binds the rank, composes Node, scheduler, transport
// and job, drives them, and on the coordinator keeps status and progress and has the result written.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "jobs/program.hpp"
#include "jobs/report.hpp"
#include "jobs/run_options.hpp"
#include "runtime/host/launcher.hpp"
#include "runtime/host/run_directory.hpp"

namespace regroup {

// What the coordinator knows at the end.
struct RunSummary {
  std::string job;
  std::string dir;
  int exit_status = 0;
  std::string message;
  std::uint64_t shards = 0;
  std::uint64_t quarantined = 0;
  std::uint32_t ranks = 1;
  std::uint64_t epoch = 1;
  std::uint64_t failures_survived = 0;
  double seconds = 0;      // from the start of this process
  double run_seconds = 0;  // from the first lease to the last commit
  // The result as far as it is shown: named values, and the first rows of the table.
  std::vector<NamedValue> values;
  std::vector<ResultColumn> columns;
  std::vector<std::vector<ResultValue>> first_rows;
  std::uint64_t rows = 0;
  // Shards given up, the first of them, one line each.
  std::vector<std::string> quarantine_log;
};

struct RankRunRequest {
  Program* program = nullptr;
  RunOptions options;
  ScheduleOptions schedule;
  BindingOptions binding;
  std::optional<LaunchedRank> launched;
  // Rank 0 only: the claimed run directory.
  RunDirectory* directory = nullptr;
  int progress_columns = 80;
  // Rank 0 only: called once, when the run is over and before MPI ends.
  std::function<void(const RunSummary&)> show;
};

// Returns the exit status of the run, the same on every rank.
int run_rank(RankRunRequest request);

}  // namespace regroup
