#include "runtime/host/process_memory.hpp"

#include <cerrno>

#include <fmt/format.h>
#include <sys/uio.h>

#include "runtime/host/host_identity.hpp"
#include "runtime/protocol/xxhash.hpp"

namespace regroup {

std::uint64_t own_memory_domain() {
  const HostIdentity host = own_host();
  const std::string text =
      fmt::format("{}\n{}\n{}", host.boot_id, host.hostname, host.pid_namespace);
  return XXH3_64bits(text.data(), text.size());
}

bool read_process_memory(std::int32_t pid, std::uint64_t address, std::span<std::byte> into) {
  while (!into.empty()) {
    const iovec here{into.data(), into.size()};
    const iovec there{reinterpret_cast<void*>(address), into.size()};
    const ssize_t count = process_vm_readv(pid, &here, 1, &there, 1, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    address += static_cast<std::uint64_t>(count);
    into = into.subspan(static_cast<std::size_t>(count));
  }
  return true;
}

}  // namespace regroup
