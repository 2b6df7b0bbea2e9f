#include "runtime/host/side_thread.hpp"

#include <utility>

namespace regroup {

SideThread::SideThread(std::function<void()> on_thread)
    : thread_([this, on_thread = std::move(on_thread)] {
        if (on_thread) on_thread();
        run();
      }) {}

SideThread::~SideThread() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

bool SideThread::post(Task task) {
  {
    const std::lock_guard lock(mutex_);
    if (tasks_.size() == kTasksMax) return false;
    tasks_.push_back(std::move(task));
  }
  changed_.notify_one();
  return true;
}

void SideThread::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return ending_ || !tasks_.empty(); });
    if (ending_) return;
    Task task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
  }
}

}  // namespace regroup
