// Looks after what a supervisor has started, for the case that the supervisor dies, by SIGKILL or
// with a node that kills it: a process of its own, in a session of its own, that waits for that.
#pragma once

#include <functional>

#include <sys/types.h>

#include "runtime/host/file_system.hpp"

namespace regroup {

class LaunchKeeper {
 public:
  // Once this process is gone, `launched`, its child, gets some seconds to end, is then killed, and
  // `clear_up` is called, all in the keeper. Without memory or descriptors there is no keeper.
  // While this process has one thread only.
  LaunchKeeper(pid_t launched, const std::function<void()>& clear_up);
  // Nothing is left to look after.
  ~LaunchKeeper();
  LaunchKeeper(const LaunchKeeper&) = delete;
  LaunchKeeper& operator=(const LaunchKeeper&) = delete;

 private:
  FileDescriptor lifeline_;  // closes with this process; a byte in it says that all is well
  pid_t keeper_ = -1;
};

}  // namespace regroup
