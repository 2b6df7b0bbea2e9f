#include "runtime/host/call_watch.hpp"

#include <array>
#include <cstdio>
#include <ctime>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace regroup {
namespace {

// The clock of a thread's CPU time, as the kernel numbers it and pthread_getcpuclockid makes it:
// asked for by thread number, since a thread that is gone has no pthread_t any more.
clockid_t cpu_clock(pid_t thread) {
  constexpr unsigned kPerThread = 4;
  constexpr unsigned kScheduledTime = 2;
  return static_cast<clockid_t>((~static_cast<unsigned>(thread) << 3) | kPerThread |
                                kScheduledTime);
}

// The letter after the thread's name, see proc(5); 0 if there is none.
char state_of(pid_t thread) {
  std::array<char, 64> path{};
  std::snprintf(path.data(), path.size(), "/proc/self/task/%d/stat", thread);
  const int fd = open(path.data(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  std::array<char, 256> bytes{};
  const ssize_t count = read(fd, bytes.data(), bytes.size());
  close(fd);
  if (count <= 0) return 0;
  const std::string_view text(bytes.data(), static_cast<std::size_t>(count));
  const std::size_t name_end = text.rfind(") ");
  return name_end == std::string_view::npos || name_end + 2 >= text.size() ? '\0'
                                                                           : text[name_end + 2];
}

}  // namespace

std::optional<ThreadActivity> activity_of(pid_t thread) {
  timespec time{};
  if (thread <= 0 || clock_gettime(cpu_clock(thread), &time) != 0) return std::nullopt;
  const char state = state_of(thread);
  if (state == 0) return std::nullopt;
  return ThreadActivity{.ran = time.tv_sec * kSecond + time.tv_nsec, .is_ready = state == 'R'};
}

bool CallWatch::look() {
  const std::uint64_t steps = steps_.load(std::memory_order_acquire);
  const bool is_in_call = steps % 2 == 1;
  if (!is_in_call || steps != seen_) looks_ = 0;
  if (!is_in_call) {
    seen_ = steps;
    return false;
  }
  const auto activity = activity_of_(thread_.load(std::memory_order_relaxed));
  const bool had_no_core = activity && activity->is_ready && activity->ran == ran_;
  if (activity) ran_ = activity->ran;
  if (std::exchange(seen_, steps) == steps && !had_no_core) ++looks_;
  return looks_ >= kLooks;
}

}  // namespace regroup
