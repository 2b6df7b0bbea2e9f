// Asks the CUDA runtime which devices there are. The .cpp beside this is the only host file that
// includes <cuda_runtime.h>, and only in a build with REGROUP_CUDA; without it, and without a
// driver or a GPU, every answer is "none", with the reason. Never fails a run for the lack of a
// device. Safe to call from several threads at once.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <vector>

namespace regroup {

struct CudaDevice {
  int ordinal = 0;  // the CUDA runtime's number, after CUDA_VISIBLE_DEVICES
  std::string name;
  std::string pci_bus_id;  // as normalize_pci_bus_id writes it
  int compute_major = 0;
  int compute_minor = 0;
  std::uint64_t memory_bytes = 0;
  int multiprocessors = 0;

  friend bool operator==(const CudaDevice&, const CudaDevice&) = default;
};

// Whether this build can use CUDA at all.
bool built_with_cuda();

// The runtime's version, such as "13.0"; empty in a build without CUDA.
std::string cuda_runtime_version();

// All visible devices, by ordinal, or one line that says why there are none.
std::expected<std::vector<CudaDevice>, std::string> cuda_devices();

}  // namespace regroup
