// The hash of a byte-string key: XXH3-64 with a fixed seed, the same on every rank and in every
// run. Its high half chooses the partition, its low half the slot of a table, so that the keys of
// one partition still spread over all slots. Pure functions, thread-safe.
#pragma once

#define XXH_INLINE_ALL  // a call per key would cost as much as the hash itself
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <xxhash.h>

#include "runtime/protocol/check.hpp"

namespace regroup {

// Changing it moves keys between partitions: checkpoints of an older run would not fit.
inline constexpr std::uint64_t kKeyHashSeed = 0x7265'6772'6f75'7031;

inline std::uint64_t key_hash(std::string_view key) {
  return XXH3_64bits_withSeed(key.data(), key.size(), kKeyHashSeed);
}

// Multiply-shift instead of modulo (Lemire, "Fast random integer generation in an interval", 2019).
inline std::uint32_t partition_of_hash(std::uint64_t hash, std::uint32_t partitions) {
  return static_cast<std::uint32_t>(((hash >> 32) * partitions) >> 32);
}

// In [0, partitions), from the key alone.
inline std::uint32_t partition_of(std::string_view key, std::uint32_t partitions) {
  REGROUP_CHECK(partitions > 0, "keys are dealt to at least one partition");
  return partition_of_hash(key_hash(key), partitions);
}

}  // namespace regroup
