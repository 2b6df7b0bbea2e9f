// The names of a checkpoint's files, and the steps that writing and reading them share: how a
// finished file gets its name, how a part tells whose it is before HDF5 is asked, what is hashed
// where. Private to the checkpoint store. Errors are one line that names the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/host/checkpoint.hpp"
#include "runtime/host/file_system.hpp"

namespace regroup::checkpoint_files {

inline constexpr std::string_view kDirectory = "checkpoints";
inline constexpr std::string_view kManifest = "manifest.json";
inline constexpr std::string_view kView = "view.h5";
inline constexpr std::string_view kXdmf = "fields.xdmf";
inline constexpr std::string_view kTemporarySuffix = ".tmp";
// Of a part file, before HDF5's own bytes. It begins with whose it is, as text filled up with NULs.
inline constexpr std::size_t kUserBlockBytes = 4096;
inline constexpr std::size_t kIdentityBytes = 512;
inline constexpr std::size_t kBlockBytes = std::size_t{256} << 10;  // what a core's cache holds

// "000017"; more digits from a million on.
std::string directory_name(CheckpointNumber checkpoint);
std::optional<CheckpointNumber> number_of(std::string_view directory_name);
// "part-0002.h5", or "part-0002-of-000012.h5" for one of an earlier checkpoint.
std::string part_name(RankId rank, CheckpointNumber written_in, CheckpointNumber checkpoint);
// Whether the store made a file of this name in a checkpoint's directory.
bool is_own_name(std::string_view name);

std::string identity_text(std::string_view run, const PartFile& part);
// Why these first bytes of a file are not that part's, if so.
std::optional<std::string> identity_problem(std::string_view run, const PartFile& part,
                                            std::string_view identity);

// Why a file cannot be taken.
struct FileProblem {
  std::string reason;  // one line
  // The system would not let it be read, which says nothing of what is in it: it may be right.
  bool unreadable = false;
};

// A regular file, opened to be read.
struct OpenedFile {
  FileDescriptor descriptor;
  std::uint64_t bytes = 0;
};
std::expected<OpenedFile, FileProblem> open_regular(FileSystem& file_system,
                                                    const std::filesystem::path& path);
// The whole of a regular file that has no more than `bytes_max`.
std::expected<std::string, FileProblem> read_regular(FileSystem& file_system,
                                                     const std::filesystem::path& path,
                                                     std::uint64_t bytes_max);

// Feeds the bytes of the extents, in this order, to `visit`, in blocks.
template <class Visit>
std::expected<void, std::string> for_each_block(FileSystem& file_system, int fd,
                                                std::span<const hdf5::Extent> extents, Visit visit);
std::expected<std::string, std::string> hash_of(FileSystem& file_system, int fd,
                                                std::span<const hdf5::Extent> extents);
// What of a file's `bytes` lies in no piece's storage, in order. The storage lies inside the file
// and does not overlap.
std::vector<hdf5::Extent> structure_of(const PartFile& part);

// Makes `path` the name of the file at `temporary`, unless something has that name already; removes
// the temporary name.
std::expected<void, std::string> publish(FileSystem& file_system,
                                         const std::filesystem::path& temporary,
                                         const std::filesystem::path& path);

template <class Visit>
std::expected<void, std::string> for_each_block(FileSystem& file_system, int fd,
                                                std::span<const hdf5::Extent> extents,
                                                Visit visit) {
  std::vector<std::byte> block;
  for (const auto& extent : extents) {
    for (std::uint64_t at = extent.offset; at < extent.end(); at += block.size()) {
      block.resize(std::min<std::uint64_t>(kBlockBytes, extent.end() - at));
      if (const int error_number = read_at(file_system, fd, block, at); error_number != 0)
        return std::unexpected(errno_text(error_number));
      visit(std::span<const std::byte>(block));
    }
  }
  return {};
}

}  // namespace regroup::checkpoint_files
