// The step as it is defined, one cell at a time: the oracle of the vectorised one. Speed is no
// concern here; being obviously right is.
#include <utility>

#include "kernels/stencil/contract.hpp"
#include "kernels/stencil/stencil.hpp"

namespace regroup::kernels::reference {

void diffuse(const StencilShape& shape, const DiffusionNumbers& numbers, const StencilBox& box,
             std::span<const double> in, std::span<double> out) {
  require_step(shape, box, in, out);
  const std::size_t row = shape.nx + 2;
  const std::size_t plane = row * (shape.ny + 2);
  for (std::size_t z = box.z_begin; z < box.z_end; ++z) {
    for (std::size_t y = box.y_begin; y < box.y_end; ++y) {
      for (std::size_t x = box.x_begin; x < box.x_end; ++x) {
        const std::size_t i =
            cell_index(shape, static_cast<std::ptrdiff_t>(x), static_cast<std::ptrdiff_t>(y),
                       static_cast<std::ptrdiff_t>(z));
        const auto second_difference = [&](std::size_t stride) {
          return (in[i - stride] + in[i + stride]) - 2.0 * in[i];
        };
        double change = numbers.x * second_difference(1) + numbers.y * second_difference(row);
        if (shape.dimensions() == 3) change += numbers.z * second_difference(plane);
        out[i] = in[i] + change;
      }
    }
  }
}

void diffuse_steps(const StencilShape& shape, const DiffusionNumbers& numbers,
                   const StencilBox& box, SideSet open, std::size_t steps, std::span<double> now,
                   std::span<double> next) {
  require_steps(shape, box, open, steps, now, next);
  for (std::size_t step = 1; step <= steps; ++step) {
    reference::diffuse(shape, numbers, grown(box, open, steps - step), now, next);
    std::swap(now, next);
  }
}

}  // namespace regroup::kernels::reference
