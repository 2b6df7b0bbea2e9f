// What says that the rows of a dataset are elements of a grid: the field, the same for all its
// pieces, and the block of it that one piece holds. Numbers are given one a dimension, the slowest
// first (C order). Whoever writes checkpoints holds them against the limits; here they are only
// carried.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace regroup {

// What a dataset holds.
enum class ElementType : std::uint8_t { kUint8, kInt64, kUint64, kFloat64 };

constexpr std::size_t element_bytes(ElementType type) {
  return type == ElementType::kUint8 ? 1 : 8;
}

// Where the elements are: one a cell, or one a node.
enum class FieldCentre : std::uint8_t { kCells, kNodes };

// On a uniform grid of 1 to 3 dimensions.
struct GridField {
  std::string name;   // as those of results: letters, digits, '_', '-', '.'
  std::string units;  // printable UTF-8, or empty
  FieldCentre centre = FieldCentre::kCells;
  std::vector<std::uint64_t> shape;  // elements of the whole field
  std::vector<double> spacing;       // of nodes, greater than 0
  std::vector<double> origin;        // of the first node

  friend bool operator==(const GridField&, const GridField&) = default;
};

inline constexpr std::uint64_t kFieldElementsMax = std::uint64_t{1} << 58;

// Whether [start, start + extent) lies in the field and has its dimensions.
inline bool lies_inside(const GridField& field, std::span<const std::uint64_t> start,
                        std::span<const std::uint64_t> extent) {
  if (start.size() != field.shape.size() || extent.size() != field.shape.size()) return false;
  for (std::size_t i = 0; i < start.size(); ++i) {
    if (start[i] > field.shape[i] || extent[i] > field.shape[i] - start[i]) return false;
  }
  return true;
}

// Elements [start, start + extent) of a field, in C order.
struct FieldBlock {
  GridField field;
  std::vector<std::uint64_t> start;
  std::vector<std::uint64_t> extent;

  friend bool operator==(const FieldBlock&, const FieldBlock&) = default;
};

// That what is saved of each cell of an iterate stage ends with its block of a field, in C order;
// no two blocks share an element.
struct CellField {
  struct Place {
    std::vector<std::uint64_t> start;
    std::vector<std::uint64_t> extent;
  };

  GridField field;
  ElementType type = ElementType::kFloat64;
  std::optional<double> step_time = {};  // from a step to the next, in units of the job's own
  std::optional<double> end_time = {};   // that no step goes beyond: the last one may be shorter
  std::vector<Place> places;             // by cell

  FieldBlock block(std::size_t cell) const {
    return {field, places[cell].start, places[cell].extent};
  }
  std::uint64_t elements(std::size_t cell) const {
    std::uint64_t elements = 1;
    for (const std::uint64_t extent : places[cell].extent) elements *= extent;
    return elements;
  }
};

}  // namespace regroup
