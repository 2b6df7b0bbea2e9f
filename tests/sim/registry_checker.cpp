#include "tests/sim/registry_checker.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "tests/sim/registry_user.hpp"

namespace regroup::sim {

void RegistryChecker::asked(RankId rank, Epoch epoch, const RegistryCall& call) {
  Key& key = keys_[call.key];
  if (!anew_ && !key.first) key.first = 1;
  Call& kept = calls_[{rank, call.id}];
  kept = {.operation = call.operation,
          .key = call.key,
          .version = call.version,
          .floor = key.floor,
          .epoch = epoch};
  if (call.operation != RegistryOperation::kPut) return;
  kept.tag = decode(call.value).tag;
  puts_[kept.tag] = {.key = call.key, .expected = call.version, .floor = kept.floor, .version = {}};
}

// What was answered in this epoch may not be known to whoever leads now.
bool RegistryChecker::may_be_lost(Epoch epoch) const {
  return elected_ && elected_->epoch > epoch && !acks_->majority_may_be_left(epoch, *elected_);
}

void RegistryChecker::replied(RankId rank, Epoch epoch, const RegistryReply& reply) {
  const auto found = calls_.find({rank, reply.id});
  if (found == calls_.end()) return wrong("a reply to no call, or a second one");
  const Call call = std::move(found->second);
  calls_.erase(found);
  if (reply.status == RegistryStatus::kTimedOut) probes_.hit(Probe::kRegistryTimedOut);
  const bool puts = call.operation == RegistryOperation::kPut;
  const bool answered =
      reply.status == RegistryStatus::kDone || (puts && reply.status == RegistryStatus::kConflict);
  if (reply.status == RegistryStatus::kTooManyCalls && puts) puts_[call.tag].refused = true;
  if (!answered || !call.counts || may_be_lost(epoch)) return;
  answered_last_ = std::max(answered_last_.value_or(epoch), epoch);
  if (puts && epoch > call.epoch) probes_.hit(Probe::kPutAcrossViews);
  if (reply.version < call.floor) {
    wrong(fmt::format("{} has version {} for a call that began after version {} was known",
                      call.key, reply.version, call.floor));
  }
  puts ? take_put(call, reply) : take_read(call, reply);
  Key& key = keys_[call.key];
  key.floor = std::max(key.floor, reply.version);
}

void RegistryChecker::take_read(const Call& call, const RegistryReply& reply) {
  if (call.operation == RegistryOperation::kWatch) {
    if (reply.version <= call.version) {
      wrong(fmt::format("a watch of {} beyond {} saw {}", call.key, call.version, reply.version));
    }
    probes_.hit(Probe::kWatchSaw);
  }
  if (reply.version == 0) {
    if (!reply.value.empty()) wrong(call.key + " has a value, and was never written");
    return;
  }
  const RegistryValue value = decode(reply.value);
  if (is_counter(call.key) && value.count != reply.version) {
    wrong(fmt::format("counter {} is {} at version {}", call.key, value.count, reply.version));
  }
  see(call.key, reply.version, value.tag);
}

void RegistryChecker::take_put(const Call& call, const RegistryReply& reply) {
  Put& put = puts_[call.tag];
  if (reply.status == RegistryStatus::kDone) return see(call.key, reply.version, call.tag);
  probes_.hit(Probe::kPutConflict);
  put.refused = true;
  if (put.version) wrong(fmt::format("a put that made version {} is refused", *put.version));
  if (put.expected == kAnyVersion || put.expected == reply.version) {
    wrong(
        fmt::format("a put that expects version {} is refused at {}", put.expected, reply.version));
  }
}

// Somebody was told that this put made this version.
void RegistryChecker::see(const std::string& name, std::uint64_t version, std::uint64_t tag) {
  Key& key = keys_[name];
  const bool of_before = tag != 0 && launch_of(tag) < launch_;
  if (of_before) puts_.try_emplace(tag, Put{.key = name, .expected = kAnyVersion, .version = {}});
  const auto found = puts_.find(tag);
  if (found == puts_.end() || found->second.key != name) {
    return wrong(name + " has a value that nobody put there");
  }
  Put& put = found->second;
  const auto [writer, first] = key.writers.emplace(version, tag);
  if (writer->second != tag) wrong(fmt::format("version {} of {} is two puts'", version, name));
  if (put.version.value_or(version) != version) {
    wrong(fmt::format("a put to {} made versions {} and {}", name, *put.version, version));
  }
  if (put.refused)
    wrong(fmt::format("version {} of {} is of a put that was refused", version, name));
  if (version <= put.floor) {
    wrong(fmt::format("a put to {} made version {} when {} was known", name, version, put.floor));
  }
  if (put.expected != kAnyVersion && put.expected + 1 != version) {
    wrong(fmt::format("a put that expects version {} made {}", put.expected, version));
  }
  put.version = version;
  key.last = std::max(key.last, version);
  if (!key.first) key.first = version;
}

void RegistryChecker::elected(const View& view) {
  elected_ = view;
  if (!answered_last_ || !may_be_lost(*answered_last_)) return;
  probes_.hit(Probe::kRegistryLost);
  anew_ = true;
  answered_last_.reset();
  keys_.clear();
  for (auto& [who, call] : calls_) call.counts = false;
  for (auto& [tag, put] : puts_) put.version.reset(), put.floor = 0;
}

// Versions that nobody was told of are those of puts whose outcome nobody was told.
void RegistryChecker::check_versions(const std::string& name, const Key& key) {
  if (!key.first || key.last == 0) return;
  const std::uint64_t versions = key.last - *key.first + 1;
  const auto known = static_cast<std::uint64_t>(
      std::distance(key.writers.lower_bound(*key.first), key.writers.end()));
  const auto open = std::ranges::count_if(puts_, [&](const auto& one) {
    return one.second.key == name && !one.second.refused && !one.second.version;
  });
  if (versions - known > static_cast<std::uint64_t>(open)) {
    wrong(fmt::format("of {} versions of {} {} are nobody's, with {} puts open", versions, name,
                      versions - known, open));
  }
}

void RegistryChecker::run_ended() {
  for (const auto& [name, key] : keys_) check_versions(name, key);
}

}  // namespace regroup::sim
