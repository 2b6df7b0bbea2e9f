// What the CUDA kernels of all families share. Each family has its own beside the CPU's, in
// <family>/cuda.hpp: plain C++ that needs no CUDA to be compiled or linked. In a build without CUDA
// every call throws.
//
// They evaluate the same expressions as the CPU's kernels in the same order, fused only where those
// are, and so give the same bits; where a header states a bound instead, it says so. The compiler
// must not fuse by itself (-fmad=false).
//
// `device` is always the CUDA runtime's number. Calls wait for the device, copy from and to
// ordinary host memory, and may be made from any thread, each at one time. What callers owe ends
// the process as it does on the CPU; whatever the device does wrong, from lack of memory to its
// loss, throws a DeviceError.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>

namespace regroup::kernels {

// One line: what failed, and CUDA's word for why.
class DeviceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace cuda {

// Devices that this process sees; 0 in a build without CUDA.
std::uint32_t device_count();

// Bytes a second that the device copies within its memory, the best of some tries, read and written
// bytes counted both: what kernels that wait for memory are held against. `bytes`: of the copy.
double copy_bandwidth(std::uint32_t device, std::uint64_t bytes);

}  // namespace cuda
}  // namespace regroup::kernels
