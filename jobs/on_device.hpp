// How a job has a shard or a cell computed by its rank's device, and by the CPU where that fails:
//
//   return on_device_or_cpu(
//       shard, [seed, stream](std::uint32_t device) { return kernels::cuda::...; },
//       [&] { return kernels::...; });
//
// Both have to give the same bits, for nobody can say beforehand who computes what (I8). What is
// computed by both, since the device was late, counts once: only one of the results is returned.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "runtime/host/device_guard.hpp"

namespace regroup {

// `context`: a ShardContext or CellContext. `on_device` takes the device's number and returns what
// has an `error`, empty if it went well, and a `value` (kernels/device/device.hpp). It owns all
// that it uses: it is given up when the device hangs, and may go on then. `on_cpu` returns the
// value.
template <class Context, class OnDevice, class OnCpu>
auto on_device_or_cpu(const Context& context, OnDevice on_device, OnCpu on_cpu)
    -> std::invoke_result_t<OnCpu&> {
  using Value = std::invoke_result_t<OnCpu&>;
  if (context.device() && context.device_guard() != nullptr) {
    std::optional<Value> value = context.device_guard()->run(
        [device = *context.device(),
         on_device = std::move(on_device)]() mutable -> std::expected<Value, std::string> {
          auto answer = on_device(device);
          if (!answer.error.empty()) return std::unexpected(std::move(answer.error));
          return std::move(answer.value);
        });
    if (value) return std::move(*value);
  }
  return on_cpu();
}

}  // namespace regroup
