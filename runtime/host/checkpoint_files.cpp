#include "runtime/host/checkpoint_files.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "runtime/host/content_hash.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup::checkpoint_files {
namespace {

constexpr std::size_t kDigits = 6;
constexpr std::string_view kIdentityStart = "regroup-checkpoint-part 1\n";

// The number after `name` on a line of an identity.
std::string_view identity_field(std::string_view identity, std::string_view name) {
  const std::string start = fmt::format("\n{} ", name);
  const auto at = identity.find(start);
  if (at == identity.npos) return {};
  const auto rest = identity.substr(at + start.size());
  return rest.substr(0, rest.find('\n'));
}

bool is_digits(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

// Whether an open that fails so tells that there is no such file, or that it is none of ours.
bool tells_of_the_file(int error_number) {
  return error_number == ENOENT || error_number == ENOTDIR || error_number == ELOOP ||
         error_number == ENXIO;
}

std::unexpected<FileProblem> unreadable(const std::filesystem::path& path, int error_number) {
  return std::unexpected(FileProblem{path_error("read", path, error_number).error(), true});
}

bool same_file(const struct stat& one, const struct stat& other) {
  return one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

}  // namespace

std::string directory_name(CheckpointNumber checkpoint) {
  return fmt::format("{:06}", checkpoint.value);
}

std::optional<CheckpointNumber> number_of(std::string_view name) {
  if (name.size() < kDigits || !is_digits(name)) return std::nullopt;
  CheckpointNumber number;
  const auto parsed = std::from_chars(name.data(), name.data() + name.size(), number.value);
  if (parsed.ec != std::errc() || number.value == 0 || directory_name(number) != name)
    return std::nullopt;
  return number;
}

std::string part_name(RankId rank, CheckpointNumber written_in, CheckpointNumber checkpoint) {
  if (written_in == checkpoint) return fmt::format("part-{:04}.h5", rank.value);
  return fmt::format("part-{:04}-of-{}.h5", rank.value, directory_name(written_in));
}

bool is_own_name(std::string_view name) {
  if (name.ends_with(kTemporarySuffix)) name.remove_suffix(kTemporarySuffix.size());
  return name == kManifest || name == kView || name == kXdmf ||
         (name.starts_with("part-") && name.ends_with(".h5"));
}

std::string identity_text(std::string_view run, const PartFile& part) {
  std::string text = fmt::format("{}run {}\ncheckpoint {}\nepoch {}\nrank {}\n", kIdentityStart,
                                 run, part.written_in.value, part.epoch.value, part.rank.value);
  REGROUP_CHECK(text.size() <= kIdentityBytes, "an identity fits before HDF5's bytes");
  text.resize(kIdentityBytes, '\0');
  return text;
}

std::optional<std::string> identity_problem(std::string_view run, const PartFile& part,
                                            std::string_view identity) {
  if (identity == identity_text(run, part)) return std::nullopt;
  if (!identity.starts_with(kIdentityStart)) return "it is no part of a checkpoint of Regroup";
  const auto wrong = [&](std::string_view name, const std::string& expected) -> std::string {
    const auto found = identity_field(identity, name);
    if (found == expected) return {};
    const bool plain = found.size() <= CheckpointLimits::run_bytes_max &&
                       std::ranges::all_of(found, [](char c) { return c > ' ' && c <= '~'; });
    return fmt::format("it says that it is of {} {}, not {}", name, plain ? found : "?", expected);
  };
  for (auto problem :
       {wrong("run", std::string(run)), wrong("checkpoint", std::to_string(part.written_in.value)),
        wrong("rank", std::to_string(part.rank.value)),
        wrong("epoch", std::to_string(part.epoch.value))})
    if (!problem.empty()) return problem;
  return "its first bytes are damaged";
}

std::expected<OpenedFile, FileProblem> open_regular(FileSystem& file_system,
                                                    const std::filesystem::path& path) {
  // O_NONBLOCK: a named pipe must not wait for its writer. O_NOFOLLOW: a checkpoint has no links
  // that lead elsewhere.
  OpenedFile file;
  file.descriptor = FileDescriptor(
      file_system,
      file_system.open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW, 0));
  if (!file.descriptor.is_open()) {
    const int error_number = errno;
    return std::unexpected(FileProblem{path_error("open", path, error_number).error(),
                                       !tells_of_the_file(error_number)});
  }
  struct stat status {};
  if (file_system.fstat(file.descriptor.get(), &status) != 0) return unreadable(path, errno);
  if (!S_ISREG(status.st_mode))
    return std::unexpected(
        FileProblem{fmt::format("cannot read {}: not a regular file", path.string())});
  file.bytes = static_cast<std::uint64_t>(status.st_size);
  return file;
}

std::expected<std::string, FileProblem> read_regular(FileSystem& file_system,
                                                     const std::filesystem::path& path,
                                                     std::uint64_t bytes_max) {
  const auto file = open_regular(file_system, path);
  if (!file) return std::unexpected(file.error());
  if (file->bytes > bytes_max)
    return std::unexpected(
        FileProblem{fmt::format("cannot read {}: larger than {} bytes", path.string(), bytes_max)});
  std::string text(file->bytes, '\0');
  const int error_number =
      read_at(file_system, file->descriptor.get(), std::as_writable_bytes(std::span(text)), 0);
  if (error_number != 0) return unreadable(path, error_number);
  return text;
}

std::expected<std::string, std::string> hash_of(FileSystem& file_system, int fd,
                                                std::span<const hdf5::Extent> extents) {
  ContentHasher hasher;
  const auto done =
      for_each_block(file_system, fd, extents, [&](auto block) { hasher.update(block); });
  if (!done) return std::unexpected(done.error());
  return hasher.hex();
}

std::vector<hdf5::Extent> structure_of(const PartFile& part) {
  std::vector<hdf5::Extent> storage;
  for (const auto& piece : part.pieces)
    storage.insert(storage.end(), piece.storage.begin(), piece.storage.end());
  std::ranges::sort(storage, {}, &hdf5::Extent::offset);
  std::vector<hdf5::Extent> structure;
  std::uint64_t at = 0;
  for (const auto& extent : storage) {
    REGROUP_CHECK(extent.offset >= at && extent.end() <= part.bytes, "storage does not overlap");
    if (extent.offset > at) structure.push_back({at, extent.offset - at});
    at = extent.end();
  }
  if (at < part.bytes) structure.push_back({at, part.bytes - at});
  return structure;
}

// By link and unlink: a rename would replace what another writer has published, and the rename that
// does not is missing from network file systems. Those may also repeat a link that they have made,
// and then say that the name is taken.
std::expected<void, std::string> publish(FileSystem& file_system,
                                         const std::filesystem::path& temporary,
                                         const std::filesystem::path& path) {
  if (file_system.link(temporary.c_str(), path.c_str()) != 0) {
    const int error_number = errno;
    struct stat ours {};
    struct stat theirs {};
    const bool made = error_number == EEXIST && file_system.lstat(temporary.c_str(), &ours) == 0 &&
                      file_system.lstat(path.c_str(), &theirs) == 0 && same_file(ours, theirs);
    if (!made) return path_error("create", path, error_number);
  }
  if (file_system.unlink(temporary.c_str()) != 0) return path_error("remove", temporary, errno);
  return {};
}

}  // namespace regroup::checkpoint_files
