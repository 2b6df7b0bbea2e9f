// The job `heat`: diffusion on a grid of two or three dimensions whose boundary is kept at 0, by
// explicit steps (kernels/stencil), from a start whose solution is known. Blocks of the grid are
// cells that show each other their faces. Each value of a step is computed from the same numbers in
// the same order, however the grid is cut.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <numbers>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "jobs/colour_map.hpp"
#include "jobs/grid_blocks.hpp"
#include "jobs/grid_input.hpp"
#include "jobs/huge_pages.hpp"
#include "jobs/iterative.hpp"
#include "jobs/on_device.hpp"
#include "jobs/registry.hpp"
#include "jobs/sample_jobs.hpp"
#include "kernels/elementary/elementary.hpp"
#include "kernels/stencil/cuda.hpp"
#include "kernels/stencil/stencil.hpp"

namespace regroup {
namespace {

// Layers of neighbours' cells that a block has beside its own, beyond the ghosts of the stencil.
struct Margins {
  std::array<std::size_t, 3> low{};
  std::array<std::size_t, 3> high{};

  friend bool operator==(const Margins&, const Margins&) = default;
};

// A block of the grid at a step. Its own cells, `shape`, lie between margins.
struct HeatBlock {
  kernels::StencilShape shape;
  Margins margins;
  kernels::StencilShape padded;
  HugePageVector<double> now;

  explicit HeatBlock(const kernels::StencilShape& of = {}, const Margins& beside = {})
      : shape(of),
        margins(beside),
        padded{of.nx + beside.low[0] + beside.high[0], of.ny + beside.low[1] + beside.high[1],
               of.nz + beside.low[2] + beside.high[2]},
        now(kernels::block_cells(padded)) {}

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
    HeatBlock block(decode_shape(reader));
    block.decode_cells(reader);
    return block;
  }
  static kernels::StencilShape decode_shape(Reader& reader) {
    kernels::StencilShape shape;
    for (std::size_t* cells : {&shape.nx, &shape.ny, &shape.nz}) {
      *cells = static_cast<std::size_t>(reader.get<std::uint64_t>());
    }
    const bool whole =
        !reader.failed() && kernels::why_invalid(shape) == nullptr &&
        reader.rest().size() == shape.nx * shape.ny * shape.planes() * sizeof(double);
    if (!whole)
      throw std::runtime_error("a saved block of the grid has not the cells of its shape");
    return shape;
  }
  // Those of a block of this shape.
  void decode_cells(Reader& reader) {
    for (std::size_t z = 0; z < planes(); ++z) {
      for (std::size_t y = 0; y < shape.ny; ++y) {
        const auto bytes = reader.get_raw(shape.nx * sizeof(double));
        std::memcpy(row(y, z).data(), bytes.data(), bytes.size());
      }
    }
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

// What is known of temperatures in some cells.
struct HeatSums {
  double sum = 0;
  double least = 0;
  double greatest = 0;
  double error_sum2 = 0;
  double error_max = 0;

  void operator+=(const HeatSums& more) {
    sum += more.sum;
    least = std::min(least, more.least);
    greatest = std::max(greatest, more.greatest);
    error_sum2 += more.error_sum2;
    error_max = std::max(error_max, more.error_max);
  }
};

// Of a block at its end.
struct HeatResult {
  HeatSums sums;
  std::vector<double> pixels;  // the temperatures that the picture shows of it, row by row
  std::vector<double> field;   // all of its temperatures, row by row; empty: not kept

  void encode(Writer& writer) const {
    writer.put_raw(std::as_bytes(std::span(&sums, 1)));
    for (const auto* numbers : {&pixels, &field}) {
      writer.put(static_cast<std::uint64_t>(numbers->size()));
      writer.put_raw(std::as_bytes(std::span(*numbers)));
    }
  }
  static HeatResult decode(Reader& reader) {
    HeatResult result;
    const auto sums = reader.get_raw(sizeof result.sums);
    if (!reader.failed()) std::memcpy(&result.sums, sums.data(), sums.size());
    for (auto* numbers : {&result.pixels, &result.field}) {
      const auto count = reader.get<std::uint64_t>();
      if (reader.failed() || count > reader.rest().size() / sizeof(double))
        throw std::runtime_error("the result of a block is cut short");
      numbers->resize(static_cast<std::size_t>(count));
      const auto bytes = reader.get_raw(numbers->size() * sizeof(double));
      if (!bytes.empty()) std::memcpy(numbers->data(), bytes.data(), bytes.size());
    }
    return result;
  }
};

struct Heat {
  using Cell = HeatBlock;
  using Halo = std::span<const double>;  // layers that the neighbour sees, as pack() has them
  using Result = HeatResult;
  static constexpr std::string_view kName = "heat";
  static constexpr std::string_view kSummary =
      "diffusion of heat on a 2-D or 3-D grid, held against the exact solution";
  static constexpr std::string_view kDescription =
      "The grid is a box whose longest side has length 1 and whose boundary is kept at temperature "
      "0. 'sine' begins with half a sine wave along each axis, which fades evenly; 'spot' with a "
      "Gaussian in the middle, which spreads as in free space until it is near the boundary. Steps "
      "are explicit; without --time-step each takes 9/10 of the time that is still stable. --input "
      "begins with what a file holds, and the grid has its size: a PNG, of which 0 is black and 1 "
      "white, or a dataset of floating-point numbers as FILE.h5:/DATASET; every node must see the "
      "same file. No exact solution is known then; the result says by how much temperatures have "
      "left the range of the start and the boundary, which none may. The picture shows the end "
      "from "
      "the least to the greatest temperature, with y downwards, in three dimensions in the middle "
      "plane; of a larger grid it shows every k-th cell along x and y, so that it has at most 1024 "
      "pixels along a side. The whole field is 'temperature' in the result, and result.xdmf shows "
      "it in ParaView.";

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
    set.add("input", input_name, "a PNG or HDF5 file with the temperature at the beginning")
        .value_name("FILE[:/DATASET]");
    set.add("field", keep_field, "keep the whole field in the result; auto: of at most 2^24 cells")
        .one_of({"auto", "yes", "no"});
    set.add("diffusivity", diffusivity, "thermal diffusivity").at_least(1e-300).at_most(1e300);
    set.add("time-step", time_step, "time that a step takes; 0: the largest that is safe")
        .at_least(0);
  }

  std::expected<void, std::string> prepare() {
    if (input_name.empty()) return lay_out();
    if (start != kStart)
      return std::unexpected("--start " + start + " and --input: give one of them");
    auto opened = GridInput::open(input_name);
    if (!opened) return std::unexpected("--input: " + opened.error());
    input = std::move(*opened);
    return lay_out();
  }
  void save(Writer& writer) const {
    if (input) input->encode(writer);
  }
  std::expected<void, std::string> load(Reader& reader) {
    if (!input_name.empty()) {
      auto decoded = GridInput::decode(reader);
      if (!decoded) return std::unexpected(decoded.error());
      input = std::move(*decoded);
    }
    return lay_out();
  }

  std::expected<void, std::string> lay_out() {
    auto extents = GridBlocks::parse(grid);
    if (!extents) return std::unexpected("--grid: " + extents.error());
    if (input && grid != kGrid && *extents != input->extents())
      return std::unexpected("--grid " + grid + " is not the size of --input: leave it out");
    if (input) extents = input->extents();
    auto cut = GridBlocks::cut(*extents, block_count);
    if (!cut) return std::unexpected("--blocks: " + cut.error());
    blocks = *cut;
    const std::uint64_t longest = std::ranges::max(*extents);
    spacing = 1.0 / static_cast<double>(longest + 1);
    const double stable = spacing * spacing / (2.0 * blocks->dimensions() * diffusivity);
    step_time = time_step == 0 ? 0.9 * stable : time_step;
    const double number = diffusivity * step_time / (spacing * spacing);
    numbers = {number, number, blocks->dimensions() == 3 ? number : 0};
    if (keep_field == "yes" && !(all_cells() <= kFieldCellsMax)) {
      return std::unexpected(fmt::format(
          "--field yes: the grid has more than {} cells: its checkpoints have the field, too",
          kFieldCellsMax));
    }
    for (std::uint32_t block = 0; block < blocks->count(); ++block) {
      const auto shape = blocks->shape(block);
      if (const char* why = kernels::why_invalid(shape)) {
        return std::unexpected(std::string("--blocks: ") + why);
      }
      if (has_field() && shape.nx * shape.ny * shape.planes() > kFieldBlockCellsMax) {
        return std::unexpected(
            fmt::format("--field yes: a block has more than {} cells: give more "
                        "--blocks",
                        kFieldBlockCellsMax));
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
    if (input) {
      const auto done =
          input->read(blocks->start(cell.cell()), block.shape,
                      [&](std::size_t y, std::size_t z, std::span<const double> temperatures) {
                        std::ranges::copy(temperatures, block.row(y, z).begin());
                      });
      if (!done) throw std::runtime_error(done.error());
      return block;
    }
    for_each_row(block, cell.cell(), [&](std::span<double> row, auto temperature) {
      for (std::size_t x = 0; x < row.size(); ++x) row[x] = temperature(x);
    });
    return block;
  }

  void show(const Cell& block, const CellContext& cell, std::uint32_t to,
            HaloRoom<double> room) const {
    for (const auto& other : around(cell.cell())) {
      if (other.block != to) continue;
      const kernels::StencilRegion region = block.shown(other.direction, layers);
      return kernels::pack(block.padded, block.now, region, room.take(region.cells()));
    }
    throw std::logic_error("a block that is no neighbour");
  }

  // In the memory of the block that is there: what lies around its own cells is the neighbours',
  // who show it again, or the boundary, which does not change.
  void restore(Cell& block, const CellContext& cell, Reader& reader) const {
    const kernels::StencilShape saved = HeatBlock::decode_shape(reader);
    if (saved != blocks->shape(cell.cell())) throw_other_place();
    const Margins needed = margins(cell.cell());
    if (block.shape != saved || block.margins != needed) block = HeatBlock(saved, needed);
    block.decode_cells(reader);
  }

  // The runtime's steps are from one exchange to the next.
  std::uint64_t steps_done(std::uint64_t exchange) const {
    return std::min<std::uint64_t>(exchange * layers, steps);
  }
  bool at_end(std::uint64_t exchange, const void*) const { return exchange * layers >= steps; }
  std::uint64_t steps_max() const { return steps; }

  void step(Cell& block, const CellContext& cell, std::span<const Halo> halos, const void*) const {
    kernels::SideSet open;
    const auto others = around(cell.cell());
    for (std::size_t i = 0; i < others.size(); ++i) {
      const auto& direction = others[i].direction;
      const kernels::StencilRegion region = block.seen(direction, layers);
      if (halos[i].size() != region.cells())
        throw std::runtime_error("a neighbour shows another number of cells than there are");
      kernels::unpack(block.padded, halos[i], region, block.now);
      for (std::size_t axis = 0; axis < 3; ++axis) {
        if (direction[axis] != 0) open.set(2 * axis + (direction[axis] > 0 ? 1 : 0));
      }
    }
    const std::uint64_t left = steps - cell.step() * layers;
    const auto taken = static_cast<std::size_t>(std::min<std::uint64_t>(left, layers));
    if (take_on_device(block, cell, open, taken)) return;
    HugePageVector<double>& next = room_for_next(block, open);
    kernels::diffuse_steps(block.padded, numbers, block.own_box(), open, taken, block.now, next,
                           cell.threads());
    if (taken % 2 == 1) std::swap(block.now, next);
  }

  // At its end, held against the exact solution where one is known.
  Result result(const Cell& block, const CellContext& cell) const {
    Result result;
    HeatSums& sums = result.sums;
    sums.least = sums.greatest = block.row(0, 0)[0];
    for_each_row(
        block, cell.cell(),
        [&](std::span<const double> row, auto temperature) {
          for (std::size_t x = 0; x < row.size(); ++x) {
            const double error = input ? 0 : std::abs(row[x] - temperature(x));
            sums.sum += row[x];
            sums.least = std::min(sums.least, row[x]);
            sums.greatest = std::max(sums.greatest, row[x]);
            sums.error_sum2 += error * error;
            sums.error_max = std::max(sums.error_max, error);
          }
        },
        static_cast<double>(steps) * step_time);
    if (has_field()) {
      for (std::size_t z = 0; z < block.planes(); ++z) {
        for (std::size_t y = 0; y < block.shape.ny; ++y) {
          const auto row = block.row(y, z);
          result.field.insert(result.field.end(), row.begin(), row.end());
        }
      }
    }
    const PixelBox box = pixels_of(cell.cell());
    const auto first = blocks->start(cell.cell());
    for (std::uint64_t y = box.y_begin; y < box.y_end; ++y) {
      const auto row = block.row(sampled(y, 1) - first[1], middle_plane() - first[2]);
      for (std::uint64_t x = box.x_begin; x < box.x_end; ++x) {
        result.pixels.push_back(row[sampled(x, 0) - first[0]]);
      }
    }
    return result;
  }

  void report(std::span<const Result> results, Report& report) const {
    const double cells = all_cells();
    const double time = static_cast<double>(steps) * step_time;
    HeatSums all = results.front().sums;
    for (const Result& block : results.subspan(1)) all += block.sums;
    report.value("steps", steps);
    report.value("time", time);
    report.value("spacing", spacing);
    report.value("mean", all.sum / cells);
    report.value("least", all.least);
    report.value("greatest", all.greatest);
    if (input) {
      report_start(all, report);
    } else {
      report.value("error_max", all.error_max);
      report.value("error_rms", std::sqrt(all.error_sum2 / cells));
    }
    report.picture(picture(results, all));
    if (has_field()) report.field(field().field, time, whole_field(results));
  }

  static constexpr const char* kGrid = "512x512";
  static constexpr const char* kStart = "sine";

  std::string grid = kGrid;
  std::uint64_t steps = 1000;
  std::uint32_t block_count = 16;
  std::size_t steps_at_once = 0;
  std::string start = kStart;
  std::string input_name;
  std::string keep_field = "auto";
  double diffusivity = 1;
  double time_step = 0;

  std::optional<GridInput> input;
  std::optional<GridBlocks> blocks;
  double spacing = 0;
  double step_time = 0;
  kernels::DiffusionNumbers numbers;
  std::size_t layers = 1;  // that blocks show each other, and steps from one exchange to the next

 private:
  // For steps of blocks of so many cells, ghosts included, which are taken one after the other.
  mutable std::map<std::size_t, HugePageVector<double>> room_;

  // Another block may have been in it; of the cells there that no step computes, those at the
  // boundary alone are read.
  HugePageVector<double>& room_for_next(const Cell& block, kernels::SideSet open) const {
    HugePageVector<double>& room = room_[block.now.size()];
    room.resize(block.now.size());
    for (const kernels::Side side : kernels::sides(block.padded)) {
      if (open.test(static_cast<std::size_t>(side))) continue;
      kernels::fill_ghosts(block.padded, side, 0, room);
    }
    return room;
  }

  // Whether the rank's device took the steps. The block goes there and back, so that the more steps
  // are taken at once the less that costs.
  bool take_on_device(Cell& block, const CellContext& cell, kernels::SideSet open,
                      std::size_t taken) const {
    DeviceGuard* const guard = working_device(cell);
    if (guard == nullptr) return false;
    auto moved =
        guard->run([device = *cell.device(), shape = block.padded, box = block.own_box(),
                    cells = block.now, of = numbers, open,
                    taken]() mutable -> std::expected<HugePageVector<double>, std::string> {
          kernels::cuda::StencilBlock on_device(device, shape, cells);
          on_device.diffuse_steps(of, box, open, taken);
          on_device.read_all(cells);
          return std::move(cells);
        });
    if (moved) block.now = std::move(*moved);
    return moved.has_value();
  }

  static constexpr std::size_t kStepsAtOnceMax = 1024;
  // Unless told otherwise no more layers than this part of the thinnest block.
  static constexpr std::size_t kFastLayersShare = 16;

  static constexpr double kSpotRadius = 0.05;
  static constexpr std::uint64_t kPixelsAlongMax = 1024;
  static constexpr std::uint64_t kFieldCellsAuto = std::uint64_t{1} << 24;
  static constexpr std::uint64_t kFieldCellsMax = std::uint64_t{1} << 28;
  static constexpr std::uint64_t kFieldBlockCellsMax = std::uint64_t{1} << 25;  // 256 MiB of result
  static constexpr std::uint8_t kMissing = 128;  // grey: blocks that were given up

  // As a number that cannot overflow; exact below 2^53.
  double all_cells() const {
    const auto& extents = blocks->extents();
    return static_cast<double>(extents[0]) * static_cast<double>(extents[1]) *
           static_cast<double>(std::max<std::uint64_t>(1, extents[2]));
  }
  bool has_field() const {
    return keep_field == "yes" || (keep_field == "auto" && all_cells() <= kFieldCellsAuto);
  }

  // NaN where a block was given up.
  std::vector<double> whole_field(std::span<const Result> results) const {
    const auto& extents = blocks->extents();
    std::vector<double> whole(static_cast<std::size_t>(all_cells()),
                              std::numeric_limits<double>::quiet_NaN());
    for (std::uint32_t number = 0; number < results.size(); ++number) {
      const auto shape = blocks->shape(number);
      const auto first = blocks->start(number);
      auto row = results[number].field.begin();
      if (row == results[number].field.end()) continue;
      for (std::uint64_t z = first[2]; z < first[2] + shape.planes(); ++z) {
        for (std::uint64_t y = first[1]; y < first[1] + shape.ny; ++y) {
          const auto at = (z * extents[1] + y) * extents[0] + first[0];
          std::copy_n(row, shape.nx, whole.begin() + static_cast<std::ptrdiff_t>(at));
          row += static_cast<std::ptrdiff_t>(shape.nx);
        }
      }
    }
    return whole;
  }

  // The maximum principle (Morton and Mayers, section 2.6): no temperature leaves the range of the
  // start and the boundary, but by rounding.
  void report_start(const HeatSums& all, Report& report) const {
    const GridInput::Range& range = input->range();
    report.value("start_mean", range.mean);
    report.value("start_least", range.least);
    report.value("start_greatest", range.greatest);
    report.value("beyond_range", std::max({0.0, all.greatest - std::max(range.greatest, 0.0),
                                           std::min(range.least, 0.0) - all.least}));
  }

  // ---- The picture ----
  //
  // A pixel is one cell, not a mean of some, so that it does not depend on how the grid is cut.

  struct PixelBox {
    std::uint64_t x_begin = 0;
    std::uint64_t x_end = 0;
    std::uint64_t y_begin = 0;
    std::uint64_t y_end = 0;
  };

  // Cells from a pixel to the next.
  std::uint64_t stride() const {
    const std::uint64_t longest = std::max(blocks->extents()[0], blocks->extents()[1]);
    return (longest + kPixelsAlongMax - 1) / kPixelsAlongMax;
  }
  std::uint64_t pixels_along(std::size_t axis) const {
    return (blocks->extents()[axis] + stride() - 1) / stride();
  }
  // The cell that a pixel shows: the middle one of its own.
  std::uint64_t sampled(std::uint64_t pixel, std::size_t axis) const {
    return std::min(pixel * stride() + stride() / 2, blocks->extents()[axis] - 1);
  }
  std::uint64_t middle_plane() const { return blocks->extents()[2] / 2; }

  // The pixels that show cells of a block; none where it is not in the plane.
  PixelBox pixels_of(std::uint32_t block) const {
    const auto first = blocks->start(block);
    const auto shape = blocks->shape(block);
    if (middle_plane() < first[2] || middle_plane() >= first[2] + shape.planes()) return {};
    // The first pixel whose cell is at or beyond `cell`.
    const auto pixel_from = [&](std::uint64_t cell, std::size_t axis) {
      std::uint64_t pixel = std::min(cell / stride(), pixels_along(axis));
      while (pixel < pixels_along(axis) && sampled(pixel, axis) < cell) ++pixel;
      return pixel;
    };
    return {pixel_from(first[0], 0), pixel_from(first[0] + shape.nx, 0), pixel_from(first[1], 1),
            pixel_from(first[1] + shape.ny, 1)};
  }

  Picture picture(std::span<const Result> results, const HeatSums& all) const {
    Picture picture{.name = "heat",
                    .width = static_cast<std::uint32_t>(pixels_along(0)),
                    .height = static_cast<std::uint32_t>(pixels_along(1))};
    picture.pixels.assign(picture.height * picture.row_bytes(), kMissing);
    const double range = all.greatest - all.least;
    for (std::uint32_t block = 0; block < results.size(); ++block) {
      const PixelBox box = pixels_of(block);
      auto temperature = results[block].pixels.begin();
      if (temperature == results[block].pixels.end()) continue;
      for (std::uint64_t y = box.y_begin; y < box.y_end; ++y) {
        auto pixel = picture.pixels.begin() +
                     static_cast<std::ptrdiff_t>(y * picture.row_bytes() + 3 * box.x_begin);
        for (std::uint64_t x = box.x_begin; x < box.x_end; ++x) {
          const double share = range > 0 ? (*temperature++ - all.least) / range : 0;
          pixel = std::ranges::copy(viridis(share), pixel).out;
        }
      }
    }
    return picture;
  }

  // ---- The exact solution ----

  [[noreturn]] static void throw_other_place() {
    throw std::runtime_error("a saved block of the grid has not the shape of its place");
  }

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

  // By functions that have the same bits on all ranks, whatever their C libraries and processors.
  double factor(std::size_t axis, std::uint64_t cell, double time) const {
    const double length = static_cast<double>(blocks->extents()[axis] + 1) * spacing;
    const double at = static_cast<double>(cell + 1) * spacing;
    if (start == "sine") {
      const double waves = std::numbers::pi / length;
      return kernels::sine_cosine_of_turns(0.5 * at / length).sine *
             kernels::exponential(-diffusivity * waves * waves * time);
    }
    const double variance = kSpotRadius * kSpotRadius + 2 * diffusivity * time;
    const double off = at - 0.5 * length;
    return kSpotRadius / std::sqrt(variance) * kernels::exponential(-off * off / (2 * variance));
  }
};

}  // namespace

void add_heat(JobRegistry& registry) {
  registry.add<Heat>();
}

}  // namespace regroup
