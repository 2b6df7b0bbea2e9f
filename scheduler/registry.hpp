// The registry that jobs share: a small key-value store with versions. The coordinator has the one
// RegistryStore of the run; every write is a record of the ledger, and the whole store a part of
// its state, so that an heir has it too. RegistryDesk is what the coordinator does for those who
// ask: it keeps each answer back until the ledger is safe up to the entry after the question. So
// what a put wrote is with a majority of the replicas before anyone is told. So are reads
// linearizable: they see the store as it was when they came, and are answered once an entry made
// since then is safe, which shows that nothing they saw can be lost and that no other rank led at
// that time (reads by confirmed leadership, Ongaro 2014, section 6.4). Without standbys answers
// come at once, and a coordinator that is lost takes the registry with it. Pure, not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <expected>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/protocol/registry_call.hpp"
#include "runtime/protocol/view.hpp"

namespace regroup {

// The same writes in the same order make the same store.
class RegistryStore {
 public:
  // What a key costs beside its own bytes and its value's.
  static constexpr std::size_t kKeyOverheadBytes = 64;

  // A write as it is recorded. A rank's writes are told apart by number: each counts once, though
  // it comes again, until the rank says that it has been answered.
  struct Write {
    RankId rank;
    std::uint64_t number = 0;
    std::uint64_t answered = 0;
    std::uint64_t expected = kAnyVersion;
    std::string_view key;
    std::string_view value;
  };
  struct Outcome {
    RegistryStatus status{};
    std::uint64_t version = 0;  // when done: of this write, then and now; else of the key
    bool changed = false;
  };
  // The value is kept alive by whoever holds it. Never null.
  struct Item {
    std::uint64_t version = 0;
    std::shared_ptr<const std::string> value;
  };

  Outcome put(const Write& write);
  // The version that this write made when it came before; empty if it did not, or was refused.
  std::optional<std::uint64_t> find_write(RankId rank, std::uint64_t number) const;
  // Version 0 and no bytes if it was never written.
  Item get(std::string_view key) const;

  void save(Writer& writer) const;
  // In place of what is there; reads no further than its own. After an error it is empty.
  std::expected<void, std::string> load(Reader& reader, std::uint32_t ranks);
  // Those who made them are gone, and others begin to count anew.
  void forget_writes();
  // About what save would write. O(1).
  std::size_t saved_bytes() const;
  bool empty() const { return items_.empty(); }
  std::size_t keys() const { return items_.size(); }

 private:
  struct Writes {
    std::uint64_t answered = 0;
    std::deque<std::pair<std::uint64_t, std::uint64_t>> done;  // number and version, above answered
  };
  bool load_items(Reader& reader);
  bool load_writes(Reader& reader, std::uint32_t ranks);
  std::optional<RegistryStatus> refusal(const Write& write, const Item* held) const;
  void remember(const Write& write, std::uint64_t version);

  std::map<std::string, Item, std::less<>> items_;
  std::map<RankId, Writes> writes_;
  std::size_t bytes_ = 0;  // of keys, values and overhead
  std::size_t writes_kept_ = 0;
};

class RegistryDesk {
 public:
  struct Answer {
    RankId to;
    std::uint64_t number = 0;
    RegistryStatus status{};
    std::uint64_t version = 0;
    std::shared_ptr<const std::string> value;  // null: no bytes
  };
  // What the coordinator can do for those who ask now.
  enum class Open : std::uint8_t {
    kNotYet,  // the store is not here yet: who asks waits
    kYes,     // the job runs
    kNoMore,  // the job has settled: of its writes only the outcome can be had
  };

  RegistryStore& store() { return store_; }
  const RegistryStore& store() const { return store_; }

  // Takes a request in; its answer is to wait for the entry of the ledger at `entry`. True if the
  // store was changed, so that the write must be recorded in that entry.
  bool take(RankId from, const RegistryRequest& request, Open open, LedgerPosition entry,
            Nanoseconds now);
  // The store is here now: those who waited for it, in the order in which they came.
  struct Held {
    RankId from;
    Buffer request;
  };
  std::vector<Held> release();
  // The answers that waited for entries up to this one, or for none.
  std::vector<Answer> answers(LedgerPosition safe);
  // There are answers that wait for an entry.
  bool waits() const { return !waiting_.empty(); }
  bool idle() const { return waiting_.empty() && watches_.empty() && held_.empty(); }
  // Drops the watches whose time is over: who asked knows the time as well.
  void expire(Nanoseconds now);
  // A view begins: everyone asks again.
  void forget();

 private:
  struct Waiting {
    LedgerPosition entry = 0;
    Answer answer;
  };
  struct Watch {
    RankId from;
    std::uint64_t number = 0;
    std::uint64_t version = 0;
    Nanoseconds until = 0;
  };
  bool put(RankId from, const RegistryRequest& request, Open open, LedgerPosition entry);
  void refuse(RankId from, const RegistryRequest& request, RegistryStatus status);
  void wait(LedgerPosition entry, Answer answer);
  void wake_watches(std::string_view key, LedgerPosition entry);
  std::size_t& calls_of(RankId rank) { return calls_[rank]; }

  RegistryStore store_;
  std::deque<Held> held_;
  std::deque<Waiting> waiting_;                             // by entry, ascending
  std::vector<Answer> refused_;                             // nothing to wait for
  std::map<RankId, std::size_t> calls_;                     // of each rank, in held_ and waiting_
  std::multimap<std::string, Watch, std::less<>> watches_;  // by key
  Nanoseconds expires_at_ = 0;                              // the earliest of them, or before
};

}  // namespace regroup
