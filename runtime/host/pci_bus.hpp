// Finds NVIDIA GPUs on this machine's PCI bus through the kernel's own listing. hwloc could, but
// through a plugin that is not always there, leaks, and reads every device's configuration space,
// which wakes sleeping ones, once a rank. Opens nothing but the listing's text files.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/host/node_topology.hpp"

namespace regroup {

// What makes a PCI device a GPU here: NVIDIA's, and of the display class (VGA, 3D, other).
bool is_nvidia_gpu(unsigned vendor, unsigned class_and_subclass);

// In the order of comes_before_on_bus, with the places that the kernel tells and without names.
// `devices_folder` is laid out as the kernel does it. No folder is no GPUs; a device whose files
// cannot be read is left out.
std::vector<Gpu> gpus_on_bus(const std::string& devices_folder = "/sys/bus/pci/devices");

// The kernel's "0-3,8\n", the reverse of format_cpu_list; empty list for empty text, nothing for
// text of another form.
std::optional<CpuList> parse_cpu_list(std::string_view text);

}  // namespace regroup
