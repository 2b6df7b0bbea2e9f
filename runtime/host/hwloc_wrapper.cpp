#include "runtime/host/hwloc_wrapper.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <hwloc.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "runtime/host/cpu_quota.hpp"
#include "runtime/host/pci_bus.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

// An hwloc_bitmap_t that frees itself.
class Bitmap {
 public:
  Bitmap() : set_(hwloc_bitmap_alloc()) { REGROUP_CHECK(set_ != nullptr, "out of memory"); }
  explicit Bitmap(std::span<const std::uint32_t> numbers) : Bitmap() {
    for (const std::uint32_t number : numbers) {
      REGROUP_CHECK(hwloc_bitmap_set(set_, number) == 0, "out of memory");
    }
  }
  Bitmap(const Bitmap&) = delete;
  Bitmap& operator=(const Bitmap&) = delete;
  ~Bitmap() { hwloc_bitmap_free(set_); }
  hwloc_bitmap_t get() const { return set_; }

 private:
  hwloc_bitmap_t set_;
};

CpuList numbers_of(hwloc_const_bitmap_t set) {
  CpuList numbers;
  if (set == nullptr || hwloc_bitmap_weight(set) < 0) return numbers;  // none, or infinitely many
  for (int number = hwloc_bitmap_first(set); number != -1;
       number = hwloc_bitmap_next(set, number)) {
    numbers.push_back(static_cast<std::uint32_t>(number));
  }
  return numbers;
}

std::string info_of(hwloc_obj_t object, const char* name) {
  const char* value = object == nullptr ? nullptr : hwloc_obj_get_info_by_name(object, name);
  return value == nullptr ? std::string() : std::string(value);
}

std::string cpu_model_of(hwloc_topology_t topology) {
  hwloc_obj_t package = hwloc_get_obj_by_type(topology, HWLOC_OBJ_PACKAGE, 0);
  std::string model = info_of(package, "CPUModel");
  if (model.empty()) model = info_of(hwloc_get_root_obj(topology), "CPUModel");
  return model;
}

// The lowest number where a core has several memory nodes: ordinary memory comes before
// high-bandwidth and device memory in the system's numbering.
std::uint32_t numa_of(hwloc_obj_t object) {
  const int first = object->nodeset == nullptr ? -1 : hwloc_bitmap_first(object->nodeset);
  return first < 0 ? 0 : static_cast<std::uint32_t>(first);
}

std::uint32_t index_of_ancestor(hwloc_topology_t topology, hwloc_obj_type_t type,
                                hwloc_obj_t object, std::uint32_t otherwise) {
  hwloc_obj_t ancestor = hwloc_get_ancestor_obj_by_type(topology, type, object);
  return ancestor == nullptr ? otherwise : ancestor->logical_index;
}

// Goes by processing unit, since a virtual machine may tell of no cores: each is then its own core.
std::vector<Core> cores_of(hwloc_topology_t topology) {
  std::vector<Core> cores;
  hwloc_obj_t last_core = nullptr;
  hwloc_obj_t pu = nullptr;
  while ((pu = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_PU, pu)) != nullptr) {
    hwloc_obj_t core = hwloc_get_ancestor_obj_by_type(topology, HWLOC_OBJ_CORE, pu);
    if (core == nullptr) core = pu;
    if (core != last_core) {
      const std::uint32_t numa = numa_of(core);
      cores.push_back({.index = core->logical_index,
                       .pus = {},
                       .numa = numa,
                       .l3 = index_of_ancestor(topology, HWLOC_OBJ_L3CACHE, core, numa),
                       .package = index_of_ancestor(topology, HWLOC_OBJ_PACKAGE, core, 0)});
      last_core = core;
    }
    cores.back().pus.push_back(pu->os_index);
  }
  for (Core& core : cores) std::sort(core.pus.begin(), core.pus.end());
  return cores;
}

std::vector<Gpu> gpus_of(hwloc_topology_t topology) {
  std::vector<Gpu> gpus;
  hwloc_obj_t device = nullptr;
  while ((device = hwloc_get_next_pcidev(topology, device)) != nullptr) {
    const auto& pci = device->attr->pcidev;
    if (!is_nvidia_gpu(pci.vendor_id, pci.class_id)) continue;
    hwloc_obj_t near = hwloc_get_non_io_ancestor_obj(topology, device);
    gpus.push_back({.pci_bus_id = normalize_pci_bus_id(
                        fmt::format("{:04x}:{:02x}:{:02x}.{:x}", static_cast<unsigned>(pci.domain),
                                    static_cast<unsigned>(pci.bus), static_cast<unsigned>(pci.dev),
                                    static_cast<unsigned>(pci.func))),
                    .name = info_of(device, "PCIDevice"),
                    .nearest_pus = near == nullptr ? CpuList() : numbers_of(near->cpuset),
                    .cuda_ordinal = std::nullopt});
  }
  std::sort(gpus.begin(), gpus.end(), comes_before_on_bus);
  return gpus;
}

NodeTopology reduce(hwloc_topology_t topology) {
  hwloc_obj_t root = hwloc_get_root_obj(topology);
  const int pus = hwloc_bitmap_weight(hwloc_topology_get_complete_cpuset(topology));
  NodeTopology node;
  node.host = info_of(root, "HostName");
  node.cpu_model = cpu_model_of(topology);
  node.memory_bytes = root->total_memory;
  node.machine_pus = pus < 0 ? 0 : static_cast<std::uint32_t>(pus);
  node.cores = cores_of(topology);
  node.gpus = gpus_of(topology);
  // XML from a machine with processing units switched off may leave them out of the complete set.
  node.machine_pus =
      std::max(node.machine_pus, static_cast<std::uint32_t>(usable_pus(node).size()));
  return node;
}

std::unexpected<std::string> system_error(const std::string& what) {
  return std::unexpected(fmt::format("{}: {}", what, std::strerror(errno)));
}

}  // namespace

struct Machine::Handle {
  hwloc_topology_t topology = nullptr;

  Handle() = default;
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() {
    if (topology != nullptr) hwloc_topology_destroy(topology);
  }

  static std::expected<std::unique_ptr<Handle>, std::string> make(hwloc_type_filter_e devices) {
    auto handle = std::make_unique<Handle>();
    if (hwloc_topology_init(&handle->topology) != 0) {
      return system_error("hwloc cannot start");
    }
    if (hwloc_topology_set_io_types_filter(handle->topology, devices) != 0) {
      return system_error("hwloc cannot be told which devices to look for");
    }
    return handle;
  }
};

Machine::Machine(std::unique_ptr<Handle> handle) : handle_(std::move(handle)) {}
Machine::Machine(Machine&&) noexcept = default;
Machine& Machine::operator=(Machine&&) noexcept = default;
Machine::~Machine() = default;

std::expected<Machine, std::string> Machine::load(std::unique_ptr<Handle> handle,
                                                  const std::string& what) {
  if (hwloc_topology_load(handle->topology) != 0) {
    return system_error(fmt::format("hwloc cannot read {}", what));
  }
  Machine machine(std::move(handle));
  machine.allowed_ = reduce(machine.handle_->topology);
  if (machine.allowed_.cores.empty()) {
    return std::unexpected(fmt::format("hwloc finds no usable processing unit in {}", what));
  }
  return machine;
}

std::expected<Machine, std::string> Machine::this_machine() {
  auto handle = Handle::make(HWLOC_TYPE_FILTER_KEEP_NONE);  // pci_bus.hpp finds the GPUs
  if (!handle) return std::unexpected(handle.error());
  auto machine = load(std::move(*handle), "this machine");
  // hwloc's environment variables can put another machine's description in this one's place.
  if (machine && machine->is_this_machine()) {
    machine->allowed_.cpu_quota = cpu_quota();
    machine->allowed_.gpus = gpus_on_bus();
    machine->allowed_ = restrict_topology(machine->allowed_, usable_pus(machine->allowed_));
  }
  return machine;
}

std::expected<Machine, std::string> Machine::from_xml(const std::string& path) {
  auto handle = Handle::make(HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
  if (!handle) return std::unexpected(handle.error());
  const auto refused = [&path] {
    return std::unexpected(
        fmt::format("{}: not a machine description: {}; give a file written by 'lstopo --of xml'",
                    path, std::strerror(errno)));
  };
  if (hwloc_topology_set_xml((*handle)->topology, path.c_str()) != 0) return refused();
  auto machine = load(std::move(*handle), path);
  if (!machine) return refused();
  return machine;
}

std::expected<Machine, std::string> Machine::from_synthetic(const std::string& description) {
  auto handle = Handle::make(HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
  if (!handle) return std::unexpected(handle.error());
  if (hwloc_topology_set_synthetic((*handle)->topology, description.c_str()) != 0) {
    return std::unexpected(fmt::format(
        "'{}': not a synthetic machine; write it like 'pack:2 numa:4 core:16 pu:2'", description));
  }
  return load(std::move(*handle), fmt::format("'{}'", description));
}

std::expected<CpuList, std::string> Machine::thread_binding() const {
  if (!is_this_machine()) {
    return std::unexpected(std::string("this describes another machine: nothing is bound to it"));
  }
  Bitmap set;
  if (hwloc_get_cpubind(handle_->topology, set.get(), HWLOC_CPUBIND_THREAD) != 0) {
    return system_error("the affinity mask of this thread cannot be read");
  }
  return numbers_of(set.get());
}

std::expected<NodeTopology, std::string> Machine::usable() const {
  if (!is_this_machine()) return allowed_;
  const auto mask = thread_binding();
  if (!mask) return std::unexpected(mask.error());
  NodeTopology node = restrict_topology(allowed_, *mask);
  if (node.cores.empty()) {
    return std::unexpected(
        fmt::format("the affinity mask {} holds none of the processing units {} that the cgroup "
                    "allows; start without taskset",
                    format_cpu_list(*mask), format_cpu_list(usable_pus(allowed_))));
  }
  return node;
}

std::expected<void, std::string> Machine::bind_thread(std::span<const std::uint32_t> pus) const {
  if (pus.empty()) return std::unexpected(std::string("cannot bind a thread to no cpu at all"));
  if (!is_this_machine()) {
    return std::unexpected(std::string("cannot bind to a description of another machine"));
  }
  if (hwloc_set_cpubind(handle_->topology, Bitmap(pus).get(), HWLOC_CPUBIND_THREAD) != 0) {
    return system_error(fmt::format("cannot bind a thread to cpus {}", format_cpu_list(pus)));
  }
  return {};
}

// The threads of a team are kept for the next ones of its size.
std::expected<void, std::string> Machine::bind_team(
    [[maybe_unused]] std::span<const std::uint32_t> pus) const {
#ifdef _OPENMP
  std::vector<std::expected<void, std::string>> bound(pus.size());
#pragma omp parallel num_threads(static_cast <int>(pus.size()))
  {
    const auto thread = static_cast<std::size_t>(omp_get_thread_num());
    if (thread != 0) bound[thread] = bind_thread(pus.subspan(thread, 1));
  }
  const auto failed = std::ranges::find_if(bound, [](const auto& one) { return !one; });
  if (failed != bound.end()) return *failed;
#endif
  return {};
}

std::expected<void, std::string> Machine::prefer_local_memory(
    std::span<const std::uint32_t> pus) const {
  if (pus.empty()) return std::unexpected(std::string("no cpus are given to find memory near"));
  if (!is_this_machine()) {
    return std::unexpected(std::string("cannot bind to a description of another machine"));
  }
  // Without HWLOC_MEMBIND_STRICT this prefers the nodes and falls back to the others.
  if (hwloc_set_membind(handle_->topology, Bitmap(pus).get(), HWLOC_MEMBIND_BIND,
                        HWLOC_MEMBIND_THREAD) != 0) {
    return system_error(fmt::format("cannot prefer memory near cpus {}", format_cpu_list(pus)));
  }
  return {};
}

bool Machine::is_this_machine() const {
  return hwloc_topology_is_thissystem(handle_->topology) != 0;
}

std::string hwloc_version() {
  const unsigned version = hwloc_get_api_version();
  return fmt::format("{}.{}.{}", version >> 16, version >> 8 & 0xffU, version & 0xffU);
}

}  // namespace regroup
