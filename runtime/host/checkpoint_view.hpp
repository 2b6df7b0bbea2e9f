// Writes view.h5: every dataset of a checkpoint as one array over all part files, and a field as
// the grid that it is, by HDF5's virtual datasets, for h5dump, h5py and whoever else reads HDF5. It
// holds names and rows, no elements, and can be made again from the manifest; nothing here reads
// it. Private to the checkpoint store.
#pragma once

#include <expected>
#include <filesystem>
#include <string>

#include "runtime/host/checkpoint.hpp"
#include "runtime/host/file_system.hpp"

namespace regroup {

// In `directory`, synced and under its name, which no other writer can take any more.
std::expected<ViewFile, std::string> write_view(FileSystem& file_system,
                                                const std::filesystem::path& directory,
                                                const CheckpointManifest& manifest);

}  // namespace regroup
