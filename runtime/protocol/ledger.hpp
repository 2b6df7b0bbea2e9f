// The replicated ledger: what the coordinator decides goes to a few other members, the standbys, so
// that one of them can go on in its place. As in log replication by a leader (Ongaro and
// Ousterhout, "In search of an understandable consensus algorithm", ATC 2014, sections 5.3 and 7),
// but elections are Membership's, and links lose nothing within a view. An entry holds either the
// records of what was decided since the entry before or the whole state; entries are numbered over
// the whole run. What records and states mean is for the coordinator to know. Pure, not
// thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "runtime/protocol/buffer.hpp"
#include "runtime/protocol/rank_set.hpp"
#include "runtime/protocol/view.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup {

enum class LedgerForm : std::uint8_t { kRecords, kState };

struct LedgerEntry {
  LedgerPosition position = 0;
  LedgerForm form{};
  std::span<const std::byte> bytes;
};

// Head of an entry: position, form; its bytes are the rest of the message.
void put_entry_head(Writer& writer, LedgerPosition position, LedgerForm form);
// Takes all that is left. Empty if it is malformed.
std::optional<LedgerEntry> get_entry(Reader& reader);

// What a standby keeps: the latest state and the records after it. Position 0: nothing, the run is
// at its start.
class LedgerCopy {
 public:
  // False, and nothing changed, if the entry does not follow on what is there.
  bool append(const LedgerEntry& entry);
  void clear();

  LedgerPosition position() const { return position_; }
  std::span<const std::byte> state() const { return state_.view(); }
  std::span<const std::byte> records() const { return records_.view(); }

  void put(Writer& writer) const;
  // Replaces all. False, and the copy empty, if it is malformed.
  bool load(Reader& reader);

 private:
  LedgerPosition position_ = 0;
  Buffer state_;
  Buffer records_;
};

// The coordinator's side: collects records, says when the next entry is due and in which form it
// goes to whom, and up to which entry a majority of the replicas (standbys and coordinator) has
// them.
class LedgerLeader {
 public:
  // Between entries: what their making and sending costs stays below one part in kCostShare.
  static constexpr Nanoseconds kPeriod = 2 * kMillisecond;
  static constexpr Nanoseconds kCostShare = 100;
  // Entries that a standby has not confirmed. One that is slower is sent nothing until it has
  // caught up, and then the state.
  static constexpr LedgerPosition kInFlightMax = 4;
  // Records that a standby keeps before it is sent the state, besides twice the state's size.
  static constexpr std::size_t kRecordBytesMax = std::size_t{1} << 16;

  struct Dispatch {
    RankId to;
    LedgerForm form{};
  };

  // A view begins. Its standbys know nothing that counts until they were sent the state.
  // `position`: of the ledger so far.
  void begin_view(LedgerPosition position, std::vector<RankId> standbys);
  bool has_standbys() const { return !standbys_.empty(); }
  const std::vector<RankId>& standbys() const { return ranks_; }

  // Something was decided that the next entry must tell.
  void touch() { dirty_ = true; }
  // Where to write it down; null if the next entry holds the state anyway.
  Buffer* records();
  // To be told after writing: about how many bytes the state would take now.
  void recorded(std::size_t state_bytes);
  // Something changed that no record tells.
  void want_state();

  // There is something to tell, somebody to tell it to, and it is time, or urgent. What a majority
  // lacks is something to tell to those who had fallen behind.
  bool due(Nanoseconds now, bool urgent) const;
  // Begins the next entry: who is to be sent what. Never empty when one is due. What was recorded
  // stays in recorded_bytes() until the next entry begins.
  std::vector<Dispatch> begin_entry();
  std::span<const std::byte> recorded_bytes() const { return shipping_.view(); }
  // The entry took about this long to make and to send.
  void sent(Nanoseconds now, Nanoseconds cost);

  // `from` has all entries up to this one. False if that cannot be.
  bool held(RankId from, LedgerPosition position);

  LedgerPosition position() const { return position_; }
  // A majority of the replicas has everything up to this entry.
  LedgerPosition committed() const;

 private:
  struct Standby {
    LedgerPosition sent = 0;
    LedgerPosition held = 0;
    bool behind = true;  // must be sent the state
  };
  bool takes_entries(const Standby& standby) const;
  bool owes_state() const;

  std::vector<RankId> ranks_;
  std::vector<Standby> standbys_;  // as ranks_
  LedgerPosition position_ = 0;
  Buffer records_;
  Buffer shipping_;
  std::size_t records_since_state_ = 0;
  bool dirty_ = false;
  bool state_wanted_ = true;
  Nanoseconds next_at_ = 0;
};

}  // namespace regroup
