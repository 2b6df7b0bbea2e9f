#include "scheduler/copy_desk.hpp"

#include <algorithm>

#include "runtime/protocol/check.hpp"
#include "scheduler/checkpoint_desk.hpp"
#include "scheduler/shard_source.hpp"

namespace regroup {
namespace {

std::uint32_t host_of(RankId rank, const ScheduleOptions& options) {
  return rank.value < options.hosts.size() ? options.hosts[rank.value] : 0;
}

}  // namespace

RankId partner_of(RankId rank, const View& view, const ScheduleOptions& options) {
  std::vector<RankId> ring = computing_ranks(view, options);
  if (std::ranges::all_of(ring, [&](RankId other) { return other == rank; })) {
    ring = view.members.list();
  }
  std::ranges::rotate(ring, std::ranges::upper_bound(ring, rank));
  std::erase(ring, rank);
  if (ring.empty()) return kNobody;
  const auto elsewhere = std::ranges::find_if(
      ring, [&](RankId other) { return host_of(other, options) != host_of(rank, options); });
  return elsewhere != ring.end() ? *elsewhere : ring.front();
}

void put(Writer& writer, const CopyProgress& made) {
  writer.put(static_cast<std::uint32_t>(made.partitions));
  writer.put(made.bytes);
  writer.put(static_cast<std::uint32_t>(made.refused));
  writer.put(static_cast<std::uint64_t>(made.cost));
  writer.put(static_cast<std::uint64_t>(made.interval));
  writer.put(made.sent);
  writer.put(static_cast<std::uint64_t>(made.sending));
}

CopyProgress get_copy_progress(Reader& reader) {
  CopyProgress made;
  made.partitions = reader.get<std::uint32_t>();
  made.bytes = reader.get<std::uint64_t>();
  made.refused = reader.get<std::uint32_t>();
  made.cost = static_cast<Nanoseconds>(reader.get<std::uint64_t>());
  made.interval = static_cast<Nanoseconds>(reader.get<std::uint64_t>());
  made.sent = reader.get<std::uint64_t>();
  made.sending = static_cast<Nanoseconds>(reader.get<std::uint64_t>());
  return made;
}

bool CopyDesk::due(Nanoseconds now, std::uint64_t failures) {
  if (busy_ || !on() || (!wanted_ && known_ && now - looked_at_ < kLookPeriod)) return false;
  looked_at_ = now;
  if (!known_) {
    known_ = true;
    run_begun_at_ = ended_at_ = now;
  }
  const Nanoseconds between =
      (failure_interval_ + now - run_begun_at_) / (static_cast<Nanoseconds>(failures) + 1);
  interval_ =
      options_.every == CopyOptions::Every::kPeriod
          ? options_.period
          : std::max(checkpoint_interval(cost_ != 0 ? cost_ : kCostGuess, between), kIntervalMin);
  return wanted_ || now - ended_at_ >= interval_;
}

void CopyDesk::begin() {
  REGROUP_CHECK(!busy_, "one round of copies at a time");
  busy_ = true;
  wanted_ = false;
  cost_so_far_ = 0;
}

void CopyDesk::pass(Nanoseconds now) {
  ended_at_ = now;
  wanted_ = false;
}

void CopyDesk::end(Nanoseconds now) {
  busy_ = false;
  ended_at_ = now;
  cost_ = std::max<Nanoseconds>(cost_so_far_, 1);
  ++rounds_;
}

}  // namespace regroup
