// What says that the rows of a dataset are elements of a grid: the field, the same for all its
// pieces, and the block of it that one piece holds. Numbers are given one a dimension, the slowest
// first (C order). Whoever writes checkpoints holds them against the limits; here they are only
// carried.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace regroup {

// What a dataset holds.
enum class ElementType : std::uint8_t { kUint8, kInt64, kUint64, kFloat64 };

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

// Elements [start, start + extent) of a field, in C order.
struct FieldBlock {
  GridField field;
  std::vector<std::uint64_t> start;
  std::vector<std::uint64_t> extent;

  friend bool operator==(const FieldBlock&, const FieldBlock&) = default;
};

}  // namespace regroup
