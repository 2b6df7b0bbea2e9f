// What a user may decide about scheduling, the same on every rank of a run.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/protocol/disk.hpp"
#include "runtime/protocol/ids.hpp"

namespace regroup {

enum class Policy : std::uint8_t {
  kDynamic,   // whoever is free gets the next shards, in guided batches
  kAffinity,  // a shard goes to its home on the ring first, then to whoever is free
  kStatic,    // each rank gets one block of consecutive shards, once
  kPeer,      // as static, then ranks that run dry steal from each other
};

// "dynamic", "affinity", "static" or "peer"; the error names the choices.
std::expected<Policy, std::string> parse_policy(std::string_view name);
std::string_view name_of(Policy policy);

struct CheckpointOptions {
  enum class Every : std::uint8_t {
    kAuto,    // as their cost and the rate of failures say
    kPeriod,  // with this time between them
    kOff,     // only when a user asks for one
  };
  Every every = Every::kAuto;
  Nanoseconds period = 0;
  // The run goes on from a checkpoint: this one, or 0, the newest one of which every byte is right.
  bool resume = false;
  CheckpointNumber from;
  // How long a run that is to end on a checkpoint may take to seal it.
  Nanoseconds grace = 20 * kSecond;
  // How long the disks may take over one checkpoint.
  Nanoseconds timeout = 600 * kSecond;
  // Between failures that end a view, before any was seen.
  Nanoseconds failure_interval = 24 * 3600 * kSecond;
};

// Copies of the partitions that a rank owns, in the memory of another one, its partner.
struct CopyOptions {
  using Every = CheckpointOptions::Every;  // kOff: never
  Every every = Every::kAuto;
  Nanoseconds period = 0;
  // What a rank keeps for others, at most; copies beyond that are refused.
  std::uint64_t bytes_for_others_max = std::uint64_t{1} << 30;
  // Smaller copies go in frames, which is sooner for what fits into one.
  std::uint64_t bulk_bytes_min = std::uint64_t{64} << 10;
};

struct ScheduleOptions {
  Policy policy = Policy::kDynamic;
  // Most shards in one lease and in one message of results. 0: adapt to the cost of a shard.
  std::uint32_t batch = 0;
  // Leases that a rank holds ahead. 0: enough to hide the way to the coordinator and back.
  std::uint32_t prefetch = 0;
  // Whether the coordinator's rank computes shards as well. A lone rank always does.
  bool coordinator_computes = true;
  // Tries of a shard before it is quarantined.
  std::uint32_t attempts_max = 3;
  // Ranks that keep a copy of what the coordinator has decided, to go on in its place. With 0 the
  // run begins anew when the coordinator is lost.
  std::uint32_t standbys = 2;
  // How long ranks may take to open the job.
  Nanoseconds open_timeout = 60 * kSecond;
  CheckpointOptions checkpoints;
  CopyOptions copies;
  // By rank, which host it is on, numbered in any way; ranks beyond the end are on host 0.
  std::vector<std::uint32_t> hosts;
  // Tells this launch of the run's ranks from others that went before or come after; the same on
  // every rank.
  std::uint64_t launch = 0;
};

}  // namespace regroup
