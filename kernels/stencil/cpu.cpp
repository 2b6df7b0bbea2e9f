// The step's public entry point: picks the instruction set and cuts the box into columns of which
// the planes that a cell's neighbours lie in stay in a cache of a core.
//
// With AVX-512 the AVX2 code runs: a step waits for memory, and loads of 64 bytes, which nearly all
// cross a cache line here, made it slower on large blocks (0.6 of the throughput) and little faster
// in a cache. Stores past the cache were slower in two dimensions (0.75) and 1.1 times as fast in
// three.
#include <algorithm>
#include <cstddef>
#include <utility>

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

// Of the cells that are read or written between two uses of a plane, in bytes: they have to stay in
// a core's own cache. Blocks that are there as a whole need no skewing.
constexpr std::size_t kSkewedBytes = std::size_t{1} << 20;
// Of a tile, at least, since its skewed edges cost time; and cells of its rows in three dimensions.
constexpr std::size_t kTileRowsMin = 8;
constexpr std::size_t kTileCellsMin = 512;
constexpr std::size_t kTileRowCells = 1024;

// From `begin` up to and without `end`.
struct Range {
  std::size_t begin;
  std::size_t end;

  std::size_t size() const { return begin < end ? end - begin : 0; }
};

// A block's memory, and how its cells are reached.
class Stepper {
 public:
  Stepper(const StencilShape& shape, const DiffusionNumbers& numbers, InstructionSet set)
      : shape_(shape),
        numbers_(numbers),
        kernel_(shape.dimensions() == 2 ? kernels_for(set).diffuse_2d
                                        : kernels_for(set).diffuse_3d) {}

  void step(const double* in, double* out, Range x, Range y, Range z) const {
    if (x.size() == 0 || y.size() == 0 || z.size() == 0) return;
    const std::size_t row = shape_.nx + 2;
    const std::size_t first =
        cell_index(shape_, static_cast<std::ptrdiff_t>(x.begin),
                   static_cast<std::ptrdiff_t>(y.begin), static_cast<std::ptrdiff_t>(z.begin));
    kernel_({.in = in + first,
             .out = out + first,
             .count_x = x.size(),
             .count_y = y.size(),
             .count_z = z.size(),
             .row = row,
             .plane = row * (shape_.ny + 2),
             .number_x = numbers_.x,
             .number_y = numbers_.y,
             .number_z = numbers_.z});
  }

 private:
  const StencilShape& shape_;
  const DiffusionNumbers& numbers_;
  void (*kernel_)(const StencilRows& rows);
};

// Several steps in one pass through the memory. Its planes are those across the slowest axis, rows
// in two dimensions. Step s follows one plane behind step s - 1, so that the planes that it reads
// are still in a cache. Where planes are too large for that they are cut into tiles. Each step's
// tiles end one cell before those of the step ahead of it, since a tile needs cells that the one
// after it computes.
class SkewedPass {
 public:
  struct Tile {
    std::size_t x;
    std::size_t y;  // any number in two dimensions
  };

  // The last of `steps` steps computes `box`.
  SkewedPass(const StencilShape& shape, const StencilBox& box, SideSet open, std::size_t steps,
             const Tile& tile)
      : flat_(shape.dimensions() == 2), box_(box), open_(open), steps_(steps), tile_(tile) {}

  void run(const Stepper& stepper, double* now, double* next) const {
    const StencilBox first = step_box(1);
    const std::size_t behind = steps_ - 1;
    const std::size_t y_end = flat_ ? first.y_begin + 1 : first.y_end + behind;
    for (std::size_t y = first.y_begin; y < y_end; y += tile_.y) {
      for (std::size_t x = first.x_begin; x < first.x_end + behind; x += tile_.x) {
        run_tile(stepper, now, next, x, y);
      }
    }
  }

 private:
  StencilBox step_box(std::size_t step) const { return grown(box_, open_, steps_ - step); }

  void run_tile(const Stepper& stepper, double* now, double* next, std::size_t x,
                std::size_t y) const {
    const StencilBox first = step_box(1);
    const Range planes =
        flat_ ? Range{first.y_begin, first.y_end} : Range{first.z_begin, first.z_end};
    for (std::size_t front = planes.begin; front < planes.end + steps_ - 1; ++front) {
      for (std::size_t step = 1; step <= steps_ && front >= planes.begin + step - 1; ++step) {
        const StencilBox box = step_box(step);
        const std::size_t plane = front - (step - 1);
        const Range at{plane, plane + 1};
        const Range in_x = cut({box.x_begin, box.x_end}, first.x_begin, x, tile_.x, step);
        const double* const in = step % 2 == 1 ? now : next;
        double* const out = step % 2 == 1 ? next : now;
        if (flat_) {
          if (plane >= box.y_begin && plane < box.y_end) stepper.step(in, out, in_x, at, {0, 1});
        } else if (plane >= box.z_begin && plane < box.z_end) {
          const Range in_y = cut({box.y_begin, box.y_end}, first.y_begin, y, tile_.y, step);
          stepper.step(in, out, in_x, in_y, at);
        }
      }
    }
  }

  // Of all cells of an axis in a step, those in the tile that begins at `tile` in the first step.
  static Range cut(Range all, std::size_t first, std::size_t tile, std::size_t size,
                   std::size_t step) {
    const std::size_t behind = step - 1;
    return {tile == first ? all.begin : std::max(all.begin, tile - behind),
            std::min(all.end, tile + size - behind)};
  }

  bool flat_;
  StencilBox box_;
  SideSet open_;
  std::size_t steps_;
  Tile tile_;
};

struct Skewing {
  std::size_t steps = 1;  // of a pass
  SkewedPass::Tile tile{};
};

// As many steps a pass as can be, with tiles that are worth it.
Skewing skewing_for(const StencilShape& shape, std::size_t steps) {
  if (2 * sizeof(double) * block_cells(shape) <= kSkewedBytes) return {};
  const bool flat = shape.dimensions() == 2;
  const std::size_t row = std::min(shape.nx, kTileRowCells);
  const std::size_t unit = sizeof(double) * (flat ? 1 : row);
  for (;; steps = (steps + 1) / 2) {
    const std::size_t length = kSkewedBytes / (2 * (steps + 2) * unit);
    if (steps > 1 && length < (flat ? kTileCellsMin : kTileRowsMin) + 2 * steps) continue;
    // A tile has to be wider than its edges move: one that is the whole row has none.
    const std::size_t tile_x = row == shape.nx ? row + steps : row;
    return {steps, flat ? SkewedPass::Tile{length, 1} : SkewedPass::Tile{tile_x, length}};
  }
}

}  // namespace

void diffuse(const StencilShape& shape, const DiffusionNumbers& numbers, const StencilBox& box,
             std::span<const double> in, std::span<double> out, InstructionSet set) {
  require_step(shape, box, in, out);
  if (box.empty()) return;

  const bool flat = shape.dimensions() == 2;
  const std::size_t column_x =
      std::min(box.x_end - box.x_begin, flat ? kColumnCells : kColumnRowCells);
  const std::size_t column_y = flat ? shape.ny : std::max<std::size_t>(1, kColumnCells / column_x);
  const Stepper stepper(shape, numbers, set);
  for (std::size_t y = box.y_begin; y < box.y_end; y += column_y) {
    for (std::size_t x = box.x_begin; x < box.x_end; x += column_x) {
      stepper.step(in.data(), out.data(), {x, std::min(x + column_x, box.x_end)},
                   {y, std::min(y + column_y, box.y_end)}, {box.z_begin, box.z_end});
    }
  }
}

namespace {

// Steps of a pass shared out to threads, as bands across the slowest axis. Where two bands touch
// each leaves out one plane more in every step, so that no thread waits for another's; what is left
// out between them is computed afterwards.
class BandedPass {
 public:
  BandedPass(const StencilShape& shape, const DiffusionNumbers& numbers, const StencilBox& box,
             SideSet open, const Skewing& skewing, std::size_t threads, InstructionSet set)
      : shape_(shape),
        numbers_(numbers),
        box_(box),
        open_(open),
        skewing_(skewing),
        set_(set),
        low_(static_cast<std::size_t>(shape.dimensions() == 2 ? Side::kYLow : Side::kZLow)) {
    const std::size_t planes = (box.*end()) - (box.*begin());
    const std::size_t cells = (box.x_end - box.x_begin) * (box.y_end - box.y_begin) *
                              (box.z_end - box.z_begin) * skewing.steps;
    bands_ = std::min(planes / (kBandStepPlanes * skewing.steps), cells / kBandCells);
    bands_ = std::clamp<std::size_t>(bands_, 1, std::max<std::size_t>(threads, 1));
  }

  void run(std::span<double> now, std::span<double> next) const {
#pragma omp parallel num_threads(static_cast <int>(bands_)) if (bands_ > 1)
    {
#pragma omp for schedule(static, 1)
      for (std::size_t band = 0; band < bands_; ++band) run_band(band, now, next);
#pragma omp for schedule(static, 1)
      for (std::size_t band = 1; band < bands_; ++band) run_border(border(band), now, next);
    }
  }

 private:
  // A band has so many planes for each step of a pass, at least.
  static constexpr std::size_t kBandStepPlanes = 4;
  // And so many cells in all steps: threads that have less cost more than they gain.
  static constexpr std::size_t kBandCells = std::size_t{1} << 15;

  std::size_t StencilBox::*begin() const {
    return shape_.dimensions() == 2 ? &StencilBox::y_begin : &StencilBox::z_begin;
  }
  std::size_t StencilBox::*end() const {
    return shape_.dimensions() == 2 ? &StencilBox::y_end : &StencilBox::z_end;
  }
  // The first plane of a band.
  std::size_t border(std::size_t band) const {
    const std::size_t planes = (box_.*end()) - (box_.*begin());
    return (box_.*begin()) + planes * band / bands_;
  }

  void run_band(std::size_t band, std::span<double> now, std::span<double> next) const {
    StencilBox box = box_;
    SideSet open = open_;
    if (band != 0) {
      box.*begin() = border(band) + (skewing_.steps - 1);
      open.set(low_);
    }
    if (band != bands_ - 1) {
      box.*end() = border(band + 1) - (skewing_.steps - 1);
      open.set(low_ + 1);
    }
    if (skewing_.steps == 1) {
      diffuse(shape_, numbers_, box, now, next, set_);
    } else {
      SkewedPass(shape_, box, open, skewing_.steps, skewing_.tile)
          .run(Stepper(shape_, numbers_, set_), now.data(), next.data());
    }
  }

  void run_border(std::size_t plane, std::span<double> now, std::span<double> next) const {
    for (std::size_t step = 2; step <= skewing_.steps; ++step) {
      std::swap(now, next);
      StencilBox box = grown(box_, open_, skewing_.steps - step);
      box.*begin() = plane - (step - 1);
      box.*end() = plane + (step - 1);
      diffuse(shape_, numbers_, box, now, next, set_);
    }
  }

  const StencilShape& shape_;
  const DiffusionNumbers& numbers_;
  StencilBox box_;
  SideSet open_;
  Skewing skewing_;
  InstructionSet set_;
  std::size_t low_;
  std::size_t bands_ = 1;
};

}  // namespace

void diffuse_steps(const StencilShape& shape, const DiffusionNumbers& numbers,
                   const StencilBox& box, SideSet open, std::size_t steps, std::span<double> now,
                   std::span<double> next, std::size_t threads, InstructionSet set) {
  require_steps(shape, box, open, steps, now, next);
  if (box.empty()) return;
  const Skewing most = skewing_for(shape, steps);
  for (std::size_t left = steps; left != 0;) {
    const Skewing skewing{std::min(most.steps, left), most.tile};
    left -= skewing.steps;
    BandedPass(shape, numbers, grown(box, open, left), open, skewing, threads, set).run(now, next);
    if (skewing.steps % 2 == 1) std::swap(now, next);
  }
}

}  // namespace regroup::kernels
