// The device's own measure: a copy within its memory.
#include <algorithm>

#include "kernels/device/cuda_call.cuh"
#include "kernels/device/device.hpp"

namespace regroup::kernels::cuda {

std::uint32_t device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return static_cast<std::uint32_t>(count);
  cudaGetLastError();  // having none is no failure of a later call
  return 0;
}

double copy_bandwidth(std::uint32_t device, std::uint64_t bytes) {
  constexpr int kTries = 5;
  constexpr int kCopies = 10;
  use_device(device);
  DeviceArray<unsigned char> from(bytes);
  DeviceArray<unsigned char> to(bytes);
  from.set_zero();
  double best = 0;
  for (int i = 0; i < kTries; ++i) {
    const double seconds = device_seconds([&] {
      for (int copy = 0; copy < kCopies; ++copy) {
        check(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, nullptr),
              "a copy within the device failed");
      }
    });
    best = std::max(best, kCopies * 2.0 * static_cast<double>(bytes) / seconds);
  }
  return best;
}

}  // namespace regroup::kernels::cuda
