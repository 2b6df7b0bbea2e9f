#include "runtime/host/device_guard.hpp"

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>

#include <fmt/format.h>
#include <unistd.h>

namespace regroup {
namespace {

constexpr const char* kLate = "a call has not come back";

Nanoseconds steady_now() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double to_seconds(Nanoseconds time) {
  return static_cast<double>(time) / static_cast<double>(kSecond);
}

}  // namespace

// A thread that does one task at a time, and what it shares with the guard. The thread owns its
// share: it may be left alone with a task that never ends.
class DeviceGuard::Worker : public std::enable_shared_from_this<Worker> {
 public:
  explicit Worker(std::shared_ptr<std::atomic<std::uint32_t>> hanging)
      : hanging_(std::move(hanging)) {}

  // Throws std::system_error if there is no thread to be had.
  void start() {
    std::thread([self = shared_from_this()] { self->work(); }).detach();
  }

  void begin(Task task) {
    const std::lock_guard lock(mutex_);
    task_ = std::move(task);
    busy_ = true;
    outcome_.reset();
    changed_.notify_all();
  }

  // What the task came to; nothing if it is late.
  std::optional<Failure> wait(Nanoseconds timeout) {
    std::unique_lock lock(mutex_);
    const auto is_done = [this] { return outcome_.has_value(); };
    if (timeout == 0) {
      changed_.wait(lock, is_done);
      return outcome_;
    }
    const std::chrono::nanoseconds part(timeout / kParts + 1);
    for (int i = 0; i < kParts; ++i) {
      if (changed_.wait_for(lock, part, is_done)) return outcome_;
    }
    return std::nullopt;
  }

  // The thread ends when it has nothing more to do.
  void leave() {
    const std::lock_guard lock(mutex_);
    left_ = true;
    if (busy_) ++*hanging_;
    changed_.notify_all();
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return task_ || left_; });
      if (!task_) return;
      Task task = std::move(task_);
      task_ = nullptr;
      lock.unlock();
      Failure failure = outcome_of(task);
      task = nullptr;  // what it owns goes before anybody hears of its end
      lock.lock();
      busy_ = false;
      if (left_) {
        --*hanging_;
        return;
      }
      outcome_ = std::move(failure);
      changed_.notify_all();
    }
  }

  static Failure outcome_of(Task& task) {
    try {
      return task();
    } catch (const std::exception& error) {
      return error.what();
    } catch (...) {
      return "threw something that is no std::exception";
    }
  }

  std::shared_ptr<std::atomic<std::uint32_t>> hanging_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Task task_;
  bool busy_ = false;
  bool left_ = false;
  std::optional<Failure> outcome_;
};

DeviceGuard::DeviceGuard(DeviceGuardOptions options)
    : options_(std::move(options)),
      breaker_(options_.breaker),
      hanging_(std::make_shared<std::atomic<std::uint32_t>>(0)) {
  if (!options_.now) options_.now = steady_now;
}

DeviceGuard::~DeviceGuard() {
  if (worker_) worker_->leave();
}

bool DeviceGuard::run_task(Task task) {
  if (hangs() || !breaker_.allows(options_.now())) return false;
  ++calls_;
  const Failure failure = wait_for(std::move(task));
  note(failure);
  return failure.empty();
}

DeviceGuard::Failure DeviceGuard::wait_for(Task task) {
  if (!worker_) {
    auto worker = std::make_shared<Worker>(hanging_);
    try {
      worker->start();
    } catch (const std::system_error& error) {
      return fmt::format("no thread for it: {}", error.what());
    }
    worker_ = std::move(worker);
  }
  // Asked here: the thread may go on when there is nobody left to ask.
  const DeviceFault wanted = options_.fault ? options_.fault() : DeviceFault::kNone;
  worker_->begin([task = std::move(task), wanted]() mutable -> Failure {
    while (wanted == DeviceFault::kHang) pause();
    if (wanted == DeviceFault::kError) return "an error was injected";
    return task();
  });
  std::optional<Failure> outcome = worker_->wait(options_.call_timeout);
  if (outcome) return std::move(*outcome);
  worker_->leave();
  worker_.reset();
  return fmt::format("{} for {:g} s", kLate, to_seconds(options_.call_timeout));
}

void DeviceGuard::note(const Failure& failure) {
  const Nanoseconds now = options_.now();
  if (failure.empty()) {
    breaker_.succeeded();
    if (std::exchange(given_up_told_, false) && options_.say) options_.say("it works again");
    return;
  }
  ++failures_;
  breaker_.failed(now);
  if (breaker_.state() != BreakerState::kOpen || std::exchange(given_up_told_, true)) return;
  if (!options_.say) return;
  const std::string when = hangs()
                               ? "when the call has come back"
                               : fmt::format("after {:g} s", to_seconds(breaker_.next_try() - now));
  options_.say(
      fmt::format("{}; the CPU computes in its place, and it is tried again {}", failure, when));
}

}  // namespace regroup
