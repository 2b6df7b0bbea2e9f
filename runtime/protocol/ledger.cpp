#include "runtime/protocol/ledger.hpp"

#include <algorithm>
#include <functional>
#include <utility>

#include "runtime/protocol/planted.hpp"

namespace regroup {

void put_entry_head(Writer& writer, LedgerPosition position, LedgerForm form) {
  writer.put(position);
  writer.put(form);
}

std::optional<LedgerEntry> get_entry(Reader& reader) {
  LedgerEntry entry;
  entry.position = reader.get<LedgerPosition>();
  entry.form = reader.get<LedgerForm>();
  if (reader.failed() || entry.position == 0 || entry.form > LedgerForm::kState) return {};
  entry.bytes = reader.get_raw(reader.rest().size());
  return entry;
}

// ---- a standby's copy ----

bool LedgerCopy::append(const LedgerEntry& entry) {
  if (entry.form == LedgerForm::kRecords) {
    if (position_ == 0 || entry.position != position_ + 1) return false;
    if (!planted(PlantedBug::kLoseRecords)) records_.append(entry.bytes);
  } else {
    if (entry.position <= position_) return false;
    state_ = Buffer(entry.bytes);
    records_.clear();
  }
  position_ = entry.position;
  return true;
}

void LedgerCopy::clear() {
  position_ = 0;
  state_ = {};
  records_ = {};
}

void LedgerCopy::put(Writer& writer) const {
  writer.put(position_);
  writer.put(static_cast<std::uint64_t>(state_.size()));
  writer.put_raw(state_.view());
  writer.put_raw(records_.view());
}

bool LedgerCopy::load(Reader& reader) {
  clear();
  const auto position = reader.get<LedgerPosition>();
  const auto state = reader.get_raw(reader.get<std::uint64_t>());
  if (reader.failed() || position == 0) return false;
  position_ = position;
  state_ = Buffer(state);
  records_ = Buffer(reader.get_raw(reader.rest().size()));
  return true;
}

// ---- the coordinator's side ----

void LedgerLeader::begin_view(LedgerPosition position, std::vector<RankId> standbys) {
  position_ = position;
  ranks_ = std::move(standbys);
  standbys_.assign(ranks_.size(), {.sent = position, .held = position, .behind = true});
  want_state();
  next_at_ = 0;
}

Buffer* LedgerLeader::records() {
  dirty_ = true;
  return standbys_.empty() || state_wanted_ ? nullptr : &records_;
}

void LedgerLeader::recorded(std::size_t state_bytes) {
  const bool outgrown = records_since_state_ + records_.size() > kRecordBytesMax + 2 * state_bytes;
  if (records_.size() > state_bytes || outgrown) want_state();
}

void LedgerLeader::want_state() {
  dirty_ = true;
  state_wanted_ = true;
  records_.clear();
}

bool LedgerLeader::takes_entries(const Standby& standby) const {
  return standby.behind ? standby.held == standby.sent : standby.sent - standby.held < kInFlightMax;
}

// A standby that had fallen behind has caught up with what it was sent, and is needed for a
// majority.
bool LedgerLeader::owes_state() const {
  const auto waits = [&](const Standby& one) {
    return one.behind && one.held == one.sent && one.held < position_;
  };
  return std::ranges::any_of(standbys_, waits) && committed() < position_;
}

bool LedgerLeader::due(Nanoseconds now, bool urgent) const {
  if ((now < next_at_ && !urgent) || !(dirty_ || owes_state())) return false;
  return std::ranges::any_of(standbys_, [&](const Standby& one) { return takes_entries(one); });
}

std::vector<LedgerLeader::Dispatch> LedgerLeader::begin_entry() {
  ++position_;
  std::vector<Dispatch> dispatches;
  for (std::size_t i = 0; i < standbys_.size(); ++i) {
    Standby& standby = standbys_[i];
    if (!takes_entries(standby)) {
      standby.behind = true;
      continue;
    }
    const bool behind = std::exchange(standby.behind, false);
    standby.sent = position_;
    dispatches.push_back(
        {ranks_[i], behind || state_wanted_ ? LedgerForm::kState : LedgerForm::kRecords});
  }
  records_since_state_ = state_wanted_ ? 0 : records_since_state_ + records_.size();
  shipping_.clear();
  std::swap(shipping_, records_);
  dirty_ = false;
  state_wanted_ = false;
  return dispatches;
}

void LedgerLeader::sent(Nanoseconds now, Nanoseconds cost) {
  next_at_ = now + std::max(kPeriod, kCostShare * cost);
}

bool LedgerLeader::held(RankId from, LedgerPosition position) {
  const auto found = std::ranges::find(ranks_, from);
  if (found == ranks_.end()) return false;
  Standby& standby = standbys_[static_cast<std::size_t>(found - ranks_.begin())];
  if (position < standby.held || position > standby.sent) return false;
  standby.held = position;
  return true;
}

LedgerPosition LedgerLeader::committed() const {
  const std::size_t needed = (standbys_.size() + 1) / 2;  // besides the coordinator
  if (needed == 0) return position_;
  std::vector<LedgerPosition> held;
  for (const Standby& standby : standbys_) held.push_back(standby.held);
  std::ranges::nth_element(held, held.begin() + static_cast<std::ptrdiff_t>(needed - 1),
                           std::greater{});
  return held[needed - 1];
}

}  // namespace regroup
