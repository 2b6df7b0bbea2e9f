// Runs calls on a rank's device so that none of them can harm the run: on a thread of its own,
// under a deadline, and behind a circuit breaker (runtime/protocol/circuit_breaker.hpp). A call
// that fails or does not come back in time opens the breaker, and until its pause is over nothing
// is asked of the device; then one call tries it again. Whoever gets no answer computes the same
// elsewhere, and so has one result in any case. A thread whose call hangs is given up with all that
// the call owns: nothing else knows of it any more, and its answer, if there ever is one, is
// dropped. Until then nothing more is asked of the device.
//
// It knows no CUDA: a call is any function, so tests and rehearsals (--inject gpu-error) need no
// device. Used by one thread, that which computes.
#pragma once

#include <atomic>
#include <concepts>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "runtime/protocol/circuit_breaker.hpp"
#include "runtime/protocol/ids.hpp"

namespace regroup {

// What a rehearsal wants of the device's calls.
enum class DeviceFault : std::uint8_t { kNone, kError, kHang };

struct DeviceGuardOptions {
  // Of a call; 0: none. Time in which the process was stopped counts for a small part at most.
  Nanoseconds call_timeout = 60 * kSecond;
  // One failure says enough: what the CPU computes instead is only slower.
  CircuitBreakerOptions breaker{.failures_max = 1};
  // For the breaker; by default a clock that never goes back.
  std::function<Nanoseconds()> now = {};
  // Is given a line when the device is given up and when it works again; by default none is.
  std::function<void(const std::string& line)> say = {};
  // Asked before each call; by default there is none.
  std::function<DeviceFault()> fault = {};
};

class DeviceGuard {
 public:
  // The timeout is waited for in so many parts, and a stop of the process may shorten one.
  static constexpr int kParts = 20;

  explicit DeviceGuard(DeviceGuardOptions options);
  // Waits for no call that hangs.
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

  // What `call` returns, std::expected of anything and one line; nothing where the device is given
  // up, or the call throws, fails or is late. `call` owns all that it uses, and may outlive its
  // caller for ever: it never refers to what it does not own.
  template <class Call>
  auto run(Call call) -> std::optional<typename std::invoke_result_t<Call&>::value_type>;

  // Whether run() would make the call now.
  bool is_ready() const {
    if (hangs()) return false;
    return breaker_.state() == BreakerState::kClosed || options_.now() >= breaker_.next_try();
  }
  BreakerState state() const { return breaker_.state(); }
  std::uint64_t calls() const { return calls_; }
  std::uint64_t failures() const { return failures_; }
  // Whether a call is under way that was given up: a process that has one ends with _exit(), since
  // what it runs at its end might wait for the device.
  bool hangs() const { return *hanging_ != 0; }

 private:
  class Worker;
  using Failure = std::string;  // empty: none
  using Task = std::move_only_function<Failure()>;

  bool run_task(Task task);
  Failure wait_for(Task task);
  void note(const Failure& failure);

  DeviceGuardOptions options_;
  CircuitBreaker breaker_;
  std::shared_ptr<Worker> worker_;  // made by the first call, and anew after one that hung
  std::shared_ptr<std::atomic<std::uint32_t>> hanging_;
  std::uint64_t calls_ = 0;
  std::uint64_t failures_ = 0;
  bool given_up_told_ = false;
};

template <class Call>
auto DeviceGuard::run(Call call)
    -> std::optional<typename std::invoke_result_t<Call&>::value_type> {
  using Result = typename std::invoke_result_t<Call&>::value_type;
  static_assert(std::same_as<std::invoke_result_t<Call&>, std::expected<Result, std::string>>);
  const auto result = std::make_shared<std::optional<Result>>();
  const bool done = run_task([call = std::move(call), result]() mutable -> Failure {
    std::expected<Result, std::string> answer = call();
    if (!answer) return answer.error().empty() ? "failed" : std::move(answer.error());
    result->emplace(std::move(*answer));
    return {};
  });
  if (!done) return std::nullopt;  // nobody but the call may look at its result
  return std::move(*result);
}

}  // namespace regroup
