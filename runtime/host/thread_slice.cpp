#include "runtime/host/thread_slice.hpp"

#include <cstdint>

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace regroup {
namespace {

// struct sched_attr in its first version. The C library has none before glibc 2.41, and the
// kernel's own header contradicts it.
struct SchedulingAttributes {
  std::uint32_t size = 0;
  std::uint32_t policy = 0;
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t runtime = 0;
  std::uint64_t deadline = 0;
  std::uint64_t period = 0;
};

bool get(SchedulingAttributes& attributes) {
  return syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) == 0;
}

}  // namespace

Nanoseconds slice_of_this_thread() {
  SchedulingAttributes attributes;
  return get(attributes) ? static_cast<Nanoseconds>(attributes.runtime) : 0;
}

void ask_for_short_slices() {
  SchedulingAttributes attributes;
  if (!get(attributes) || attributes.policy != SCHED_OTHER) return;  // others have chosen for it
  attributes.runtime = kShortSlice;
  (void)syscall(SYS_sched_setattr, 0, &attributes, 0);
}

}  // namespace regroup
