// What a run directory holds, told from its files alone, without MPI and without reading data: the
// status, the checkpoints by their manifests, the result by its structure. Claims and changes
// nothing, so a live run may be looked at: each file then is as it was at its own moment. Any
// thread may ask.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "runtime/host/checkpoint_store.hpp"
#include "runtime/host/result_file.hpp"
#include "runtime/host/run_directory.hpp"

namespace regroup {

// Why a directory cannot be told of at all, in one line that names the path and says what to do.
struct RunReadError {
  enum class Kind : std::uint8_t {
    kBadInput,  // it is not the directory of a run, or not one that this user may read
    kIo         // the system failed us
  };
  Kind kind = Kind::kBadInput;
  std::string message;
};

struct StatusFile {
  RunStatus status;
  std::string text;
};
std::expected<StatusFile, RunReadError> read_status_file(const std::filesystem::path& directory);

struct RunCheckpoints {
  std::vector<CheckpointEntry> entries;  // the newest first
  // Why they cannot be told of, though there are some: the status does not say whose they are.
  std::string problem;
};
std::expected<RunCheckpoints, RunReadError> list_checkpoints(
    const std::filesystem::path& directory, const RunStatus& status,
    FileSystem& file_system = FileSystem::real());

struct ResultInspection {
  std::uint64_t bytes = 0;
  std::uint64_t rows = 0;
  std::vector<ResultColumn> columns;  // none: there is no table
  std::vector<std::string> scalars;   // their names
  std::string problem;                // why it cannot be opened; the others are not known then
};

struct RunInspection {
  std::filesystem::path directory;  // as the user gave it
  RunStatus status;
  std::optional<bool> in_use;  // by a live run; nothing: that could not be told
  RunCheckpoints checkpoints;
  std::optional<ResultInspection> result;
};

std::expected<RunInspection, RunReadError> inspect_run(const std::filesystem::path& directory);

}  // namespace regroup
