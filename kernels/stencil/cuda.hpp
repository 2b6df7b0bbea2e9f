// Steps of the diffusion equation on a CUDA device: the cells of stencil.hpp, to the bit (of a NaN
// only that it is one). A block stays in the device's memory from step to step; what goes between
// it and the host is what neighbours see of each other. See kernels/device/device.hpp for what all
// such calls have in common.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "kernels/device/device.hpp"
#include "kernels/stencil/stencil.hpp"

namespace regroup::kernels::cuda {

// A block in a device's memory, which takes twice its cells. Copies are the same block. One call at
// a time.
class StencilBlock {
 public:
  // `block` holds one of this shape, and its ghosts those of both spans of
  // kernels::diffuse_steps().
  StencilBlock(std::uint32_t device, const StencilShape& shape, std::span<const double> block);

  // As unpack() and pack() on the cells as they are now. Regions may be written one after the other
  // before the steps that read them.
  void write(const StencilRegion& region, std::span<const double> buffer);
  void read(const StencilRegion& region, std::span<double> buffer) const;
  // All cells, ghosts included; those that steps have left without use are of none.
  void read_all(std::span<double> block) const;

  // As kernels::diffuse_steps(); the cells at the end are then the present ones.
  void diffuse_steps(const DiffusionNumbers& numbers, const StencilBox& box, SideSet open,
                     std::size_t steps);

 private:
  struct Memory;
  std::shared_ptr<Memory> memory_;
};

}  // namespace regroup::kernels::cuda
