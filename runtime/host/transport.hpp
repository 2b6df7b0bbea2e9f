// How frames get from rank to rank. A transport is reliable while both ends live, keeps no order
// that anyone may rely on, and never blocks: send hands a frame over, poll takes in what has
// arrived. Bulk transfers (bulk.hpp) go beside the frames: first the receiver waits for one, then
// the sender begins. One thread at a time; the host loop's lock sees to that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "runtime/protocol/buffer.hpp"
#include "runtime/protocol/bulk.hpp"
#include "runtime/protocol/evidence.hpp"
#include "runtime/protocol/ids.hpp"
#include "runtime/protocol/rank_set.hpp"
#include "runtime/protocol/view.hpp"

namespace regroup {

// Whether bulk transfers between ranks of a node are read from the sender's memory where the system
// lets them, or all go through MPI.
enum class BulkReading : std::uint8_t { kWherePossible, kNever };

class Transport {
 public:
  // The bytes are gone when the handler returns.
  using FrameHandler = std::function<void(RankId from, std::span<const std::byte> frame)>;

  virtual ~Transport() = default;

  virtual RankId self() const = 0;
  virtual std::uint32_t ranks() const = 0;
  // Takes the frame over; its memory goes back to the pool once it has left. A small frame may wait
  // for company to the same rank until flush() or poll().
  virtual void send(RankId to, Buffer frame) = 0;
  // Lets the frames that wait go.
  virtual void flush() = 0;
  // Flushes, hands on frames that have arrived until there are no more or `frames_max` is reached
  // (frames that travelled together are not parted), and moves pending sends along. Returns how
  // many.
  virtual std::size_t poll(const FrameHandler& handler, std::size_t frames_max) = 0;
  using BulkHandler = std::function<void(const BulkNews& news)>;
  virtual void send_bulk(BulkSend send) = 0;
  virtual void receive_bulk(const BulkReceive& receive) = 0;
  // Moves bulk transfers along, for a short while, and says what became of them. Whether any moved.
  virtual bool poll_bulk(const BulkHandler& handler) = 0;
  // Whether one is under way, so that another look soon is worth while.
  virtual bool has_bulk() const = 0;
  // With whom.
  virtual RankSet bulk_peers() const = 0;
  // The view comes to its end: nothing more is said of the transfers under way, and they are to end
  // soon.
  virtual void drop_bulk() = 0;
  // The rank is gone: what is under way to it will never leave, and counts no more.
  virtual void abandon(RankId) {}
  // What the transport itself has found out since it was asked last: that a rank is dead, or that
  // nothing gets to it any more, nor will.
  virtual std::optional<PeerEvidence> take_evidence() { return std::nullopt; }
  // The members have entered this view: frames and bulk transfers of another one matter no more, in
  // either direction, and nothing more is said of those.
  virtual void enter(const View&) {}
  // Bytes handed over that have not left yet.
  virtual std::size_t backlog_bytes() const = 0;
};

}  // namespace regroup
