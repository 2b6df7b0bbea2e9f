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

// A layer of cells one thick, as two nested loops over indices.
struct Layer {
  std::size_t first = 0;
  std::size_t inner_count = 0;
  std::size_t inner_stride = 0;
  std::size_t outer_count = 0;
  std::size_t outer_stride = 0;

  template <class F>
  void for_each_index(F f) const {
    for (std::size_t outer = 0; outer < outer_count; ++outer) {
      std::size_t index = first + outer * outer_stride;
      for (std::size_t inner = 0; inner < inner_count; ++inner, index += inner_stride) f(index);
    }
  }
};

enum class LayerKind { kInterior, kGhosts };

Layer layer_at(const StencilShape& shape, Side side, LayerKind kind) {
  const std::size_t row = shape.nx + 2;
  const std::size_t plane = row * (shape.ny + 2);
  // Along the side's axis: the first or the last interior cell, or the ghost beside it.
  const auto place = [&](Side low, std::size_t cells) {
    const std::ptrdiff_t outwards = kind == LayerKind::kGhosts ? 1 : 0;
    return side == low ? -outwards : static_cast<std::ptrdiff_t>(cells) - 1 + outwards;
  };
  switch (side) {
    case Side::kXLow:
    case Side::kXHigh:
      return {cell_index(shape, place(Side::kXLow, shape.nx), 0), shape.ny, row, shape.planes(),
              plane};
    case Side::kYLow:
    case Side::kYHigh:
      return {cell_index(shape, 0, place(Side::kYLow, shape.ny)), shape.nx, 1, shape.planes(),
              plane};
    case Side::kZLow:
    case Side::kZHigh:
      require(shape.dimensions() == 3, "a block of two dimensions has no side along z");
      return {cell_index(shape, 0, 0, place(Side::kZLow, shape.nz)), shape.nx, 1, shape.ny, row};
  }
  return {};
}

bool overlap(std::span<const double> a, std::span<const double> b) {
  const std::less<> before;
  return before(a.data(), b.data() + b.size()) && before(b.data(), a.data() + a.size());
}

void require_face(const StencilShape& shape, Side side, std::span<const double> block,
                  std::span<const double> buffer) {
  require(block.size() == block_cells(shape), "a span does not hold a block of this shape");
  require(buffer.size() == face_cells(shape, side), "a buffer does not hold a face of this side");
  require(!overlap(block, buffer), "a block and the buffer of its face overlap");
}

}  // namespace

void require(bool holds, const char* text) {
  if (holds) return;
  std::fprintf(stderr, "stencil: %s\n", text);
  std::abort();
}

void require_step(const StencilShape& shape, const StencilBox& box, std::span<const double> in,
                  std::span<double> out) {
  require(in.size() == block_cells(shape) && out.size() == in.size(),
          "a span does not hold a block of this shape");
  require(!overlap(in, out), "the spans of a step overlap");
  require(box.empty() ||
              (box.x_end <= shape.nx && box.y_end <= shape.ny && box.z_end <= shape.planes()),
          "a box leaves the block");
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

std::size_t face_cells(const StencilShape& shape, Side side) {
  const Layer layer = layer_at(shape, side, LayerKind::kGhosts);
  return layer.inner_count * layer.outer_count;
}

void pack_face(const StencilShape& shape, std::span<const double> block, Side side,
               std::span<double> buffer) {
  require_face(shape, side, block, buffer);
  double* to = buffer.data();
  layer_at(shape, side, LayerKind::kInterior).for_each_index([&](std::size_t index) {
    *to++ = block[index];
  });
}

void unpack_face(const StencilShape& shape, std::span<const double> buffer, Side side,
                 std::span<double> block) {
  require_face(shape, side, block, buffer);
  const double* from = buffer.data();
  layer_at(shape, side, LayerKind::kGhosts).for_each_index([&](std::size_t index) {
    block[index] = *from++;
  });
}

void fill_ghosts(const StencilShape& shape, Side side, double value, std::span<double> block) {
  require(block.size() == block_cells(shape), "a span does not hold a block of this shape");
  layer_at(shape, side, LayerKind::kGhosts).for_each_index([&](std::size_t index) {
    block[index] = value;
  });
}

}  // namespace regroup::kernels
