#include "runtime/host/file_digest.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <span>
#include <vector>

#include "runtime/host/content_hash.hpp"

namespace regroup {
namespace {

constexpr std::size_t kBlockBytes = std::size_t{256} << 10;  // what a core's cache holds

}  // namespace

std::expected<FileDigest, std::string> digest_of_file(const std::filesystem::path& path,
                                                      FileSystem& file_system) {
  const auto opened = open_regular_file(path, file_system);
  if (!opened) return std::unexpected(opened.error());
  FileDigest digest{.bytes = opened->bytes, .hash = {}};
  ContentHasher hasher;
  std::vector<std::byte> block;
  for (std::uint64_t at = 0; at < digest.bytes; at += block.size()) {
    block.resize(std::min<std::uint64_t>(kBlockBytes, digest.bytes - at));
    if (const int error_number = read_at(file_system, opened->file.get(), block, at);
        error_number != 0)
      return path_error("read", path, error_number);
    hasher.update(block);
  }
  digest.hash = hasher.hex();
  return digest;
}

}  // namespace regroup
