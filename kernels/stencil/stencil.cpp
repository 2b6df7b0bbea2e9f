// The parts of the stencil's interface that compute nothing: validity, boxes, and what goes between
// a block's faces and buffers.
#include "kernels/stencil/stencil.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>

#include "kernels/stencil/contract.hpp"

namespace regroup::kernels {
namespace {

enum class LayerKind { kInterior, kGhosts };

// Along the side's axis the first or the last interior cells, or the ghosts beside them.
StencilRegion layer_at(const StencilShape& shape, Side side, LayerKind kind) {
  const std::size_t axis = static_cast<std::size_t>(side) / 2;
  const bool high = static_cast<std::size_t>(side) % 2 == 1;
  require(axis < 2 || shape.dimensions() == 3, "a block of two dimensions has no side along z");
  StencilRegion layer{{}, {shape.nx, shape.ny, shape.planes()}};
  const auto cells = static_cast<std::ptrdiff_t>(layer.count[axis]);
  const std::ptrdiff_t outwards = kind == LayerKind::kGhosts ? 1 : 0;
  layer.begin[axis] = high ? cells - 1 + outwards : -outwards;
  layer.count[axis] = 1;
  return layer;
}

// Calls visit(index) for the first cell of each row of a region, whose cells are one after the
// other.
template <class F>
void for_each_row(const StencilShape& shape, const StencilRegion& region, F visit) {
  for (std::size_t z = 0; z < region.count[2]; ++z) {
    for (std::size_t y = 0; y < region.count[1]; ++y) {
      visit(cell_index(shape, region.begin[0], region.begin[1] + static_cast<std::ptrdiff_t>(y),
                       region.begin[2] + static_cast<std::ptrdiff_t>(z)));
    }
  }
}

bool overlap(std::span<const double> a, std::span<const double> b) {
  const std::less<> before;
  return before(a.data(), b.data() + b.size()) && before(b.data(), a.data() + a.size());
}

void require_buffer(const StencilShape& shape, const StencilRegion& region,
                    std::span<const double> block, std::span<const double> buffer) {
  require_region(shape, region);
  require(block.size() == block_cells(shape), "a span does not hold a block of this shape");
  require(buffer.size() == region.cells(), "a buffer does not hold the cells of this region");
  require(!overlap(block, buffer), "a block and a buffer of its cells overlap");
}

}  // namespace

void require(bool holds, const char* text) {
  if (holds) return;
  std::fprintf(stderr, "stencil: %s\n", text);
  std::abort();
}

void require_region(const StencilShape& shape, const StencilRegion& region) {
  const std::size_t cells[3] = {shape.nx, shape.ny, shape.planes()};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const std::ptrdiff_t ghosts = axis < 2 || shape.dimensions() == 3 ? 1 : 0;
    require(region.begin[axis] >= -ghosts && region.count[axis] <= kBlockCellsMax &&
                region.begin[axis] + static_cast<std::ptrdiff_t>(region.count[axis]) <=
                    static_cast<std::ptrdiff_t>(cells[axis]) + ghosts,
            "a region leaves the block");
  }
}

namespace {

void require_box(const StencilShape& shape, const StencilBox& box) {
  require(box.empty() ||
              (box.x_end <= shape.nx && box.y_end <= shape.ny && box.z_end <= shape.planes()),
          "a box leaves the block");
}

}  // namespace

void require_step(const StencilShape& shape, const StencilBox& box, std::span<const double> in,
                  std::span<double> out) {
  require(in.size() == block_cells(shape) && out.size() == in.size(),
          "a span does not hold a block of this shape");
  require(!overlap(in, out), "the spans of a step overlap");
  require_box(shape, box);
}

StencilBox grown(const StencilBox& box, SideSet open, std::size_t layers) {
  const auto at = [&](Side side) { return open.test(static_cast<std::size_t>(side)) ? layers : 0; };
  return {box.x_begin - at(Side::kXLow), box.x_end + at(Side::kXHigh),
          box.y_begin - at(Side::kYLow), box.y_end + at(Side::kYHigh),
          box.z_begin - at(Side::kZLow), box.z_end + at(Side::kZHigh)};
}

void require_steps(const StencilShape& shape, const StencilBox& box, SideSet open,
                   std::size_t steps, std::span<const double> now, std::span<double> next) {
  require_step(shape, box, now, next);
  require_layers(shape, box, open, steps);
}

void require_layers(const StencilShape& shape, const StencilBox& box, SideSet open,
                    std::size_t steps) {
  require_box(shape, box);
  require(steps >= 1, "there is no step to take");
  const std::size_t layers = steps - 1;
  const auto has_layers = [&](Side low, std::size_t begin, std::size_t end, std::size_t cells) {
    const auto side = static_cast<std::size_t>(low);
    return (!open.test(side) || begin >= layers) &&
           (!open.test(side + 1) || (end <= cells && cells - end >= layers));
  };
  require(has_layers(Side::kXLow, box.x_begin, box.x_end, shape.nx) &&
              has_layers(Side::kYLow, box.y_begin, box.y_end, shape.ny) &&
              has_layers(Side::kZLow, box.z_begin, box.z_end, shape.planes()),
          "the layers at an open side leave the block");
}

const char* why_invalid(const StencilShape& shape) {
  std::size_t left = kBlockCellsMax;
  const auto takes = [&](std::size_t cells) {
    if (cells > left - 2) return false;
    left /= cells + 2;
    return true;
  };
  if (shape.nx == 0 || shape.ny == 0) return "shape: nx and ny must be at least 1";
  if (!takes(shape.nx) || left < 3 || !takes(shape.ny) ||
      (shape.nz != 0 && (left < 3 || !takes(shape.nz)))) {
    return "shape: must have at most 2^40 cells, ghosts included";
  }
  return nullptr;
}

const char* why_invalid(const StencilShape& shape, const DiffusionNumbers& numbers) {
  const auto not_negative = [](double number) { return number >= 0; };  // false for NaN
  if (!not_negative(numbers.x)) return "diffusion number along x: must not be negative";
  if (!not_negative(numbers.y)) return "diffusion number along y: must not be negative";
  if (!not_negative(numbers.z)) return "diffusion number along z: must not be negative";
  if (shape.dimensions() == 2 && numbers.z != 0) {
    return "diffusion number along z: must be 0 in two dimensions";
  }
  if (!(numbers.x + numbers.y + numbers.z <= 0.5)) {
    return "diffusion numbers: their sum must be at most 1/2, take a shorter time step";
  }
  return nullptr;
}

StencilBox whole_box(const StencilShape& shape) {
  return {0, shape.nx, 0, shape.ny, 0, shape.planes()};
}

StencilBox inner_box(const StencilShape& shape) {
  StencilBox box{1, shape.nx - 1, 1, shape.ny - 1, 0, shape.planes()};
  if (shape.dimensions() == 3) {
    box.z_begin = 1;
    box.z_end = shape.nz - 1;
  }
  return box.empty() ? StencilBox{} : box;
}

std::array<StencilBox, kSides.size()> rim_boxes(const StencilShape& shape) {
  std::array<StencilBox, kSides.size()> boxes{};
  // What the sides seen so far leave over: the slowest axis first, so that most rows stay whole.
  StencilBox rest = whole_box(shape);
  const auto peel = [&](Side low, std::size_t StencilBox::*begin, std::size_t StencilBox::*end) {
    if (rest.empty()) return;
    StencilBox& low_box = boxes[static_cast<std::size_t>(low)];
    StencilBox& high_box = boxes[static_cast<std::size_t>(opposite(low))];
    low_box = rest;
    low_box.*end = rest.*begin + 1;
    rest.*begin += 1;
    if (rest.empty()) return;
    high_box = rest;
    high_box.*begin = rest.*end - 1;
    rest.*end -= 1;
  };
  if (shape.dimensions() == 3) peel(Side::kZLow, &StencilBox::z_begin, &StencilBox::z_end);
  peel(Side::kYLow, &StencilBox::y_begin, &StencilBox::y_end);
  peel(Side::kXLow, &StencilBox::x_begin, &StencilBox::x_end);
  return boxes;
}

void pack(const StencilShape& shape, std::span<const double> block, const StencilRegion& region,
          std::span<double> buffer) {
  require_buffer(shape, region, block, buffer);
  double* to = buffer.data();
  for_each_row(shape, region, [&](std::size_t first) {
    to = std::copy_n(block.data() + first, region.count[0], to);
  });
}

void unpack(const StencilShape& shape, std::span<const double> buffer, const StencilRegion& region,
            std::span<double> block) {
  require_buffer(shape, region, block, buffer);
  const double* from = buffer.data();
  for_each_row(shape, region, [&](std::size_t first) {
    std::copy_n(from, region.count[0], block.data() + first);
    from += region.count[0];
  });
}

std::size_t face_cells(const StencilShape& shape, Side side) {
  return layer_at(shape, side, LayerKind::kGhosts).cells();
}

void pack_face(const StencilShape& shape, std::span<const double> block, Side side,
               std::span<double> buffer) {
  pack(shape, block, layer_at(shape, side, LayerKind::kInterior), buffer);
}

void unpack_face(const StencilShape& shape, std::span<const double> buffer, Side side,
                 std::span<double> block) {
  unpack(shape, buffer, layer_at(shape, side, LayerKind::kGhosts), block);
}

void fill_ghosts(const StencilShape& shape, Side side, double value, std::span<double> block) {
  require(block.size() == block_cells(shape), "a span does not hold a block of this shape");
  const StencilRegion ghosts = layer_at(shape, side, LayerKind::kGhosts);
  for_each_row(shape, ghosts, [&](std::size_t first) {
    std::fill_n(block.data() + first, ghosts.count[0], value);
  });
}

}  // namespace regroup::kernels
