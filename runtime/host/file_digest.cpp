#include "runtime/host/file_digest.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <span>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>

#include "runtime/host/content_hash.hpp"

namespace regroup {
namespace {

constexpr std::size_t kBlockBytes = std::size_t{256} << 10;  // what a core's cache holds

}  // namespace

std::expected<FileDigest, std::string> digest_of_file(const std::filesystem::path& path,
                                                      FileSystem& file_system) {
  const FileDescriptor file(file_system,
                            file_system.open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0));
  if (!file.is_open()) return path_error("open", path, errno);
  struct stat status {};
  if (file_system.fstat(file.get(), &status) != 0) return path_error("read", path, errno);
  if (!S_ISREG(status.st_mode))
    return std::unexpected(fmt::format("cannot read {}: not a regular file", path.string()));
  FileDigest digest{.bytes = static_cast<std::uint64_t>(status.st_size), .hash = {}};
  ContentHasher hasher;
  std::vector<std::byte> block;
  for (std::uint64_t at = 0; at < digest.bytes; at += block.size()) {
    block.resize(std::min<std::uint64_t>(kBlockBytes, digest.bytes - at));
    if (const int error_number = read_at(file_system, file.get(), block, at); error_number != 0)
      return path_error("read", path, error_number);
    hasher.update(block);
  }
  digest.hash = hasher.hex();
  return digest;
}

}  // namespace regroup
