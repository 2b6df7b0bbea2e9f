// One node as the binding planner sees it: cores with their processing units and places, and GPUs.
// Plain values: where they come from (this machine, an XML file, a test's own hand) is no matter
// here. Never touches the machine; reading it is hwloc_wrapper.hpp's part, and only that file knows
// hwloc. All of it is thread-safe as values are.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace regroup {

// Processing units by their operating system's numbers (those of taskset), ascending, no doubles.
using CpuList = std::vector<std::uint32_t>;

// A core that this process may use.
struct Core {
  std::uint32_t index = 0;    // among all cores of the machine, in order of locality
  CpuList pus;                // the usable ones, never empty; a compute thread gets the first
  std::uint32_t numa = 0;     // operating system's number of the nearest memory node
  std::uint32_t l3 = 0;       // cores with the same number share a last-level cache
  std::uint32_t package = 0;  // socket

  friend bool operator==(const Core&, const Core&) = default;
};

// An NVIDIA GPU on the PCI bus.
struct Gpu {
  std::string pci_bus_id;           // as normalize_pci_bus_id writes it
  std::string name;                 // may be empty
  CpuList nearest_pus;              // usable ones close to it; empty: unknown, or none is usable
  std::optional<int> cuda_ordinal;  // its number for the CUDA runtime; empty: that does not see it

  friend bool operator==(const Gpu&, const Gpu&) = default;
};

struct NodeTopology {
  std::string host;                 // may be empty, as in a synthetic machine
  std::string cpu_model;            // may be empty
  std::uint64_t memory_bytes = 0;   // of all memory nodes; 0: unknown
  std::uint32_t machine_pus = 0;    // all of the machine's, usable by this process or not
  std::optional<double> cpu_quota;  // cpus' worth of time that a cgroup allows; empty: no limit
  std::vector<Core> cores;          // in order of locality: package, memory node, cache
  std::vector<Gpu> gpus;            // in order of their bus ids

  friend bool operator==(const NodeTopology&, const NodeTopology&) = default;
};

// All processing units of the cores.
CpuList usable_pus(const NodeTopology& topology);

// The same node with no more than the processing units in `pus`; a core that has none left is gone.
// The result has no cores when the two have nothing in common.
NodeTopology restrict_topology(NodeTopology topology, std::span<const std::uint32_t> pus);

// Distinct memory nodes, packages and caches of the cores.
struct PlaceCounts {
  std::size_t packages = 0;
  std::size_t numa_nodes = 0;
  std::size_t l3_groups = 0;
};
PlaceCounts count_places(const NodeTopology& topology);

// "0-3,8" for {0,1,2,3,8}; "" for none. Numbers must ascend.
std::string format_cpu_list(std::span<const std::uint32_t> cpus);

// "domain:bus:device.function" in lower case with a domain of four digits (eight where it needs
// them), so that the spellings of hwloc, the CUDA runtime and nvidia-smi compare equal.
std::string normalize_pci_bus_id(std::string_view id);

// The order of NodeTopology::gpus: by bus id, longer domains last.
bool comes_before_on_bus(const Gpu& left, const Gpu& right);

}  // namespace regroup
