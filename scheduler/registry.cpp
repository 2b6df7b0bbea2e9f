#include "scheduler/registry.hpp"

#include <algorithm>
#include <utility>

#include "runtime/protocol/planted.hpp"

namespace regroup {
namespace {

constexpr std::size_t kItemBytesMin = 4 + 8 + 4;    // key, version, value
constexpr std::size_t kWritesBytesMin = 4 + 8 + 4;  // rank, answered, count
constexpr std::size_t kWriteBytes = 8 + 8;          // number, version

std::size_t bytes_of(std::string_view key, std::string_view value) {
  return key.size() + value.size() + RegistryStore::kKeyOverheadBytes;
}

std::shared_ptr<const std::string> shared(std::string_view value) {
  return std::make_shared<const std::string>(value);
}

}  // namespace

// ---- the store ----

// Why the write is not to be made, if it is not.
std::optional<RegistryStatus> RegistryStore::refusal(const Write& write, const Item* held) const {
  const std::uint64_t version = held ? held->version : 0;
  if (write.expected != kAnyVersion && write.expected != version) return RegistryStatus::kConflict;
  if (!held && items_.size() == kRegistryKeysMax) return RegistryStatus::kTooManyKeys;
  const std::size_t freed = held ? bytes_of(write.key, *held->value) : 0;
  const std::size_t bytes = bytes_ - freed + bytes_of(write.key, write.value);
  if (bytes > kRegistryBytesMax) return RegistryStatus::kTooManyBytes;
  return {};
}

RegistryStore::Outcome RegistryStore::put(const Write& write) {
  if (const auto done = find_write(write.rank, write.number);
      done && !planted(PlantedBug::kPutTwice)) {
    return {RegistryStatus::kDone, *done, false};
  }
  const auto found = items_.find(write.key);
  const Item* held = found == items_.end() ? nullptr : &found->second;
  const std::uint64_t version = held ? held->version : 0;
  const auto writes = writes_.find(write.rank);
  const bool answered = writes != writes_.end() && write.number <= writes->second.answered;
  if (answered) return {RegistryStatus::kConflict, version, false};  // nobody asks for it any more
  if (const auto refused = refusal(write, held)) return {*refused, version, false};

  if (held) bytes_ -= bytes_of(write.key, *held->value);
  bytes_ += bytes_of(write.key, write.value);
  Item& item = held ? found->second : items_[std::string(write.key)];
  item = {version + 1, shared(write.value)};

  remember(write, item.version);
  return {RegistryStatus::kDone, item.version, true};
}

void RegistryStore::remember(const Write& write, std::uint64_t version) {
  Writes& writes = writes_[write.rank];
  writes.answered = std::max(writes.answered, write.answered);
  writes_kept_ -=
      std::erase_if(writes.done, [&](const auto& one) { return one.first <= writes.answered; });
  const auto place = std::ranges::lower_bound(writes.done, write.number, {},
                                              [](const auto& one) { return one.first; });
  if (place != writes.done.end() && place->first == write.number) {
    place->second = version;
  } else {
    writes.done.emplace(place, write.number, version);
    ++writes_kept_;
  }
}

std::optional<std::uint64_t> RegistryStore::find_write(RankId rank, std::uint64_t number) const {
  const auto writes = writes_.find(rank);
  if (writes == writes_.end()) return {};
  const auto found =
      std::ranges::find(writes->second.done, number, [](const auto& one) { return one.first; });
  if (found == writes->second.done.end()) return {};
  return found->second;
}

RegistryStore::Item RegistryStore::get(std::string_view key) const {
  const auto found = items_.find(key);
  if (found != items_.end()) return found->second;
  return {0, shared({})};
}

std::size_t RegistryStore::saved_bytes() const {
  return 2 * sizeof(std::uint32_t) + bytes_ + writes_.size() * kWritesBytesMin +
         writes_kept_ * kWriteBytes;
}

void RegistryStore::save(Writer& writer) const {
  writer.put(static_cast<std::uint32_t>(items_.size()));
  for (const auto& [key, item] : items_) {
    writer.put_string(key);
    writer.put(item.version);
    writer.put_string(*item.value);
  }
  writer.put(static_cast<std::uint32_t>(writes_.size()));
  for (const auto& [rank, writes] : writes_) {
    writer.put(rank);
    writer.put(writes.answered);
    writer.put(static_cast<std::uint32_t>(writes.done.size()));
    for (const auto& [number, version] : writes.done) {
      writer.put(number);
      writer.put(version);
    }
  }
}

std::expected<void, std::string> RegistryStore::load(Reader& reader, std::uint32_t ranks) {
  *this = {};
  if (load_items(reader) && load_writes(reader, ranks)) return {};
  *this = {};
  return std::unexpected("its registry is damaged");
}

void RegistryStore::forget_writes() {
  writes_.clear();
  writes_kept_ = 0;
}

bool RegistryStore::load_items(Reader& reader) {
  const std::size_t count = reader.get_count(kItemBytesMin);
  if (reader.failed() || count > kRegistryKeysMax) return false;
  for (std::size_t i = 0; i < count; ++i) {
    const auto key = reader.get_string();
    const auto version = reader.get<std::uint64_t>();
    const auto value = reader.get_string();
    const bool ascends = items_.empty() || std::prev(items_.end())->first < key;
    if (reader.failed() || !ascends || version == 0 || version == kAnyVersion ||
        key.size() > kRegistryKeyBytesMax || value.size() > kRegistryValueBytesMax) {
      return false;
    }
    bytes_ += bytes_of(key, value);
    if (bytes_ > kRegistryBytesMax) return false;
    items_.emplace_hint(items_.end(), key, Item{version, shared(value)});
  }
  return true;
}

bool RegistryStore::load_writes(Reader& reader, std::uint32_t ranks) {
  const std::size_t count = reader.get_count(kWritesBytesMin);
  if (reader.failed() || count > ranks) return false;
  for (std::size_t i = 0; i < count; ++i) {
    const auto rank = reader.get<RankId>();
    Writes writes{.answered = reader.get<std::uint64_t>(), .done = {}};
    const bool ascends = writes_.empty() || std::prev(writes_.end())->first < rank;
    const std::size_t done = reader.get_count(kWriteBytes);
    if (reader.failed() || !ascends || rank.value >= ranks || done > kRegistryCallsMax) {
      return false;
    }
    for (std::size_t j = 0; j < done; ++j) {
      const auto number = reader.get<std::uint64_t>();
      const auto version = reader.get<std::uint64_t>();
      const std::uint64_t before = writes.done.empty() ? writes.answered : writes.done.back().first;
      if (reader.failed() || number <= before || version == 0) return false;
      writes.done.emplace_back(number, version);
    }
    writes_kept_ += done;
    writes_.emplace_hint(writes_.end(), rank, std::move(writes));
  }
  return true;
}

// ---- the desk ----

bool RegistryDesk::take(RankId from, const RegistryRequest& request, Open open,
                        LedgerPosition entry, Nanoseconds now) {
  if (calls_of(from) >= kRegistryCallsMax) {
    refuse(from, request, RegistryStatus::kTooManyCalls);
    return false;
  }
  if (open == Open::kNotYet) {
    Held& held = held_.emplace_back(from, Buffer());
    Writer writer(held.request);
    put_registry_request(writer, request);
    ++calls_of(from);
    return false;
  }
  if (request.operation == RegistryOperation::kPut) return put(from, request, open, entry);
  if (open == Open::kNoMore) {
    refuse(from, request, RegistryStatus::kEnding);
    return false;
  }
  const bool watches = request.operation == RegistryOperation::kWatch;
  RegistryStore::Item item = store_.get(request.key);
  if (!watches || item.version > request.version) {
    wait(entry, {from, request.number, RegistryStatus::kDone, item.version, std::move(item.value)});
  } else if (watches_.size() >= kRegistryWatchesMax) {
    refuse(from, request, RegistryStatus::kTooManyWatches);
  } else {
    const Nanoseconds until = now + request.left;
    if (watches_.empty() || until < expires_at_) expires_at_ = until;
    watches_.emplace(request.key, Watch{from, request.number, request.version, until});
  }
  return false;
}

bool RegistryDesk::put(RankId from, const RegistryRequest& request, Open open,
                       LedgerPosition entry) {
  if (open == Open::kNoMore && !store_.find_write(from, request.write)) {
    refuse(from, request, RegistryStatus::kEnding);
    return false;
  }
  const auto outcome = store_.put(
      {from, request.write, request.answered, request.version, request.key, request.value});
  wait(entry, {from, request.number, outcome.status, outcome.version, nullptr});
  if (outcome.changed) wake_watches(request.key, entry);
  return outcome.changed;
}

void RegistryDesk::refuse(RankId from, const RegistryRequest& request, RegistryStatus status) {
  refused_.push_back({from, request.number, status, 0, nullptr});
}

void RegistryDesk::wait(LedgerPosition entry, Answer answer) {
  ++calls_of(answer.to);
  waiting_.push_back({entry, std::move(answer)});
}

void RegistryDesk::wake_watches(std::string_view key, LedgerPosition entry) {
  const RegistryStore::Item item = store_.get(key);
  auto [watch, end] = watches_.equal_range(key);
  while (watch != end) {
    if (item.version <= watch->second.version) {
      ++watch;
      continue;
    }
    wait(entry, {watch->second.from, watch->second.number, RegistryStatus::kDone, item.version,
                 item.value});
    watch = watches_.erase(watch);
  }
}

std::vector<RegistryDesk::Held> RegistryDesk::release() {
  std::vector<Held> held;
  for (Held& one : held_) {
    --calls_of(one.from);
    held.push_back(std::move(one));
  }
  held_.clear();
  return held;
}

std::vector<RegistryDesk::Answer> RegistryDesk::answers(LedgerPosition safe) {
  std::vector<Answer> answers = std::exchange(refused_, {});
  while (!waiting_.empty() && waiting_.front().entry <= safe) {
    --calls_of(waiting_.front().answer.to);
    answers.push_back(std::move(waiting_.front().answer));
    waiting_.pop_front();
  }
  return answers;
}

void RegistryDesk::expire(Nanoseconds now) {
  if (watches_.empty() || now < expires_at_) return;
  std::erase_if(watches_, [&](const auto& one) { return one.second.until <= now; });
  expires_at_ = now + kRegistryTimeoutMax;
  for (const auto& one : watches_) expires_at_ = std::min(expires_at_, one.second.until);
}

void RegistryDesk::forget() {
  held_.clear();
  waiting_.clear();
  refused_.clear();
  calls_.clear();
  watches_.clear();
}

}  // namespace regroup
