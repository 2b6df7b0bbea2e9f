#include "runtime/host/checkpoint_field.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string_view>

#include "runtime/host/checkpoint_manifest.hpp"

namespace regroup::checkpoint_fields {
namespace {

using Limits = CheckpointLimits;
using Indices = std::vector<std::size_t>;

// Cuts through all boxes separate those of any tiling that was made by halving; what is deeper is
// compared in pairs.
constexpr int kCutsMax = 64;

bool is_continuation(char c) {
  return (static_cast<unsigned char>(c) & 0xC0u) == 0x80u;
}

// Bytes of the printable UTF-8 sequence that the text begins with; 0: it begins with none.
std::size_t printable_length(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return first >= ' ' && first != 0x7F ? 1 : 0;
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) return 0;
  if (!std::ranges::all_of(text.substr(1, length - 1), is_continuation)) return 0;
  std::uint32_t code = first & (0x7Fu >> length);
  for (const char c : text.substr(1, length - 1))
    code = code << 6 | (static_cast<unsigned char>(c) & 0x3Fu);
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool none =
      (code >= 0xD800 && code < 0xE000) || code > 0x10FFFF || (code & 0xFFFE) == 0xFFFE;
  return overlong || none || code < 0xA0 ? 0 : length;
}

bool is_printable(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = printable_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string field_problem(const GridField& field) {
  if (!is_field_name(field.name)) return "is of a field without a valid name";
  if (field.units.size() > Limits::units_bytes_max || !is_printable(field.units))
    return "is of a field without valid units";
  const std::size_t dimensions = field.shape.size();
  if (dimensions == 0 || dimensions > Limits::dimensions_max ||
      field.spacing.size() != dimensions || field.origin.size() != dimensions)
    return "is of a field that has not 1 to 3 dimensions";
  std::uint64_t elements = 1;
  for (const std::uint64_t extent : field.shape) {
    if (extent == 0 || extent > Limits::rows_max / elements)
      return "is of a field that has no elements, or too many";
    elements *= extent;
  }
  const auto finite = [](double number) { return std::isfinite(number); };
  const auto is_spacing = [](double number) { return std::isfinite(number) && number > 0; };
  if (!std::ranges::all_of(field.origin, finite) || !std::ranges::all_of(field.spacing, is_spacing))
    return "is of a field without a valid origin and spacing";
  return {};
}

// Some boxes that are still to be held against each other, and how many cuts led to them.
struct Rest {
  Indices boxes;
  int cuts = 0;
};

// The boxes in groups of which no two share a coordinate in this dimension.
std::vector<Indices> cut(std::span<const Box> boxes, Indices group, std::size_t dimension) {
  std::ranges::sort(group, {}, [&](std::size_t i) { return boxes[i].start[dimension]; });
  std::vector<Indices> groups;
  std::uint64_t end = 0;
  for (const std::size_t i : group) {
    if (groups.empty() || boxes[i].start[dimension] >= end) groups.emplace_back();
    groups.back().push_back(i);
    end = std::max(end, boxes[i].end[dimension]);
  }
  return groups;
}

std::optional<std::pair<std::size_t, std::size_t>> overlapping_pair(std::span<const Box> boxes,
                                                                    const Indices& group) {
  for (std::size_t i = 0; i < group.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (shared_box(boxes[group[i]], boxes[group[j]])) return std::pair(group[j], group[i]);
  return std::nullopt;
}

}  // namespace

std::uint64_t Box::row_of(const std::array<std::uint64_t, kDimensionsMax>& element) const {
  std::uint64_t row = 0;
  for (std::size_t i = 0; i < kDimensionsMax; ++i) row = row * extent(i) + element[i] - start[i];
  return row;
}

std::string block_problem(const FieldBlock& block, std::uint64_t rows) {
  if (auto problem = field_problem(block.field); !problem.empty()) return problem;
  if (!lies_inside(block.field, block.start, block.extent)) return "is no block of its field";
  if (box_of(block).elements() != rows) return "has not the rows of its block";
  return {};
}

Box box_of(std::span<const std::uint64_t> start, std::span<const std::uint64_t> extent) {
  Box box;
  box.end.fill(1);
  const std::size_t missing = kDimensionsMax - start.size();
  for (std::size_t i = 0; i < start.size(); ++i) {
    box.start[missing + i] = start[i];
    box.end[missing + i] = start[i] + extent[i];
  }
  return box;
}

Box box_of(const FieldBlock& block) {
  return box_of(block.start, block.extent);
}

std::optional<Box> shared_box(const Box& one, const Box& other) {
  Box shared;
  for (std::size_t i = 0; i < kDimensionsMax; ++i) {
    shared.start[i] = std::max(one.start[i], other.start[i]);
    shared.end[i] = std::min(one.end[i], other.end[i]);
    if (shared.start[i] >= shared.end[i]) return std::nullopt;
  }
  return shared;
}

std::optional<std::pair<std::size_t, std::size_t>> overlapping(std::span<const Box> boxes) {
  std::vector<Rest> rests(1);
  for (std::size_t i = 0; i < boxes.size(); ++i)
    if (boxes[i].elements() != 0) rests.front().boxes.push_back(i);
  while (!rests.empty()) {
    Rest rest = std::move(rests.back());
    rests.pop_back();
    std::vector<Indices> groups;
    for (std::size_t dimension = 0;
         groups.size() < 2 && dimension < kDimensionsMax && rest.cuts < kCutsMax; ++dimension)
      groups = cut(boxes, rest.boxes, dimension);
    if (groups.size() < 2) {
      if (auto found = overlapping_pair(boxes, rest.boxes)) return found;
      continue;
    }
    for (auto& group : groups)
      if (group.size() > 1) rests.push_back({std::move(group), rest.cuts + 1});
  }
  return std::nullopt;
}

}  // namespace regroup::checkpoint_fields
