#include "runtime/host/deadline.hpp"

#include <unistd.h>

namespace regroup {

Deadline::Deadline(std::chrono::milliseconds timeout, const std::string& message, int exit_status)
    : line_("regroup: " + message + "\n"),
      exit_status_(exit_status),
      thread_([this, part = std::chrono::nanoseconds(timeout) / kParts] { wait(part); }) {}

Deadline::~Deadline() {
  {
    const std::lock_guard lock(mutex_);
    met_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

// The waiting thread may hold any lock, that of standard error's stream among them.
void Deadline::wait(std::chrono::nanoseconds part) {
  std::unique_lock lock(mutex_);
  for (int i = 0; i < kParts; ++i) {
    if (changed_.wait_for(lock, part, [this] { return met_; })) return;
  }
  (void)!write(STDERR_FILENO, line_.data(), line_.size());
  _exit(exit_status_);
}

}  // namespace regroup
