// The public entry point: picks the instruction set and shares out the targets to threads. A group
// of sources is taken to all targets of a thread while it is in the core's first cache.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "kernels/nbody/contract.hpp"
#include "kernels/nbody/cpu_kernel.hpp"
#include "kernels/nbody/nbody.hpp"

namespace regroup::kernels {
namespace {

// A thread has so many targets, at least, and a multiple of it.
constexpr std::size_t kThreadTargets = 128;

GravityKernel kernel_for(InstructionSet set) {
#ifdef __x86_64__
  switch (usable_instruction_set(set)) {
    case InstructionSet::kAvx512:
      return kGravityAvx512;
    case InstructionSet::kAvx2:
      return kGravityAvx2;
    case InstructionSet::kBaseline:
      return kGravityBaseline;
  }
#endif
  static_cast<void>(set);
  return kGravityBaseline;
}

void require(bool holds, const char* text) {
  if (holds) return;
  std::fprintf(stderr, "nbody: %s\n", text);
  std::abort();
}

void add_range(const BodyPositions& targets, const BodySources& sources, float softening_square,
               const Gravity& gravity, std::size_t begin, std::size_t end, GravityKernel kernel) {
  for (std::size_t first = 0; first < sources.mass.size(); first += kGroup) {
    kernel({.x = sources.at.x.data() + first,
            .y = sources.at.y.data() + first,
            .z = sources.at.z.data() + first,
            .mass = sources.mass.data() + first,
            .sources = std::min(kGroup, sources.mass.size() - first),
            .target_x = targets.x.data() + begin,
            .target_y = targets.y.data() + begin,
            .target_z = targets.z.data() + begin,
            .targets = end - begin,
            .softening_square = softening_square,
            .gravity_x = gravity.x.data() + begin,
            .gravity_y = gravity.y.data() + begin,
            .gravity_z = gravity.z.data() + begin,
            .potential = gravity.potential.empty() ? nullptr : gravity.potential.data() + begin});
  }
}

}  // namespace

void require_bodies(const BodyPositions& targets, const BodySources& sources,
                    float softening_square, const Gravity& gravity) {
  const std::size_t count = targets.x.size();
  require(targets.y.size() == count && targets.z.size() == count && gravity.x.size() == count &&
              gravity.y.size() == count && gravity.z.size() == count &&
              (gravity.potential.empty() || gravity.potential.size() == count),
          "the spans of the targets have different lengths");
  const std::size_t masses = sources.mass.size();
  require(sources.at.x.size() == masses && sources.at.y.size() == masses &&
              sources.at.z.size() == masses,
          "the spans of the sources have different lengths");
  require(softening_square >= kSofteningSquareMin, "the softening length is too small");
}

void add_gravity(const BodyPositions& targets, const BodySources& sources, float softening_square,
                 const Gravity& gravity, std::size_t threads, InstructionSet set) {
  require_bodies(targets, sources, softening_square, gravity);
  const GravityKernel kernel = kernel_for(set);
  const std::size_t count = targets.x.size();
  const std::size_t shares =
      std::clamp<std::size_t>(count / kThreadTargets, 1, std::max<std::size_t>(threads, 1));
  const std::size_t share =
      (count + shares * kThreadTargets - 1) / (shares * kThreadTargets) * kThreadTargets;
#pragma omp parallel for num_threads(static_cast <int>(shares)) schedule(static, 1) if (shares > 1)
  for (std::size_t part = 0; part < shares; ++part) {
    const std::size_t begin = std::min(part * share, count);
    const std::size_t end = std::min(begin + share, count);
    if (begin < end) {
      add_range(targets, sources, softening_square, gravity, begin, end, kernel);
    }
  }
}

}  // namespace regroup::kernels
