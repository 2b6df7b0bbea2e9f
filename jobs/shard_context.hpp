// What a job sees of the run while it computes one shard. Nothing in it depends on the rank count
// or the schedule, but for threads() and device(), which must not change a result, and for what
// other shards have put into the registry.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>

#include "kernels/random/philox.hpp"
#include "runtime/host/device_guard.hpp"
#include "runtime/host/registry.hpp"
#include "runtime/protocol/ids.hpp"

namespace regroup {

// The same for all shards that a rank computes.
struct RankResources {
  RankId rank;
  std::uint32_t threads = 1;            // for OpenMP and the like
  std::optional<std::uint32_t> device;  // CUDA ordinal
  Registry* registry = nullptr;         // outlives every shard; null: there is none
  // What runs calls on the device, and outlives every shard; null outside a run.
  DeviceGuard* device_guard = nullptr;
};

class ShardContext {
 public:
  ShardContext(ShardId shard, Attempt attempt, std::uint64_t seed, const RankResources& resources)
      : shard_(shard), attempt_(attempt), seed_(seed), resources_(&resources) {}

  // 0 to shards-1.
  std::uint64_t shard() const { return shard_.value; }
  // From 1: how often this shard was begun.
  std::uint32_t attempt() const { return attempt_.value; }
  // The run's --seed.
  std::uint64_t seed() const { return seed_; }
  // A random stream of this shard's own: depends on (seed, shard) alone.
  kernels::Philox random() const { return kernels::Philox(seed_, shard_.value); }
  RankId rank() const { return resources_->rank; }
  std::uint32_t threads() const { return resources_->threads; }
  // The CUDA device of this rank; see on_device.hpp for how to use it.
  std::optional<std::uint32_t> device() const { return resources_->device; }
  DeviceGuard* device_guard() const { return resources_->device_guard; }
  // What all shards of the run share (runtime/host/registry.hpp). Throws std::logic_error where a
  // shard is computed outside a run.
  Registry& registry() const {
    if (resources_->registry == nullptr) throw std::logic_error("no run, and so no registry");
    return *resources_->registry;
  }

 private:
  ShardId shard_;
  Attempt attempt_;
  std::uint64_t seed_;
  const RankResources* resources_;
};

}  // namespace regroup
