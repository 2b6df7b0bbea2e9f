// The sums as they are defined, one pair at a time: the oracle of the vectorised ones. Speed is no
// concern here; being obviously right is.
#include <algorithm>

#include "kernels/nbody/contract.hpp"
#include "kernels/nbody/nbody.hpp"
#include "kernels/nbody/pair.hpp"

namespace regroup::kernels {

double self_potential(float mass, float softening_square) {
  return -static_cast<double>(mass * inverse_square_root<SingleOps>(softening_square));
}

namespace reference {

void add_gravity(const BodyPositions& targets, const BodySources& sources, float softening_square,
                 const Gravity& gravity) {
  require_bodies(targets, sources, softening_square, gravity);
  for (std::size_t i = 0; i < targets.x.size(); ++i) {
    for (std::size_t first = 0; first < sources.mass.size(); first += kGroup) {
      PairSums<SingleOps> sums;
      for (std::size_t j = first; j < std::min(first + kGroup, sources.mass.size()); ++j) {
        sums.add<true>(sources.at.x[j] - targets.x[i], sources.at.y[j] - targets.y[i],
                       sources.at.z[j] - targets.z[i], sources.mass[j], softening_square);
      }
      gravity.x[i] += static_cast<double>(sums.x);
      gravity.y[i] += static_cast<double>(sums.y);
      gravity.z[i] += static_cast<double>(sums.z);
      if (!gravity.potential.empty()) gravity.potential[i] += static_cast<double>(sums.potential);
    }
  }
}

}  // namespace reference

}  // namespace regroup::kernels
