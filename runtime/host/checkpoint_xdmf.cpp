#include "runtime/host/checkpoint_xdmf.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "runtime/host/checkpoint_files.hpp"
#include "runtime/host/content_hash.hpp"

namespace regroup {
namespace {

using namespace checkpoint_files;

bool is_drawn(const GridField& field) {
  return field.shape.size() > 1;
}

struct DrawnField {
  std::string dataset;
  ElementType type = ElementType::kFloat64;
  const GridField* field = nullptr;
};

// Fields that share a mesh, so that they are shown together.
struct Mesh {
  std::vector<std::uint64_t> nodes;
  std::vector<DrawnField> fields;
};

std::vector<std::uint64_t> nodes_of(const GridField& field) {
  std::vector<std::uint64_t> nodes = field.shape;
  if (field.centre == FieldCentre::kCells)
    for (auto& count : nodes) ++count;
  return nodes;
}

ElementType type_of(const CheckpointManifest& manifest, std::string_view dataset) {
  for (const auto& part : manifest.files)
    for (const auto& piece : part.pieces)
      if (piece.current && piece.dataset == dataset) return piece.type;
  return ElementType::kFloat64;
}

std::vector<Mesh> meshes_of(const CheckpointManifest& manifest) {
  std::vector<Mesh> meshes;
  for (const auto& [dataset, field] : fields_of(manifest)) {
    if (!is_drawn(*field)) continue;
    const auto nodes = nodes_of(*field);
    auto mesh = std::ranges::find_if(meshes, [&](const Mesh& other) {
      const GridField& first = *other.fields.front().field;
      return other.nodes == nodes && first.spacing == field->spacing &&
             first.origin == field->origin;
    });
    if (mesh == meshes.end()) mesh = meshes.insert(mesh, Mesh{nodes, {}});
    mesh->fields.push_back({dataset, type_of(manifest, dataset), field});
  }
  return meshes;
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

std::string escaped(std::string_view text) {
  std::string xml;
  for (const char c : text) {
    if (c == '&')
      xml += "&amp;";
    else if (c == '<')
      xml += "&lt;";
    else if (c == '>')
      xml += "&gt;";
    else if (c == '"')
      xml += "&quot;";
    else
      xml += c;
  }
  return xml;
}

// Unsigned ones of 64 bits are unknown to XDMF 2; HDF5 converts them.
std::string_view number_type(ElementType type) {
  constexpr std::array<std::string_view, 4> types = {
      R"(NumberType="UChar" Precision="1")", R"(NumberType="Int" Precision="8")",
      R"(NumberType="Int" Precision="8")", R"(NumberType="Float" Precision="8")"};
  return types[static_cast<std::size_t>(type)];
}

std::string data_item(std::string_view dimensions, std::string_view type, std::string_view format,
                      std::string_view data) {
  return fmt::format(
      "        <DataItem Dimensions=\"{}\" {} Format=\"{}\">\n          {}\n        </DataItem>\n",
      dimensions, type, format, data);
}

std::string numbers_item(const std::vector<double>& numbers) {
  return data_item(std::to_string(numbers.size()), number_type(ElementType::kFloat64), "XML",
                   fmt::format("{}", fmt::join(numbers, " ")));
}

std::string attribute_text(const DrawnField& drawn) {
  const GridField& field = *drawn.field;
  std::string text =
      fmt::format("      <Attribute Name=\"{}\" AttributeType=\"Scalar\" Center=\"{}\">\n",
                  field.name, field.centre == FieldCentre::kCells ? "Cell" : "Node");
  if (!field.units.empty())
    text +=
        fmt::format("        <Information Name=\"units\" Value=\"{}\"/>\n", escaped(field.units));
  text += data_item(fmt::format("{}", fmt::join(field.shape, " ")), number_type(drawn.type), "HDF",
                    fmt::format("{}:/{}", kView, drawn.dataset));
  return text + "      </Attribute>\n";
}

std::string mesh_text(const Mesh& mesh, std::size_t number,
                      const std::optional<std::string>& time) {
  const GridField& field = *mesh.fields.front().field;
  const bool is_solid = mesh.nodes.size() == 3;
  std::string text = fmt::format("    <Grid Name=\"grid-{}\" GridType=\"Uniform\">\n", number);
  if (time) text += fmt::format("      <Time Value=\"{}\"/>\n", *time);
  text += fmt::format("      <Topology TopologyType=\"{}\" Dimensions=\"{}\"/>\n",
                      is_solid ? "3DCoRectMesh" : "2DCoRectMesh", fmt::join(mesh.nodes, " "));
  text += fmt::format("      <Geometry GeometryType=\"{}\">\n",
                      is_solid ? "ORIGIN_DXDYDZ" : "ORIGIN_DXDY");
  text += numbers_item(field.origin) + numbers_item(field.spacing) + "      </Geometry>\n";
  for (const auto& drawn : mesh.fields) text += attribute_text(drawn);
  return text + "    </Grid>\n";
}

}  // namespace

bool has_grids(const CheckpointManifest& manifest) {
  return std::ranges::any_of(fields_of(manifest),
                             [](const auto& held) { return is_drawn(*held.second); });
}

std::string xdmf_text(const CheckpointManifest& manifest) {
  const auto time = time_of(manifest);
  std::string text =
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Xdmf Version=\"2.0\">\n  <Domain>\n";
  std::size_t number = 0;
  for (const auto& mesh : meshes_of(manifest)) text += mesh_text(mesh, ++number, time);
  return text + "  </Domain>\n</Xdmf>\n";
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
