// One direction of the traffic between two ranks, made FIFO: the receiver hands frames on in the
// order in which they were sent, each once, whatever order they arrive in; frames that are early
// wait in a bounded store. It also puts the frames of a large message together again. Not
// thread-safe.
#pragma once

#include <cstdint>
#include <map>

#include "runtime/protocol/buffer.hpp"
#include "runtime/protocol/frame.hpp"

namespace regroup {

// The receiving end.
class LinkReceiver {
 public:
  static constexpr std::size_t kEarlyFramesMax = 4096;

  enum class Verdict : std::uint8_t { kDeliver, kEarly, kDuplicate, kOverflow };

  // Judges a frame by its sequence number. kDeliver: it is the next one; the caller handles it and
  // then calls take_early until that gives nothing. kEarly: a copy is kept. Otherwise the frame is
  // dropped.
  Verdict accept(std::uint64_t sequence, std::span<const std::byte> frame) {
    if (sequence == expected_) {
      ++expected_;
      return Verdict::kDeliver;
    }
    return hold(sequence, frame);
  }

  // The stored frame whose turn it is now, if it is there; its bytes are whole and checked.
  bool take_early(Buffer& frame);

  // Adds a part of a message. True when that was the last: message() is then whole until the next
  // call. False as well when the message would pass kMessageBytesMax: oversized() then says so.
  bool assemble(std::span<const std::byte> part, bool more_follows);
  bool assembling() const { return !parts_.empty(); }
  bool oversized() const { return oversized_; }
  Buffer take_message() {
    complete_ = false;
    return std::move(parts_);
  }

  // A frame is missing: later ones wait for it.
  bool stalled() const { return !early_.empty(); }

  // To be asked at regular intervals: for how many of them, in a row, the same frame was missing.
  std::uint32_t count_stall() {
    const bool same = stalled() && stalled_at_ == expected_;
    stalls_ = same ? stalls_ + 1 : 0;
    stalled_at_ = expected_;
    return stalls_;
  }

 private:
  Verdict hold(std::uint64_t sequence, std::span<const std::byte> frame);

  std::uint64_t expected_ = 1;
  std::map<std::uint64_t, Buffer> early_;
  Buffer parts_;
  bool complete_ = false;
  bool oversized_ = false;
  std::uint64_t stalled_at_ = 0;
  std::uint32_t stalls_ = 0;
};

}  // namespace regroup
