#include "scheduler/task_table.hpp"

#include <algorithm>
#include <bit>
#include <iterator>

#include "runtime/protocol/check.hpp"
#include "runtime/protocol/planted.hpp"

namespace regroup {
namespace {

constexpr std::uint64_t kWordShards = StateWord::kShards;
constexpr std::uint64_t kAll = ~std::uint64_t{0};
constexpr std::uint32_t kFirstAttempt = 1;

// All, one or none are the common cases, and cheaper than a popcount where that is no instruction.
std::uint64_t count_bits(std::uint64_t bits) {
  if (bits == kAll) return kWordShards;
  if ((bits & (bits - 1)) == 0) return bits != 0;
  return static_cast<std::uint64_t>(std::popcount(bits));
}

// Gathers the bits set in successive words into runs as long as possible.
template <class Emit>
class RunGatherer {
 public:
  explicit RunGatherer(Emit emit) : emit_(emit) {}

  void add(std::uint64_t word_first, std::uint64_t bits) {
    while (bits != 0) {
      const auto skipped = static_cast<std::uint64_t>(std::countr_zero(bits));
      const auto length = static_cast<std::uint64_t>(std::countr_one(bits >> skipped));
      append({ShardId{word_first + skipped}, length});
      if (skipped + length == kWordShards) return;
      bits &= kAll << (skipped + length);
    }
  }

  void finish() {
    if (run_.count != 0) emit_(run_);
    run_ = {};
  }

 private:
  void append(ShardRange run) {
    if (run_.count != 0 && run_.end() == run.first) {
      run_.count += run.count;
      return;
    }
    finish();
    run_ = run;
  }

  Emit emit_;
  ShardRange run_;
};

}  // namespace

Attempt AttemptMap::at(ShardId shard) const {
  const auto after = steps_.upper_bound(shard.value);
  return Attempt{after == steps_.begin() ? kFirstAttempt : std::prev(after)->second};
}

void AttemptMap::charge(ShardRange range) {
  if (range.count == 0) return;
  const auto first = split(range.first.value);
  const auto last = split(range.end().value);
  for (auto step = first; step != last; ++step) ++step->second;
  join(range.first.value);
  join(range.end().value);
}

std::optional<ShardId> AttemptMap::first_below(ShardRange range, Attempt attempt) const {
  if (range.count == 0 || attempt.value <= kFirstAttempt) return std::nullopt;
  if (at(range.first) < attempt) return range.first;
  auto step = steps_.upper_bound(range.first.value);
  for (; step != steps_.end() && step->first < range.end().value; ++step) {
    if (step->second < attempt.value) return ShardId{step->first};
  }
  return std::nullopt;
}

std::uint64_t AttemptMap::equal_run(ShardId shard, std::uint64_t count_max) const {
  if (steps_.empty()) return count_max;
  const auto next = steps_.upper_bound(shard.value);
  return next == steps_.end() ? count_max : std::min(count_max, next->first - shard.value);
}

std::size_t AttemptMap::memory_bytes() const {
  constexpr std::size_t kNodeBytes = 32 + sizeof(Steps::value_type);  // three links, a colour
  return steps_.size() * kNodeBytes;
}

void AttemptMap::save(Writer& writer) const {
  writer.put_varint(steps_.size());
  std::uint64_t before = 0;
  for (const auto& [shard, attempt] : steps_) {
    writer.put_varint(shard - before);
    writer.put_varint(attempt);
    before = shard;
  }
}

bool AttemptMap::load(Reader& reader, std::uint64_t shards) {
  steps_.clear();
  std::uint64_t shard = 0;
  std::uint64_t before = kFirstAttempt;
  for (std::uint64_t left = reader.get_varint(); left != 0; --left) {
    const std::uint64_t distance = reader.get_varint();
    const std::uint64_t attempt = reader.get_varint();
    if (reader.failed()) return false;
    // The last step may lie at the end of the stage, where shards are as new again.
    if (distance > shards - shard || (distance == 0 && !steps_.empty())) return false;
    if (attempt < kFirstAttempt || attempt > UINT32_MAX || attempt == before) return false;
    shard += distance;
    before = attempt;
    steps_.emplace_hint(steps_.end(), shard, static_cast<std::uint32_t>(attempt));
  }
  return !reader.failed();
}

AttemptMap::Steps::iterator AttemptMap::split(std::uint64_t shard) {
  const auto step = steps_.lower_bound(shard);
  if (step != steps_.end() && step->first == shard) return step;
  const std::uint32_t value = step == steps_.begin() ? kFirstAttempt : std::prev(step)->second;
  return steps_.emplace_hint(step, shard, value);
}

void AttemptMap::join(std::uint64_t shard) {
  const auto step = steps_.find(shard);
  const std::uint32_t before = step == steps_.begin() ? kFirstAttempt : std::prev(step)->second;
  if (step->second == before) steps_.erase(step);
}

TaskTable::TaskTable(std::uint64_t shards) : shards_(shards), states_(shards) {
  counter(ShardState::kPending) = shards;
}

bool TaskTable::settled() const {
  return count(ShardState::kDone) + count(ShardState::kQuarantined) == shards_;
}

ShardState TaskTable::state(ShardId shard) const {
  REGROUP_CHECK(shard.value < shards_, "no such shard in this stage");
  const StateWord word = states_[shard.value / kWordShards];
  const std::uint64_t bit = shard.value % kWordShards;
  return static_cast<ShardState>((word.low >> bit & 1) | (word.high >> bit & 1) << 1);
}

Attempt TaskTable::attempt(ShardId shard) const {
  REGROUP_CHECK(shard.value < shards_, "no such shard in this stage");
  return attempts_.at(shard);
}

void TaskTable::lease(ShardRange range) {
  REGROUP_CHECK(within(range), "a lease beyond the stage");
  REGROUP_CHECK(range.first.value / kWordShards >= states_.first() || range.count == 0,
                "a lease of a shard that is not pending");
  touch(range);
  for_each_word(range, [](StateWord& word, std::uint64_t, std::uint64_t mask) {
    REGROUP_CHECK(((word.low | word.high) & mask) == 0, "a lease of a shard that is not pending");
    word.low |= mask;
  });
  counter(ShardState::kPending) -= range.count;
  counter(ShardState::kLeased) += range.count;
}

std::expected<CommitCounts, CommitRefusal> TaskTable::commit(ShardRange range, Attempt attempt,
                                                             std::vector<ShardRange>& newly_done) {
  using Reason = CommitRefusal::Reason;
  if (!within(range)) {
    const ShardId beyond{std::max(range.first.value, shards_)};
    return std::unexpected(CommitRefusal{Reason::kNoSuchShard, beyond, Attempt{0}});
  }
  if (range.count == 0) return CommitCounts{};
  const auto refused =
      attempt.value == 0 ? std::optional(range.first) : attempts_.first_below(range, attempt);
  if (refused) {
    return std::unexpected(CommitRefusal{Reason::kNeverIssued, *refused, attempts_.at(*refused)});
  }

  touch(range);
  CommitCounts counts;
  std::uint64_t were_leased = 0;
  RunGatherer runs([&](ShardRange run) { newly_done.push_back(run); });
  for_each_word(range, [&](StateWord& word, std::uint64_t word_first, std::uint64_t mask) {
    // I7: settled shards are left alone
    const std::uint64_t fresh = planted(PlantedBug::kCommitTwice) ? mask : mask & ~word.high;
    counts.committed += count_bits(fresh);
    were_leased += count_bits(fresh & word.low);
    word.low &= ~fresh;
    word.high |= fresh;
    runs.add(word_first, fresh);
  });
  runs.finish();
  states_.drop_done();
  counts.duplicates = range.count - counts.committed;
  counter(ShardState::kLeased) -= were_leased;
  counter(ShardState::kPending) -= counts.committed - were_leased;
  counter(ShardState::kDone) += counts.committed;
  return counts;
}

std::uint64_t TaskTable::release(ShardRange range, Charge charge) {
  REGROUP_CHECK(within(range), "a release beyond the stage");
  std::uint64_t released = 0;
  RunGatherer runs([&](ShardRange run) {
    released += run.count;
    no_pending_below_ = std::min(no_pending_below_, run.first.value);
    if (charge == Charge::kAttempt && !planted(PlantedBug::kReuseAttempt)) attempts_.charge(run);
  });
  for_each_word(range, [&](StateWord& word, std::uint64_t word_first, std::uint64_t mask) {
    const std::uint64_t leased = mask & bits_in(ShardState::kLeased, word);
    word.low &= ~leased;
    runs.add(word_first, leased);
  });
  runs.finish();
  counter(ShardState::kLeased) -= released;
  counter(ShardState::kPending) += released;
  return released;
}

std::uint64_t TaskTable::release_all() {
  const std::uint64_t released = count(ShardState::kLeased);
  if (released == 0) return 0;
  for (std::size_t at = states_.last(); at-- > states_.first();) {
    const std::uint64_t leased = bits_in(ShardState::kLeased, states_.at(at));
    if (leased == 0) continue;
    states_.at(at).low &= ~leased;
    const auto first = static_cast<std::uint64_t>(std::countr_zero(leased));
    no_pending_below_ = std::min(no_pending_below_, at * kWordShards + first);
  }
  counter(ShardState::kLeased) = 0;
  counter(ShardState::kPending) += released;
  return released;
}

void TaskTable::reopen_all() {
  states_.reopen();
  counter(ShardState::kPending) = shards_ - count(ShardState::kLeased);
  counter(ShardState::kDone) = 0;
  counter(ShardState::kQuarantined) = 0;
  no_pending_below_ = 0;
}

bool TaskTable::quarantine(ShardId shard) {
  const ShardState before = state(shard);
  if (before == ShardState::kDone || before == ShardState::kQuarantined) return false;
  touch({shard, 1});
  StateWord& word = states_.at(shard.value / kWordShards);
  const std::uint64_t bit = std::uint64_t{1} << shard.value % kWordShards;
  word.low |= bit;
  word.high |= bit;
  --counter(before);
  ++counter(ShardState::kQuarantined);
  return true;
}

ShardRange TaskTable::next_pending(ShardId from, std::uint64_t count_max) {
  if (count(ShardState::kPending) == 0) return {ShardId{shards_}, 0};
  const ShardId start = std::max(from, ShardId{no_pending_below_});
  ShardRange run = next_run(ShardState::kPending, start, count_max);
  if (start.value == no_pending_below_) no_pending_below_ = run.first.value;
  run.count = attempts_.equal_run(run.first, run.count);
  return run;
}

ShardRange TaskTable::next_run(ShardState state, ShardId from, std::uint64_t count_max) const {
  const ShardRange none{ShardId{shards_}, 0};
  if (from.value >= shards_) return none;
  std::size_t at = from.value / kWordShards;
  std::uint64_t mask = kAll << from.value % kWordShards;
  if (state != ShardState::kDone && at < states_.first()) {
    at = states_.first();
    mask = kAll;
  }
  const std::size_t end = state == ShardState::kPending ? states_.words() : states_.last();
  std::uint64_t bits = 0;
  for (; at < end; ++at, mask = kAll) {
    bits = bits_in(state, states_[at]) & mask;
    if (bits != 0) break;
  }
  if (bits == 0) return none;
  const auto bit = static_cast<std::uint64_t>(std::countr_zero(bits));
  const std::uint64_t first = at * kWordShards + bit;
  // The last word's unused bits look pending: a run that starts there has no length.
  const std::uint64_t longest = std::min(count_max, shards_ - first);
  auto length = static_cast<std::uint64_t>(std::countr_one(bits >> bit));
  while (length < longest && first + length == (at + 1) * kWordShards) {
    if (++at >= states_.last() && state == ShardState::kPending) return {ShardId{first}, longest};
    bits = bits_in(state, states_[at]);
    length += static_cast<std::uint64_t>(std::countr_one(bits));
  }
  return {ShardId{first}, std::min(length, longest)};
}

std::size_t TaskTable::memory_bytes() const {
  return sizeof *this + states_.memory_bytes() + attempts_.memory_bytes();
}

void TaskTable::save(Writer& writer) const {
  writer.put_varint(shards_);
  states_.put(writer);
  attempts_.save(writer);
}

std::expected<TaskTable, std::string> TaskTable::load(Reader& reader, std::uint64_t shards) {
  const std::uint64_t saved_shards = reader.get_varint();
  if (reader.failed()) return std::unexpected("the saved task table is cut short");
  if (saved_shards != shards) {
    return std::unexpected("the saved task table is of a stage of " + std::to_string(saved_shards) +
                           " shards, not of " + std::to_string(shards));
  }
  TaskTable table(shards);
  if (!table.states_.get(reader)) {
    return std::unexpected("the states of the saved task table are damaged");
  }
  if (!table.attempts_.load(reader, shards)) {
    return std::unexpected("the attempts of the saved task table are damaged");
  }
  table.count_states();
  return table;
}

void TaskTable::count_states() {
  std::uint64_t leased = 0;
  std::uint64_t done = states_.first() * kWordShards;
  std::uint64_t quarantined = 0;
  for (std::size_t at = states_.first(); at < states_.last(); ++at) {
    const StateWord word = states_[at];
    leased += count_bits(bits_in(ShardState::kLeased, word));
    done += count_bits(bits_in(ShardState::kDone, word));
    quarantined += count_bits(bits_in(ShardState::kQuarantined, word));
  }
  counts_ = {shards_ - leased - done - quarantined, leased, done, quarantined};
}

std::uint64_t TaskTable::bits_in(ShardState state, const StateWord& word) {
  switch (state) {
    case ShardState::kPending:
      return ~(word.low | word.high);
    case ShardState::kLeased:
      return word.low & ~word.high;
    case ShardState::kDone:
      return word.high & ~word.low;
    case ShardState::kQuarantined:
      return word.low & word.high;
  }
  return 0;
}

bool TaskTable::within(ShardRange range) const {
  return range.count <= shards_ && range.first.value <= shards_ - range.count;
}

template <class Visit>
void TaskTable::for_each_word(ShardRange range, Visit visit) {
  if (range.count == 0) return;
  const std::uint64_t last = range.end().value - 1;
  const std::size_t end = std::min(state_words(last + 1), states_.last());
  std::size_t at = range.first.value / kWordShards;
  std::uint64_t mask = kAll << range.first.value % kWordShards;
  if (at < states_.first()) {
    at = states_.first();
    mask = kAll;
  }
  for (; at < end; ++at, mask = kAll) {
    if (at == last / kWordShards) mask &= kAll >> (kWordShards - 1 - last % kWordShards);
    visit(states_.at(at), at * kWordShards, mask);
  }
}

}  // namespace regroup
