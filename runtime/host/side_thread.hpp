// Runs what may take its time, such as calls to a file system, one after the other on a thread of
// its own that waits for it, so that its owner never does. What it runs must not throw.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace regroup {

class SideThread {
 public:
  using Task = std::move_only_function<void()>;
  // That wait for their turn.
  static constexpr std::size_t kTasksMax = 8;

  // `on_thread`: called on it first of all; optional. Throws std::system_error if there is no
  // thread to be had.
  explicit SideThread(std::function<void()> on_thread = {});
  // Waits for the task that runs; those that wait are dropped.
  ~SideThread();
  SideThread(const SideThread&) = delete;
  SideThread& operator=(const SideThread&) = delete;

  // False, and nothing done, if too many wait. Any thread.
  bool post(Task task);

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  bool ending_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace regroup
