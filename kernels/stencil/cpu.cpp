// The step's public entry point: picks the instruction set and cuts the box into columns of which
// the planes that a cell's neighbours lie in stay in a cache of a core.
//
// With AVX-512 the AVX2 code runs: a step waits for memory, and loads of 64 bytes, which nearly all
// cross a cache line here, made it slower on large blocks (0.6 of the throughput) and little faster
// in a cache. Stores past the cache were slower in two dimensions (0.75) and 1.1 times as fast in
// three.
#include <algorithm>

#include "kernels/stencil/contract.hpp"
#include "kernels/stencil/cpu_kernel.hpp"
#include "kernels/stencil/stencil.hpp"

namespace regroup::kernels {
namespace {

// Cells of a column's cross section: three planes that are read and one that is written take 512
// KiB.
constexpr std::size_t kColumnCells = std::size_t{1} << 14;

// In three dimensions rows are cut to this, so that a column has several: of its cross section, one
// row above and one below belong to the next columns and are read again by them.
constexpr std::size_t kColumnRowCells = 2048;

const StencilKernels& kernels_for(InstructionSet set) {
#ifdef __x86_64__
  switch (usable_instruction_set(set)) {
    case InstructionSet::kAvx512:
    case InstructionSet::kAvx2:
      return kStencilAvx2;
    case InstructionSet::kBaseline:
      return kStencilBaseline;
  }
#endif
  static_cast<void>(set);
  return kStencilBaseline;
}

}  // namespace

void diffuse(const StencilShape& shape, const DiffusionNumbers& numbers, const StencilBox& box,
             std::span<const double> in, std::span<double> out, InstructionSet set) {
  require_step(shape, box, in, out);
  if (box.empty()) return;

  const bool flat = shape.dimensions() == 2;
  auto* const kernel = flat ? kernels_for(set).diffuse_2d : kernels_for(set).diffuse_3d;
  const std::size_t row = shape.nx + 2;
  const std::size_t column_x =
      std::min(box.x_end - box.x_begin, flat ? kColumnCells : kColumnRowCells);
  const std::size_t column_y = flat ? shape.ny : std::max<std::size_t>(1, kColumnCells / column_x);

  for (std::size_t y = box.y_begin; y < box.y_end; y += column_y) {
    for (std::size_t x = box.x_begin; x < box.x_end; x += column_x) {
      const std::size_t first =
          cell_index(shape, static_cast<std::ptrdiff_t>(x), static_cast<std::ptrdiff_t>(y),
                     static_cast<std::ptrdiff_t>(box.z_begin));
      kernel({.in = in.data() + first,
              .out = out.data() + first,
              .count_x = std::min(column_x, box.x_end - x),
              .count_y = std::min(column_y, box.y_end - y),
              .count_z = box.z_end - box.z_begin,
              .row = row,
              .plane = row * (shape.ny + 2),
              .number_x = numbers.x,
              .number_y = numbers.y,
              .number_z = numbers.z});
    }
  }
}

}  // namespace regroup::kernels
