#include "runtime/host/xdmf.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include <fmt/format.h>

namespace regroup {
namespace {

// Fields that share a mesh, so that they are shown together.
struct Mesh {
  std::vector<std::uint64_t> nodes;
  std::vector<XdmfField> fields;
};

std::vector<std::uint64_t> nodes_of(const GridField& field) {
  std::vector<std::uint64_t> nodes = field.shape;
  if (field.centre == FieldCentre::kCells)
    for (auto& count : nodes) ++count;
  return nodes;
}

std::vector<Mesh> meshes_of(std::span<const XdmfField> fields) {
  std::vector<Mesh> meshes;
  for (const XdmfField& described : fields) {
    const GridField& field = *described.field;
    const auto nodes = nodes_of(field);
    auto mesh = std::ranges::find_if(meshes, [&](const Mesh& other) {
      const GridField& first = *other.fields.front().field;
      return other.nodes == nodes && first.spacing == field.spacing && first.origin == field.origin;
    });
    if (mesh == meshes.end()) mesh = meshes.insert(mesh, Mesh{nodes, {}});
    mesh->fields.push_back(described);
  }
  return meshes;
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

std::string attribute_text(const XdmfField& drawn) {
  const GridField& field = *drawn.field;
  std::string text =
      fmt::format("      <Attribute Name=\"{}\" AttributeType=\"Scalar\" Center=\"{}\">\n",
                  field.name, field.centre == FieldCentre::kCells ? "Cell" : "Node");
  if (!field.units.empty())
    text +=
        fmt::format("        <Information Name=\"units\" Value=\"{}\"/>\n", escaped(field.units));
  text += data_item(fmt::format("{}", fmt::join(field.shape, " ")), number_type(drawn.type), "HDF",
                    drawn.data);
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

std::string xdmf_text(std::span<const XdmfField> fields, const std::optional<std::string>& time) {
  std::string text =
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Xdmf Version=\"2.0\">\n  <Domain>\n";
  std::size_t number = 0;
  for (const auto& mesh : meshes_of(fields)) text += mesh_text(mesh, ++number, time);
  return text + "  </Domain>\n</Xdmf>\n";
}

}  // namespace regroup
