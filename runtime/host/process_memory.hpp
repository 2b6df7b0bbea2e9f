// Reads memory of another process of this node: one copy, in which that process has no part, so
// neither waits for the other. Linux has this as process_vm_readv(2), for processes of one user;
// security modules and containers may forbid it. Stateless; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace regroup {

// Of this host and process ids on it: equal in processes that may read each other.
std::uint64_t own_memory_domain();

// Whether all of it was read. The process may have ended, or have other memory there by now: what
// comes is to be checked.
bool read_process_memory(std::int32_t pid, std::uint64_t address, std::span<std::byte> into);

}  // namespace regroup
