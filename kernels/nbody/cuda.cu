// The sums for CUDA. The sources of a group are in the shared memory of a block of threads, of
// which each has a target.
#include <algorithm>
#include <array>

#include "kernels/device/cuda_call.cuh"
#include "kernels/nbody/contract.hpp"
#include "kernels/nbody/cuda.hpp"
#include "kernels/nbody/pair.hpp"

namespace regroup::kernels::cuda {
namespace {

constexpr unsigned kThreads = 128;
constexpr std::size_t kComponents = 4;  // x, y, z and potential
// Sums of groups that are kept until they are added up: 256 MiB.
constexpr std::size_t kGroupSumsMax = std::size_t{1} << 26;

// Of bodies, one array after the other.
struct DeviceBodies {
  const float* x;
  const float* y;
  const float* z;
  const float* mass;  // of sources
  std::size_t count;
};

// Block (b, g) of threads: the sums over group `first_group` + g for targets from b * kThreads on.
template <bool kPotential>
__global__ void sum_groups(DeviceBodies targets, DeviceBodies sources, float softening_square,
                           std::size_t first_group, float* sums) {
  __shared__ float x[kGroup];
  __shared__ float y[kGroup];
  __shared__ float z[kGroup];
  __shared__ float mass[kGroup];
  const std::size_t begin = (first_group + blockIdx.y) * kGroup;
  const std::size_t left = sources.count - begin;
  const auto group = static_cast<unsigned>(left < kGroup ? left : kGroup);
  for (unsigned j = threadIdx.x; j < group; j += blockDim.x) {
    x[j] = sources.x[begin + j];
    y[j] = sources.y[begin + j];
    z[j] = sources.z[begin + j];
    mass[j] = sources.mass[begin + j];
  }
  __syncthreads();
  for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < targets.count;
       i += std::size_t{gridDim.x} * blockDim.x) {
    const float target_x = targets.x[i];
    const float target_y = targets.y[i];
    const float target_z = targets.z[i];
    PairSums<SingleOps> sum;
#pragma unroll 4
    for (unsigned j = 0; j < group; ++j) {
      sum.template add<kPotential>(x[j] - target_x, y[j] - target_y, z[j] - target_z, mass[j],
                                   softening_square);
    }
    float* const to = sums + blockIdx.y * kComponents * targets.count + i;
    to[0] = sum.x;
    to[targets.count] = sum.y;
    to[2 * targets.count] = sum.z;
    to[3 * targets.count] = sum.potential;
  }
}

// Component blockIdx.y of each target's gravity.
__global__ void add_groups(const float* sums, std::size_t groups, std::size_t targets,
                           double* gravity) {
  const std::size_t component = blockIdx.y;
  for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < targets;
       i += std::size_t{gridDim.x} * blockDim.x) {
    double sum = gravity[component * targets + i];
    for (std::size_t group = 0; group < groups; ++group) {
      sum += static_cast<double>(sums[(group * kComponents + component) * targets + i]);
    }
    gravity[component * targets + i] = sum;
  }
}

// Arrays on the device, and how the kernels see them.
class Bodies {
 public:
  Bodies(const BodyPositions& at, std::span<const float> mass)
      : x_(at.x), y_(at.y), z_(at.z), mass_(mass) {}
  DeviceBodies view() const { return {x_.data(), y_.data(), z_.data(), mass_.data(), x_.size()}; }

 private:
  DeviceArray<float> x_;
  DeviceArray<float> y_;
  DeviceArray<float> z_;
  DeviceArray<float> mass_;
};

}  // namespace

void add_gravity(std::uint32_t device, const BodyPositions& targets, const BodySources& sources,
                 float softening_square, const Gravity& gravity) {
  require_bodies(targets, sources, softening_square, gravity);
  const std::size_t count = targets.x.size();
  const std::size_t groups = (sources.mass.size() + kGroup - 1) / kGroup;
  if (count == 0 || groups == 0) return;
  const bool potential = !gravity.potential.empty();
  const std::array components = {gravity.x, gravity.y, gravity.z, gravity.potential};
  const unsigned component_count = potential ? 4 : 3;

  use_device(device);
  const Bodies own(targets, {});
  const Bodies others(sources.at, sources.mass);
  std::vector<double> all(component_count * count);
  for (unsigned k = 0; k < component_count; ++k) {
    std::copy(components[k].begin(), components[k].end(), all.begin() + k * count);
  }
  DeviceArray<double> total{std::span<const double>(all)};
  const std::size_t groups_at_once = std::clamp<std::size_t>(
      kGroupSumsMax / (kComponents * count), 1, std::min<std::size_t>(groups, kBlocksMax));
  DeviceArray<float> sums(groups_at_once * kComponents * count);
  for (std::size_t first = 0; first < groups; first += groups_at_once) {
    const std::size_t now = std::min(groups_at_once, groups - first);
    launch(potential ? sum_groups<true> : sum_groups<false>,
           dim3(blocks_for(count, kThreads), static_cast<unsigned>(now)), dim3(kThreads),
           own.view(), others.view(), softening_square, first, sums.data());
    launch(add_groups, dim3(blocks_for(count, kThreads), component_count), dim3(kThreads),
           sums.data(), now, count, total.data());
  }
  total.copy_to(all);
  for (unsigned k = 0; k < component_count; ++k) {
    std::copy_n(all.begin() + k * count, count, components[k].begin());
  }
}

}  // namespace regroup::kernels::cuda
