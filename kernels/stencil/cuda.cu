// The step for CUDA. Threads go along the slowest axis, so that of the planes (rows in two
// dimensions) that a cell's neighbours lie in each is read once and kept in registers; neighbours
// in the plane come from the caches.
#include <algorithm>
#include <utility>

#include "kernels/device/cuda_call.cuh"
#include "kernels/stencil/contract.hpp"
#include "kernels/stencil/cuda.hpp"

namespace regroup::kernels::cuda {
namespace {

constexpr unsigned kThreadsX2d = 256;
constexpr unsigned kThreadsX3d = 64;
constexpr unsigned kThreadsY3d = 4;
// Planes that a thread goes along: each end of the way reads one more.
constexpr std::size_t kWay2d = 16;
constexpr std::size_t kWay3d = 32;
constexpr unsigned kCopyThreads = 256;

// The first cell to compute, and the distances in memory.
struct Step {
  const double* in;
  double* out;
  std::size_t count_x;
  std::size_t count_y;
  std::size_t count_z;
  std::size_t row;
  std::size_t plane;
  DiffusionNumbers numbers;
};

// One after the other along an axis: cells at `i`, `stride` apart, with the terms of the other axes
// from `across`.
template <class Across>
__device__ void go_along(const double* __restrict__ in, double* __restrict__ out, std::size_t i,
                         std::size_t stride, std::size_t cells, double number, Across across) {
  double before = in[i - stride];
  double centre = in[i];
  for (; cells != 0; --cells) {
    const double after = in[i + stride];
    const double twice = centre + centre;
    const double change = across(i, twice) + number * ((before + after) - twice);
    out[i] = centre + change;
    before = centre;
    centre = after;
    i += stride;
  }
}

__device__ double second_difference(const double* __restrict__ in, std::size_t i,
                                    std::size_t stride, double twice) {
  return (in[i - stride] + in[i + stride]) - twice;
}

__global__ void diffuse_2d(Step step) {
  const std::size_t x = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (x >= step.count_x) return;
  for (std::size_t y = blockIdx.y * kWay2d; y < step.count_y; y += gridDim.y * kWay2d) {
    const std::size_t left = step.count_y - y;
    go_along(step.in, step.out, y * step.row + x, step.row, left < kWay2d ? left : kWay2d,
             step.numbers.y, [&](std::size_t i, double twice) {
               return step.numbers.x * second_difference(step.in, i, 1, twice);
             });
  }
}

__global__ void diffuse_3d(Step step) {
  const std::size_t x = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (x >= step.count_x) return;
  for (std::size_t z = blockIdx.z * kWay3d; z < step.count_z; z += gridDim.z * kWay3d) {
    const std::size_t left = step.count_z - z;
    for (std::size_t y = std::size_t{blockIdx.y} * blockDim.y + threadIdx.y; y < step.count_y;
         y += std::size_t{gridDim.y} * blockDim.y) {
      go_along(step.in, step.out, z * step.plane + y * step.row + x, step.plane,
               left < kWay3d ? left : kWay3d, step.numbers.z, [&](std::size_t i, double twice) {
                 return step.numbers.x * second_difference(step.in, i, 1, twice) +
                        step.numbers.y * second_difference(step.in, i, step.row, twice);
               });
    }
  }
}

void diffuse(const StencilShape& shape, const DiffusionNumbers& numbers, const StencilBox& box,
             const double* in, double* out) {
  const std::size_t first = cell_index(shape, static_cast<std::ptrdiff_t>(box.x_begin),
                                       static_cast<std::ptrdiff_t>(box.y_begin),
                                       static_cast<std::ptrdiff_t>(box.z_begin));
  const std::size_t row = shape.nx + 2;
  const Step step{in + first,
                  out + first,
                  box.x_end - box.x_begin,
                  box.y_end - box.y_begin,
                  box.z_end - box.z_begin,
                  row,
                  row * (shape.ny + 2),
                  numbers};
  // Along x there are blocks for all cells: 2^31 of them are allowed there.
  constexpr std::uint64_t kAllBlocks = 0x7fff'ffff;
  if (shape.dimensions() == 2) {
    launch(
        diffuse_2d,
        dim3(blocks_for(step.count_x, kThreadsX2d, kAllBlocks), blocks_for(step.count_y, kWay2d)),
        dim3(kThreadsX2d), step);
  } else {
    launch(diffuse_3d,
           dim3(blocks_for(step.count_x, kThreadsX3d, kAllBlocks),
                blocks_for(step.count_y, kThreadsY3d), blocks_for(step.count_z, kWay3d)),
           dim3(kThreadsX3d, kThreadsY3d), step);
  }
}

// A region's cells: the first one, counts, and the distances in the block.
struct RegionCells {
  std::size_t first;
  std::size_t count_x;
  std::size_t count_y;
  std::size_t cells;
  std::size_t row;
  std::size_t plane;
};

__device__ std::size_t place_of(const RegionCells& region, std::size_t cell) {
  const std::size_t x = cell % region.count_x;
  const std::size_t y = cell / region.count_x % region.count_y;
  const std::size_t z = cell / region.count_x / region.count_y;
  return region.first + z * region.plane + y * region.row + x;
}

__global__ void write_region(RegionCells region, const double* buffer, double* block) {
  for (std::size_t cell = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; cell < region.cells;
       cell += std::size_t{gridDim.x} * blockDim.x) {
    block[place_of(region, cell)] = buffer[cell];
  }
}

__global__ void read_region(RegionCells region, const double* block, double* buffer) {
  for (std::size_t cell = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; cell < region.cells;
       cell += std::size_t{gridDim.x} * blockDim.x) {
    buffer[cell] = block[place_of(region, cell)];
  }
}

}  // namespace

struct StencilBlock::Memory {
  Memory(std::uint32_t number, const StencilShape& of, std::span<const double> block)
      : device(number), shape(of), now(block), next(block) {}

  RegionCells cells_of(const StencilRegion& region, std::span<const double> buffer) const {
    require_region(shape, region);
    require(buffer.size() == region.cells(), "a buffer does not hold the cells of this region");
    return {cell_index(shape, region.begin[0], region.begin[1], region.begin[2]),
            region.count[0],
            region.count[1],
            region.cells(),
            shape.nx + 2,
            (shape.nx + 2) * (shape.ny + 2)};
  }
  std::uint32_t device;
  StencilShape shape;
  DeviceArray<double> now;
  DeviceArray<double> next;
  bool swapped = false;  // `next` has the present cells

  DeviceArray<double>& present() { return swapped ? next : now; }
  DeviceArray<double>& coming() { return swapped ? now : next; }
};

StencilBlock::StencilBlock(std::uint32_t device, const StencilShape& shape,
                           std::span<const double> block) {
  require(block.size() == block_cells(shape), "a span does not hold a block of this shape");
  use_device(device);
  memory_ = std::make_shared<Memory>(device, shape, block);
}

void StencilBlock::write(const StencilRegion& region, std::span<const double> buffer) {
  const RegionCells cells = memory_->cells_of(region, buffer);
  if (cells.cells == 0) return;
  use_device(memory_->device);
  const DeviceArray<double> staged(buffer);
  launch(write_region, dim3(blocks_for(cells.cells, kCopyThreads)), dim3(kCopyThreads), cells,
         staged.data(), memory_->present().data());
  finish();
}

void StencilBlock::read(const StencilRegion& region, std::span<double> buffer) const {
  const RegionCells cells = memory_->cells_of(region, buffer);
  if (cells.cells == 0) return;
  use_device(memory_->device);
  DeviceArray<double> staged(cells.cells);
  launch(read_region, dim3(blocks_for(cells.cells, kCopyThreads)), dim3(kCopyThreads), cells,
         memory_->present().data(), staged.data());
  staged.copy_to(buffer);
}

void StencilBlock::read_all(std::span<double> block) const {
  require(block.size() == block_cells(memory_->shape),
          "a span does not hold a block of this shape");
  use_device(memory_->device);
  memory_->present().copy_to(block);
}

void StencilBlock::diffuse_steps(const DiffusionNumbers& numbers, const StencilBox& box,
                                 SideSet open, std::size_t steps) {
  Memory& memory = *memory_;
  require_layers(memory.shape, box, open, steps);
  if (box.empty()) return;
  use_device(memory.device);
  for (std::size_t step = 1; step <= steps; ++step) {
    diffuse(memory.shape, numbers, grown(box, open, steps - step), memory.present().data(),
            memory.coming().data());
    memory.swapped = !memory.swapped;
  }
  finish();
}

}  // namespace regroup::kernels::cuda
