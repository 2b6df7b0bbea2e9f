// What a rank keeps in memory of partitions besides the partitions themselves: a snapshot of each
// of its own, and copies for ranks whose partner it is. One copy a partition is kept, the one that
// knows the most map shards, and it is replaced only by another whole one: what arrives is never
// written over what is there. What it keeps for others is bounded. Memory that is given up is used
// for the next copy. Pure, not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "runtime/protocol/buffer.hpp"
#include "runtime/protocol/ids.hpp"
#include "scheduler/shard_bits.hpp"
#include "scheduler/spare_buffers.hpp"

namespace regroup {

// A partition of a map stage.
using PartitionId = std::pair<StageId, std::uint32_t>;

// A partition as it was at some moment: the map shards that it had taken in (ShardBits::save), then
// what the job says that it holds.
struct PartitionCopy {
  std::shared_ptr<Buffer> bytes;  // not to be written while anybody else has it
  std::uint64_t held = 0;         // how many map shards
  std::uint64_t hash = 0;         // of the bytes; of own snapshots 0: nobody has computed it
  RankId of;                      // who owned the partition and took it
};

// That a rank has a copy, as it tells the coordinator.
struct CopyOffer {
  PartitionId partition;
  std::uint64_t held = 0;
  friend bool operator==(const CopyOffer&, const CopyOffer&) = default;
};

// What becomes of a copy that is sent to a partner. The numbers are part of the wire format.
enum class CopyVerdict : std::uint8_t {
  kKept,
  kNoRoom,   // the partner keeps as much for others as it may
  kDamaged,  // it is not what its hash says, or no copy at all
  kNotNow,   // the partner has not opened the job, or has left the stage behind
};

// Where a partition came back from that was lost with its owner, nearest first.
enum class RegainedFrom : std::uint8_t {
  kSnapshot,  // that the rank itself had taken, before it was given up and came back
  kPartner,   // a copy that was kept for the owner: here, or on another rank
  kFile,      // the newest checkpoint
};
inline constexpr std::size_t kRegainedFrom = 3;

// The map shards that a copy says it knows, and where its content begins; nothing if it is no copy
// of a partition of a stage of so many map shards.
struct CopyHead {
  ShardBits held;
  std::size_t content_begin = 0;
};
std::optional<CopyHead> read_copy_head(std::span<const std::byte> bytes, std::uint64_t shards);

class PartitionCopies {
 public:
  // Buffers that wait for the next copy.
  static constexpr std::size_t kSparesMax = 2;

  // `self`: whose copies these are. Copies of other ranks' partitions take up to so many bytes.
  void begin(RankId self, std::uint64_t bytes_for_others_max);

  // True if it is the rank's own, or there is room; those copies are dropped for it whose owners
  // `is_let_go` names, since they have another partner by now. A copy that knows less than the one
  // that is there counts as kept.
  bool keep(PartitionId partition, PartitionCopy copy,
            const std::function<bool(RankId of)>& is_let_go);
  // Null if there is none; valid until the next change.
  const PartitionCopy* find(PartitionId partition) const;
  void drop(PartitionId partition);
  // Of map stages that are over.
  void drop_before(StageId stage);
  void clear();

  std::vector<CopyOffer> offers() const;
  std::uint64_t bytes_for_others() const { return bytes_for_others_; }

  SpareBuffers& spares() { return spares_; }
  void give_back(std::shared_ptr<Buffer> bytes);

 private:
  using Copies = std::map<PartitionId, PartitionCopy>;

  bool fits(PartitionId partition, std::size_t bytes) const;
  void erase(Copies::iterator copy);

  RankId self_;
  std::uint64_t bytes_max_ = 0;
  Copies copies_;
  std::uint64_t bytes_for_others_ = 0;
  SpareBuffers spares_;
};

}  // namespace regroup
