// The geometry of gridded fields: which blocks there can be, whether some overlap, and where the
// elements of one lie in another. Blocks that block_problem() has passed make no sum or product
// here overflow. Pure functions, private to the checkpoint store.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "runtime/host/checkpoint.hpp"

namespace regroup::checkpoint_fields {

inline constexpr std::size_t kDimensionsMax = CheckpointLimits::dimensions_max;

// Elements [start, end) in each dimension; those that a field does not have come first, and have
// one element.
struct Box {
  std::array<std::uint64_t, kDimensionsMax> start{};
  std::array<std::uint64_t, kDimensionsMax> end{};

  std::uint64_t extent(std::size_t dimension) const { return end[dimension] - start[dimension]; }
  std::uint64_t elements() const { return extent(0) * extent(1) * extent(2); }
  // The number of an element of the box in its C order.
  std::uint64_t row_of(const std::array<std::uint64_t, kDimensionsMax>& element) const;
};

// Why no piece of so many rows can hold this block; empty if one can.
std::string block_problem(const FieldBlock& block, std::uint64_t rows);

Box box_of(std::span<const std::uint64_t> start, std::span<const std::uint64_t> extent);
Box box_of(const FieldBlock& block);
// What two boxes share; nothing if that has no element.
std::optional<Box> shared_box(const Box& one, const Box& other);
// Two of the boxes that share an element, if any do.
std::optional<std::pair<std::size_t, std::size_t>> overlapping(std::span<const Box> boxes);

}  // namespace regroup::checkpoint_fields
