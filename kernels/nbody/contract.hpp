// What callers owe, checked at each call and in production too. Private to this folder, and not for
// files compiled for a newer instruction set.
#pragma once

#include "kernels/nbody/nbody.hpp"

namespace regroup::kernels {

// Ends the process, with one line on standard error, unless spans that belong together have one
// length and the softening is large enough.
void require_bodies(const BodyPositions& targets, const BodySources& sources,
                    float softening_square, const Gravity& gravity);

}  // namespace regroup::kernels
