#include "runtime/host/run_inspection.hpp"

#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/host/checkpoint_files.hpp"
#include "runtime/host/file_system.hpp"
#include "runtime/host/result_file_reader.hpp"

namespace regroup {
namespace {

using Kind = RunReadError::Kind;
using Refusal = std::optional<RunReadError>;

constexpr const char* kNameARun = "name the directory of a run";

RunReadError bad_input(std::string message) {
  return {Kind::kBadInput, std::move(message)};
}

// What the user may not look at is bad input, too: another user, or other permissions, will do.
RunReadError system_error(const std::filesystem::path& path, int error_number) {
  const std::string what =
      fmt::format("cannot read {}: {}", path.string(), errno_text(error_number));
  if (error_number == EACCES || error_number == EPERM)
    return bad_input(what + "; make it readable, or ask its owner");
  return {Kind::kIo, what};
}

// As the effective user, which access(2) would not be. 0, or an errno.
int access_error(const std::filesystem::path& path, int mode) {
  return ::faccessat(AT_FDCWD, path.c_str(), mode, AT_EACCESS) == 0 ? 0 : errno;
}

Refusal refusal_of_directory(const std::filesystem::path& path) {
  if (path.empty()) return bad_input(fmt::format("the run directory has no name; {}", kNameARun));
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG || errno == ELOOP)
      return bad_input(fmt::format("{} is not there; {}", path.string(), kNameARun));
    return system_error(path, errno);
  }
  if (!S_ISDIR(status.st_mode))
    return bad_input(fmt::format("{} is not a directory; {}", path.string(), kNameARun));
  if (const int error_number = access_error(path, R_OK | X_OK); error_number != 0)
    return system_error(path, error_number);
  return std::nullopt;
}

Refusal refusal_of_status(const std::filesystem::path& directory) {
  const auto path = directory / kStatusFileName;
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno != ENOENT) return system_error(path, errno);
    return bad_input(fmt::format("{} is not a run directory: it has no {}; {}", directory.string(),
                                 kStatusFileName, kNameARun));
  }
  if (!S_ISREG(status.st_mode) || static_cast<std::size_t>(status.st_size) > kStatusBytesMax)
    return bad_input(fmt::format("{} is no status of a run: it is {}; {}", path.string(),
                                 S_ISREG(status.st_mode) ? "too large" : "not a regular file",
                                 kNameARun));
  if (const int error_number = access_error(path, R_OK); error_number != 0)
    return system_error(path, error_number);
  return std::nullopt;
}

// A file of another size than its status says is damaged, and HDF5 need not see it.
ResultInspection inspect_result(const std::filesystem::path& directory, std::uint64_t bytes,
                                const std::optional<FileDigest>& written) {
  ResultInspection result{.bytes = bytes, .rows = 0, .columns = {}, .scalars = {}, .problem = {}};
  if (written && written->bytes != bytes) {
    result.problem = fmt::format("{}: it has {} bytes, not {}; run the job again or restore it",
                                 (directory / kResultFileName).string(), bytes, written->bytes);
    return result;
  }
  const auto reader = ResultFileReader::open(directory);
  if (!reader) {
    result.problem = reader.error();
    return result;
  }
  result.rows = reader->rows();
  result.columns = reader->columns();
  for (const auto& scalar : reader->scalars()) result.scalars.push_back(scalar.name);
  return result;
}

}  // namespace

std::expected<StatusFile, RunReadError> read_status_file(const std::filesystem::path& directory) {
  if (auto refusal = refusal_of_directory(directory)) return std::unexpected(*refusal);
  if (auto refusal = refusal_of_status(directory)) return std::unexpected(*refusal);
  const auto path = directory / kStatusFileName;
  auto text = read_small_file(path, kStatusBytesMax);
  if (!text) return std::unexpected(RunReadError{Kind::kIo, text.error()});
  auto status = parse_run_status(*text);
  if (!status)
    return std::unexpected(bad_input(fmt::format("{} is no status of a run: {}; {}, or restore it",
                                                 path.string(), status.error(), kNameARun)));
  return StatusFile{std::move(*status), std::move(*text)};
}

std::expected<RunCheckpoints, RunReadError> list_checkpoints(const std::filesystem::path& directory,
                                                             const RunStatus& status,
                                                             FileSystem& file_system) {
  const auto path = directory / checkpoint_files::kDirectory;
  const int error_number = access_error(path, R_OK | X_OK);
  if (error_number == ENOENT) return RunCheckpoints{};
  if (error_number != 0) return std::unexpected(system_error(path, error_number));
  if (status.run.empty())
    return RunCheckpoints{
        {},
        fmt::format("whose they are is not known, since {} has no member 'run'", kStatusFileName)};
  auto entries = CheckpointStore(directory, status.run, file_system).list();
  if (!entries) return std::unexpected(RunReadError{Kind::kIo, entries.error()});
  return RunCheckpoints{std::move(*entries), {}};
}

std::expected<RunInspection, RunReadError> inspect_run(const std::filesystem::path& directory) {
  auto file = read_status_file(directory);
  if (!file) return std::unexpected(file.error());
  auto checkpoints = list_checkpoints(directory, file->status);
  if (!checkpoints) return std::unexpected(checkpoints.error());
  RunInspection inspection{.directory = directory,
                           .status = std::move(file->status),
                           .in_use = RunDirectory::is_held(directory),
                           .checkpoints = std::move(*checkpoints),
                           .result = {}};
  struct stat found {};
  if (::lstat((directory / kResultFileName).c_str(), &found) == 0)
    inspection.result = inspect_result(directory, static_cast<std::uint64_t>(found.st_size),
                                       inspection.status.result);
  return inspection;
}

}  // namespace regroup
