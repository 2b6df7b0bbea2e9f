// What the program `regroup` is told of devices where it is linked with the kernels for an emulated
// one (tests/kernels/emulated_cuda): each process sees one. So jobs go the whole way to a device
// and back on machines without a GPU. Says at its end how many kernels ran.
#include <cstdio>

#include <cuda_runtime.h>

#include "runtime/host/cuda_wrapper.hpp"

namespace regroup {

bool built_with_cuda() {
  return true;
}

std::string cuda_runtime_version() {
  return "emulated";
}

std::expected<std::vector<CudaDevice>, std::string> cuda_devices() {
  return std::vector<CudaDevice>{{.ordinal = 0,
                                  .name = "emulated",
                                  .pci_bus_id = "0000:00:00.0",
                                  .compute_major = 9,
                                  .compute_minor = 0,
                                  .memory_bytes = std::uint64_t{1} << 30,
                                  .multiprocessors = 1}};
}

namespace {

const struct Teller {
  ~Teller() { std::fprintf(stderr, "emulated GPU: %llu kernels\n", emulated_cuda::launches); }
} teller;

}  // namespace
}  // namespace regroup
