// What callers of the stencil owe it, checked at each call and in production too: to write past a
// block would spoil other memory, and with it results. Private to this folder, and not for files
// compiled for a newer instruction set.
#pragma once

#include <span>

#include "kernels/stencil/stencil.hpp"

namespace regroup::kernels {

// Unless it holds, prints "stencil: text" on standard error and aborts.
void require(bool holds, const char* text);

// That both spans hold a block of the shape, share no memory, and have the box in their interior.
void require_step(const StencilShape& shape, const StencilBox& box, std::span<const double> in,
                  std::span<double> out);

// That the region's cells, ghosts or not, are the block's.
void require_region(const StencilShape& shape, const StencilRegion& region);

// The box with so many layers more at the sides in `open`.
StencilBox grown(const StencilBox& box, SideSet open, std::size_t layers);

// That the block has the box in its interior, and the layers that the first of the steps computes.
void require_layers(const StencilShape& shape, const StencilBox& box, SideSet open,
                    std::size_t steps);

// As require_step() and require_layers().
void require_steps(const StencilShape& shape, const StencilBox& box, SideSet open,
                   std::size_t steps, std::span<const double> now, std::span<double> next);

}  // namespace regroup::kernels
