// A grid of two or three dimensions cut into blocks, as cells of an iterative job: how large each
// is, where it begins, and which blocks touch it where. Nothing wraps round. Numbers are in
// cells of the grid, x the fastest, and blocks are numbered in the same order. Immutable, and so
// thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/stencil/stencil.hpp"

namespace regroup {

class GridBlocks {
 public:
  static constexpr std::uint32_t kBlocksMax = 65'536;
  static constexpr std::uint64_t kExtentMax = std::uint64_t{1} << 32;

  // Cells along x, y and z; z is 0 in two dimensions. From "512x512" or "64x64x64", or one line
  // that says what is wrong.
  using Extents = std::array<std::uint64_t, 3>;
  static std::expected<Extents, std::string> parse(std::string_view text);
  // Into so many blocks, along each axis as many as make the faces between them smallest; those of
  // an axis differ by one cell at most. Fails where no such cut gives each block a cell.
  static std::expected<GridBlocks, std::string> cut(const Extents& extents, std::uint32_t blocks);

  std::uint32_t count() const { return along_[0] * along_[1] * along_[2]; }
  int dimensions() const { return extents_[2] == 0 ? 2 : 3; }
  const Extents& extents() const { return extents_; }
  // Blocks along x, y and z; 1 along a z that is not there.
  const std::array<std::uint32_t, 3>& along() const { return along_; }

  kernels::StencilShape shape(std::uint32_t block) const;
  // Its first cell; 0 along a z that is not there.
  Extents start(std::uint32_t block) const;
  // A block that touches another one, and where: -1, 0 or 1 along x, y and z.
  struct Neighbour {
    std::uint32_t block = 0;
    std::array<int, 3> direction{};

    friend bool operator==(const Neighbour&, const Neighbour&) = default;
  };
  // Those at its sides or, if `corners`, at its edges and corners as well. Blocks ascend.
  std::vector<Neighbour> neighbours(std::uint32_t block, bool corners) const;

 private:
  GridBlocks(const Extents& extents, const std::array<std::uint32_t, 3>& along)
      : extents_(extents), along_(along) {}
  std::array<std::uint32_t, 3> place(std::uint32_t block) const;
  std::uint64_t begin(std::size_t axis, std::uint32_t place) const;

  Extents extents_{};
  std::array<std::uint32_t, 3> along_{};
};

}  // namespace regroup
