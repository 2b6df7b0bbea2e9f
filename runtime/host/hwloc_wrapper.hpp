// Reads a machine through hwloc and binds threads and their memory to parts of it. The .cpp beside
// this is the only file that includes <hwloc.h>; it checks every return code and owns every hwloc
// object. It decides nothing: who gets which cores is binding.hpp's part.
// A Machine is read-only after it is made, so its const methods may be called from any thread.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>

#include "runtime/host/node_topology.hpp"

namespace regroup {

class Machine {
 public:
  // Each error is one line that says what could not be read and what to do instead.

  // The machine this runs on, with what its cgroup allows.
  static std::expected<Machine, std::string> this_machine();
  // A file that `lstopo --of xml` or hwloc_topology_export_xml wrote.
  static std::expected<Machine, std::string> from_xml(const std::string& path);
  // hwloc's notation, such as "pack:2 numa:4 l3:1 core:16 pu:2".
  static std::expected<Machine, std::string> from_synthetic(const std::string& description);

  Machine(Machine&&) noexcept;
  Machine& operator=(Machine&&) noexcept;
  ~Machine();

  // All that this process's cgroup allows, whatever its affinity mask says.
  const NodeTopology& allowed() const { return allowed_; }

  // What the calling thread inherited, as from taskset, srun or mpirun. Binding changes it: read it
  // first. An error where the system cannot tell, or where this is not the machine we run on.
  std::expected<CpuList, std::string> thread_binding() const;

  // The node to plan for: allowed() within the calling thread's mask, or all of allowed() where
  // this is a description of another machine.
  std::expected<NodeTopology, std::string> usable() const;

  // From now on the calling thread runs on `pus` alone. Threads it starts later inherit that.
  std::expected<void, std::string> bind_thread(std::span<const std::uint32_t> pus) const;

  // Thread i of the calling thread's OpenMP teams of so many runs on pus[i] alone from now on. Not
  // so thread 0, the caller, for threads that it starts inherit where it may run: those of a team
  // among them, which OpenMP ends when a smaller one follows. Without OpenMP nothing happens.
  std::expected<void, std::string> bind_team(std::span<const std::uint32_t> pus) const;

  // Memory that the calling thread touches first comes from the nodes nearest to `pus` while those
  // have any, and from others after that: a full node never kills the process.
  std::expected<void, std::string> prefer_local_memory(std::span<const std::uint32_t> pus) const;

  // Whether this describes the machine we run on; binding is refused where it does not.
  bool is_this_machine() const;

 private:
  struct Handle;
  explicit Machine(std::unique_ptr<Handle> handle);
  static std::expected<Machine, std::string> load(std::unique_ptr<Handle> handle,
                                                  const std::string& what);

  std::unique_ptr<Handle> handle_;
  NodeTopology allowed_;
};

// The version of the hwloc library in use, such as "2.9.0" (of its interface: 2.8 is "2.8.0").
std::string hwloc_version();

}  // namespace regroup
