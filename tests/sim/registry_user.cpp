#include "tests/sim/registry_user.hpp"

#include <cstring>

#include "tests/sim/random.hpp"

namespace regroup::sim {
namespace {

constexpr std::uint64_t kUserStream = 77;
constexpr std::uint64_t kPaddingMax = 100;
constexpr Nanoseconds kTimeoutMin = 3 * kMillisecond, kTimeoutMax = 3 * kSecond;

}  // namespace

std::string encode(const RegistryValue& value, std::size_t padding) {
  std::string bytes(sizeof value + padding, 'p');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

RegistryValue decode(std::string_view bytes) {
  RegistryValue value;
  if (bytes.size() >= sizeof value) std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

void RegistryUser::begin(const WorkOrder& order) {
  tasks_.clear();
  if (order.kind != WorkKind::kRun) return;
  for (ShardId shard = order.shards.first; shard < order.shards.end(); ++shard.value) {
    if (!job_->asks_registry(order.stage, shard)) continue;
    Random random(scatter({job_->options().seed, order.stage.value, shard.value}), kUserStream);
    Task& task = tasks_.emplace_back();
    task.doing =
        random.pick({Doing::kRaise, Doing::kRaise, Doing::kPut, Doing::kGet, Doing::kWatch});
    const bool counts =
        task.doing == Doing::kRaise || (task.doing != Doing::kPut && random.chance(0.5));
    task.key = (counts ? "c" : "v") + std::to_string(random.below(kKeysOfKind));
    task.drawn = random.next();
  }
}

RegistryCall RegistryUser::call(RegistryOperation operation) {
  Task& task = tasks_.front();
  ++task.calls;
  Random random(task.drawn, task.calls);
  return {.id = ++calls_,
          .operation = operation,
          .key = task.key,
          .value = {},
          .timeout = static_cast<Nanoseconds>(random.log_uniform(
              static_cast<double>(kTimeoutMin), static_cast<double>(kTimeoutMax)))};
}

std::optional<RegistryCall> RegistryUser::next() {
  if (tasks_.empty()) return {};
  const Task& task = tasks_.front();
  const bool reads_first = task.doing != Doing::kPut && task.calls % 2 == 0;
  if (reads_first) return call(RegistryOperation::kGet);
  if (task.doing == Doing::kWatch) {
    RegistryCall watch = call(RegistryOperation::kWatch);
    watch.version = task.before.version;
    watch.timeout = std::min(watch.timeout, kWatchTimeMax);
    return watch;
  }
  RegistryCall put = call(RegistryOperation::kPut);
  const std::uint64_t tag = tag_of(launch_, self_, put.id);
  const RegistryValue before = decode(task.before.value);
  put.version = task.doing == Doing::kRaise ? task.before.version : kAnyVersion;
  put.value = encode({tag, task.doing == Doing::kRaise ? before.count + 1 : 0},
                     task.drawn % (kPaddingMax + 1));
  return put;
}

// A counter is read and raised again until that meets no other put, or something else goes wrong.
void RegistryUser::replied(const RegistryReply& reply) {
  if (tasks_.empty()) return;
  Task& task = tasks_.front();
  task.before = reply;
  const bool done = reply.status == RegistryStatus::kDone;
  const bool goes_on = task.doing != Doing::kPut && task.calls % 2 == 1 && done &&
                       (task.doing != Doing::kGet || task.drawn % 2 == 0);
  const bool again = task.doing == Doing::kRaise && reply.status == RegistryStatus::kConflict &&
                     task.calls < kCallsOfShardMax;
  if (goes_on && task.doing == Doing::kGet) {
    ++task.calls;  // once more
    task.drawn |= 1;
    return;
  }
  if (!goes_on && !again) tasks_.pop_front();
}

}  // namespace regroup::sim
