// The size and content hash of a whole file. Kept beside a file that does not change any more, it
// finds any changed bit in it, wherever that is. Any thread may call it.
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <string>

#include "runtime/host/file_system.hpp"

namespace regroup {

struct FileDigest {
  std::uint64_t bytes = 0;
  std::string hash;  // as ContentHasher has it

  friend bool operator==(const FileDigest&, const FileDigest&) = default;
};

// Reads the whole file. The error is one line that names it.
std::expected<FileDigest, std::string> digest_of_file(const std::filesystem::path& path,
                                                      FileSystem& file_system = FileSystem::real());

}  // namespace regroup
