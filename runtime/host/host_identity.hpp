// Which machine a process runs on, and which process of that machine it is, in terms that other
// ranks can compare: two ranks on one host may watch each other's process. Stateless; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace regroup {

// Equal for processes that see each other under the same process ids. The host's name is part of
// it, so that nodes simulated on one machine are told apart.
struct HostIdentity {
  std::string boot_id;
  std::string hostname;
  std::uint64_t pid_namespace = 0;  // its inode; 0: not known

  friend bool operator==(const HostIdentity&, const HostIdentity&) = default;
};
HostIdentity own_host();

// The numbers of those that are on the same host as number `self`, that one included, ascending.
std::vector<std::uint32_t> on_host_of(const std::vector<HostIdentity>& hosts, std::size_t self);

// For each the number of the first one on the same host.
std::vector<std::uint32_t> first_on_host(const std::vector<HostIdentity>& hosts);

// The inode of this process's network namespace, within which loopback reaches; 0: not known.
std::uint64_t own_network_namespace();

// When a process started, in clock ticks since the boot; 0 if there is none of that id, or /proc
// does not tell. With the id it names a process for ever, since ids are used again.
std::uint64_t process_start(std::int32_t pid);

}  // namespace regroup
