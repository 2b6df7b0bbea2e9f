#include "scheduler/partition_copies.hpp"

#include <algorithm>

#include "runtime/protocol/bulk.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup {

std::uint64_t hash_of_copy(std::span<const std::byte> bytes) {
  return hash_of_bulk(bytes).low;
}

bool hash_is(std::uint64_t said, const Buffer& copy, const BulkCopy* bulk) {
  if (bulk == nullptr) return hash_of_copy(copy.view()) == said;
  return !copy.empty() && (said == 0 || said == bulk->hash);
}

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

std::shared_ptr<Buffer> PartitionCopies::spare() {
  const auto unused = std::ranges::find_if(
      spares_, [&](const auto& spare) { return lent_ == 0 && spare.use_count() == 1; });
  if (unused == spares_.end()) return std::make_shared<Buffer>();
  std::shared_ptr<Buffer> bytes = std::move(*unused);
  spares_.erase(unused);
  bytes->clear();
  return bytes;
}

void PartitionCopies::give_back(std::shared_ptr<Buffer> bytes) {
  if (bytes == nullptr || bytes->capacity() == 0) return;
  if (spares_.size() == kSparesMax) spares_.erase(spares_.begin());
  spares_.push_back(std::move(bytes));
}

}  // namespace regroup
