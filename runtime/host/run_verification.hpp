// Proves from its files that a run directory holds what was written: every byte of each sealed
// checkpoint and of the result is read and held against its hash, the result's picture files
// against the result, the status against the rules that every status keeps, and all of them against
// each other. Claims and changes nothing. While a run lives in the directory its own changes are no
// problems. Any thread may ask.
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "runtime/host/run_inspection.hpp"

namespace regroup {

// One line: something is wrong with that file.
struct VerificationProblem {
  std::string file;  // within the run directory
  std::string reason;

  friend bool operator==(const VerificationProblem&, const VerificationProblem&) = default;
};

// A thing that was checked: the status, a checkpoint, the result.
struct VerifiedPart {
  std::string name;  // "status.json", "checkpoints/000017", "result.h5", "NAME.png"
  std::uint64_t files = 0;
  std::uint64_t datasets = 0;
  std::uint64_t bytes = 0;  // that were read
  std::uint64_t problems = 0;
};

struct RunVerification {
  std::filesystem::path directory;  // as the user gave it
  RunStatus status;
  std::optional<bool> in_use;
  std::vector<VerifiedPart> parts;  // in the order in which they were checked
  std::vector<std::string> notes;   // what was not verified, and why that is no problem
  std::vector<VerificationProblem> problems;

  bool valid() const { return problems.empty(); }
  // There is neither a sealed checkpoint nor a result yet.
  bool has_status_alone() const { return parts.size() == 1 && problems.empty(); }
};

std::expected<RunVerification, RunReadError> verify_run(
    const std::filesystem::path& directory, FileSystem& file_system = FileSystem::real());

// Why no run can have this status, a line each. Pure.
std::vector<std::string> problems_with(const RunStatus& status);

}  // namespace regroup
