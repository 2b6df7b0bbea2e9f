#include "runtime/host/checkpoint_xdmf.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "runtime/host/checkpoint_files.hpp"
#include "runtime/host/content_hash.hpp"
#include "runtime/host/xdmf.hpp"

namespace regroup {
namespace {

using namespace checkpoint_files;

ElementType type_of(const CheckpointManifest& manifest, std::string_view dataset) {
  for (const auto& part : manifest.files)
    for (const auto& piece : part.pieces)
      if (piece.current && piece.dataset == dataset) return piece.type;
  return ElementType::kFloat64;
}

// What the parts that were written for this checkpoint say, if they say the same: the time, or else
// the step.
std::optional<std::string> time_of(const CheckpointManifest& manifest) {
  for (const std::string_view name : {"time", "step"}) {
    std::vector<std::string> values;
    for (const auto& part : manifest.files) {
      if (part.written_in != manifest.checkpoint) continue;
      const auto found = std::ranges::find(part.attributes, name, &NamedValue::name);
      if (found == part.attributes.end()) continue;
      const auto* number = std::get_if<double>(&found->value);
      if (number != nullptr && std::isfinite(*number)) values.push_back(fmt::format("{}", *number));
      if (const auto* step = std::get_if<std::uint64_t>(&found->value))
        values.push_back(fmt::format("{}", *step));
      if (const auto* step = std::get_if<std::int64_t>(&found->value))
        values.push_back(fmt::format("{}", *step));
    }
    if (!values.empty() && std::ranges::count(values, values[0]) == std::ssize(values))
      return values[0];
  }
  return std::nullopt;
}

}  // namespace

bool has_grids(const CheckpointManifest& manifest) {
  return std::ranges::any_of(fields_of(manifest),
                             [](const auto& held) { return has_mesh(*held.second); });
}

std::string xdmf_text(const CheckpointManifest& manifest) {
  std::vector<XdmfField> drawn;
  for (const auto& [dataset, field] : fields_of(manifest)) {
    if (has_mesh(*field))
      drawn.push_back({fmt::format("{}:/{}", kView, dataset), type_of(manifest, dataset), field});
  }
  return xdmf_text(drawn, time_of(manifest));
}

std::expected<ViewFile, std::string> write_xdmf(FileSystem& file_system,
                                                const std::filesystem::path& directory,
                                                const CheckpointManifest& manifest) {
  const auto path = directory / kXdmf;
  const std::filesystem::path temporary = path.string() + std::string(kTemporarySuffix);
  const std::string text = xdmf_text(manifest);
  // Whatever has the temporary name is another writer's, and stays.
  if (auto done = write_durably(file_system, temporary, text, Existing::kRefused); !done)
    return std::unexpected(done.error());
  if (auto done = publish(file_system, temporary, path); !done) {
    file_system.unlink(temporary.c_str());
    return std::unexpected(done.error());
  }
  return ViewFile{text.size(), content_hash(text)};
}

}  // namespace regroup
