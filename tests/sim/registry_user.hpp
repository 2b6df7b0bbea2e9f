// What the shards of a simulated job ask of the registry: the user code of one rank. Which shards
// ask, and what, is a pure function of the job's seed and of the replies. Some keys are counters,
// which are only ever raised by one, by a put that expects the version read before; others take
// whatever comes. Every put writes a value that no other one writes, so that it can be traced.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/protocol/registry_call.hpp"
#include "tests/sim/pretend_job.hpp"

namespace regroup::sim {

// What a put writes: who made it, and on a counter how often it was raised. Then padding.
struct RegistryValue {
  std::uint64_t tag = 0;
  std::uint64_t count = 0;
};
// Of whom a tag is: a rank has fewer writes than 2^40.
constexpr std::uint64_t tag_of(std::uint32_t launch, RankId rank, std::uint64_t write) {
  return std::uint64_t{launch} << 52 | std::uint64_t{rank.value + 1} << 40 | write;
}
constexpr std::uint32_t launch_of(std::uint64_t tag) {
  return static_cast<std::uint32_t>(tag >> 52);
}
std::string encode(const RegistryValue& value, std::size_t padding);
RegistryValue decode(std::string_view bytes);
inline bool is_counter(std::string_view key) {
  return key.starts_with('c');
}

class RegistryUser {
 public:
  static constexpr std::uint32_t kKeysOfKind = 2;
  static constexpr std::uint32_t kRaisesMax = 6;  // tries to raise a counter, before it gives up
  static constexpr std::uint32_t kCallsOfShardMax = 2 * kRaisesMax;
  static constexpr Nanoseconds kWatchTimeMax = 20 * kMillisecond;
  static constexpr Nanoseconds kThinkTime = 20 * kMicrosecond;

  // `launch`: how many runs of the job came before this one.
  RegistryUser(const PretendJob& job, RankId self, std::uint32_t launch)
      : job_(&job), self_(self), launch_(launch) {}

  // The rank begins to compute this order.
  void begin(const WorkOrder& order);
  // The next call, when there was a reply to the one before. Empty: the order's shards are through.
  std::optional<RegistryCall> next();
  void replied(const RegistryReply& reply);

 private:
  enum class Doing : std::uint8_t { kGet, kPut, kRaise, kWatch };
  struct Task {
    Doing doing{};
    std::string key;
    std::uint64_t drawn = 0;
    std::uint32_t calls = 0;
    RegistryReply before;  // to the call before
  };
  RegistryCall call(RegistryOperation operation);

  const PretendJob* job_;
  RankId self_;
  std::uint32_t launch_;
  std::deque<Task> tasks_;
  std::uint64_t calls_ = 0;
};

}  // namespace regroup::sim
