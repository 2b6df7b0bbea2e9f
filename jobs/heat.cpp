// The job `heat`: diffusion on a grid of two or three dimensions whose boundary is kept at 0, by
// explicit steps (kernels/stencil), from a start whose solution is known. Blocks of the grid are
// cells that show each other their faces. Each value of a step is computed from the same numbers in
// the same order, however the grid is cut.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "jobs/grid_blocks.hpp"
#include "jobs/iterative.hpp"
#include "jobs/registry.hpp"
#include "jobs/sample_jobs.hpp"
#include "kernels/stencil/stencil.hpp"

namespace regroup {
namespace {

// Layers of neighbours' cells that a block has beside its own, beyond the ghosts of the stencil.
struct Margins {
  std::array<std::size_t, 3> low{};
  std::array<std::size_t, 3> high{};

  friend bool operator==(const Margins&, const Margins&) = default;
};

// A block of the grid at a step, and room for the next. Its own cells, `shape`, lie between
// margins.
struct HeatBlock {
  kernels::StencilShape shape;
  Margins margins;
  kernels::StencilShape padded;
  std::vector<double> now;
  std::vector<double> next;

  explicit HeatBlock(const kernels::StencilShape& of = {}, const Margins& beside = {})
      : shape(of),
        margins(beside),
        padded{of.nx + beside.low[0] + beside.high[0], of.ny + beside.low[1] + beside.high[1],
               of.nz + beside.low[2] + beside.high[2]},
        now(kernels::block_cells(padded)),
        next(now.size()) {}

  std::size_t planes() const { return shape.planes(); }
  std::array<std::size_t, 3> extents() const { return {shape.nx, shape.ny, planes()}; }
  // Its own cells, in the padded block.
  kernels::StencilBox own_box() const {
    return {margins.low[0], margins.low[0] + shape.nx, margins.low[1], margins.low[1] + shape.ny,
            margins.low[2], margins.low[2] + planes()};
  }
  // The own cells with these y and z.
  std::span<double> row(std::size_t y, std::size_t z) {
    return std::span(now).subspan(row_begin(y, z), shape.nx);
  }
  std::span<const double> row(std::size_t y, std::size_t z) const {
    return std::span(now).subspan(row_begin(y, z), shape.nx);
  }

  // Cells that both the block and its neighbour in a direction have to know: the outermost layers
  // of its own, or those of the neighbour beside them.
  kernels::StencilRegion shown(const std::array<int, 3>& direction, std::size_t layers) const {
    return layers_at(direction, layers, 0);
  }
  kernels::StencilRegion seen(const std::array<int, 3>& direction, std::size_t layers) const {
    return layers_at(direction, layers, layers);
  }

  // The same with other margins, of which nothing is known.
  HeatBlock with(const Margins& other) const {
    HeatBlock block(shape, other);
    for (std::size_t z = 0; z < planes(); ++z) {
      for (std::size_t y = 0; y < shape.ny; ++y) {
        std::ranges::copy(row(y, z), block.row(y, z).begin());
      }
    }
    return block;
  }

  // Its shape, then its own cells, row by row: others are the neighbours', or the boundary.
  void encode(Writer& writer) const {
    const std::size_t cells = shape.nx * shape.ny * planes();
    writer.buffer().reserve(writer.buffer().size() + 3 * sizeof(std::uint64_t) +
                            cells * sizeof(double));
    for (const std::size_t extent : {shape.nx, shape.ny, shape.nz}) {
      writer.put(static_cast<std::uint64_t>(extent));
    }
    for (std::size_t z = 0; z < planes(); ++z) {
      for (std::size_t y = 0; y < shape.ny; ++y) writer.put_raw(std::as_bytes(row(y, z)));
    }
  }
  static HeatBlock decode(Reader& reader) {
    kernels::StencilShape shape;
    for (std::size_t* cells : {&shape.nx, &shape.ny, &shape.nz}) {
      *cells = static_cast<std::size_t>(reader.get<std::uint64_t>());
    }
    const bool whole =
        !reader.failed() && kernels::why_invalid(shape) == nullptr &&
        reader.rest().size() == shape.nx * shape.ny * shape.planes() * sizeof(double);
    if (!whole)
      throw std::runtime_error("a saved block of the grid has not the cells of its shape");
    HeatBlock block(shape);
    for (std::size_t z = 0; z < block.planes(); ++z) {
      for (std::size_t y = 0; y < shape.ny; ++y) {
        const auto bytes = reader.get_raw(shape.nx * sizeof(double));
        std::memcpy(block.row(y, z).data(), bytes.data(), bytes.size());
      }
    }
    return block;
  }

 private:
  std::size_t row_begin(std::size_t y, std::size_t z) const {
    return kernels::cell_index(padded, static_cast<std::ptrdiff_t>(margins.low[0]),
                               static_cast<std::ptrdiff_t>(margins.low[1] + y),
                               static_cast<std::ptrdiff_t>(margins.low[2] + z));
  }

  kernels::StencilRegion layers_at(const std::array<int, 3>& direction, std::size_t layers,
                                   std::size_t outwards) const {
    kernels::StencilRegion region{{}, extents()};
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const auto low = static_cast<std::ptrdiff_t>(margins.low[axis]);
      const auto high = low + static_cast<std::ptrdiff_t>(region.count[axis]);
      const auto out = static_cast<std::ptrdiff_t>(outwards);
      region.begin[axis] = direction[axis] > 0   ? high - static_cast<std::ptrdiff_t>(layers) + out
                           : direction[axis] < 0 ? low - out
                                                 : low;
      if (direction[axis] != 0) region.count[axis] = layers;
    }
    return region;
  }
};

struct Heat {
  using Cell = HeatBlock;
  using Halo = std::vector<double>;  // the layers that the neighbour sees, as pack() has them
  struct Result {
    double sum = 0;  // of the temperature over the block's cells
    double least = 0;
    double greatest = 0;
    double error_sum2 = 0;
    double error_max = 0;
  };
  static constexpr std::string_view kName = "heat";
  static constexpr std::string_view kSummary =
      "diffusion of heat on a 2-D or 3-D grid, held against the exact solution";
  static constexpr std::string_view kDescription =
      "The grid is a box whose longest side has length 1 and whose boundary is kept at temperature "
      "0. 'sine' begins with half a sine wave along each axis, which fades evenly; 'spot' with a "
      "Gaussian in the middle, which spreads as in free space until it is near the boundary. Steps "
      "are explicit; without --time-step each takes 9/10 of the time that is still stable.";

  void options(OptionSet& set) {
    set.add("grid", grid, "cells along x, y and, in three dimensions, z").value_name("NXxNY[xNZ]");
    set.add("steps", steps, "time steps").at_most(0x1p53);
    set.add("blocks", block_count, "blocks that the grid is cut into, to be shared by ranks")
        .at_least(1)
        .at_most(GridBlocks::kBlocksMax);
    set.add("steps-at-once", steps_at_once,
            "steps that a block takes between two exchanges with its neighbours, for which they "
            "show "
            "it as many layers of cells; 0: what is fast")
        .at_most(kStepsAtOnceMax);
    set.add("start", start, "temperature at the beginning").one_of({"sine", "spot"});
    set.add("diffusivity", diffusivity, "thermal diffusivity").at_least(1e-300).at_most(1e300);
    set.add("time-step", time_step, "time that a step takes; 0: the largest that is safe")
        .at_least(0);
  }

  std::expected<void, std::string> prepare() { return lay_out(); }
  std::expected<void, std::string> load(Reader&) { return lay_out(); }

  std::expected<void, std::string> lay_out() {
    const auto extents = GridBlocks::parse(grid);
    if (!extents) return std::unexpected("--grid: " + extents.error());
    auto cut = GridBlocks::cut(*extents, block_count);
    if (!cut) return std::unexpected("--blocks: " + cut.error());
    blocks = *cut;
    const std::uint64_t longest = std::ranges::max(*extents);
    spacing = 1.0 / static_cast<double>(longest + 1);
    const double stable = spacing * spacing / (2.0 * blocks->dimensions() * diffusivity);
    step_time = time_step == 0 ? 0.9 * stable : time_step;
    const double number = diffusivity * step_time / (spacing * spacing);
    numbers = {number, number, blocks->dimensions() == 3 ? number : 0};
    for (std::uint32_t block = 0; block < blocks->count(); ++block) {
      if (const char* why = kernels::why_invalid(blocks->shape(block))) {
        return std::unexpected(std::string("--blocks: ") + why);
      }
      if (kernels::why_invalid(blocks->shape(block), numbers) != nullptr) {
        return std::unexpected(fmt::format(
            "--time-step {} is not stable: with this grid and diffusivity give at most {:.6g}",
            time_step, stable));
      }
    }
    return choose_layers();
  }

  // A block sees no further than its neighbours. Cells that it computes in their place cost time.
  std::expected<void, std::string> choose_layers() {
    std::size_t thinnest = std::numeric_limits<std::size_t>::max();
    for (std::size_t axis = 0; axis < 3; ++axis) {
      if (blocks->along()[axis] > 1) {
        thinnest = std::min<std::size_t>(thinnest, blocks->extents()[axis] / blocks->along()[axis]);
      }
    }
    if (steps_at_once > thinnest) {
      return std::unexpected(fmt::format(
          "--steps-at-once: the thinnest block has {} cells across: give at most that, or fewer "
          "--blocks",
          thinnest));
    }
    const std::size_t fast = blocks->dimensions() == 2 ? 8 : 4;
    layers = steps_at_once != 0 ? steps_at_once
                                : std::clamp<std::size_t>(thinnest / kFastLayersShare, 1, fast);
    return {};
  }

  std::uint32_t cells() const { return blocks->count(); }
  std::vector<std::uint32_t> neighbours(std::uint32_t block) const {
    std::vector<std::uint32_t> found;
    for (const auto& other : around(block)) found.push_back(other.block);
    return found;
  }
  // Cells of the grid are cells of the field: a ghost's centre is on the boundary, at 0, so the
  // first one begins half a cell from there.
  CellField field() const {
    const auto dimensions = static_cast<std::size_t>(blocks->dimensions());
    const auto slowest_first = [&](const std::array<std::uint64_t, 3>& xyz) {
      std::vector<std::uint64_t> all(xyz.begin(), xyz.begin() + blocks->dimensions());
      std::ranges::reverse(all);
      return all;
    };
    CellField field{.field = {.name = "temperature",
                              .shape = slowest_first(blocks->extents()),
                              .spacing = std::vector(dimensions, spacing),
                              .origin = std::vector(dimensions, 0.5 * spacing)},
                    .step_time = step_time * static_cast<double>(layers),
                    .end_time = step_time * static_cast<double>(steps)};
    for (std::uint32_t block = 0; block < blocks->count(); ++block) {
      const auto shape = blocks->shape(block);
      field.places.push_back(
          {slowest_first(blocks->start(block)), slowest_first({shape.nx, shape.ny, shape.nz})});
    }
    return field;
  }

  Cell begin(const CellContext& cell) const {
    HeatBlock block(blocks->shape(cell.cell()), margins(cell.cell()));
    for_each_row(block, cell.cell(), [&](std::span<double> row, auto temperature) {
      for (std::size_t x = 0; x < row.size(); ++x) row[x] = temperature(x);
    });
    return block;
  }

  Halo show(const Cell& block, const CellContext& cell, std::uint32_t to) const {
    for (const auto& other : around(cell.cell())) {
      if (other.block != to) continue;
      const kernels::StencilRegion region = block.shown(other.direction, layers);
      Halo cells(region.cells());
      kernels::pack(block.padded, block.now, region, cells);
      return cells;
    }
    throw std::logic_error("a block that is no neighbour");
  }

  // The runtime's steps are from one exchange to the next.
  std::uint64_t steps_each() const { return layers; }
  bool at_end(std::uint64_t exchange, const void*) const { return exchange * layers >= steps; }
  std::uint64_t steps_max() const { return steps; }

  void step(Cell& block, const CellContext& cell, std::span<const Halo> halos, const void*) const {
    if (const Margins needed = margins(cell.cell()); block.margins != needed) {
      block = block.with(needed);
    }
    kernels::SideSet open;
    const auto others = around(cell.cell());
    for (std::size_t i = 0; i < others.size(); ++i) {
      const auto& direction = others[i].direction;
      kernels::unpack(block.padded, halos[i], block.seen(direction, layers), block.now);
      for (std::size_t axis = 0; axis < 3; ++axis) {
        if (direction[axis] != 0) open.set(2 * axis + (direction[axis] > 0 ? 1 : 0));
      }
    }
    const std::uint64_t left = steps - cell.step() * layers;
    const auto taken = static_cast<std::size_t>(std::min<std::uint64_t>(left, layers));
    kernels::diffuse_steps(block.padded, numbers, block.own_box(), open, taken, block.now,
                           block.next, cell.threads());
    if (taken % 2 == 1) std::swap(block.now, block.next);
  }

  // At its end, held against the exact solution.
  Result result(const Cell& block, const CellContext& cell) const {
    Result result{.least = block.row(0, 0)[0], .greatest = block.row(0, 0)[0]};
    for_each_row(
        block, cell.cell(),
        [&](std::span<const double> row, auto temperature) {
          for (std::size_t x = 0; x < row.size(); ++x) {
            const double error = std::abs(row[x] - temperature(x));
            result.sum += row[x];
            result.least = std::min(result.least, row[x]);
            result.greatest = std::max(result.greatest, row[x]);
            result.error_sum2 += error * error;
            result.error_max = std::max(result.error_max, error);
          }
        },
        static_cast<double>(steps) * step_time);
    return result;
  }

  void report(std::span<const Result> results, Report& report) const {
    const auto& extents = blocks->extents();
    const double cells = static_cast<double>(extents[0]) * static_cast<double>(extents[1]) *
                         static_cast<double>(std::max<std::uint64_t>(1, extents[2]));
    Result all = results.front();
    for (const Result& block : results.subspan(1)) {
      all.sum += block.sum;
      all.error_sum2 += block.error_sum2;
      all.least = std::min(all.least, block.least);
      all.greatest = std::max(all.greatest, block.greatest);
      all.error_max = std::max(all.error_max, block.error_max);
    }
    report.value("steps", steps);
    report.value("time", static_cast<double>(steps) * step_time);
    report.value("spacing", spacing);
    report.value("mean", all.sum / cells);
    report.value("least", all.least);
    report.value("greatest", all.greatest);
    report.value("error_max", all.error_max);
    report.value("error_rms", std::sqrt(all.error_sum2 / cells));
  }

  std::string grid = "512x512";
  std::uint64_t steps = 1000;
  std::uint32_t block_count = 16;
  std::size_t steps_at_once = 0;
  std::string start = "sine";
  double diffusivity = 1;
  double time_step = 0;

  std::optional<GridBlocks> blocks;
  double spacing = 0;
  double step_time = 0;
  kernels::DiffusionNumbers numbers;
  std::size_t layers = 1;  // that blocks show each other, and steps from one exchange to the next

 private:
  static constexpr std::size_t kStepsAtOnceMax = 1024;
  // Unless told otherwise no more layers than this part of the thinnest block.
  static constexpr std::size_t kFastLayersShare = 16;

  static constexpr double kSpotRadius = 0.05;

  // Several steps reach round corners.
  std::vector<GridBlocks::Neighbour> around(std::uint32_t block) const {
    return blocks->neighbours(block, layers > 1);
  }

  // The outermost layer that a neighbour shows are the stencil's ghosts.
  Margins margins(std::uint32_t block) const {
    Margins margins;
    for (const auto& other : around(block)) {
      for (std::size_t axis = 0; axis < 3; ++axis) {
        if (other.direction[axis] < 0) margins.low[axis] = layers - 1;
        if (other.direction[axis] > 0) margins.high[axis] = layers - 1;
      }
    }
    return margins;
  }

  // Calls visit(row, temperature) for each row of the block, where temperature(x) is that of the
  // exact solution at `time` in the row's cell x: of u_t = diffusivity Laplace(u), a product over
  // the axes.
  template <class Block, class Visit>
  void for_each_row(Block& block, std::uint32_t number, Visit visit, double time = 0) const {
    const auto first = blocks->start(number);
    std::array<std::vector<double>, 3> factors;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const std::size_t cells = axis == 0   ? block.shape.nx
                                : axis == 1 ? block.shape.ny
                                            : block.planes();
      const bool missing = axis == 2 && blocks->dimensions() == 2;
      for (std::size_t i = 0; i < cells; ++i) {
        factors[axis].push_back(missing ? 1 : factor(axis, first[axis] + i, time));
      }
    }
    for (std::size_t z = 0; z < block.planes(); ++z) {
      for (std::size_t y = 0; y < block.shape.ny; ++y) {
        visit(block.row(y, z), [&, across = factors[1][y] * factors[2][z]](std::size_t x) {
          return factors[0][x] * across;
        });
      }
    }
  }

  double factor(std::size_t axis, std::uint64_t cell, double time) const {
    const double length = static_cast<double>(blocks->extents()[axis] + 1) * spacing;
    const double at = static_cast<double>(cell + 1) * spacing;
    if (start == "sine") {
      const double waves = std::numbers::pi / length;
      return std::sin(waves * at) * std::exp(-diffusivity * waves * waves * time);
    }
    const double variance = kSpotRadius * kSpotRadius + 2 * diffusivity * time;
    const double off = at - 0.5 * length;
    return kSpotRadius / std::sqrt(variance) * std::exp(-off * off / (2 * variance));
  }
};

}  // namespace

void add_heat(JobRegistry& registry) {
  registry.add<Heat>();
}

}  // namespace regroup
