// Logical clocks: they order events of different ranks, which no wall clock can. A Lamport clock
// gives a total order that respects cause and effect (Lamport, CACM 21(7), 1978); a vector clock
// also tells which events are concurrent (Mattern 1989). Vector stamps travel as differences: a
// message carries only the entries that changed since the last one to the same peer (Singhal and
// Kshemkalyani, IPL 43(1), 1992), which is right on FIFO links only; Link provides them. Not
// thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/protocol/ids.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup {

// No clock gets this far by counting; a stamp beyond it is malformed, for a clock set to it could
// wrap.
inline constexpr std::uint64_t kStampMax = std::uint64_t{1} << 62;

class LamportClock {
 public:
  // A local event or a send: the stamp it carries.
  std::uint64_t tick() { return ++now_; }
  // A receive: jumps past the sender's stamp (kStampMax at most), so that send < receive (I10).
  std::uint64_t observe(std::uint64_t sent) {
    now_ = (sent > now_ ? sent : now_) + 1;
    return now_;
  }
  std::uint64_t now() const { return now_; }

 private:
  std::uint64_t now_ = 0;
};

enum class ClockOrder { kEqual, kBefore, kAfter, kConcurrent };

class VectorClock {
 public:
  // For ranks 0 to ranks-1, of which this is `self`.
  VectorClock(std::uint32_t ranks, RankId self);

  void tick() { advance(self_.value, entries_[self_.value] + 1); }

  // Appends to a message to `peer` the entries changed since the last one, as
  // { u32 rank, u64 value } each, then their number as u32: a trailer, read from its end.
  void put_changes(RankId peer, Buffer& message);
  // Merges a trailer made by put_changes and ticks. False, with nothing merged, if it is malformed.
  bool merge_changes(std::span<const std::byte> trailer);
  // The bytes at the end of `message` that are a trailer, or empty if they cannot be one.
  static std::span<const std::byte> trailer(std::span<const std::byte> message);

  // Messages may have been lost: the next one to every peer carries all entries.
  void resend_all() { std::ranges::fill(sent_up_to_, 0); }

  std::span<const std::uint64_t> entries() const { return entries_; }

 private:
  void advance(std::uint32_t rank, std::uint64_t value) {
    entries_[rank] = value;
    changed_at_[rank] = ++changes_;
  }

  RankId self_;
  std::uint64_t changes_ = 0;              // counts changes of any entry
  std::vector<std::uint64_t> entries_;     // one a rank
  std::vector<std::uint64_t> changed_at_;  // changes_ when the entry last changed
  std::vector<std::uint64_t> sent_up_to_;  // changes_ at the last message to each peer
};

// How two stamps of equal length relate.
ClockOrder compare(std::span<const std::uint64_t> left, std::span<const std::uint64_t> right);

}  // namespace regroup
