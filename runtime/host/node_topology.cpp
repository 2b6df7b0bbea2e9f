#include "runtime/host/node_topology.hpp"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <set>
#include <utility>

namespace regroup {
namespace {

CpuList common(const CpuList& left, std::span<const std::uint32_t> right) {
  CpuList both;
  std::set_intersection(left.begin(), left.end(), right.begin(), right.end(),
                        std::back_inserter(both));
  return both;
}

}  // namespace

CpuList usable_pus(const NodeTopology& topology) {
  CpuList pus;
  for (const Core& core : topology.cores) pus.insert(pus.end(), core.pus.begin(), core.pus.end());
  std::sort(pus.begin(), pus.end());
  return pus;
}

NodeTopology restrict_topology(NodeTopology topology, std::span<const std::uint32_t> pus) {
  CpuList sorted(pus.begin(), pus.end());
  std::sort(sorted.begin(), sorted.end());
  for (Core& core : topology.cores) core.pus = common(core.pus, sorted);
  std::erase_if(topology.cores, [](const Core& core) { return core.pus.empty(); });
  for (Gpu& gpu : topology.gpus) gpu.nearest_pus = common(gpu.nearest_pus, sorted);
  return topology;
}

PlaceCounts count_places(const NodeTopology& topology) {
  std::set<std::uint32_t> packages;
  std::set<std::uint32_t> numa_nodes;
  std::set<std::uint32_t> l3_groups;
  for (const Core& core : topology.cores) {
    packages.insert(core.package);
    numa_nodes.insert(core.numa);
    l3_groups.insert(core.l3);
  }
  return {packages.size(), numa_nodes.size(), l3_groups.size()};
}

std::string format_cpu_list(std::span<const std::uint32_t> cpus) {
  std::string text;
  for (std::size_t first = 0; first < cpus.size();) {
    std::size_t last = first;
    while (last + 1 < cpus.size() && cpus[last + 1] == cpus[last] + 1) ++last;
    if (!text.empty()) text += ',';
    text += std::to_string(cpus[first]);
    if (last != first) text += '-' + std::to_string(cpus[last]);
    first = last + 1;
  }
  return text;
}

std::string normalize_pci_bus_id(std::string_view id) {
  constexpr std::size_t kDomainDigits = 4;
  std::string lower(id);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
  if (std::count(lower.begin(), lower.end(), ':') == 1) return "0000:" + lower;
  const std::size_t colon = lower.find(':');
  if (colon == std::string::npos) return lower;
  std::size_t drop = 0;
  while (colon - drop > kDomainDigits && lower[drop] == '0') ++drop;
  return lower.substr(drop);
}

bool comes_before_on_bus(const Gpu& left, const Gpu& right) {
  return std::pair(left.pci_bus_id.size(), left.pci_bus_id) <
         std::pair(right.pci_bus_id.size(), right.pci_bus_id);
}

}  // namespace regroup
