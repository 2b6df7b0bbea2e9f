// How a job has a shard or a cell computed by its rank's device, and by the CPU where that fails:
//
//   return on_device_or_cpu(
//       shard, [seed = shard.seed()](std::uint32_t device) { return kernels::cuda::...; },
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

// The guard of the rank's device if it would take a call now; null: it is the CPU's turn.
// `context`: a ShardContext or CellContext.
template <class Context>
DeviceGuard* working_device(const Context& context) {
  DeviceGuard* const guard = context.device() ? context.device_guard() : nullptr;
  return guard != nullptr && guard->is_ready() ? guard : nullptr;
}

// `on_device` takes the device's number, and returns what `on_cpu` does or throws. It owns all that
// it uses: when the device hangs it is given up, and may go on for ever.
template <class Context, class OnDevice, class OnCpu>
auto on_device_or_cpu(const Context& context, OnDevice on_device, OnCpu on_cpu)
    -> std::invoke_result_t<OnCpu&> {
  using Value = std::invoke_result_t<OnCpu&>;
  if (DeviceGuard* const guard = working_device(context)) {
    std::optional<Value> value =
        guard->run([device = *context.device(), on_device = std::move(on_device)]() mutable
                   -> std::expected<Value, std::string> { return on_device(device); });
    if (value) return std::move(*value);
  }
  return on_cpu();
}

}  // namespace regroup
