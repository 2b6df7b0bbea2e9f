// Explicit steps of the diffusion (heat) equation u_t = alpha (u_xx + u_yy + u_zz) on a block of a
// uniform grid, in two or three dimensions and double precision: forward in time, central in space
// (FTCS; Morton and Mayers, "Numerical Solution of Partial Differential Equations", 2nd ed., 2005,
// sections 2.4 and 3.1). A cell's new value takes its own and its 4 or 6 nearest neighbours',
//     next = u + ((r_x d_x + r_y d_y) + r_z d_z),   d_x = (u[x-1] + u[x+1]) - 2 u,
// in this order of additions and never fused, so every instruction set, every cut of a domain into
// blocks and boxes, every number of threads and the reference give the same bits. (Of a NaN only
// that it is one.)
//
// A block lies row by row in memory, x the fastest, with one layer of ghost cells on each side: the
// neighbours' cells, or the values at the boundary of the domain. Ghosts at edges and corners are
// never read nor written.
//
// All functions are thread-safe on cells that do not overlap: threads share a step by boxes.
// Nothing allocates or fails. A shape and numbers must have been found valid beforehand; a span of
// the wrong size, a box that leaves the block, or spans that overlap end the process, with one line
// on standard error.
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <span>

#include "kernels/instruction_set.hpp"

namespace regroup::kernels {

// Interior cells of a block along each axis.
struct StencilShape {
  std::size_t nx = 1;
  std::size_t ny = 1;
  std::size_t nz = 0;  // 0: the block has two dimensions, and no ghosts along z

  constexpr int dimensions() const { return nz == 0 ? 2 : 3; }
  constexpr std::size_t planes() const { return nz == 0 ? 1 : nz; }
  friend bool operator==(const StencilShape&, const StencilShape&) = default;
};

// Interior cells [x_begin, x_end) by [y_begin, y_end) by [z_begin, z_end), counted from 0. In two
// dimensions z is [0, 1). May be empty.
struct StencilBox {
  std::size_t x_begin = 0;
  std::size_t x_end = 0;
  std::size_t y_begin = 0;
  std::size_t y_end = 0;
  std::size_t z_begin = 0;
  std::size_t z_end = 1;

  constexpr bool empty() const { return x_begin >= x_end || y_begin >= y_end || z_begin >= z_end; }
  friend bool operator==(const StencilBox&, const StencilBox&) = default;
};

// alpha dt / h^2 along each axis: diffusivity, time step and spacing of the grid in any units that
// cancel. z is 0 in two dimensions.
struct DiffusionNumbers {
  double x = 0;
  double y = 0;
  double z = 0;
};

enum class Side { kXLow, kXHigh, kYLow, kYHigh, kZLow, kZHigh };

inline constexpr std::array kSides = {Side::kXLow,  Side::kXHigh, Side::kYLow,
                                      Side::kYHigh, Side::kZLow,  Side::kZHigh};

// Those that a block has: 4 or 6.
constexpr std::span<const Side> sides(const StencilShape& shape) {
  return std::span(kSides).first(2 * static_cast<std::size_t>(shape.dimensions()));
}

// The side of the neighbour that `side` touches.
constexpr Side opposite(Side side) {
  return static_cast<Side>(static_cast<int>(side) ^ 1);
}

// More cells than this, ghosts included, are no block.
inline constexpr std::size_t kBlockCellsMax = std::size_t{1} << 40;

// Null when a block can have this shape, else one line that says what is wrong.
const char* why_invalid(const StencilShape& shape);

// Null when a step with these numbers is stable, else one line that says which is wrong: none is
// negative, and r_x + r_y + r_z <= 1/2 (Morton and Mayers, section 3.1).
const char* why_invalid(const StencilShape& shape, const DiffusionNumbers& numbers);

// Cells of a block, ghosts included: the size of the span that holds it.
constexpr std::size_t block_cells(const StencilShape& shape) {
  return (shape.nx + 2) * (shape.ny + 2) * (shape.nz == 0 ? 1 : shape.nz + 2);
}

// Where a cell is in the block. Interior cells are 0 to n-1 along an axis, ghosts -1 and n.
constexpr std::size_t cell_index(const StencilShape& shape, std::ptrdiff_t x, std::ptrdiff_t y,
                                 std::ptrdiff_t z = 0) {
  const auto from_ghost = [](std::ptrdiff_t i) { return static_cast<std::size_t>(i + 1); };
  const std::size_t plane = shape.nz == 0 ? 0 : from_ghost(z);
  return (plane * (shape.ny + 2) + from_ghost(y)) * (shape.nx + 2) + from_ghost(x);
}

// All interior cells.
StencilBox whole_box(const StencilShape& shape);

// The interior cells that have no ghost as a neighbour, which can be computed while the ghosts are
// still on their way; empty where a side is shorter than three cells. The rest, as boxes that do
// not overlap, of which some may be empty.
StencilBox inner_box(const StencilShape& shape);
std::array<StencilBox, kSides.size()> rim_boxes(const StencilShape& shape);

// One step for the cells of `box`: reads them and their neighbours in `in`, writes them in `out`
// and leaves all else there as it is. Both spans hold a block of this shape and do not overlap.
void diffuse(const StencilShape& shape, const DiffusionNumbers& numbers, const StencilBox& box,
             std::span<const double> in, std::span<double> out,
             InstructionSet set = best_instruction_set());

// Sides by their numbers in Side.
using SideSet = std::bitset<kSides.size()>;

// `steps` steps one after the other: step s of 1 to `steps` computes the cells of `box` and, at
// each side in `open`, steps - s layers more. `now` holds the cells at the beginning. Those of
// `box` at the end are in `now` if `steps` is even, else in `next`; what else either span holds in
// the layers at open sides is of no use then. Cells beyond are read, in both spans, and stay:
// ghosts there have to have their value in both. Large blocks go through the memory once for
// several steps (time skewing; Wonnacott, "Achieving scalable locality with time skewing", 2002).
void diffuse_steps(const StencilShape& shape, const DiffusionNumbers& numbers,
                   const StencilBox& box, SideSet open, std::size_t steps, std::span<double> now,
                   std::span<double> next, std::size_t threads = 1,
                   InstructionSet set = best_instruction_set());

// Cells of a block, ghosts or not, in a box: from `begin` on, -1 being a ghost, so many along x, y
// and z. In two dimensions begin[2] is 0 and count[2] is 1.
struct StencilRegion {
  std::array<std::ptrdiff_t, 3> begin{};
  std::array<std::size_t, 3> count{};

  constexpr std::size_t cells() const { return count[0] * count[1] * count[2]; }
  friend bool operator==(const StencilRegion&, const StencilRegion&) = default;
};

// Copies the cells of a region to `buffer`, x the fastest, and from there. `buffer` holds as many,
// and does not overlap `block`.
void pack(const StencilShape& shape, std::span<const double> block, const StencilRegion& region,
          std::span<double> buffer);
void unpack(const StencilShape& shape, std::span<const double> buffer, const StencilRegion& region,
            std::span<double> block);

// Cells of a face: the interior cells that touch the ghosts of a side, or as many of these.
std::size_t face_cells(const StencilShape& shape, Side side);

// Copies the interior cells at a side to `buffer`, the faster axis first: what the neighbour
// there unpacks at its opposite side. `buffer` holds face_cells() and does not overlap `block`.
void pack_face(const StencilShape& shape, std::span<const double> block, Side side,
               std::span<double> buffer);

// Copies what the neighbour at a side has packed to the ghosts of that side.
void unpack_face(const StencilShape& shape, std::span<const double> buffer, Side side,
                 std::span<double> block);

// Sets the ghosts of a side to the boundary's value (Dirichlet), which holds at the ghosts'
// centres. No step writes to ghosts, so once for each of the two spans is enough.
void fill_ghosts(const StencilShape& shape, Side side, double value, std::span<double> block);

// The oracle: the same result, to the bit, cell by cell in plain code.
namespace reference {
void diffuse(const StencilShape& shape, const DiffusionNumbers& numbers, const StencilBox& box,
             std::span<const double> in, std::span<double> out);
void diffuse_steps(const StencilShape& shape, const DiffusionNumbers& numbers,
                   const StencilBox& box, SideSet open, std::size_t steps, std::span<double> now,
                   std::span<double> next);
}  // namespace reference

}  // namespace regroup::kernels
