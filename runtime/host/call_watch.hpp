// Whether a call that should return at once ever returns. Threads mark where such calls begin and
// end, which costs a few stores and no look at a clock; another thread looks from time to time, and
// a call that so many looks in a row have found under way is stuck. Looks are counted, time is not:
// a process that was stopped for a minute has missed looks, not made them. A look at which the
// calling thread has had no core since the one before does not count either, so that a rank that
// others keep from its core is never taken for stuck.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

#include <sys/types.h>
#include <unistd.h>

#include "runtime/protocol/ids.hpp"

namespace regroup {

// What the kernel says of a thread.
struct ThreadActivity {
  Nanoseconds ran = 0;    // CPU time so far
  bool is_ready = false;  // it runs, or would if it had a core
};
// Of a thread of this process; empty if there is none of that number, or the kernel does not tell.
std::optional<ThreadActivity> activity_of(pid_t thread);

class CallWatch {
 public:
  using ActivityOf = std::function<std::optional<ThreadActivity>(pid_t thread)>;

  // A call is stuck once so many looks in a row, after the first that saw it, find it still there.
  static constexpr int kLooks = 20;
  // How often to look so that this takes `timeout`, or one period longer at most.
  static constexpr Nanoseconds look_period(Nanoseconds timeout) { return timeout / kLooks; }

  explicit CallWatch(ActivityOf activity = activity_of) : activity_of_(std::move(activity)) {}
  CallWatch(const CallWatch&) = delete;
  CallWatch& operator=(const CallWatch&) = delete;

  // One call at a time: callers on several threads hold a lock of theirs from begin() to end().
  void begin() {
    thread_.store(this_thread(), std::memory_order_relaxed);
    step();
  }
  void end() { step(); }

  // Whether a call is stuck. From one thread, the looking one, which may be any.
  bool look();

 private:
  static pid_t this_thread() {
    constinit thread_local pid_t number = 0;
    if (number == 0) number = gettid();
    return number;
  }
  void step() {
    const std::uint64_t steps = steps_.load(std::memory_order_relaxed);
    steps_.store(steps + 1, std::memory_order_release);
  }

  std::atomic<std::uint64_t> steps_ = 0;  // odd: in a call
  std::atomic<pid_t> thread_ = 0;         // of the latest call

  // The looking thread's own.
  ActivityOf activity_of_;
  std::uint64_t seen_ = 0;
  Nanoseconds ran_ = 0;  // the calling thread, when last looked at
  int looks_ = 0;        // that found the call seen before
};

// A call that lasts as long as this does.
class WatchedCall {
 public:
  explicit WatchedCall(CallWatch& watch) : watch_(&watch) { watch_->begin(); }
  ~WatchedCall() { watch_->end(); }
  WatchedCall(const WatchedCall&) = delete;
  WatchedCall& operator=(const WatchedCall&) = delete;

  // What is called back from within the call, and may take its time.
  template <class Callback>
  void outside(Callback callback) {
    watch_->end();
    callback();
    watch_->begin();
  }

 private:
  CallWatch* watch_;
};

}  // namespace regroup
