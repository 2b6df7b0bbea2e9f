#include "runtime/host/thread_affinity.hpp"

#include <cstddef>

#include <sys/syscall.h>
#include <unistd.h>

namespace regroup {
namespace {

constexpr std::size_t kCpusMax = 65'536;
constexpr std::size_t kWordBits = 8 * sizeof(unsigned long);

}  // namespace

// By system call, since the library's cpu_set_t ends at 1024 CPUs.
ThreadAffinity ThreadAffinity::of_this_thread() {
  ThreadAffinity affinity;
  affinity.mask_.resize(kCpusMax / kWordBits);
  const long bytes = syscall(SYS_sched_getaffinity, 0, kCpusMax / 8, affinity.mask_.data());
  affinity.mask_.resize(bytes < 0 ? 0 : static_cast<std::size_t>(bytes) / sizeof(unsigned long));
  return affinity;
}

void ThreadAffinity::apply() const {
  if (mask_.empty()) return;
  (void)syscall(SYS_sched_setaffinity, 0, mask_.size() * sizeof(unsigned long), mask_.data());
}

}  // namespace regroup
