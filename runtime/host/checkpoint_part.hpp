// Writes one rank's part file of a checkpoint: under a temporary name, hashed while it is written,
// synced, and only then given its name, which no other writer can take any more. Every byte of it
// is in one of the hashes that come back, and the bytes of large pieces are touched once. Private
// to the checkpoint store.
#pragma once

#include <expected>
#include <filesystem>
#include <string>

#include "runtime/host/checkpoint.hpp"
#include "runtime/host/file_system.hpp"

namespace regroup {

// Into `directory`, which is there. An error is one line that names the file. After one, a part may
// be there under its name, of a writer that never got to say so: no manifest counts it.
std::expected<PartFile, std::string> write_part_file(FileSystem& file_system,
                                                     const std::filesystem::path& directory,
                                                     const std::string& run,
                                                     const PartRequest& request);

}  // namespace regroup
