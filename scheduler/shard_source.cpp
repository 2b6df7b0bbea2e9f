#include "scheduler/shard_source.hpp"

#include <algorithm>
#include <limits>
#include <unordered_map>
#include <vector>

#include "runtime/protocol/check.hpp"
#include "scheduler/hash_ring.hpp"
#include "scheduler/range_set.hpp"

namespace regroup {
namespace {

// Keys on the ring for one stage; more shards than this share keys as runs of neighbours.
constexpr std::uint64_t kRingKeysMax = 65'536;

// The part of `shards` that comes first, cut off it.
ShardRange cut_front(ShardRange& shards, std::uint64_t count_max) {
  const ShardRange front{shards.first, std::min(shards.count, count_max)};
  shards = {front.end(), shards.count - front.count};
  return front;
}

// Index by rank number, whatever the numbers are.
class WorkerIndex {
 public:
  explicit WorkerIndex(std::span<const RankId> workers) {
    for (const RankId rank : workers) index_.emplace(rank, index_.size());
  }
  std::size_t size() const { return index_.size(); }
  // size() when the rank is no worker.
  std::size_t of(RankId rank) const {
    const auto found = index_.find(rank);
    return found == index_.end() ? index_.size() : found->second;
  }

 private:
  std::unordered_map<RankId, std::size_t> index_;
};

// Shards that were given back; any rank may have them, before new ones.
class Returned {
 public:
  // How many of them were not there yet.
  std::uint64_t add(ShardRange shards) { return ranges_.insert(shards); }
  ShardRange take(std::uint64_t count_max) { return ranges_.pop_front(count_max); }
  std::uint64_t count() const { return ranges_.count(); }

 private:
  // The stage has no more ranges than shards, so that no peer's message can outgrow the set.
  RangeSet ranges_{std::numeric_limits<std::size_t>::max()};
};

class DynamicSource : public ShardSource {
 public:
  explicit DynamicSource(std::uint64_t shards) : fresh_{ShardId{0}, shards} {}

  ShardRange take(RankId, std::uint64_t count_max) override {
    const ShardRange again = returned_.take(count_max);
    return again.count != 0 ? again : cut_front(fresh_, count_max);
  }
  void give_back(ShardRange shards) override { returned_.add(shards); }
  std::uint64_t left() const override { return fresh_.count + returned_.count(); }
  std::uint64_t left_for(RankId) const override { return left(); }

 private:
  ShardRange fresh_;
  Returned returned_;
};

// One block of neighbours a rank, of equal size to within one.
class BlockSource : public ShardSource {
 public:
  BlockSource(std::uint64_t shards, std::span<const RankId> workers, bool peers_steal)
      : index_(workers), blocks_(workers.size()), left_(shards), peers_steal_(peers_steal) {
    const std::uint64_t each = shards / workers.size();
    const std::uint64_t longer = shards % workers.size();
    ShardId next{0};
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      blocks_[i] = {next, each + (i < longer ? 1 : 0)};
      next = blocks_[i].end();
    }
  }

  ShardRange take(RankId rank, std::uint64_t count_max) override {
    ShardRange taken = returned_.take(count_max);
    const std::size_t worker = index_.of(rank);
    if (taken.count == 0 && worker < blocks_.size()) taken = cut_front(blocks_[worker], count_max);
    left_ -= taken.count;
    return taken;
  }
  void give_back(ShardRange shards) override { left_ += returned_.add(shards); }
  std::uint64_t left() const override { return left_; }
  std::uint64_t left_for(RankId rank) const override {
    const std::size_t worker = index_.of(rank);
    return returned_.count() + (worker < blocks_.size() ? blocks_[worker].count : 0);
  }
  bool whole_share_at_once() const override { return true; }
  bool peers_steal() const override { return peers_steal_; }
  bool recalls() const override { return false; }

 private:
  WorkerIndex index_;
  std::vector<ShardRange> blocks_;
  Returned returned_;
  std::uint64_t left_;
  bool peers_steal_;
};

// Home first; with nothing left at home, from the rank that has most left, from its end.
class AffinitySource : public ShardSource {
 public:
  AffinitySource(std::uint64_t shards, std::span<const RankId> workers)
      : index_(workers), homes_(workers.size()), left_(shards) {
    const std::uint64_t each =
        std::max<std::uint64_t>(1, (shards + kRingKeysMax - 1) / kRingKeysMax);
    const std::uint64_t keys = (shards + each - 1) / each;
    const auto placed = HashRing(workers).place(keys);
    for (std::uint64_t key = 0; key < keys; ++key) {
      const ShardRange group{ShardId{key * each}, std::min(each, shards - key * each)};
      Home& home = homes_[index_.of(placed[key])];
      home.groups.push_back(group);
      home.left += group.count;
    }
  }

  ShardRange take(RankId rank, std::uint64_t count_max) override {
    ShardRange taken = returned_.take(count_max);
    if (taken.count == 0) taken = take_from_homes(index_.of(rank), count_max);
    left_ -= taken.count;
    return taken;
  }
  void give_back(ShardRange shards) override { left_ += returned_.add(shards); }
  std::uint64_t left() const override { return left_; }
  std::uint64_t left_for(RankId) const override { return left_; }

 private:
  struct Home {
    std::vector<ShardRange> groups;
    std::size_t next = 0;  // groups before it are gone
    std::uint64_t left = 0;
  };

  ShardRange take_from_homes(std::size_t worker, std::uint64_t count_max) {
    if (worker < homes_.size() && homes_[worker].left != 0) {
      Home& home = homes_[worker];
      const ShardRange taken = cut_front(home.groups[home.next], count_max);
      if (home.groups[home.next].count == 0) ++home.next;
      home.left -= taken.count;
      return taken;
    }
    Home& richest = *std::ranges::max_element(homes_, {}, &Home::left);
    if (richest.left == 0) return {};
    const ShardRange taken = cut_front(richest.groups.back(), count_max);
    if (richest.groups.back().count == 0) richest.groups.pop_back();
    richest.left -= taken.count;
    return taken;
  }

  WorkerIndex index_;
  std::vector<Home> homes_;
  Returned returned_;
  std::uint64_t left_;
};

// The reduce stage: shard p runs where partition p is, and nowhere else.
class OwnerSource : public ShardSource {
 public:
  OwnerSource(std::span<const RankId> owners, std::span<const RankId> workers)
      : index_(workers), owned_(workers.size()), owners_(owners.begin(), owners.end()) {
    for (std::uint64_t p = owners.size(); p-- > 0;) {
      const std::size_t owner = index_.of(owners[p]);
      if (owner == owned_.size()) continue;
      owned_[owner].push_back(ShardId{p});
      ++left_;
    }
  }

  ShardRange take(RankId rank, std::uint64_t) override {
    const std::size_t worker = index_.of(rank);
    if (worker == owned_.size() || owned_[worker].empty()) return {};
    const ShardId shard = owned_[worker].back();
    owned_[worker].pop_back();
    --left_;
    return {shard, 1};
  }
  void give_back(ShardRange shards) override {
    for (ShardId shard = shards.first; shard < shards.end(); ++shard.value) {
      const std::size_t owner = index_.of(owners_[shard.value]);
      if (owner == owned_.size()) continue;
      auto& owned = owned_[owner];
      if (std::ranges::find(owned, shard) != owned.end()) continue;
      owned.push_back(shard);
      ++left_;
    }
  }
  std::uint64_t left() const override { return left_; }
  std::uint64_t left_for(RankId rank) const override {
    const std::size_t worker = index_.of(rank);
    return worker == owned_.size() ? 0 : owned_[worker].size();
  }
  bool recalls() const override { return false; }

 private:
  WorkerIndex index_;
  std::vector<std::vector<ShardId>> owned_;
  std::vector<RankId> owners_;
  std::uint64_t left_ = 0;
};

}  // namespace

std::vector<RankId> computing_ranks(const View& view, const ScheduleOptions& options) {
  RankSet ranks = view.members;
  if (!options.coordinator_computes && ranks.size() > 1) ranks.erase(view.coordinator);
  return ranks.list();
}

std::vector<RankId> partition_owners(std::span<const RankId> members, std::uint64_t partitions) {
  return HashRing(members).place(partitions);
}

std::unique_ptr<ShardSource> make_shard_source(const StagePlan& plan, Policy policy,
                                               std::span<const RankId> workers,
                                               std::span<const RankId> owners) {
  REGROUP_CHECK(!workers.empty(), "a stage without workers");
  if (plan.kind == StageKind::kReduce) return std::make_unique<OwnerSource>(owners, workers);
  // Cells are not leased: their owners take them on by themselves.
  const std::span<const RankId> nobody;
  if (plan.kind == StageKind::kIterate) return std::make_unique<OwnerSource>(nobody, workers);
  switch (policy) {
    case Policy::kDynamic:
      return std::make_unique<DynamicSource>(plan.shards);
    case Policy::kAffinity:
      return std::make_unique<AffinitySource>(plan.shards, workers);
    case Policy::kStatic:
      return std::make_unique<BlockSource>(plan.shards, workers, false);
    case Policy::kPeer:
      return std::make_unique<BlockSource>(plan.shards, workers, true);
  }
  REGROUP_CHECK(false, "a policy without a source");
}

}  // namespace regroup
