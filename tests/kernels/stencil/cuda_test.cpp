// The step on a device against the plain reference, to the bit.
#include "kernels/stencil/cuda.hpp"

#include "tests/kernels/cuda_test.hpp"

namespace regroup::kernels::cuda {
namespace {

using Block = std::vector<double>;
using CudaStencil = OnDevice;

constexpr StencilShape kShapes[] = {{1, 1, 0}, {5, 3, 0}, {257, 40, 0}, {300, 17, 0},
                                    {1, 1, 1}, {6, 5, 4}, {65, 9, 34},  {130, 3, 70}};

DiffusionNumbers numbers_for(const StencilShape& shape) {
  return {0.11, 0.17, shape.dimensions() == 3 ? 0.19 : 0.0};
}

TEST_F(CudaStencil, StepsAreThoseOfTheReference) {
  for (const StencilShape& shape : kShapes) {
    for (const std::size_t steps : {1u, 2u, 5u}) {
      Block now = random_numbers(block_cells(shape), 1);
      Block next = now;
      StencilBlock block(kDevice, shape, now);
      block.diffuse_steps(numbers_for(shape), whole_box(shape), {}, steps);
      reference::diffuse_steps(shape, numbers_for(shape), whole_box(shape), {}, steps, now, next);
      Block found(now.size());
      block.read_all(found);
      EXPECT_TRUE(same_bits(found, steps % 2 == 0 ? now : next))
          << shape.nx << "x" << shape.ny << "x" << shape.nz << ", " << steps << " steps";
    }
  }
}

// As a job with neighbours has it: layers come in, several steps are taken of fewer and fewer of
// them, and layers go out.
TEST_F(CudaStencil, LayersComeInAndGoOut) {
  for (const StencilShape& shape : {StencilShape{40, 30, 0}, StencilShape{20, 14, 12}}) {
    constexpr std::size_t kLayers = 3;
    StencilBox box = whole_box(shape);
    SideSet open;
    box.x_begin += kLayers - 1;
    open.set(static_cast<std::size_t>(Side::kXLow));
    box.y_end -= kLayers - 1;
    open.set(static_cast<std::size_t>(Side::kYHigh));
    // Of the slowest axis all, and along x what comes from the neighbour below.
    StencilRegion in{{-1, 0, 0}, {kLayers, shape.ny, shape.planes()}};
    StencilRegion out{{kLayers - 1, 0, 0}, {kLayers, box.y_end, shape.planes()}};
    Block now = random_numbers(block_cells(shape), 4);
    Block next = now;
    StencilBlock block(kDevice, shape, now);
    for (std::uint64_t exchange = 0; exchange < 3; ++exchange) {
      const Block coming = random_numbers(in.cells(), 10 + exchange);
      block.write(in, coming);
      unpack(shape, coming, in, now);
      block.diffuse_steps(numbers_for(shape), box, open, kLayers);
      reference::diffuse_steps(shape, numbers_for(shape), box, open, kLayers, now, next);
      std::swap(now, next);  // an odd number of steps
      Block shown(out.cells());
      block.read(out, shown);
      Block expected(out.cells());
      pack(shape, now, out, expected);
      EXPECT_TRUE(same_bits(shown, expected)) << "exchange " << exchange;
    }
  }
}

TEST_F(CudaStencil, AnEmptyBoxIsLeftAlone) {
  const StencilShape shape{5, 4, 0};
  const Block cells = random_numbers(block_cells(shape), 1);
  StencilBlock block(kDevice, shape, cells);
  block.diffuse_steps(numbers_for(shape), {}, {}, 3);
  Block found(cells.size());
  block.read_all(found);
  EXPECT_TRUE(same_bits(found, cells));
}

}  // namespace
}  // namespace regroup::kernels::cuda
