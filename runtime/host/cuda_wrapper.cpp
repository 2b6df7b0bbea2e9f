#include "runtime/host/cuda_wrapper.hpp"

#ifdef REGROUP_CUDA

#include <array>

#include <cuda_runtime.h>
#include <fmt/format.h>

#include "runtime/host/node_topology.hpp"

namespace regroup {
namespace {

std::unexpected<std::string> cuda_error(const char* what, cudaError_t status) {
  cudaGetLastError();  // this failure is told here; it must not show up in a later call's check
  return std::unexpected(
      fmt::format("{}: {} ({})", what, cudaGetErrorString(status), cudaGetErrorName(status)));
}

std::expected<CudaDevice, std::string> describe(int ordinal) {
  cudaDeviceProp properties{};
  cudaError_t status = cudaGetDeviceProperties(&properties, ordinal);
  if (status != cudaSuccess) return cuda_error("a device's properties cannot be read", status);
  std::array<char, 32> bus_id{};
  status = cudaDeviceGetPCIBusId(bus_id.data(), static_cast<int>(bus_id.size()), ordinal);
  if (status != cudaSuccess) return cuda_error("a device's PCI bus id cannot be read", status);
  return CudaDevice{.ordinal = ordinal,
                    .name = properties.name,
                    .pci_bus_id = normalize_pci_bus_id(bus_id.data()),
                    .compute_major = properties.major,
                    .compute_minor = properties.minor,
                    .memory_bytes = properties.totalGlobalMem,
                    .multiprocessors = properties.multiProcessorCount};
}

}  // namespace

bool built_with_cuda() {
  return true;
}

std::string cuda_runtime_version() {
  int version = 0;
  if (cudaRuntimeGetVersion(&version) != cudaSuccess) return "unknown";
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

std::expected<std::vector<CudaDevice>, std::string> cuda_devices() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) return cuda_error("no CUDA device", status);
  if (count == 0) return std::unexpected(std::string("no CUDA device: the driver shows none"));
  std::vector<CudaDevice> devices;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    auto device = describe(ordinal);
    if (!device) return std::unexpected(device.error());
    devices.push_back(std::move(*device));
  }
  return devices;
}

}  // namespace regroup

#else

namespace regroup {

bool built_with_cuda() {
  return false;
}

std::string cuda_runtime_version() {
  return {};
}

std::expected<std::vector<CudaDevice>, std::string> cuda_devices() {
  return std::unexpected(
      std::string("this build has no CUDA support; configure with -DREGROUP_CUDA=ON"));
}

}  // namespace regroup

#endif
