// The unit that crosses the network: a fixed header, a payload and an optional vector-clock
// trailer. Versioned, bounded and checksummed: a frame that is truncated, oversized, of another
// version or has a flipped bit is refused with the reason, never trusted. A message larger than a
// frame travels as several frames of one link, all but the last marked as having more to follow.
// Layout: docs/wire-format.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

#include "runtime/protocol/buffer.hpp"
#include "runtime/protocol/ids.hpp"

namespace regroup {

inline constexpr std::uint32_t kFrameMagic = 0x50524752;  // "RGRP"
inline constexpr std::uint8_t kFrameVersion = 1;
inline constexpr std::size_t kFrameHeaderBytes = 48;
inline constexpr std::size_t kFrameBytesMax = 64 * 1024;
// A whole message, over all its frames.
inline constexpr std::size_t kMessageBytesMax = std::size_t{1} << 30;

// What a message is about. The numbers are part of the wire format.
enum class MessageKind : std::uint8_t {
  // control: outside the links and their epochs, may be lost, doubled and reordered
  kRevoke = 1,
  kPrepare = 2,
  kPromise = 3,
  kAccept = 4,
  kAccepted = 5,
  kRefuse = 6,
  kDecide = 7,
  kAsk = 8,
  kJoin = 9,
  kLinkStatus = 10,
  // scheduler: coordinator to workers
  kOpen = 32,
  kLease = 33,
  kRecall = 34,
  kFinish = 35,
  kAcknowledge = 36,
  kLedger = 37,
  kRegistryAnswer = 38,
  kOwners = 39,
  kSnapshot = 54,
  kCells = 67,
  kSnapshotAt = 68,
  kTotals = 69,
  // scheduler: workers to coordinator
  kReady = 40,
  kResults = 41,
  kFailures = 42,
  kReturned = 43,
  kGoodbye = 44,
  kAnnounce = 45,
  kLedgerHeld = 46,
  kRegistryRequest = 47,
  kWish = 52,
  kHoldings = 53,
  kSnapshotTaken = 55,
  kCopiesMade = 59,
  kCellNews = 70,
  kPartials = 71,
  // scheduler: a coordinator that takes over, to who has the longest ledger, and back
  kLedgerWanted = 56,
  kLedgerCopy = 57,
  // scheduler: worker to worker
  kStealRequest = 48,
  kStealReply = 49,
  kPartitions = 50,
  kPartitionsTaken = 51,
  kCopy = 60,
  kCopyKept = 61,
  kCopyWanted = 62,
  kCopyBack = 63,
  kHalos = 72,
  kCellCopy = 73,
  kCellCopyKept = 74,
  kCellCopyWanted = 75,
  // node: bulk transfers between any two ranks
  kBulkOffer = 64,
  kBulkReady = 65,
  kBulkEnd = 66,
};

// Lower-case words, for people and files: "link-status"; "?" for none of them.
std::string_view name_of(MessageKind kind);

// Kinds below this one are control messages.
inline constexpr auto kFirstJobKind = MessageKind{32};
constexpr bool is_control(MessageKind kind) {
  return kind < kFirstJobKind;
}
// What the nodes say to each other of bulk transfers (bulk.hpp); no service sees them.
constexpr bool is_bulk(MessageKind kind) {
  return kind >= MessageKind::kBulkOffer && kind <= MessageKind::kBulkEnd;
}

enum FrameFlags : std::uint8_t {
  kFlagMoreFollows = 1,
  kFlagVectorClock = 2,
};

struct FrameHeader {
  MessageKind kind{};
  std::uint8_t flags = 0;
  RankId from;
  Epoch epoch;
  std::uint64_t sequence = 0;  // of this frame on its link, from 1; 0: a control message
  std::uint64_t lamport = 0;
};

struct Frame {
  FrameHeader header;
  std::span<const std::byte> body;  // payload and trailer, a view into the bytes decoded
};

enum class FrameError : std::uint8_t { kTruncated, kOversized, kForeign, kVersion, kChecksum };
inline constexpr std::size_t kFrameErrors = 5;
const char* describe(FrameError error);

// Fills in the header of a frame whose payload was written after kFrameHeaderBytes reserved bytes.
void seal_frame(Buffer& frame, const FrameHeader& header);
std::expected<Frame, FrameError> open_frame(std::span<const std::byte> bytes);
// Of frames that lie back to back: the bytes of the first, as its header has it. All of them when
// that makes no sense, so that open_frame refuses what cannot be parted. `bytes` must not be empty.
std::size_t leading_frame_bytes(std::span<const std::byte> bytes);

}  // namespace regroup
