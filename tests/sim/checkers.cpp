#include "tests/sim/checkers.hpp"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "runtime/protocol/wire.hpp"
#include "scheduler/coordinator.hpp"
#include "scheduler/shard_source.hpp"
#include "tests/sim/pretend_job.hpp"

namespace regroup::sim {
namespace {

constexpr std::uint64_t kDigestBase = 0x100000001b3;

Digest digest_of(ShardId shard, std::span<const std::byte> value) {
  std::uint64_t hash = scatter({shard.value, value.size()});
  for (const std::byte byte : value) hash = hash * kDigestBase + static_cast<std::uint64_t>(byte);
  return {hash, kDigestBase | 1};
}

// Time and steps are bounded generously, since only endlessness is wrong, not slowness.
constexpr Nanoseconds kTimeSlack = 3;
constexpr Nanoseconds kTimeConstant = 10 * kMillisecond;
constexpr std::uint64_t kStepsConstant = 100'000;
// What a rank has under way besides results: leases, parts for every owner, one steal, and copies
// of them. The largest message of the pretend jobs takes some hundred frames.
constexpr std::uint64_t kFramesInFlightConstant = 512;
constexpr std::uint64_t kFramesInFlightOfRank = 64;

std::uint64_t link(RankId from, RankId to) {
  return std::uint64_t{from.value} << 32 | to.value;
}

}  // namespace

Checkers::Checkers(const WorldOptions& options, const PretendJob& job)
    : options_(options),
      job_(&job),
      epochs_(options.ranks),
      lamport_(options.ranks, 0),
      outcomes_(options.ranks) {
  if (options.vector_clocks) {
    vectors_.assign(options.ranks, std::vector<std::uint64_t>(options.ranks, 0));
  }
  for (const StagePlan& stage : job.stages()) {
    shards_.emplace_back(stage.shards);
    handed_bytes_ += stage.shards * sizeof(Fate);
  }
  if (options.upset == Upset::kOpenFails && options.upset_rank == RankId{0}) {
    upset_known_ = Known::kInTime;
  }
  next_stage_if_settled();
  derive_time_bound();
}

void Checkers::violated(const char* invariant, const std::string& what) {
  if (violation_) return;
  violation_ = fmt::format("{}: rank {}, t = {:.6f} ms, seed {}: {}", invariant, rank_.value,
                           static_cast<double>(now_) / 1e6, options_.seed, what);
}

std::string Checkers::name(StageId stage, ShardId shard) const {
  return fmt::format("shard {} of stage {}", shard.value, stage.value);
}

Checkers::ShardRecord* Checkers::record(const char* invariant, std::uint64_t stage, ShardId shard) {
  if (stage < shards_.size() && shard.value < shards_[stage].size()) {
    return &shards_[stage][shard.value];
  }
  violated(invariant, fmt::format("shard {} of stage {} does not exist", shard.value, stage));
  return nullptr;
}

// ---- every step ----

void Checkers::after_step(const Node& node, const Output& output) {
  check_view(node);
  for (const Event& event : output.events) {
    switch (event.kind) {
      case EventKind::kSend:
      case EventKind::kReceive:
        check_stamps(event);
        if (event.kind == EventKind::kReceive) note_upset(event);
        break;
      case EventKind::kLease:
        check_lease(event);
        break;
      case EventKind::kCommit:
        check_settled(event, Fate::kCommitted);
        break;
      case EventKind::kQuarantine:
        check_settled(event, Fate::kSkipped);
        break;
      case EventKind::kRetry:
      case EventKind::kReturn:
        check_end_of_lease(event);
        break;
      case EventKind::kRound:
        check_round(event);
        break;
      case EventKind::kRevoke:
      case EventKind::kView:
        break;
    }
    if (event.lamport < lamport_[event.rank.value]) violated("I10 clocks", "a clock ran backwards");
    lamport_[event.rank.value] = event.lamport;
  }
  if (!output.events.empty()) check_vector(node);
  if (output.orders.size() > 1) violated("I12 bounds", "more than one order at a time");
}

void Checkers::check_view(const Node& node) {
  const View& view = node.view();
  Epoch& epoch = epochs_[rank_.value];
  if (view.epoch == epoch) return;
  if (view.epoch < epoch) violated("I3 epochs grow", "an epoch went back");
  epoch = view.epoch;
  const auto [known, first] = views_.emplace(view.epoch, view);
  if (first || known->second == view) return;
  if (known->second.coordinator != view.coordinator) {
    violated("I1 one coordinator", fmt::format("two of epoch {}", view.epoch.value));
  }
  violated("I4 same membership", fmt::format("two views of epoch {}", view.epoch.value));
}

// Frames of a link are received as they were sent, each once, and after they were sent (I10).
void Checkers::check_stamps(const Event& event) {
  const RankId self = event.rank;
  const auto kind = static_cast<MessageKind>(event.b);
  if (is_control(kind)) {
    if (event.kind == EventKind::kReceive && event.lamport <= event.a) {
      violated("I10 clocks", "received at or before the stamp of its send");
    }
    return;
  }
  const Epoch epoch = epochs_[self.value];
  const bool vectors = !vectors_.empty();
  if (vectors) ++vectors_[self.value][self.value];
  if (event.kind == EventKind::kSend) {
    if (event.lamport <= lamport_[self.value]) violated("I10 clocks", "a send did not tick");
    auto& sent = links_[link(self, event.peer)];
    sent.push_back({event.a, kind, epoch, {}});
    if (vectors) sent.back().vector = vectors_[self.value];
    return;
  }
  if (event.lamport <= event.a)
    violated("I10 clocks", "received at or before the stamp of its send");
  auto& sent = links_[link(event.peer, self)];
  while (!sent.empty() && sent.front().epoch < epoch) sent.pop_front();  // I6: never received
  if (sent.empty() || sent.front().lamport != event.a || sent.front().kind != kind) {
    return violated(
        "I7 delivery",
        fmt::format("a frame of rank {} is received out of turn or twice", event.peer.value));
  }
  if (vectors) {
    auto& mine = vectors_[self.value];
    const auto& theirs = sent.front().vector;
    for (std::size_t i = 0; i < mine.size(); ++i) mine[i] = std::max(mine[i], theirs[i]);
    if (compare(theirs, mine) != ClockOrder::kBefore) violated("I10 clocks", "vectors disagree");
  }
  sent.pop_front();
  if (sent.empty()) links_.erase(link(event.peer, self));
}

// A rank that could not open the job, or sees another, ends the run: unless all is done without it.
void Checkers::note_upset(const Event& event) {
  const bool upset = options_.upset == Upset::kOpenFails || options_.upset == Upset::kOtherJob;
  if (!upset || event.rank != RankId{0} || event.peer != options_.upset_rank ||
      event.b != static_cast<std::uint64_t>(MessageKind::kReady)) {
    return;
  }
  const bool done = stage_ + 1 == shards_.size() && stage_settled_ == shards_[stage_].size();
  upset_known_ = done ? Known::kLate : Known::kInTime;
}

void Checkers::check_vector(const Node& node) {
  if (vectors_.empty() || std::ranges::equal(node.vector_stamp(), vectors_[rank_.value])) return;
  violated("I10 clocks", "the vector clock is not what its sends and receives make it");
}

// ---- leases, by the event log (I9) ----

void Checkers::check_lease(const Event& event) {
  for (std::uint64_t shard = event.a; shard < event.a + event.b; ++shard) {
    ShardRecord* found = record("I9 one owner", stage_, ShardId{shard});
    if (!found) return;
    const StageId stage{static_cast<std::uint16_t>(stage_)};
    if (found->leased_to) {
      violated("I9 one owner",
               fmt::format("{} is leased to rank {} while rank {} has it",
                           name(stage, ShardId{shard}), event.peer.value, found->leased_to->value));
    }
    if (found->in_events != Fate::kOpen) {
      violated("I9 one owner", name(stage, ShardId{shard}) + " is leased though it has settled");
    }
    found->leased_to = event.peer;
  }
}

void Checkers::check_end_of_lease(const Event& event) {
  const std::uint64_t count = event.kind == EventKind::kRetry ? 1 : event.b;
  for (std::uint64_t shard = event.a; shard < event.a + count; ++shard) {
    ShardRecord* found = record("I9 one owner", stage_, ShardId{shard});
    if (!found) return;
    if (!found->leased_to) {
      violated("I9 one owner", fmt::format("shard {} comes back, but nobody has it", shard));
    }
    found->leased_to.reset();
  }
  if (event.kind == EventKind::kRetry && event.b >= options_.schedule.attempts_max) {
    violated("I12 bounds", fmt::format("shard {} is tried too often", event.a));
  }
}

void Checkers::check_settled(const Event& event, Fate fate) {
  const std::uint64_t count = fate == Fate::kSkipped ? 1 : event.b;
  for (std::uint64_t shard = event.a; shard < event.a + count; ++shard) {
    ShardRecord* found = record("I7 once", stage_, ShardId{shard});
    if (!found) return;
    if (found->in_events != Fate::kOpen) {
      violated("I7 once", fmt::format("shard {} settles twice in the event log", shard));
    }
    // After a change of view results come of leases that have ended.
    if (!found->leased_to && views_.size() == 1) {
      violated("I9 one owner", fmt::format("shard {} settles unleased", shard));
    }
    found->in_events = fate;
    found->leased_to.reset();
    ++stage_settled_;
  }
  next_stage_if_settled();
}

// The map stage runs again, for what reached the sink once is in it for good.
void Checkers::check_round(const Event& event) {
  stage_ = event.a;
  stage_settled_ = 0;
  for (ShardRecord& shard : shards_[stage_]) {
    shard.leased_to.reset();
    shard.attempts_begun = 0;
    if (shard.in_events == Fate::kCommitted) shard.in_events = Fate::kOpen;
    if (shard.in_events == Fate::kSkipped) ++stage_settled_;
  }
  next_stage_if_settled();
}

void Checkers::next_stage_if_settled() {
  while (stage_ + 1 < shards_.size() && stage_settled_ == shards_[stage_].size()) {
    ++stage_;
    stage_settled_ = static_cast<std::uint64_t>(std::ranges::count_if(
        shards_[stage_], [](const ShardRecord& shard) { return shard.in_events != Fate::kOpen; }));
  }
}

// ---- computing (I9, I12) ----

void Checkers::order_begins(const WorkOrder& order) {
  if (order.kind != WorkKind::kRun) return;
  if (order.shards.count == 0) violated("I12 bounds", "an order without shards");
  const auto view = views_.find(epochs_[rank_.value]);
  const bool alone =
      view == views_.end() ? options_.ranks == 1 : view->second.members == RankSet{rank_};
  if (rank_ == RankId{0} && !options_.schedule.coordinator_computes && !alone) {
    violated("I9 one owner", "a rank that only coordinates computes");
  }
  for (ShardId shard = order.shards.first; shard < order.shards.end(); ++shard.value) {
    ShardRecord* found = record("I9 one owner", order.stage.value, shard);
    if (!found) return;
    // Who was lost, or given up as lost, may have begun it, in an epoch before; and a failure of an
    // epoch before may begin the next attempt.
    const Epoch epoch = epochs_[rank_.value];
    // Whoever has yet to hear of the latest view works on leases that have ended there.
    const bool behind = !views_.empty() && epoch < views_.rbegin()->first;
    const bool changed = views_.size() > 1;
    const bool again =
        !changed || (found->running_since == epoch && order.attempt.value == found->attempts_begun);
    if (found->running_on && again) {
      violated("I9 one owner", fmt::format("{} runs here and on rank {}", name(order.stage, shard),
                                           found->running_on->value));
    }
    const bool next = order.attempt.value == found->attempts_begun + 1;
    if (!next && !behind && !(changed && order.attempt.value <= found->attempts_begun + 1)) {
      violated("I9 one owner",
               fmt::format("{} begins attempt {} after attempt {}", name(order.stage, shard),
                           order.attempt.value, found->attempts_begun));
    }
    if (order.attempt.value > options_.schedule.attempts_max) {
      violated("I12 bounds", name(order.stage, shard) + " is tried too often");
    }
    found->attempts_begun = std::max(found->attempts_begun, order.attempt.value);
    found->running_on = rank_;
    found->running_since = epoch;
  }
}

void Checkers::order_ends(const WorkResult& result) {
  if (result.kind != WorkKind::kRun) {
    if (result.kind == WorkKind::kAbsorb && !result.error.empty())
      violated("I7 once", result.error);
    return;
  }
  for (ShardId shard = result.shards.first; shard < result.shards.end(); ++shard.value) {
    ShardRecord* found = record("I9 one owner", result.stage.value, shard);
    if (found && found->running_on == rank_) found->running_on.reset();
  }
}

void Checkers::in_flight(std::size_t frames) {
  if (options_.failures.any()) return;  // ranks that stand still take nothing in
  const std::uint64_t bound = kFramesInFlightConstant + kFramesInFlightOfRank * options_.ranks +
                              2 * shards_[stage_].size();  // a result of its own each, and a copy
  if (frames > bound) violated("I12 bounds", fmt::format("{} frames are in flight", frames));
}

void Checkers::sent(const FrameHeader& header, std::span<const std::byte> body) {
  ++sent_kinds_[static_cast<std::size_t>(header.kind)];
  const bool reply = header.kind == MessageKind::kStealReply;
  if (!reply && header.kind != MessageKind::kReturned) return;
  Reader reader(body);
  reader.get<StageId>();
  if (reader.get<std::uint32_t>() != 0) ++(reply ? steals_with_loot_ : recalls_with_shards_);
}

// ---- commits (I7, I8) ----

void Checkers::settle_in_sink(StageId stage, ShardId shard, Fate fate) {
  ShardRecord* found = record("I7 once", stage.value, shard);
  if (!found) return;
  if (found->in_sink != Fate::kOpen) {
    violated("I7 once", name(stage, shard) + " is handed to the job a second time");
  }
  found->in_sink = fate;
}

void Checkers::commit(StageId stage, ShardRange shards, std::uint32_t value_bytes,
                      std::span<const std::byte> values) {
  if (values.size() != shards.count * value_bytes) {
    violated("I8 result", "a commit whose bytes are not its values");
    return;
  }
  for (ShardId shard = shards.first; shard < shards.end(); ++shard.value) {
    settle_in_sink(stage, shard, Fate::kCommitted);
    if (violation_) return;
    const auto value = values.first(value_bytes);
    values = values.subspan(value_bytes);
    if (!std::ranges::equal(value, job_->value(stage, shard))) {
      violated("I8 result", name(stage, shard) + " is committed with wrong bytes");
    }
    shards_[stage.value][shard.value].value.assign(value.begin(), value.end());
    handed_bytes_ += sizeof(std::uint32_t) + value.size();
  }
}

void Checkers::skip(StageId stage, ShardId shard, Attempt attempts, RankId,
                    const std::string& what) {
  settle_in_sink(stage, shard, Fate::kSkipped);
  if (violation_) return;
  if (!job_->given_up(stage, shard)) {
    violated("I8 result", name(stage, shard) + " is given up though it would have succeeded");
  }
  if (attempts.value != options_.schedule.attempts_max || what.empty()) {
    violated("I7 once", name(stage, shard) + " is given up early or without a reason");
  }
}

void Checkers::save_state(Writer& writer) const {
  for (const auto& stage : shards_) {
    for (const ShardRecord& shard : stage) {
      writer.put(shard.in_sink);
      if (shard.in_sink == Fate::kCommitted) writer.put_bytes(shard.value);
    }
  }
}

std::expected<void, std::string> Checkers::load_state(Reader& reader) {
  const std::size_t bytes_before = reader.rest().size();
  for (auto& stage : shards_) {
    for (ShardRecord& shard : stage) {
      shard.in_sink = reader.get<Fate>();
      shard.value.clear();
      if (shard.in_sink > Fate::kSkipped) return std::unexpected("no such fate of a saved shard");
      if (shard.in_sink != Fate::kCommitted) continue;
      const auto value = reader.get_bytes();
      shard.value.assign(value.begin(), value.end());
    }
  }
  if (reader.failed()) return std::unexpected("the saved shards are cut short");
  handed_bytes_ = bytes_before - reader.rest().size();
  return {};
}

// ---- the end ----

void Checkers::rank_ended(const Node& node, const Outcome& outcome, std::uint64_t damaged_frames) {
  outcomes_[rank_.value] = outcome;
  const DropCounters& drops = node.drops();
  std::uint64_t damaged = 0;
  for (const std::uint64_t count : drops.frames) damaged += count;
  if (damaged != damaged_frames) {
    violated("I6 delivery",
             fmt::format("{} of {} damaged frames were noticed", damaged, damaged_frames));
  }
  const bool epochs_matter = !options_.failures.any();
  if (drops.strangers + (epochs_matter ? drops.other_epochs + drops.revoked : 0) + drops.overflows +
          drops.payloads !=
      0) {
    violated(
        "I6 delivery",
        fmt::format("good frames were dropped: {} as strangers', {} as of other epochs, {} as too "
                    "early, {} as without sense",
                    drops.strangers, drops.other_epochs, drops.overflows, drops.payloads));
  }
}

void Checkers::out_of_bounds(const std::string& which) {
  std::string missing;
  for (std::uint32_t rank = 0; rank < outcomes_.size() && missing.size() < 40; ++rank) {
    if (!outcomes_[rank]) missing += ' ' + std::to_string(rank);
  }
  violated("I13 progress",
           fmt::format("{}; stage {} has {} of {} shards settled; not ended: ranks{}", which,
                       stage_, stage_settled_, shards_[stage_].size(), missing));
}

void Checkers::rank_killed(RankId rank) {
  killed_.insert(rank);
  for (auto& stage : shards_) {
    for (ShardRecord& shard : stage) {
      if (shard.running_on == rank) shard.running_on.reset();
    }
  }
}

// A rank that stood still may come back when all is over; and where deaths show as silence alone or
// messages are lost, the others may leave one behind that they cannot reach.
bool Checkers::may_end_alone(RankId rank) const {
  return options_.failures.witnesses < 1 || options_.failures.loses_messages() ||
         std::ranges::any_of(options_.failures.faults, [&](const Fault& fault) {
           return fault.rank == rank && fault.kind == Fault::Kind::kPause;
         });
}

// Those whom nothing befell are less than half, and cannot know that the others are not elsewhere.
bool Checkers::may_lack_quorum() const {
  std::uint32_t spared = 0;
  bool silent = options_.failures.witnesses < 1 || !options_.failures.partitions.empty();
  for (const Fault& fault : options_.failures.faults) silent |= fault.kind == Fault::Kind::kPause;
  for (std::uint32_t rank = 0; rank < options_.ranks; ++rank) {
    spared += options_.failures.hits(RankId{rank}) ? 0 : 1;
  }
  return silent && 2 * spared < options_.ranks;
}

bool Checkers::all_settled() const {
  return std::ranges::all_of(shards_, [](const auto& stage) {
    return std::ranges::all_of(
        stage, [](const ShardRecord& shard) { return shard.in_sink != Fate::kOpen; });
  });
}

void Checkers::run_ended() {
  // What the coordinator says holds; without it there is no result, and everybody must say so.
  const bool coordinator_lost = options_.failures.hits(RankId{0}) &&
                                (!outcomes_.front() || outcomes_.front()->exit_status > 2);
  const int status = coordinator_lost ? 3 : outcomes_.front()->exit_status;
  if (status == 75 && may_lack_quorum()) return;
  for (std::uint32_t rank = 0; rank < outcomes_.size(); ++rank) {
    rank_ = RankId{rank};
    if (killed_.contains(rank_) || outcomes_[rank]->exit_status == status) continue;
    const bool excused =
        may_end_alone(rank_) || may_end_alone(RankId{0}) || (coordinator_lost && may_lack_quorum());
    if (excused && outcomes_[rank]->exit_status == 75) continue;
    // The coordinator left without it, or died when it had sent the verdict to some.
    if (excused && outcomes_[rank]->exit_status == 3) continue;
    if (coordinator_lost && outcomes_[rank]->exit_status <= 1 && all_settled()) continue;
    violated("I4 same outcome",
             fmt::format("exit status {} ({}), while the coordinator has {}",
                         outcomes_[rank]->exit_status, outcomes_[rank]->message, status));
  }
  if (coordinator_lost) return;
  rank_ = RankId{0};
  bool any_given_up = false;
  for (std::uint16_t stage = 0; stage < shards_.size(); ++stage) {
    for (ShardId shard{0}; shard.value < shards_[stage].size(); ++shard.value) {
      any_given_up |= job_->given_up(StageId{stage}, shard);
    }
  }
  const int complete = any_given_up ? 1 : 0;
  int expected = complete;
  if (options_.upset == Upset::kFinalizeFails) expected = 3;
  if (upset_known_ == Known::kInTime) expected = 2;
  if (upset_known_ == Known::kLate && status == 2) expected = 2;
  if (options_.upset == Upset::kStop && status == 3) expected = 3;
  if (status != expected) {
    violated("I13 progress", fmt::format("exit status {} ({}) instead of {}", status,
                                         outcomes_.front()->message, expected));
  }
  if (status == complete) check_complete();
  if (!options_.failures.any()) check_message_counts();
}

void Checkers::check_complete() {
  for (std::uint16_t stage = 0; stage < shards_.size(); ++stage) {
    for (ShardId shard{0}; shard.value < shards_[stage].size(); ++shard.value) {
      const ShardRecord& found = shards_[stage][shard.value];
      if (found.in_sink == Fate::kOpen) {
        return violated("I7 once", name(StageId{stage}, shard) + " was never settled");
      }
      if (found.in_sink != found.in_events) {
        return violated("I7 once",
                        name(StageId{stage}, shard) + " is not in the event log as it is");
      }
    }
  }
  check_result();
}

void Checkers::check_result() {
  for (std::uint16_t stage = 0; stage < shards_.size(); ++stage) {
    const std::uint64_t count = shards_[stage].size();
    OrderedMerge<Digest, JoinDigests> merged(count);
    std::optional<Digest> oracle;
    for (ShardId shard{0}; shard.value < count; ++shard.value) {
      const ShardRecord& found = shards_[stage][shard.value];
      if (found.in_sink == Fate::kSkipped) {
        merged.skip(shard);
      } else {
        Digest digest = digest_of(shard, found.value);
        merged.add(shard, std::span(&digest, 1));
      }
      if (job_->given_up(StageId{stage}, shard)) continue;
      Digest digest = digest_of(shard, job_->value(StageId{stage}, shard));
      if (oracle) {
        JoinDigests{}(*oracle, std::move(digest));
      } else {
        oracle = digest;
      }
    }
    const auto total = merged.finish();
    if (total.has_value() != oracle.has_value() || (total && total->hash != oracle->hash)) {
      violated("I8 result", fmt::format("stage {} differs from the serial oracle", stage));
    }
  }
}

// ---- bounds (I12, I13) ----

// Asking in vain is bounded by time, so that idle ranks never flood busy ones.
void Checkers::check_message_counts() {
  const auto elapsed = static_cast<std::uint64_t>(now_);
  const std::uint64_t ranks = options_.ranks;
  const std::uint64_t recalls = sent_kinds_[static_cast<std::size_t>(MessageKind::kRecall)];
  const std::uint64_t recalls_max =
      recalls_with_shards_ +
      ranks * (2 + elapsed / static_cast<std::uint64_t>(Coordinator::kRecallWorth));
  if (recalls > recalls_max) {
    violated("I12 bounds", fmt::format("{} recalls, more than {}", recalls, recalls_max));
  }
  // A rank that runs dry asks everyone once, then pauses, longer each round, before every request.
  const std::uint64_t steals = sent_kinds_[static_cast<std::size_t>(MessageKind::kStealRequest)];
  const std::uint64_t requests_of_dry_spell = 10 * ranks;
  const std::uint64_t dry_spells = steals_with_loot_ + ranks * shards_.size();
  const std::uint64_t steals_max =
      dry_spells * requests_of_dry_spell +
      ranks * (elapsed / static_cast<std::uint64_t>(Worker::kStealPauseMax));
  if (steals > steals_max) {
    violated("I12 bounds", fmt::format("{} steal requests, more than {}", steals, steals_max));
  }
}

std::vector<RankId> Checkers::workers() const {
  View view{.epoch = Epoch{1}, .coordinator = RankId{0}};
  for (std::uint32_t rank = 0; rank < options_.ranks; ++rank) view.members.insert(RankId{rank});
  return computing_ranks(view, options_.schedule);
}

// How long a stage takes if leases, messages and retries cost what they cost at worst, but nothing
// waits for no reason.
Nanoseconds Checkers::stage_time(StageId stage) const {
  const StagePlan& plan = job_->stages()[stage.value];
  const auto ranks = workers();
  const auto workers_count = static_cast<Nanoseconds>(ranks.size());
  const Nanoseconds slowness = options_.slow_rank ? options_.slowness : 1;
  Nanoseconds work = 0, longest = 0, failed_work = 0;
  std::uint32_t tries_max = 1;
  for (ShardId shard{0}; shard.value < plan.shards; ++shard.value) {
    const std::uint32_t tries =
        std::min(options_.schedule.attempts_max, job_->failing_tries(stage, shard) + 1);
    const Nanoseconds cost = job_->cost(stage, shard);
    work += cost;
    failed_work += cost * (tries - 1);
    longest = std::max(longest, cost);
    tries_max = std::max(tries_max, tries);
  }
  Nanoseconds pauses = 0;
  for (std::uint32_t i = 0; i + 1 < tries_max; ++i) pauses += Coordinator::kRetryPauseMin << i;
  // Fixed shares (static blocks, partitions) may all be with the slow rank; so may retries.
  const bool fixed_share =
      plan.kind == StageKind::kReduce || options_.schedule.policy == Policy::kStatic;
  const Nanoseconds computing = (fixed_share ? work * slowness : work * slowness / workers_count) +
                                (failed_work + tries_max * longest) * slowness;
  const Nanoseconds round_trip = 2 * (options_.network.delay_max + 2 * options_.tick_period);
  const auto shards = static_cast<Nanoseconds>(plan.shards);
  Nanoseconds waiting = (shards / workers_count + 20 + tries_max) * round_trip + pauses;
  if (plan.kind == StageKind::kMap) {  // owners absorb between their own shards
    waiting += (shards / workers_count + 4) *
               (longest + PretendExecutor::kAbsorbTime * workers_count) * slowness;
  }
  return computing + waiting;
}

void Checkers::derive_time_bound() {
  time_bound_ = options_.start_spread + options_.open_time_max + kTimeConstant + options_.stop_at;
  for (std::uint16_t stage = 0; stage < shards_.size(); ++stage) {
    time_bound_ += kTimeSlack * stage_time(StageId{stage});
  }
  // After each failure all may have to be done again, by fewer.
  const FailureOptions& failures = options_.failures;
  if (!failures.any()) return;
  const Nanoseconds undisturbed = time_bound_;
  for (const Fault& fault : failures.faults) {
    time_bound_ += fault.at + fault.duration + undisturbed * options_.ranks +
                   failures.suspect_after + 2 * Membership::kPatience;
  }
  for (const Partition& partition : failures.partitions) {
    time_bound_ += partition.at + partition.duration + undisturbed * options_.ranks +
                   failures.suspect_after + 2 * Membership::kPatience;
  }
  const auto lost = std::ranges::count(failures.faults, Fault::Kind::kLoseFrame, &Fault::kind);
  time_bound_ += lost * (Node::kStallTimeout + Node::kStallTimeout / Node::kStallLooks);
  time_bound_ += 100 * failures.rare.late_max;
  time_bound_ += failures.give_up_after + Coordinator::kGoodbyeTimeout;
}

std::uint64_t Checkers::step_bound() const {
  const auto ticks =
      static_cast<std::uint64_t>(time_bound_ / options_.tick_period) * options_.ranks;
  std::uint64_t shards = 0;
  for (const auto& stage : shards_) shards += stage.size();
  return kStepsConstant + 4 * ticks +
         100 * shards * std::max<std::uint64_t>(1, job_->options().partitions);
}

}  // namespace regroup::sim
