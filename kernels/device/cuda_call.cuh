// Checked calls of the CUDA runtime for the kernels' .cu files: choosing a device, memory that is
// given back, launches, and times by events. Every failure throws a DeviceError. All work is on the
// default stream, in order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <cuda_runtime.h>

#include "kernels/device/device.hpp"

namespace regroup::kernels::cuda {

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // it is told here, and must not show up in a later call's check
  throw DeviceError(std::string(what) + ": " + cudaGetErrorString(status) + " (" +
                    cudaGetErrorName(status) + ")");
}

// Has the thread's further calls go to this device.
inline void use_device(std::uint32_t device) {
  check(cudaSetDevice(static_cast<int>(device)), "the device cannot be used");
}

// Waits for all work, and tells what went wrong with it.
inline void finish() {
  check(cudaDeviceSynchronize(), "a kernel failed");
}

// So many numbers in the device's memory; what they are at first is not known.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t size) : size_(size) {
    if (size == 0) return;
    void* memory = nullptr;
    check(cudaMalloc(&memory, size * sizeof(T)), "no memory on the device");
    memory_ = static_cast<T*>(memory);
  }
  explicit DeviceArray(std::span<const T> from) : DeviceArray(from.size()) { copy_from(from); }
  ~DeviceArray() { cudaFree(memory_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() { return memory_; }
  const T* data() const { return memory_; }
  std::size_t size() const { return size_; }

  void copy_from(std::span<const T> from) {
    if (from.empty()) return;
    check(cudaMemcpy(memory_, from.data(), from.size_bytes(), cudaMemcpyHostToDevice),
          "a copy to the device failed");
  }
  void copy_to(std::span<T> to) const { copy_to(0, to); }
  // From the number at `first` on.
  void copy_to(std::size_t first, std::span<T> to) const {
    if (to.empty()) return;
    check(cudaMemcpy(to.data(), memory_ + first, to.size_bytes(), cudaMemcpyDeviceToHost),
          "a copy from the device failed");
  }
  void set_zero() {
    if (size_ == 0) return;
    check(cudaMemset(memory_, 0, size_ * sizeof(T)), "the device's memory cannot be set");
  }

 private:
  T* memory_ = nullptr;
  std::size_t size_ = 0;
};

template <class... Parameters, std::size_t... kIndex>
void launch_with(void (*kernel)(Parameters...), dim3 blocks, dim3 threads,
                 std::tuple<Parameters...>& values, std::index_sequence<kIndex...>) {
  void* pointers[] = {&std::get<kIndex>(values)...};
  check(cudaLaunchKernel(kernel, blocks, threads, pointers, 0, nullptr),
        "a kernel cannot be launched");
}

// Runs the kernel on so many blocks of so many threads; without blocks there is nothing to run.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 blocks, dim3 threads, Arguments&&... arguments) {
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0) return;
  std::tuple<Parameters...> values(std::forward<Arguments>(arguments)...);
  launch_with(kernel, blocks, threads, values, std::index_sequence_for<Parameters...>());
}

// Of an axis of a grid, at most: kernels go on in strides where there is more to do.
inline constexpr std::uint64_t kBlocksMax = 65'535;

// How many blocks have `count` things to do, so many each.
inline unsigned blocks_for(std::uint64_t count, std::uint64_t each,
                           std::uint64_t most = kBlocksMax) {
  const std::uint64_t blocks = count / each + (count % each != 0);
  return static_cast<unsigned>(blocks < most ? blocks : most);
}

// Seconds that the device takes for what `work` asks of it.
template <class Work>
double device_seconds(Work work) {
  struct Event {
    Event() { check(cudaEventCreate(&event), "no event to take times with"); }
    ~Event() { cudaEventDestroy(event); }
    void record() { check(cudaEventRecord(event, nullptr), "a time cannot be taken"); }
    cudaEvent_t event{};
  } begin, end;
  begin.record();
  work();
  end.record();
  finish();
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, begin.event, end.event), "a time cannot be taken");
  return static_cast<double>(milliseconds) * 1e-3;
}

}  // namespace regroup::kernels::cuda
