#include "jobs/grid_blocks.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

#include <fmt/format.h>

namespace regroup {

std::expected<GridBlocks::Extents, std::string> GridBlocks::parse(std::string_view text) {
  Extents extents{};
  std::size_t axes = 0;
  const char* at = text.data();
  const char* const end = at + text.size();
  for (bool more = true; more && axes < extents.size(); ++axes) {
    const auto [next, error] = std::from_chars(at, end, extents[axes]);
    if (error != std::errc() || extents[axes] == 0 || extents[axes] > kExtentMax) break;
    more = next != end && *next == 'x';
    at = more ? next + 1 : next;
  }
  if (at != end || axes < 2 || text.ends_with('x')) {
    return std::unexpected(fmt::format(
        "'{}' is no grid: give two or three numbers from 1 to {}, e.g. 512x512 or 64x64x64", text,
        kExtentMax));
  }
  return extents;
}

std::expected<GridBlocks, std::string> GridBlocks::cut(const Extents& extents,
                                                       std::uint32_t blocks) {
  const std::uint64_t depth = std::max<std::uint64_t>(1, extents[2]);
  std::optional<std::array<std::uint32_t, 3>> best;
  double best_faces = std::numeric_limits<double>::max();
  for (std::uint32_t x = 1; x <= blocks; ++x) {
    for (std::uint32_t y = 1; blocks % x == 0 && y <= blocks / x; ++y) {
      const std::uint32_t z = blocks / x / y;
      const bool fits = x * y * z == blocks && x <= extents[0] && y <= extents[1] && z <= depth;
      if (!fits) continue;
      const auto nx = static_cast<double>(extents[0]), ny = static_cast<double>(extents[1]),
                 nz = static_cast<double>(depth);
      const double faces = (x - 1) * ny * nz + (y - 1) * nx * nz + (z - 1) * nx * ny;
      if (faces >= best_faces) continue;
      best_faces = faces;
      best = {x, y, z};
    }
  }
  if (!best) {
    return std::unexpected(
        fmt::format("a grid of {} cannot be cut into {} blocks: give another number of them",
                    extents[2] == 0 ? fmt::format("{}x{}", extents[0], extents[1])
                                    : fmt::format("{}x{}x{}", extents[0], extents[1], extents[2]),
                    blocks));
  }
  return GridBlocks(extents, *best);
}

std::array<std::uint32_t, 3> GridBlocks::place(std::uint32_t block) const {
  return {block % along_[0], block / along_[0] % along_[1], block / along_[0] / along_[1]};
}

std::uint64_t GridBlocks::begin(std::size_t axis, std::uint32_t place) const {
  return extents_[axis] / along_[axis] * place +
         std::min<std::uint64_t>(place, extents_[axis] % along_[axis]);
}

kernels::StencilShape GridBlocks::shape(std::uint32_t block) const {
  const auto at = place(block);
  const auto extent = [&](std::size_t axis) {
    return static_cast<std::size_t>(begin(axis, at[axis] + 1) - begin(axis, at[axis]));
  };
  return {extent(0), extent(1), extents_[2] == 0 ? 0 : extent(2)};
}

GridBlocks::Extents GridBlocks::start(std::uint32_t block) const {
  const auto at = place(block);
  return {begin(0, at[0]), begin(1, at[1]), begin(2, at[2])};
}

std::vector<std::uint32_t> GridBlocks::neighbours(std::uint32_t block) const {
  std::vector<std::uint32_t> found;
  for (const kernels::Side side : kernels::kSides) {
    if (const auto other = at(block, side)) found.push_back(*other);
  }
  std::ranges::sort(found);
  return found;
}

std::optional<std::uint32_t> GridBlocks::at(std::uint32_t block, kernels::Side side) const {
  const auto axis = static_cast<std::size_t>(side) / 2;
  const bool high = static_cast<std::size_t>(side) % 2 == 1;
  const std::uint32_t here = place(block)[axis];
  if (high ? here + 1 == along_[axis] : here == 0) return std::nullopt;
  const std::uint32_t stride = axis == 0 ? 1 : axis == 1 ? along_[0] : along_[0] * along_[1];
  return high ? block + stride : block - stride;
}

}  // namespace regroup
