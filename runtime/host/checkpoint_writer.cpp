#include "runtime/host/checkpoint_writer.hpp"

#include <chrono>
#include <utility>

namespace regroup {

CheckpointWriter::CheckpointWriter(CheckpointStore store, std::function<void()> on_thread)
    : store_(std::move(store)),
      thread_([this, on_thread = std::move(on_thread)] { run(on_thread); }) {}

CheckpointWriter::~CheckpointWriter() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

CheckpointWriter::Taken CheckpointWriter::hand_over(OwnedPart&& part, Done done) {
  {
    const std::lock_guard lock(mutex_);
    if (waiting_) return Taken::kBusy;
    waiting_.emplace(std::move(part), std::move(done));
  }
  changed_.notify_one();
  return Taken::kYes;
}

bool CheckpointWriter::idle() const {
  const std::lock_guard lock(mutex_);
  return !writing_ && !waiting_;
}

void CheckpointWriter::run(const std::function<void()>& on_thread) {
  if (on_thread) on_thread();
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return waiting_ || ending_; });
    if (!waiting_) return;
    Waiting taken = std::move(*waiting_);
    waiting_.reset();
    writing_ = true;
    lock.unlock();
    write(std::move(taken));
    lock.lock();
    writing_ = false;
  }
}

void CheckpointWriter::write(Waiting taken) const {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  auto part = store_.write_part(taken.part.request);
  const std::chrono::duration<double> taking = Clock::now() - start;
  if (taken.done) taken.done({std::move(part), std::move(taken.part.buffers), taking.count()});
}

}  // namespace regroup
