// What a run has to say at its end, and how: one JSON object, or text for people. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/host/result_file.hpp"
#include "runtime/host/run_directory.hpp"

namespace regroup {

// What the coordinator knows at the end.
struct RunSummary {
  std::string job;
  std::string dir;
  int exit_status = 0;
  std::string message;
  bool in_status = false;  // status.json says how the run ended
  std::uint64_t shards = 0;
  std::uint64_t quarantined = 0;
  std::uint32_t ranks = 1;
  std::uint64_t epoch = 1;
  std::uint64_t failures_survived = 0;
  std::uint64_t relaunches = 0;
  std::vector<RecoveryStatus> recoveries;
  RestoredFrom restored_from;
  std::uint64_t shards_repeated = 0;
  double seconds = 0;      // from the start of this process
  double run_seconds = 0;  // from the first lease to the last commit
  // The result as far as it is shown: named values, and the first rows of the table.
  std::vector<NamedValue> values;
  std::vector<ResultColumn> columns;
  std::vector<std::vector<ResultValue>> first_rows;
  std::uint64_t rows = 0;
  std::vector<std::string> picture_files;  // within the directory
  // Shards given up, the first of them, one line each.
  std::vector<std::string> quarantine_log;
};

// One line. Bytes of texts that are no UTF-8 are replaced; a number that is not finite is null.
std::string summary_json(const RunSummary& summary);

// The result and where all of it is; `program` is what the user called. Several lines, "" for a run
// without a result.
std::string summary_text(const RunSummary& summary, const std::string& program);

}  // namespace regroup
