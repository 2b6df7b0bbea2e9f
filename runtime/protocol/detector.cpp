#include "runtime/protocol/detector.hpp"

#include <algorithm>
#include <utility>

#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

constexpr Nanoseconds kPeriodMax = 3600 * kSecond;
constexpr Nanoseconds kSuspectAfterMax = 24 * 3600 * kSecond;
constexpr Nanoseconds kDefaultPeriods = 5;  // of silence before a suspicion
constexpr Nanoseconds kAskerPeriods = 4;    // of suspect_after that an asker is emitted to

Nanoseconds suspect_after_of(const DetectorOptions& options) {
  return options.suspect_after != 0 ? options.suspect_after : kDefaultPeriods * options.period;
}

std::string milliseconds(Nanoseconds time) {
  return std::to_string(time / kMillisecond) + " ms";
}

}  // namespace

std::optional<std::string> problem_with(const DetectorOptions& options) {
  if (options.period < kMillisecond || options.period > kPeriodMax) {
    return "a heartbeat every " + milliseconds(options.period) +
           " cannot be kept: ask for 1 ms to 3600000 ms";
  }
  const Nanoseconds suspect_after = suspect_after_of(options);
  if (suspect_after < 2 * options.period || suspect_after > kSuspectAfterMax) {
    return "with a heartbeat every " + milliseconds(options.period) + ", silence of " +
           milliseconds(suspect_after) + " means nothing: ask for " +
           milliseconds(2 * options.period) + " (two heartbeats) to " +
           milliseconds(kSuspectAfterMax);
  }
  return std::nullopt;
}

Detector::Detector(const DetectorOptions& options)
    : options_(options), standing_(options.ranks, Standing::kTrusted) {
  REGROUP_CHECK(options.self.value < options.ranks, "a rank is one of the run's");
  REGROUP_CHECK(!problem_with(options), "a detector's times are checked before it is made");
  options_.suspect_after = suspect_after_of(options);
}

void Detector::start(Nanoseconds now, std::vector<RankId> members, DetectorOutput& output) {
  REGROUP_CHECK(phase_ == Phase::kNew, "a detector starts once");
  phase_ = Phase::kRunning;
  nobody_silent_before_ = now + options_.start_grace;
  set_members(std::move(members), now, output);
}

void Detector::set_members(std::vector<RankId> members, Nanoseconds now, DetectorOutput& output) {
  if (phase_ != Phase::kRunning) return;
  std::ranges::sort(members);
  REGROUP_CHECK(std::ranges::adjacent_find(members) == members.end(), "a member is named once");
  REGROUP_CHECK(members.empty() || members.back().value < options_.ranks,
                "members are ranks of the run");
  if (!std::ranges::binary_search(members, options_.self)) members.clear();
  members_ = std::move(members);
  for (const RankId suspect : suspects_) {
    standing(suspect) = Standing::kTrusted;
    output.evidence.push_back({suspect, EvidenceKind::kTrusted});
  }
  suspects_.clear();
  asker_.reset();  // whoever still observes this rank asks again
  window_ = 1;
  join_ring(now, output);
}

void Detector::tick(Nanoseconds now, DetectorOutput& output) {
  if (now < next_tick()) return;
  note_stall(now);
  if (phase_ == Phase::kLeaving) {
    tell_leaving(now, output);
    return;
  }
  emit(now, output);
  judge_silence(now, output);
  ask(now, output);
}

void Detector::heard(RankId from, HeartbeatKind kind, Nanoseconds now, DetectorOutput& output) {
  if (phase_ == Phase::kNew || from.value >= options_.ranks || from == options_.self) return;
  if (standing(from) == Standing::kConfirmed) return;  // it was under way when its sender died
  if (kind == HeartbeatKind::kLeaving) {
    output.datagrams.push_back({from, HeartbeatKind::kLeavingTaken});
    note_life(from, now, output);
    if (standing(from) != Standing::kLeft && phase_ == Phase::kRunning) {
      output.evidence.push_back({from, EvidenceKind::kLeft});
    }
    lose(from, Standing::kLeft, now, output);
    return;
  }
  if (kind == HeartbeatKind::kLeavingTaken) {
    std::erase(untold_, from);
    finish_leaving(now);
  }
  if (standing(from) == Standing::kLeft) return;  // it was overtaken by its sender's leaving
  note_life(from, now, output);
  if (kind == HeartbeatKind::kObserve) answer(from, now, output);
}

void Detector::confirm(RankId rank, Nanoseconds now, DetectorOutput& output) {
  if (rank.value >= options_.ranks || rank == options_.self || is_gone(rank)) return;
  if (phase_ == Phase::kRunning) output.evidence.push_back({rank, EvidenceKind::kConfirmed});
  lose(rank, Standing::kConfirmed, now, output);
}

void Detector::leave(Nanoseconds now, DetectorOutput& output) {
  if (phase_ != Phase::kRunning) return;
  phase_ = Phase::kLeaving;
  for (const RankId member : members_) {
    if (member != options_.self && !is_gone(member)) untold_.push_back(member);
  }
  watched_.clear();
  asker_.reset();
  leave_deadline_ = now + options_.leave_timeout;
  leave_retry_at_ = now;
  tell_leaving(now, output);
}

Nanoseconds Detector::next_tick() const {
  if (phase_ == Phase::kLeaving) return std::min(leave_retry_at_, leave_deadline_);
  if (phase_ != Phase::kRunning) return kNever;
  Nanoseconds next = has_audience() ? next_emission_ : kNever;
  for (const Watch& watch : watched_) {
    next = std::min({next, watch.ask_at, watch.silent_since + options_.suspect_after});
  }
  if (!suspects_.empty()) next = std::min(next, suspects_ask_at_);
  return next;
}

std::optional<RankId> Detector::observed() const {
  if (watched_.empty()) return std::nullopt;
  return watched_.front().rank;
}

bool Detector::is_gone(RankId rank) const {
  const Standing standing = standing_[rank.value];
  return standing == Standing::kConfirmed || standing == Standing::kLeft;
}

// The other members, nearest successor first: read backwards, nearest predecessor first.
std::vector<RankId> Detector::neighbours() const {
  if (members_.empty()) return {};
  const auto self = std::ranges::lower_bound(members_, options_.self);
  std::vector<RankId> ring(self + 1, members_.end());
  ring.insert(ring.end(), members_.begin(), self);
  return ring;
}

// Takes this rank's place between those that are left.
void Detector::join_ring(Nanoseconds now, DetectorOutput& output) {
  const bool had_audience = has_audience();
  observer_.reset();
  for (const RankId successor : neighbours()) {
    if (is_gone(successor)) continue;
    observer_ = successor;  // a suspected one, too: it may live, and then it listens
    break;
  }
  if (has_audience() && !had_audience) next_emission_ = now;
  watch_predecessors(now, output);
}

// Watches the nearest predecessors that are trusted; those that were watched before are not given
// more time.
void Detector::watch_predecessors(Nanoseconds now, DetectorOutput& output) {
  std::vector<Watch> watched;
  const std::vector<RankId> ring = neighbours();
  for (auto peer = ring.rbegin(); peer != ring.rend() && watched.size() < window_; ++peer) {
    if (standing(*peer) != Standing::kTrusted) continue;
    const auto before = std::ranges::find(watched_, *peer, &Watch::rank);
    if (before != watched_.end()) {
      watched.push_back(*before);
      continue;
    }
    watched.push_back({.rank = *peer});
    restart(watched.back(), std::max(now, nobody_silent_before_));
    output.datagrams.push_back({*peer, HeartbeatKind::kObserve});
  }
  watched_ = std::move(watched);
}

void Detector::restart(Watch& watch, Nanoseconds now) const {
  watch.silent_since = now;
  watch.ask_at = now + options_.period + options_.period / 4;
}

// The receiver's side of every datagram.
void Detector::note_life(RankId from, Nanoseconds now, DetectorOutput& output) {
  if (standing(from) == Standing::kSuspected) {
    standing(from) = Standing::kTrusted;
    std::erase(suspects_, from);
    if (phase_ == Phase::kRunning) {
      output.evidence.push_back({from, EvidenceKind::kTrusted});
      watch_predecessors(now, output);
    }
  }
  const auto watch = std::ranges::find(watched_, from, &Watch::rank);
  if (watch == watched_.end()) return;
  restart(*watch, now);
  watch->graces = 0;
  if (watch == watched_.begin()) {  // nobody behind the nearest living one matters
    window_ = 1;
    watched_.resize(1);
  }
}

void Detector::answer(RankId asker, Nanoseconds now, DetectorOutput& output) {
  if (phase_ != Phase::kRunning) {
    output.datagrams.push_back({asker, HeartbeatKind::kLeaving});
    return;
  }
  output.datagrams.push_back({asker, HeartbeatKind::kHeartbeat});
  if (asker == observer_) return;
  if (!has_audience()) next_emission_ = now + options_.period;
  asker_ = asker;
  asker_until_ = now + kAskerPeriods * options_.suspect_after;
}

// `rank` is gone for good: closes the ring behind it.
void Detector::lose(RankId rank, Standing how, Nanoseconds now, DetectorOutput& output) {
  if (is_gone(rank)) return;
  standing(rank) = how;
  std::erase(suspects_, rank);
  if (asker_ == rank) asker_.reset();
  if (phase_ == Phase::kRunning) {
    join_ring(now, output);
  } else {
    std::erase(untold_, rank);
    finish_leaving(now);
  }
}

void Detector::note_stall(Nanoseconds now) {
  const Nanoseconds late = now - next_tick();
  longest_stall_ = std::max(longest_stall_, late);
  if (late <= options_.suspect_after / 4) return;
  for (Watch& watch : watched_) {
    if (watch.graces == kGracesMax) continue;
    ++watch.graces;
    watch.silent_since = std::max(watch.silent_since, now);
    watch.ask_at = now;
  }
}

void Detector::emit(Nanoseconds now, DetectorOutput& output) {
  if (asker_ && now >= asker_until_) asker_.reset();
  if (!has_audience() || now < next_emission_) return;
  if (observer_) output.datagrams.push_back({*observer_, HeartbeatKind::kHeartbeat});
  if (asker_ && asker_ != observer_) {
    output.datagrams.push_back({*asker_, HeartbeatKind::kHeartbeat});
  }
  next_emission_ += options_.period;
  if (next_emission_ <= now) next_emission_ = now + options_.period;
}

void Detector::judge_silence(Nanoseconds now, DetectorOutput& output) {
  bool walked_back = false;
  for (const Watch& watch : watched_) {
    if (now - watch.silent_since < options_.suspect_after) continue;
    standing(watch.rank) = Standing::kSuspected;
    if (suspects_.empty()) suspects_ask_at_ = now + options_.suspect_after;
    suspects_.push_back(watch.rank);
    output.evidence.push_back({watch.rank, EvidenceKind::kSuspected});
    walked_back = true;
  }
  if (!walked_back) return;
  window_ = std::min(2 * window_, kObservedMax);
  watch_predecessors(now, output);
}

// Who is overdue may only have lost a datagram, or emit to another; who is suspected may be back.
// Where all are overdue, those before them may be as well, with the node that they share.
void Detector::ask(Nanoseconds now, DetectorOutput& output) {
  const Nanoseconds first_ask = options_.period + options_.period / 4;
  bool all_overdue = !watched_.empty();
  for (Watch& watch : watched_) {
    if (now >= watch.ask_at) {
      output.datagrams.push_back({watch.rank, HeartbeatKind::kObserve});
      watch.ask_at = now + (options_.suspect_after - first_ask) / kAsks;
    }
    all_overdue &= now >= watch.silent_since + first_ask;
  }
  if (all_overdue && window_ < kObservedMax) {
    window_ *= 2;
    watch_predecessors(now, output);
  }
  if (suspects_.empty() || now < suspects_ask_at_) return;
  for (const RankId suspect : suspects_) {
    output.datagrams.push_back({suspect, HeartbeatKind::kObserve});
  }
  suspects_ask_at_ = now + options_.suspect_after;
}

void Detector::tell_leaving(Nanoseconds now, DetectorOutput& output) {
  finish_leaving(now);
  if (phase_ == Phase::kLeft || now < leave_retry_at_) return;
  for (const RankId member : untold_) output.datagrams.push_back({member, HeartbeatKind::kLeaving});
  leave_retry_at_ = now + kLeaveRetry;
}

// Suspects are told, but not waited for.
void Detector::finish_leaving(Nanoseconds now) {
  if (phase_ != Phase::kLeaving) return;
  const bool told = std::ranges::none_of(
      untold_, [this](RankId rank) { return standing(rank) == Standing::kTrusted; });
  if (told || now >= leave_deadline_) phase_ = Phase::kLeft;
}

}  // namespace regroup
