// Text that tells ParaView and VisIt of gridded fields in HDF5 files. It is XDMF as version 2 has
// it, which readers of both versions take: KJI order throughout, the rank of a dataset that of its
// mesh, geometry names in capitals. XDMF has no uniform mesh of one dimension. Pure functions.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "runtime/protocol/field.hpp"

namespace regroup {

struct XdmfField {
  std::string data;  // "FILE:/DATASET", the file's path from where the text is
  ElementType type = ElementType::kFloat64;
  const GridField* field = nullptr;
};

// Whether the text can describe it.
inline bool has_mesh(const GridField& field) {
  return field.shape.size() > 1;
}

// The same for the same fields and time. Those that share a mesh are shown together; each has one.
std::string xdmf_text(std::span<const XdmfField> fields, const std::optional<std::string>& time);

}  // namespace regroup
