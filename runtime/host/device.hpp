// The accelerators that jobs may use on this node, and their place in the node's topology. Having
// none is an answer with a reason, never an error. Never runs anything on a device.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "runtime/host/cuda_wrapper.hpp"
#include "runtime/host/node_topology.hpp"

namespace regroup {

struct DeviceList {
  std::vector<CudaDevice> devices;
  std::string reason;  // why `devices` is empty; empty otherwise
};

// What the CUDA runtime shows this process. Safe to call from several threads at once.
DeviceList discover_devices();

// `node` with the GPUs that can be computed on: those of `devices`, matched by PCI bus id, with
// their names and ordinals. One that hwloc does not show (as in some containers) is kept with its
// place unknown; one that the CUDA runtime does not show is gone.
NodeTopology with_devices(NodeTopology node, std::span<const CudaDevice> devices);

}  // namespace regroup
