// Exact sums and dot products on a CUDA device: the accumulators of reduction.hpp, to the bit.
// Tiles of terms are summed up without error on the device, as blocks are on the CPU, and those
// that do not fit come to the host, which adds them term by term. See kernels/device/device.hpp for
// what all such calls have in common.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "kernels/device/device.hpp"
#include "kernels/reduction/reduction.hpp"

namespace regroup::kernels::cuda {

// A vector in a device's memory. Copies are the same one. One call at a time.
class DeviceVector {
 public:
  DeviceVector(std::uint32_t device, std::span<const double> elements);

  void add_sum(ExactSum& into) const;
  // Both have the same size, and are on the same device.
  void add_dot(ExactSum& into, const DeviceVector& other) const;

 private:
  struct Memory;
  std::shared_ptr<Memory> memory_;
};

}  // namespace regroup::kernels::cuda
