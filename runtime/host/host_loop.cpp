#include "runtime/host/host_loop.hpp"

#include <algorithm>
#include <cstdio>
#include <string>
#include <thread>

#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

// Sleeps end within this of their time, instead of the kernel's usual 50 microseconds.
constexpr unsigned long kTimerSlackNanoseconds = 1'000;

void sleep_nanoseconds(Nanoseconds duration) {
  std::this_thread::sleep_for(std::chrono::nanoseconds(duration));
}

}  // namespace

Outcome HostLoop::run() {
  prctl(PR_SET_TIMERSLACK, kTimerSlackNanoseconds, 0, 0, 0);
  {
    const std::lock_guard lock(mutex_);
    node_->start(now(), output_);
    drain();
    transport_->flush();
  }
  std::thread companion_thread([this] { companion(); });

  WorkResult result;
  Nanoseconds idle_since = now();
  std::unique_lock lock(mutex_);
  while (!outcome_) {
    const bool heard = make_progress();
    if (outcome_) break;
    const bool worked = work(result, lock);
    if (heard || worked) idle_since = now();
    if (worked) continue;
    lock.unlock();
    pause(idle_since);
    lock.lock();
  }
  lock.unlock();
  {
    const std::lock_guard done(companion_mutex_);
    companion_done_ = true;
  }
  companion_wake_.notify_one();
  companion_thread.join();
  leave();
  return *outcome_;
}

// Computes until there is nothing to do or it is time to look at the network. What it has to send
// meanwhile waits for that look, which the companion takes if an order lasts.
bool HostLoop::work(WorkResult& result, std::unique_lock<std::mutex>& lock) {
  Nanoseconds time = now();
  const Nanoseconds until = time + kWorkTime;
  bool worked = false;
  while (!outcome_ && time < until && take_order()) {
    lock.unlock();
    time = compute(result);
    lock.lock();
    node_->step(WorkFinished{&result}, output_);
    drain();
    worked = true;
  }
  if (!worked) transport_->flush();
  return worked;
}

bool HostLoop::make_progress() {
  rounds_.fetch_add(1, std::memory_order_relaxed);
  stop_if_asked();
  const std::size_t frames = transport_->poll(
      [this](RankId from, std::span<const std::byte> bytes) {
        node_->step(FrameArrived{from, bytes}, output_);
      },
      kFramesMax);
  node_->step(Tick{now()}, output_);
  const bool spoke = !output_.frames.empty();
  drain();
  transport_->flush();
  return frames != 0 || spoke;
}

void HostLoop::stop_if_asked() {
  const int signal = stop_signal_.load(std::memory_order_relaxed);
  if (signal == 0 || stopped_) return;
  stopped_ = true;
  node_->step(StopWanted{std::string(kStoppedBySignal) + std::to_string(signal)}, output_);
}

void HostLoop::drain() {
  for (OutgoingFrame& frame : output_.frames) transport_->send(frame.to, std::move(frame.bytes));
  for (WorkOrder& order : output_.orders) {
    REGROUP_CHECK(!order_, "an order before the last one was taken");
    order_ = std::move(order);
  }
  if (output_.outcome && !outcome_) outcome_ = std::move(output_.outcome);
  output_.clear();
}

bool HostLoop::take_order() {
  if (transport_->backlog_bytes() > kBacklogBytesMax) return false;
  node_->step(WorkWanted{}, output_);
  drain();
  return order_.has_value();
}

// Returns when it ended.
Nanoseconds HostLoop::compute(WorkResult& result) {
  WorkOrder order = std::move(*order_);
  order_.reset();
  result.restart(order);
  computing_.store(true, std::memory_order_relaxed);
  const Nanoseconds begin = now();
  executor_->execute(order, result);
  const Nanoseconds end = now();
  result.elapsed = end - begin;
  computing_.store(false, std::memory_order_relaxed);
  return end;
}

void HostLoop::pause(Nanoseconds idle_since) {
  const Nanoseconds idle = now() - idle_since;
  if (idle < kSpinTime) return;
  if (idle < kYieldTime) {
    sched_yield();
    return;
  }
  // Sleep about as long as it has been idle already, within bounds.
  sleep_nanoseconds(std::clamp((idle - kYieldTime) / 4, kPauseMin, kPauseMax));
}

void HostLoop::companion() {
  prctl(PR_SET_TIMERSLACK, kTimerSlackNanoseconds, 0, 0, 0);
  std::uint64_t rounds_seen = 0;
  Nanoseconds ended_at = 0;
  std::unique_lock waiting(companion_mutex_);
  while (!companion_done_) {
    companion_wake_.wait_for(waiting, std::chrono::nanoseconds(kCompanionPeriod));
    const std::uint64_t rounds = rounds_.load(std::memory_order_relaxed);
    const bool held_up = rounds == rounds_seen && computing_.load(std::memory_order_relaxed);
    rounds_seen = rounds;
    if (!held_up || companion_done_) continue;
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock) continue;
    make_progress();
    rounds_seen = rounds_.load(std::memory_order_relaxed);
    if (!outcome_) continue;
    if (ended_at == 0) ended_at = now();
    if (now() - ended_at < kLeaveTimeout) continue;
    std::fprintf(stderr, "regroup: rank %u ends in the middle of a shard\n",
                 transport_->self().value);
    _exit(outcome_->exit_status);
  }
}

void HostLoop::leave() {
  const std::lock_guard lock(mutex_);
  const Nanoseconds deadline = now() + kLeaveTimeout;
  while (transport_->backlog_bytes() != 0 && now() < deadline) {
    transport_->poll([](RankId, std::span<const std::byte>) {}, kFramesMax);
  }
}

}  // namespace regroup
