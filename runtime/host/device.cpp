#include "runtime/host/device.hpp"

#include <algorithm>
#include <utility>

namespace regroup {

DeviceList discover_devices() {
  auto devices = cuda_devices();
  if (!devices) return {.devices = {}, .reason = std::move(devices.error())};
  return {.devices = std::move(*devices), .reason = {}};
}

NodeTopology with_devices(NodeTopology node, std::span<const CudaDevice> devices) {
  std::vector<Gpu> seen = std::move(node.gpus);
  node.gpus.clear();
  for (const CudaDevice& device : devices) {
    Gpu gpu{.pci_bus_id = device.pci_bus_id,
            .name = device.name,
            .nearest_pus = {},
            .cuda_ordinal = device.ordinal};
    const auto place = std::find_if(seen.begin(), seen.end(), [&](const Gpu& candidate) {
      return candidate.pci_bus_id == device.pci_bus_id;
    });
    if (place != seen.end()) gpu.nearest_pus = std::move(place->nearest_pus);
    node.gpus.push_back(std::move(gpu));
  }
  std::sort(node.gpus.begin(), node.gpus.end(), comes_before_on_bus);
  return node;
}

}  // namespace regroup
