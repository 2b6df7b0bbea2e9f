// One direction of the traffic between two ranks, made FIFO: the sender numbers frames, and the
// receiver hands them on in the order in which they were sent, each once, whatever order they
// arrive in; frames that are early wait in a bounded store. The receiver also puts the frames of a
// large message together again. What each end says of the link to the other now and then shows the
// loss of frames to both, so that it is noticed even where nothing arrives any more. Not
// thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>

#include "runtime/protocol/buffer.hpp"
#include "runtime/protocol/frame.hpp"
#include "runtime/protocol/ids.hpp"

namespace regroup {

// The sending end.
class LinkSender {
 public:
  // The number of a frame that is sent now.
  std::uint64_t next() { return ++sent_; }
  // The number of the last one; 0: none yet.
  std::uint64_t sent() const { return sent_; }

  // The receiver says that it has taken in the frames up to this one. Returns since when it has
  // said no more, although later frames had been sent by then: 0 where that is not so.
  Nanoseconds acknowledge(std::uint64_t heard, Nanoseconds now) {
    if (heard >= awaited_) {
      awaited_ = sent_ > heard ? sent_ : 0;
      awaited_since_ = now;
    }
    return awaited_ == 0 ? 0 : now - awaited_since_;
  }

  // Anything has arrived from the receiver, in the epoch of this link or a later one.
  void hear() { silent_ = 0; }
  // To be asked at regular intervals: for how many of them, in a row, nothing has.
  std::uint32_t count_silence() { return sent_ == 0 ? 0 : ++silent_; }

 private:
  std::uint64_t sent_ = 0;
  std::uint64_t awaited_ = 0;  // the last one sent when the receiver was heard; 0: it had them all
  Nanoseconds awaited_since_ = 0;
  std::uint32_t silent_ = 0;
};

// The receiving end.
class LinkReceiver {
 public:
  static constexpr std::size_t kEarlyFramesMax = 4096;

  enum class Verdict : std::uint8_t { kDeliver, kEarly, kDuplicate, kOverflow };
  enum class Assembly : std::uint8_t { kPartial, kWhole, kSpoiled };

  explicit LinkReceiver(std::size_t message_bytes_max = kMessageBytesMax)
      : message_bytes_max_(message_bytes_max) {}

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

  // Adds a part of a message of `kind`. kWhole: that was the last, take_message() gives the
  // message. kSpoiled: that was the last, but the message is dropped whole: it was spoiled, is
  // larger than the bound, or its parts are of several kinds. The message after it is a new one.
  Assembly assemble(MessageKind kind, std::span<const std::byte> part, bool more_follows);
  // A part of the message that is being received, or begins now, cannot be used.
  void spoil();
  // Whether the next part belongs to a message begun before.
  bool assembling() const { return spoiled_ || !parts_.empty(); }
  Buffer take_message() { return std::move(parts_); }

  // The last frame that was taken in with all before it; 0: none yet.
  std::uint64_t heard() const { return expected_ - 1; }

  // The sender says that it has sent the frames up to this one.
  void claim(std::uint64_t sequence) { claimed_ = std::max(claimed_, sequence); }

  // A frame is missing: later ones wait for it, or its sender says that there is one.
  bool stalled() const { return !early_.empty() || expected_ <= claimed_; }

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
  std::uint64_t claimed_ = 0;
  std::map<std::uint64_t, Buffer> early_;
  std::size_t message_bytes_max_;
  Buffer parts_;
  MessageKind kind_{};  // of the message being put together
  bool spoiled_ = false;
  std::uint64_t stalled_at_ = 0;
  std::uint32_t stalls_ = 0;
};

}  // namespace regroup
