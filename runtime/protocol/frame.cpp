#include "runtime/protocol/frame.hpp"

#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

// The header as it lies in memory; the checksum covers all that follows it.
struct RawHeader {
  std::uint64_t checksum;
  std::uint32_t magic;
  std::uint8_t version;
  std::uint8_t kind;
  std::uint8_t flags;
  std::uint8_t reserved;
  std::uint32_t length;
  std::uint32_t from;
  std::uint64_t epoch;
  std::uint64_t sequence;
  std::uint64_t lamport;
};
static_assert(sizeof(RawHeader) == kFrameHeaderBytes);

std::uint64_t checksum(std::span<const std::byte> frame) {
  const auto covered = frame.subspan(sizeof(RawHeader::checksum));
  return XXH3_64bits(covered.data(), covered.size());
}

}  // namespace

const char* describe(FrameError error) {
  switch (error) {
    case FrameError::kTruncated:
      return "truncated";
    case FrameError::kOversized:
      return "oversized";
    case FrameError::kForeign:
      return "not a frame of Regroup";
    case FrameError::kVersion:
      return "of another version";
    case FrameError::kChecksum:
      return "damaged";
  }
  return "unknown";
}

void seal_frame(Buffer& frame, const FrameHeader& header) {
  REGROUP_CHECK(frame.size() >= kFrameHeaderBytes && frame.size() <= kFrameBytesMax,
                "a frame outside its bounds");
  // RawHeader by words, as the checksum reads it back at once: a processor forwards what it has
  // just stored only to loads that are no wider.
  const std::uint64_t words[] = {
      kFrameMagic | std::uint64_t{kFrameVersion} << 32 |
          static_cast<std::uint64_t>(header.kind) << 40 | std::uint64_t{header.flags} << 48,
      frame.size() | std::uint64_t{header.from.value} << 32,
      header.epoch.value,
      header.sequence,
      header.lamport,
  };
  std::byte* to = frame.data() + sizeof(RawHeader::checksum);
  for (const std::uint64_t word : words) {
    std::memcpy(to, &word, sizeof word);
    to += sizeof word;
  }
  const std::uint64_t sum = checksum(frame.view());
  std::memcpy(frame.data(), &sum, sizeof sum);
}

std::size_t leading_frame_bytes(std::span<const std::byte> bytes) {
  if (bytes.size() < kFrameHeaderBytes) return bytes.size();
  std::uint32_t length = 0;
  std::memcpy(&length, bytes.data() + offsetof(RawHeader, length), sizeof length);
  return length < kFrameHeaderBytes || length > bytes.size() ? bytes.size() : length;
}

std::expected<Frame, FrameError> open_frame(std::span<const std::byte> bytes) {
  if (bytes.size() < kFrameHeaderBytes) return std::unexpected(FrameError::kTruncated);
  if (bytes.size() > kFrameBytesMax) return std::unexpected(FrameError::kOversized);
  RawHeader raw;
  std::memcpy(&raw, bytes.data(), sizeof raw);
  if (raw.magic != kFrameMagic) return std::unexpected(FrameError::kForeign);
  if (raw.version != kFrameVersion) return std::unexpected(FrameError::kVersion);
  if (raw.length > bytes.size()) return std::unexpected(FrameError::kTruncated);
  if (raw.length < bytes.size()) return std::unexpected(FrameError::kOversized);
  if (raw.checksum != checksum(bytes)) return std::unexpected(FrameError::kChecksum);
  return Frame{.header = {.kind = static_cast<MessageKind>(raw.kind),
                          .flags = raw.flags,
                          .from = RankId{raw.from},
                          .epoch = Epoch{raw.epoch},
                          .sequence = raw.sequence,
                          .lamport = raw.lamport},
               .body = bytes.subspan(kFrameHeaderBytes)};
}

std::string_view name_of(MessageKind kind) {
  switch (kind) {
    case MessageKind::kRevoke:
      return "revoke";
    case MessageKind::kPrepare:
      return "prepare";
    case MessageKind::kPromise:
      return "promise";
    case MessageKind::kAccept:
      return "accept";
    case MessageKind::kAccepted:
      return "accepted";
    case MessageKind::kRefuse:
      return "refuse";
    case MessageKind::kDecide:
      return "decide";
    case MessageKind::kAsk:
      return "ask";
    case MessageKind::kJoin:
      return "join";
    case MessageKind::kLinkStatus:
      return "link-status";
    case MessageKind::kOpen:
      return "open";
    case MessageKind::kLease:
      return "lease";
    case MessageKind::kRecall:
      return "recall";
    case MessageKind::kFinish:
      return "finish";
    case MessageKind::kAcknowledge:
      return "acknowledge";
    case MessageKind::kLedger:
      return "ledger";
    case MessageKind::kRegistryAnswer:
      return "registry-answer";
    case MessageKind::kOwners:
      return "owners";
    case MessageKind::kSnapshot:
      return "snapshot";
    case MessageKind::kCells:
      return "cells";
    case MessageKind::kSnapshotAt:
      return "snapshot-at";
    case MessageKind::kTotals:
      return "totals";
    case MessageKind::kReady:
      return "ready";
    case MessageKind::kResults:
      return "results";
    case MessageKind::kFailures:
      return "failures";
    case MessageKind::kReturned:
      return "returned";
    case MessageKind::kGoodbye:
      return "goodbye";
    case MessageKind::kAnnounce:
      return "announce";
    case MessageKind::kLedgerHeld:
      return "ledger-held";
    case MessageKind::kRegistryRequest:
      return "registry-request";
    case MessageKind::kWish:
      return "wish";
    case MessageKind::kHoldings:
      return "holdings";
    case MessageKind::kSnapshotTaken:
      return "snapshot-taken";
    case MessageKind::kCopiesMade:
      return "copies-made";
    case MessageKind::kCellNews:
      return "cell-news";
    case MessageKind::kPartials:
      return "partials";
    case MessageKind::kLedgerWanted:
      return "ledger-wanted";
    case MessageKind::kLedgerCopy:
      return "ledger-copy";
    case MessageKind::kStealRequest:
      return "steal-request";
    case MessageKind::kStealReply:
      return "steal-reply";
    case MessageKind::kPartitions:
      return "partitions";
    case MessageKind::kPartitionsTaken:
      return "partitions-taken";
    case MessageKind::kCopy:
      return "copy";
    case MessageKind::kCopyKept:
      return "copy-kept";
    case MessageKind::kCopyWanted:
      return "copy-wanted";
    case MessageKind::kCopyBack:
      return "copy-back";
    case MessageKind::kHalos:
      return "halos";
    case MessageKind::kCellCopy:
      return "cell-copy";
    case MessageKind::kCellCopyKept:
      return "cell-copy-kept";
    case MessageKind::kCellCopyWanted:
      return "cell-copy-wanted";
    case MessageKind::kBulkOffer:
      return "bulk-offer";
    case MessageKind::kBulkReady:
      return "bulk-ready";
    case MessageKind::kBulkEnd:
      return "bulk-end";
  }
  return "?";
}

}  // namespace regroup
