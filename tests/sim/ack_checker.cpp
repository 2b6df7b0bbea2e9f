#include "tests/sim/ack_checker.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "runtime/protocol/wire.hpp"

namespace regroup::sim {

// Of the results of bags alone: those of map shards are void when their parts are lost.
void AckChecker::sent(const FrameHeader& header, RankId to, std::span<const std::byte> body) {
  if (is_control(header.kind)) return;
  Epoch& epoch = epochs_[header.from.value];
  if (std::exchange(epoch, header.epoch) != header.epoch) reports_[header.from.value].clear();
  const bool part_of_one =
      std::exchange(in_parts_[{header.from, to}], (header.flags & kFlagMoreFollows) != 0);
  if (part_of_one || (header.flags & kFlagMoreFollows)) return;  // too long to be followed
  Reader reader(body);
  switch (header.kind) {
    case MessageKind::kResults: {
      const auto stage = reader.get<StageId>();
      reader.get<std::uint32_t>();  // round
      const auto number = reader.get<std::uint64_t>();
      reader.get<std::uint64_t>();  // what a shard costs
      auto& shards = reports_[header.from.value][number];
      shards.clear();
      for (auto left = reader.get<std::uint32_t>(); left-- > 0 && !reader.failed();) {
        Shards entry{stage, {}};
        entry.range.first = reader.get<ShardId>();
        entry.range.count = reader.get<std::uint32_t>();
        reader.get<Attempt>();
        reader.get_raw(entry.range.count * std::size_t{reader.get<std::uint32_t>()});
        if (job_->stages()[stage.value].kind == StageKind::kBag) shards.push_back(entry);
      }
      return;
    }
    case MessageKind::kLease:
      reader.get<StageId>();
      reader.get<std::uint8_t>();
      reader.get<std::uint32_t>();
      return acknowledged(to, reader.get<std::uint64_t>(), header.epoch);
    case MessageKind::kAcknowledge:
      return acknowledged(to, reader.get<std::uint64_t>(), header.epoch);
    default:
      return;
  }
}

void AckChecker::acknowledged(RankId worker, std::uint64_t reports, Epoch epoch) {
  auto& held = reports_[worker.value];
  const auto end = held.upper_bound(reports);
  auto& safe = safe_[epoch];
  for (auto it = held.begin(); it != end; ++it) {
    safe.insert(safe.end(), it->second.begin(), it->second.end());
  }
  held.erase(held.begin(), end);
}

void AckChecker::entered(const View& view) {
  if (!views_.emplace(view.epoch, view).second) return;
  for (std::uint32_t rank = 0; rank < there_since_.size(); ++rank) {
    const bool stays = view.members.contains(RankId{rank}) && !view.joined.contains(RankId{rank});
    if (!stays) there_since_[rank] = std::max(there_since_[rank], view.epoch);
  }
}

bool AckChecker::majority_may_be_left(Epoch epoch, const View& now) const {
  const auto found = views_.find(epoch);
  // Of the first view nobody has told, as all ranks begin in it.
  const std::uint32_t ranks = static_cast<std::uint32_t>(there_since_.size());
  const RankId coordinator = found == views_.end() ? RankId{0} : found->second.coordinator;
  std::vector<RankId> replicas{coordinator};
  for (std::uint32_t rank = 0; rank < ranks && replicas.size() <= standbys_; ++rank) {
    const bool member = found == views_.end() || found->second.members.contains(RankId{rank});
    if (member && RankId{rank} != coordinator) replicas.emplace_back(rank);
  }
  const auto left = std::ranges::count_if(replicas, [&](RankId rank) {
    return now.members.contains(rank) && there_since_[rank.value] <= epoch;
  });
  const std::size_t majority = replicas.size() / 2 + 1;
  return static_cast<std::size_t>(left) + majority > replicas.size();
}

std::optional<std::string> AckChecker::elected(const View& view, const RankSink& sink) const {
  for (const auto& [epoch, safe] : safe_) {
    if (!majority_may_be_left(epoch, view)) continue;
    for (const auto& [stage, range] : safe) {
      for (ShardId shard = range.first; shard < range.end(); ++shard.value) {
        if (sink.fate(stage, shard) != Fate::kOpen) continue;
        return fmt::format("shard {} of stage {} was acknowledged in epoch {} and is lost",
                           shard.value, stage.value, epoch.value);
      }
    }
  }
  return {};
}

}  // namespace regroup::sim
