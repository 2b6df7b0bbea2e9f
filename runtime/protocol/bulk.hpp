// Bulk transfers: messages with a large part that goes from memory to memory beside the frames. The
// sender offers (kBulkOffer), the receiver says under which tag it waits for the bytes
// (kBulkReady), and once they have left the sender says what they were (kBulkEnd): a transfer whose
// bytes do not hash to that is dropped whole. The three messages go over the links, so a transfer
// belongs to one epoch, is under way once at most, and a loss of what is said of it is found as
// that of any frame. BulkDesk is one rank's part in it: a pure state machine that the Node owns and
// resets with each view; whoever drives the Node moves the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "runtime/protocol/buffer.hpp"
#include "runtime/protocol/frame.hpp"
#include "runtime/protocol/ids.hpp"
#include "runtime/protocol/rank_set.hpp"

namespace regroup {

// What a receiver calls a transfer: counted from 1 over its whole life, in every view, so that what
// is late from an earlier epoch is never taken for part of another transfer.
using BulkTag = Id<struct BulkTagTag, std::uint64_t>;

// The bytes are hashed, and may travel, in chunks of this size; the last one is what is left.
inline constexpr std::size_t kBulkChunkBytes = std::size_t{1} << 18;

// Of a transfer's bytes: XXH3 with 128 bits of each chunk, chained.
struct BulkHash {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  friend bool operator==(const BulkHash&, const BulkHash&) = default;
};

class BulkHasher {
 public:
  // The next chunk, in order.
  void add_chunk(std::span<const std::byte> chunk);
  BulkHash hash() const { return hash_; }

 private:
  BulkHash hash_;
};

BulkHash hash_of_bulk(std::span<const std::byte> bytes);

// ---- what a Node asks of who drives it ----

// Bytes that are to leave, to a receiver that waits for them.
struct BulkSend {
  RankId to;
  BulkTag tag;
  Epoch epoch;
  std::shared_ptr<const Buffer> bytes;
};
// Bytes that are to be awaited. Their memory is the driver's to find (BufferPool::take_large).
struct BulkReceive {
  RankId from;
  BulkTag tag;
  Epoch epoch;
  std::size_t size = 0;
};

// ---- what comes of it ----

// Some more of a transfer has left, or arrived. One that says nothing for long is stuck.
struct BulkMoved {
  enum class Way : std::uint8_t { kOut, kIn };
  Way way{};
  RankId peer;
  BulkTag tag;
};
// All has left.
struct BulkSent {
  RankId to;
  BulkTag tag;
  BulkHash hash;
};
struct BulkArrived {
  RankId from;
  BulkTag tag;
  BulkHash hash;
  Buffer* bytes = nullptr;  // may be moved from; borrowed for the step
};
using BulkNews = std::variant<BulkMoved, BulkSent, BulkArrived>;

class BulkDesk {
 public:
  static constexpr std::size_t kBytesMax = std::size_t{1} << 30;
  static constexpr std::size_t kHeaderBytesMax = std::size_t{64} << 10;
  // Transfers to all peers that have not left.
  static constexpr std::size_t kQueueMax = 64;
  // Under way to this rank at a time: so many from each peer, in all, and so many bytes. Offers
  // beyond that wait for their turn. With two, one can move while the other begins or ends.
  static constexpr std::size_t kReceivesFromPeerMax = 2;
  static constexpr std::size_t kReceivesMax = 4;
  static constexpr std::size_t kReceiveBytesMax = kBytesMax;

  // To be said over the link to a peer.
  struct Saying {
    RankId to;
    MessageKind kind{};
    Buffer payload;
  };
  struct Wanted {
    RankId from;
    BulkTag tag;
    std::size_t size = 0;
  };
  struct Outgoing {
    RankId to;
    BulkTag tag;
    std::shared_ptr<const Buffer> bytes;
  };
  struct Delivery {
    RankId from;
    MessageKind kind{};
    Buffer header;
    Buffer bytes;
    BulkHash hash = {};  // of the bytes
  };
  struct Output {
    std::vector<Saying> sayings;
    std::vector<Outgoing> sends;
    std::vector<Wanted> receives;
    std::vector<Delivery> deliveries;
    std::vector<Delivery> damaged;  // dropped: without bytes
  };

  // Queues a transfer. False, and nothing has happened, if there is no room.
  bool post(RankId to, MessageKind kind, std::span<const std::byte> header,
            std::shared_ptr<const Buffer> bytes, Output& output);
  // One of the three messages. False if it makes no sense.
  bool hear(RankId from, MessageKind kind, std::span<const std::byte> payload, Output& output);
  // Of transfers that are not of this view these say nothing.
  void moved(const BulkMoved& news);
  void sent(const BulkSent& news, Output& output);
  void arrived(const BulkArrived& news, Output& output);

  // Transfers that were dropped since their bytes were not those that had been sent.
  std::uint64_t damaged() const { return damaged_; }
  // To be asked at regular intervals: the peers with whom a transfer has not moved for so many of
  // them in a row.
  RankSet count_stalls(std::uint32_t looks);
  // Drops all transfers. What has arrived of them goes back to the pool.
  void reset(BufferPool& pool);

 private:
  struct Transfer {
    MessageKind kind{};
    Buffer header;
    std::size_t bytes = 0;
  };
  struct Posted {
    MessageKind kind{};
    Buffer header;
    std::shared_ptr<const Buffer> bytes;
    std::optional<BulkTag> tag = {};  // under way
    std::uint32_t looks = 0;          // since it moved
  };
  // To one peer. Those in front are under way; the one after them is offered, so that its receiver
  // can begin with it as soon as it likes.
  struct Sending {
    std::deque<Posted> queue;
    std::size_t offered = 0;  // those in front
    std::size_t under_way = 0;

    std::deque<Posted>::iterator find(BulkTag tag);
  };
  // From a peer, under way.
  struct Receiving {
    RankId from;
    Transfer transfer;
    std::optional<BulkHash> told;
    std::optional<BulkHash> found;
    Buffer bytes;  // once they are there
    std::uint32_t looks = 0;
  };

  void offer_next(RankId to, Output& output);
  bool hear_offer(RankId from, std::span<const std::byte> payload, Output& output);
  bool hear_ready(RankId from, std::span<const std::byte> payload, Output& output);
  bool hear_end(RankId from, std::span<const std::byte> payload, Output& output);
  void begin_waiting(Output& output);
  void begin(RankId from, Transfer transfer, Output& output);
  void complete(BulkTag tag, Output& output);
  std::size_t receives_from(RankId peer) const;

  std::map<RankId, Sending> sending_;
  std::size_t queued_ = 0;  // in all queues
  std::map<BulkTag, Receiving> receiving_;
  std::size_t receiving_bytes_ = 0;
  std::deque<std::pair<RankId, Transfer>> waiting_;  // offers, oldest first, one of each peer
  BulkTag last_tag_;
  std::uint64_t damaged_ = 0;
};

}  // namespace regroup
