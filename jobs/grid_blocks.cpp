#include "jobs/grid_blocks.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <limits>
#include <optional>

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

std::vector<GridBlocks::Neighbour> GridBlocks::neighbours(std::uint32_t block, bool corners) const {
  std::vector<Neighbour> found;
  const auto here = place(block);
  // Blocks are numbered as these loops go.
  for (int z = -1; z <= 1; ++z) {
    for (int y = -1; y <= 1; ++y) {
      for (int x = -1; x <= 1; ++x) {
        const std::array<int, 3> direction = {x, y, z};
        const int axes = std::abs(x) + std::abs(y) + std::abs(z);
        if (axes == 0 || (axes > 1 && !corners)) continue;
        std::array<std::int64_t, 3> there{};
        bool inside = true;
        for (std::size_t axis = 0; axis < 3; ++axis) {
          there[axis] = std::int64_t{here[axis]} + direction[axis];
          inside = inside && there[axis] >= 0 && there[axis] < std::int64_t{along_[axis]};
        }
        if (!inside) continue;
        const auto number = static_cast<std::uint32_t>(
            there[0] + std::int64_t{along_[0]} * (there[1] + std::int64_t{along_[1]} * there[2]));
        found.push_back({number, direction});
      }
    }
  }
  return found;
}

}  // namespace regroup
