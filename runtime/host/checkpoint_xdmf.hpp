// Writes fields.xdmf (xdmf.hpp): what ParaView and VisIt need to show the fields of view.h5 on
// their grids. Fields of one dimension are in the view alone. Private to the checkpoint store.
#pragma once

#include <expected>
#include <filesystem>
#include <string>

#include "runtime/host/checkpoint.hpp"
#include "runtime/host/file_system.hpp"

namespace regroup {

// Whether it has fields that the file can describe.
bool has_grids(const CheckpointManifest& manifest);

// The file's text: the same for the same fields, and step and time of the newest parts.
std::string xdmf_text(const CheckpointManifest& manifest);

// In `directory`, synced and under its name, which no other writer can take any more.
std::expected<ViewFile, std::string> write_xdmf(FileSystem& file_system,
                                                const std::filesystem::path& directory,
                                                const CheckpointManifest& manifest);

}  // namespace regroup
