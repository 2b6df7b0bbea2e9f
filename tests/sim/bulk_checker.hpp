// Holds bulk transfers against what was sent: what is handed over was sent, by that rank to that
// rank, in the epoch that both are in (I6), has the bytes that it was sent with, and comes once at
// most (I7). In a run without faults everything comes (I13). What a transfer holds is a pure
// function of its number, so nothing of it is kept.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "runtime/protocol/buffer.hpp"
#include "runtime/protocol/ids.hpp"

namespace regroup::sim {

class BulkChecker {
 public:
  // What a transfer that was sent at peace has to come in, when nothing else is under way.
  static constexpr Nanoseconds kTimeMax = kSecond;

  using Violated = std::function<void(const char* invariant, const std::string& what)>;
  explicit BulkChecker(Violated violated) : violated_(std::move(violated)) {}

  // The world's time.
  void at_time(Nanoseconds now) { now_ = now; }
  // The number of the next transfer, and the bytes that one has.
  std::uint64_t next() const { return sent_.size(); }
  static Buffer bytes_of(std::uint64_t number, std::size_t size);

  // It is queued.
  void sent(RankId from, RankId to, Epoch epoch, std::size_t size);
  void handed_over(RankId from, RankId to, Epoch epoch, std::uint64_t number,
                   std::span<const std::byte> bytes);
  // Of a run in which nothing went wrong with ranks and links.
  void ended_in_peace();

  std::uint64_t delivered() const { return delivered_; }

 private:
  struct Sent {
    RankId from;
    RankId to;
    Epoch epoch;
    std::size_t size = 0;
    Nanoseconds at = 0;
    bool came = false;
  };

  Violated violated_;
  Nanoseconds now_ = 0;
  std::vector<Sent> sent_;  // by number
  std::uint64_t delivered_ = 0;
};

}  // namespace regroup::sim
