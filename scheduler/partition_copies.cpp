#include "scheduler/partition_copies.hpp"

#include <limits>
#include <utility>

#include "runtime/protocol/wire.hpp"

namespace regroup {

std::optional<CopyHead> read_copy_head(std::span<const std::byte> bytes, std::uint64_t shards) {
  Reader reader(bytes);
  auto held = ShardBits::load(reader, shards);
  if (!held) return std::nullopt;
  return CopyHead{std::move(*held), bytes.size() - reader.rest().size()};
}

void PartitionCopies::begin(RankId self, std::uint64_t bytes_for_others_max) {
  self_ = self;
  bytes_max_ = bytes_for_others_max;
}

bool PartitionCopies::keep(PartitionId partition, PartitionCopy copy,
                           const std::function<bool(RankId of)>& is_let_go) {
  const auto there = copies_.find(partition);
  if (there != copies_.end() && there->second.held > copy.held) {
    give_back(std::move(copy.bytes));
    return true;
  }
  const bool own = copy.of == self_;
  if (own && there != copies_.end() && there->second.bytes == copy.bytes) {
    if (there->second.of != self_) bytes_for_others_ -= copy.bytes->size();
    there->second.of = self_;
    return true;
  }
  const std::size_t bytes = copy.bytes->size();
  for (auto it = copies_.begin(); !own && !fits(partition, bytes) && it != copies_.end();) {
    const auto one = it++;
    const RankId of = one->second.of;
    if (one->first != partition && of != self_ && is_let_go(of)) erase(one);
  }
  if (!own && !fits(partition, bytes)) {
    give_back(std::move(copy.bytes));
    return false;
  }
  drop(partition);
  if (!own) bytes_for_others_ += bytes;
  copies_.emplace(partition, std::move(copy));
  return true;
}

// In the place of the one that is there.
bool PartitionCopies::fits(PartitionId partition, std::size_t bytes) const {
  const PartitionCopy* const there = find(partition);
  const bool replaces = there != nullptr && there->of != self_;
  return bytes_for_others_ - (replaces ? there->bytes->size() : 0) + bytes <= bytes_max_;
}

const PartitionCopy* PartitionCopies::find(PartitionId partition) const {
  const auto found = copies_.find(partition);
  return found == copies_.end() ? nullptr : &found->second;
}

void PartitionCopies::drop(PartitionId partition) {
  if (const auto found = copies_.find(partition); found != copies_.end()) erase(found);
}

void PartitionCopies::drop_before(StageId stage) {
  while (!copies_.empty() && copies_.begin()->first.first < stage) erase(copies_.begin());
}

void PartitionCopies::clear() {
  copies_.clear();
  spares_.clear();
  bytes_for_others_ = 0;
}

void PartitionCopies::erase(Copies::iterator copy) {
  if (copy->second.of != self_) bytes_for_others_ -= copy->second.bytes->size();
  give_back(std::move(copy->second.bytes));
  copies_.erase(copy);
}

std::vector<CopyOffer> PartitionCopies::offers() const {
  std::vector<CopyOffer> offers;
  offers.reserve(copies_.size());
  for (const auto& [partition, copy] : copies_) offers.push_back({partition, copy.held});
  return offers;
}

void PartitionCopies::give_back(std::shared_ptr<Buffer> bytes) {
  spares_.give(std::move(bytes), kSparesMax, std::numeric_limits<std::uint64_t>::max());
}

}  // namespace regroup
