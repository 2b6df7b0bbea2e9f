// Drives one rank's Node in the real world. The calling thread computes and, between orders, makes
// progress (leader); a companion thread makes progress instead while an order keeps the leader
// busy, so that a shard of an hour delays no message. A rank with nothing to do spins briefly, then
// yields, then sleeps, since ranks often share cores. Whoever makes progress holds one lock, under
// which alone MPI and the Node are touched; user code runs without it.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string_view>

#include "runtime/host/transport.hpp"
#include "runtime/protocol/node.hpp"

namespace regroup {

// How the message of a run that a signal ended begins.
inline constexpr std::string_view kStoppedBySignal = "stopped by signal ";

class HostLoop {
 public:
  // An idle rank spins this long, then yields until, then sleeps up to the pause at most.
  static constexpr Nanoseconds kSpinTime = 10 * kMicrosecond;
  static constexpr Nanoseconds kYieldTime = 200 * kMicrosecond;
  static constexpr Nanoseconds kPauseMin = 20 * kMicrosecond;
  static constexpr Nanoseconds kPauseMax = kMillisecond;
  // How often the companion looks whether the leader is held up.
  static constexpr Nanoseconds kCompanionPeriod = 2 * kMillisecond;
  // Short orders follow each other for this long before the leader looks at the network again.
  static constexpr Nanoseconds kWorkTime = 50 * kMicrosecond;
  // Frames taken in at a time, so that one round stays short.
  static constexpr std::size_t kFramesMax = 256;
  // No new order while more than this waits to be sent.
  static constexpr std::size_t kBacklogBytesMax = std::size_t{64} << 20;
  // After the end: to let the last frames leave, and to let an order under way finish.
  static constexpr Nanoseconds kLeaveTimeout = 2 * kSecond;

  // All outlive it.
  HostLoop(Node& node, Transport& transport, Executor& executor)
      : node_(&node), transport_(&transport), executor_(&executor) {}

  // Runs the rank to its end. Once, and not from several threads.
  Outcome run();

  // Asks the coordinator to end the run. Safe to call from a signal handler.
  void request_stop(int signal) { stop_signal_.store(signal, std::memory_order_relaxed); }

  // Calls `look` while nothing changes the Node; keep it short. Any thread.
  template <class Look>
  void inspect(Look look) {
    const std::lock_guard lock(mutex_);
    look(static_cast<const Node&>(*node_));
  }

 private:
  using Clock = std::chrono::steady_clock;

  Nanoseconds now() const {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start_).count();
  }
  // These hold the lock.
  bool make_progress();
  void drain();
  bool take_order();
  void stop_if_asked();

  bool work(WorkResult& result, std::unique_lock<std::mutex>& lock);
  Nanoseconds compute(WorkResult& result);
  void pause(Nanoseconds idle_since);
  void companion();
  void leave();

  Node* node_;
  Transport* transport_;
  Executor* executor_;
  Clock::time_point start_ = Clock::now();

  std::mutex mutex_;  // of the Node, the transport and what follows
  Output output_;
  std::optional<WorkOrder> order_;
  std::optional<Outcome> outcome_;
  bool stopped_ = false;

  std::atomic<int> stop_signal_ = 0;
  std::atomic<std::uint64_t> rounds_ = 0;  // of progress, by the leader
  std::atomic<bool> computing_ = false;

  std::mutex companion_mutex_;
  std::condition_variable companion_wake_;
  bool companion_done_ = false;
};

}  // namespace regroup
