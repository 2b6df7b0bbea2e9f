#include "tests/sim/checkers.hpp"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "runtime/protocol/wire.hpp"
#include "scheduler/coordinator.hpp"
#include "scheduler/shard_source.hpp"
#include "tests/sim/pretend_job.hpp"
#include "tests/sim/registry_user.hpp"

namespace regroup::sim {
namespace {

constexpr int kExitNotRecovered = 3;
constexpr int kExitResumable = 75;
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
      acks_(options.ranks, options.schedule.standbys, job),
      registry_(
          acks_, options.launch,
          [this](const char* invariant, const std::string& what) { violated(invariant, what); }),
      outcomes_(options.ranks) {
  if (options.vector_clocks) {
    vectors_.assign(options.ranks, std::vector<std::uint64_t>(options.ranks, 0));
  }
  for (const StagePlan& stage : job.stages()) {
    shards_.emplace_back(stage.shards);
  }
  for (std::uint32_t rank = 0; rank < options.ranks; ++rank) {
    sinks_.push_back(std::make_unique<RankSink>(
        job, options.schedule.attempts_max,
        [this](const char* invariant, const std::string& what) { violated(invariant, what); }));
  }
  if (options.upset == Upset::kOpenFails && options.upset_rank == RankId{0}) {
    upset_known_ = Known::kInTime;
  }
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
  elected_now_ = false;
  for (const Event& event : output.events) {
    switch (event.kind) {
      case EventKind::kSend:
      case EventKind::kReceive:
        check_stamps(event);
        if (event.kind == EventKind::kReceive) note_upset(event);
        break;
      // What a coordinator does that others have replaced comes to nothing.
      case EventKind::kLease:
        if (of_the_coordinator(event)) check_lease(event);
        break;
      case EventKind::kCommit:
        if (of_the_coordinator(event)) check_settled(event, Fate::kCommitted);
        break;
      case EventKind::kQuarantine:
        if (of_the_coordinator(event)) check_settled(event, Fate::kSkipped);
        break;
      case EventKind::kRetry:
      case EventKind::kReturn:
        if (of_the_coordinator(event)) check_end_of_lease(event);
        break;
      case EventKind::kRound:
        if (of_the_coordinator(event)) check_round(event);
        break;
      case EventKind::kKeep:
        if (of_the_coordinator(event)) check_kept(event);
        break;
      case EventKind::kElect:
        check_election(event);
        break;
      case EventKind::kRestore:
        if (of_the_coordinator(event)) take_fates_of(event.rank);
        break;
      case EventKind::kSeal:
      case EventKind::kRegain:
      case EventKind::kRevoke:
      case EventKind::kView:
      case EventKind::kEvidence:
      case EventKind::kWork:
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
  acks_.entered(view);
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
  const bool done = stage_ + 1 == shards_.size() && settled_in(stage_) == shards_[stage_].size();
  upset_known_ = done ? Known::kLate : Known::kInTime;
}

void Checkers::check_vector(const Node& node) {
  if (vectors_.empty() || std::ranges::equal(node.vector_stamp(), vectors_[rank_.value])) return;
  violated("I10 clocks", "the vector clock is not what its sends and receives make it");
}

// ---- leases, by the event log (I9) ----

void Checkers::check_lease(const Event& event) {
  stage_ = event.stage.value;
  for (std::uint64_t shard = event.a; shard < event.a + event.b; ++shard) {
    ShardRecord* found = record("I9 one owner", event.stage.value, ShardId{shard});
    if (!found) return;
    const StageId stage = event.stage;
    if (found->leased_to) {
      violated("I9 one owner",
               fmt::format("{} is leased to rank {} while rank {} has it",
                           name(stage, ShardId{shard}), event.peer.value, found->leased_to->value));
    }
    if (found->in_events != Fate::kOpen && !elected_now_) {
      violated("I9 one owner", name(stage, ShardId{shard}) + " is leased though it has settled");
    }
    found->leased_to = event.peer;
  }
}

void Checkers::check_end_of_lease(const Event& event) {
  const std::uint64_t count = event.kind == EventKind::kRetry ? 1 : event.b;
  for (std::uint64_t shard = event.a; shard < event.a + count; ++shard) {
    ShardRecord* found = record("I9 one owner", event.stage.value, ShardId{shard});
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
    ShardRecord* found = record("I7 once", event.stage.value, ShardId{shard});
    if (!found) return;
    if (found->in_events != Fate::kOpen && elected_now_) {
      found->leased_to.reset();
      continue;
    }
    if (found->in_events != Fate::kOpen) {
      violated("I7 once", fmt::format("shard {} settles twice in the event log", shard));
    }
    // After a change of view results come of leases that have ended.
    if (!found->leased_to && views_.size() == 1) {
      violated("I9 one owner", fmt::format("shard {} settles unleased", shard));
    }
    found->in_events = fate;
    found->leased_to.reset();
  }
}

// The map stage runs again, for what reached the sink once is in it for good.
void Checkers::check_round(const Event& event) {
  for (ShardRecord& shard : shards_[event.stage.value]) {
    shard.leased_to.reset();
    shard.attempts_begun = 0;
    if (shard.in_events == Fate::kCommitted) shard.in_events = Fate::kOpen;
  }
}

// What the job was handed, and partitions still hold.
void Checkers::check_kept(const Event& event) {
  for (std::uint64_t shard = event.a; shard < event.a + event.b; ++shard) {
    ShardRecord* found = record("I7 once", event.stage.value, ShardId{shard});
    if (!found) return;
    if (sinks_[rank_.value]->fate(event.stage, ShardId{shard}) != Fate::kCommitted) {
      violated("I7 once", name(event.stage, ShardId{shard}) + " is kept, and was never committed");
    }
    found->in_events = Fate::kCommitted;
  }
}

// It goes on from what the ledger has handed to its sink.
void Checkers::check_election(const Event& event) {
  const View& view = views_.at(epochs_[event.rank.value]);
  if (view.coordinator != event.rank) violated("I1 one coordinator", "a rank elects itself");
  if (view.epoch < coordinator_since_) return;  // others have gone on without it
  elected_now_ = true;
  coordinator_ = event.rank;
  coordinator_since_ = view.epoch;
  const RankSink& sink = *sinks_[event.rank.value];
  if (const auto lost = acks_.elected(view, sink)) violated("I7 acknowledged", *lost);
  registry_.elected(view);
  take_fates_of(event.rank);
}

// It goes on from what its sink has loaded.
void Checkers::take_fates_of(RankId rank) {
  const RankSink& sink = *sinks_[rank.value];
  for (std::uint16_t stage = 0; stage < shards_.size(); ++stage) {
    for (ShardId shard{0}; shard.value < shards_[stage].size(); ++shard.value) {
      ShardRecord& found = shards_[stage][shard.value];
      found.in_events = sink.fate(StageId{stage}, shard);
      found.leased_to.reset();
    }
  }
}

// Where a majority of those who knew may be gone as well, nobody can know; nor can one who stood
// still know of what others have sealed without it.
void Checkers::forgot_checkpoint(RankId rank, Epoch told_in) {
  if (told_in > epochs_[rank.value]) return;
  if (!acks_.majority_may_be_left(told_in, views_.at(epochs_[rank.value]))) return;
  violated("I11 checkpoints", "whoever took over does not know of one that was told to be sealed");
}

std::uint64_t Checkers::settled_in(std::uint64_t stage) const {
  return static_cast<std::uint64_t>(std::ranges::count_if(
      shards_[stage], [](const ShardRecord& shard) { return shard.in_events != Fate::kOpen; }));
}

// ---- computing (I9, I12) ----

// Of one round are all that go back, and they go back to one step; no cell that goes on is before
// it.
void Checkers::check_cell_order(const WorkOrder& order) {
  const bool sets = order.kind == WorkKind::kBegin || order.kind == WorkKind::kRestore;
  const std::tuple round{order.stage, epochs_[rank_.value], order.attempt};
  const auto [known, first] = cells_set_.emplace(round, order.step);
  const bool right = sets ? known->second == order.step : known->second <= order.step;
  if (right && (sets || !first)) return;
  violated("I8 cells", fmt::format("cell {} is at step {}, where its round begins at step {}",
                                   order.shards.first.value, order.step, known->second));
}

void Checkers::order_begins(const WorkOrder& order) {
  const bool cells = order.stage.value < shards_.size() &&
                     job_->stages()[order.stage.value].kind == StageKind::kIterate;
  const bool of_shards = order.kind == WorkKind::kBegin || order.kind == WorkKind::kStep ||
                         order.kind == WorkKind::kSave || order.kind == WorkKind::kRestore;
  if (cells && of_shards) return check_cell_order(order);
  if (order.kind != WorkKind::kRun) return;
  if (order.shards.count == 0) violated("I12 bounds", "an order without shards");
  const auto view = views_.find(epochs_[rank_.value]);
  const bool alone =
      view == views_.end() ? options_.ranks == 1 : view->second.members == RankSet{rank_};
  const RankId leader = view == views_.end() ? RankId{0} : view->second.coordinator;
  if (rank_ == leader && !options_.schedule.coordinator_computes && !alone) {
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
    // A run that goes on knows of attempts that were made before.
    const bool goes_on = options_.schedule.checkpoints.resume && found->attempts_begun == 0;
    if (!next && !behind && !goes_on &&
        !(changed && order.attempt.value <= found->attempts_begun + 1)) {
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
    const bool takes = result.kind == WorkKind::kAbsorb || result.kind == WorkKind::kRestore;
    if (takes && !result.error.empty()) violated("I7 once", result.error);
    const bool cell = result.kind == WorkKind::kBegin || result.kind == WorkKind::kStep ||
                      result.kind == WorkKind::kSave;
    const bool meant = result.error.empty() || result.error == kCellFailure;
    if (cell && !meant) violated("I8 cells", result.error);
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

void Checkers::sent(const FrameHeader& header, RankId to, std::span<const std::byte> body) {
  if (options_.failures.any()) acks_.sent(header, to, body);
  ++sent_kinds_[static_cast<std::size_t>(header.kind)];
  const bool reply = header.kind == MessageKind::kStealReply;
  if (!reply && header.kind != MessageKind::kReturned) return;
  Reader reader(body);
  reader.get<StageId>();
  if (reader.get<std::uint32_t>() != 0) ++(reply ? steals_with_loot_ : recalls_with_shards_);
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
  // Behind a frame that is lost for good more may pile up than is kept, until the epoch ends for
  // it.
  const bool overflows_matter = !options_.failures.loses_messages();
  if (drops.strangers + (epochs_matter ? drops.other_epochs + drops.revoked : 0) +
          (overflows_matter ? drops.overflows : 0) + drops.payloads !=
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
                       stage_, settled_in(stage_), shards_[stage_].size(), missing));
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

// All who end with the others end alike. A rank may be left behind alone if it could not be
// reached.
void Checkers::run_ended() {
  std::optional<int> status;
  for (std::uint32_t rank = 0; rank < outcomes_.size(); ++rank) {
    if (!outcomes_[rank] || outcomes_[rank]->alone) continue;
    if (!status) status = outcomes_[rank]->exit_status;
  }
  for (std::uint32_t rank = 0; rank < outcomes_.size(); ++rank) {
    rank_ = RankId{rank};
    if (!outcomes_[rank] || outcomes_[rank]->exit_status == status) continue;
    const bool excused = outcomes_[rank]->alone && (may_end_alone(rank_) || may_lack_quorum());
    if (excused) continue;
    violated("I4 same outcome",
             fmt::format("exit status {} ({}), while others have {}", outcomes_[rank]->exit_status,
                         outcomes_[rank]->message, status.value_or(-1)));
  }
  registry_.run_ended();
  if (!status) return;  // nobody was left, or nobody with a quorum
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
  if (upset_known_ == Known::kLate && *status == 2) expected = 2;
  const bool stopped = *status == kExitNotRecovered || *status == kExitResumable;
  if (options_.upset == Upset::kStop && stopped) expected = *status;
  if (*status != expected) {
    violated("I13 progress", fmt::format("exit status {} instead of {}", *status, expected));
  }
  if (*status == complete) check_complete();
  if (!options_.failures.any()) check_message_counts();
}

void Checkers::check_complete() {
  for (std::uint16_t stage = 0; stage < shards_.size(); ++stage) {
    for (ShardId shard{0}; shard.value < shards_[stage].size(); ++shard.value) {
      const Fate fate = sinks_[coordinator_.value]->fate(StageId{stage}, shard);
      if (fate == Fate::kOpen) {
        return violated("I7 once", name(StageId{stage}, shard) + " was never settled");
      }
      if (fate != shards_[stage][shard.value].in_events) {
        return violated("I7 once",
                        name(StageId{stage}, shard) + " is not in the event log as it is");
      }
    }
  }
  check_result();
}

void Checkers::check_result() {
  const RankSink& sink = *sinks_[coordinator_.value];
  for (std::uint16_t stage = 0; stage < shards_.size(); ++stage) {
    const std::uint64_t count = shards_[stage].size();
    OrderedMerge<Digest, JoinDigests> merged(count);
    std::optional<Digest> oracle;
    for (ShardId shard{0}; shard.value < count; ++shard.value) {
      if (sink.fate(StageId{stage}, shard) == Fate::kSkipped) {
        merged.skip(shard);
      } else {
        Digest digest = digest_of(shard, sink.value(StageId{stage}, shard));
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

std::uint64_t Checkers::shards_that_ask(StageId stage) const {
  std::uint64_t asking = 0;
  for (ShardId shard{0}; shard.value < job_->stages()[stage.value].shards; ++shard.value) {
    asking += job_->asks_registry(stage, shard) ? 1 : 0;
  }
  return asking;
}

// How long a stage takes if leases, messages and retries cost what they cost at worst, but nothing
// waits for no reason.
Nanoseconds Checkers::stage_time(StageId stage) const {
  const StagePlan& plan = job_->stages()[stage.value];
  const auto ranks = workers();
  // All may be with the slow rank; each step waits for halos, and for totals after them.
  if (plan.kind == StageKind::kIterate) {
    Nanoseconds work = 0;
    for (ShardId cell{0}; cell.value < plan.shards; ++cell.value) {
      work += job_->cost(stage, cell) + 2 * PretendExecutor::kAbsorbTime;
    }
    const Nanoseconds slow = options_.slow_rank ? options_.slowness : 1;
    const Nanoseconds exchange = 4 * (options_.network.delay_max + 2 * options_.tick_period);
    return static_cast<Nanoseconds>(job_->options().steps + 3) * (work * slow + exchange);
  }
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
  const auto asking =
      static_cast<Nanoseconds>(options_.job.registry == 0 ? 0 : shards_that_ask(stage) * tries_max);
  waiting +=
      asking * (RegistryUser::kCallsOfShardMax * 2 * round_trip + RegistryUser::kWatchTimeMax);
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
  const CheckpointOptions& checkpoints = options_.schedule.checkpoints;
  if (options_.upset == Upset::kStop) time_bound_ += checkpoints.grace;
  time_bound_ += 4 * options_.failures.disk_delay;
  // After each failure all may have to be done again, by fewer.
  const FailureOptions& failures = options_.failures;
  if (!failures.any()) return;
  const Nanoseconds undisturbed = time_bound_;
  for (const Fault& fault : failures.faults) {
    time_bound_ += fault.at + fault.duration + undisturbed * options_.ranks +
                   failures.suspect_after + 2 * Membership::kPatience;
  }
  for (const Partition& partition : failures.partitions) {
    // What is said of a link comes once in kStallTimeout, and is to be said for as long. Those that
    // do not hear may be left out and come back in turns.
    const auto deaf = static_cast<Nanoseconds>(partition.to.size());
    const Nanoseconds noticed =
        partition.for_good ? 4 * Node::kStallTimeout * deaf : partition.duration;
    time_bound_ += partition.at + noticed + undisturbed * options_.ranks + failures.suspect_after +
                   2 * Membership::kPatience;
  }
  const auto lost = std::ranges::count(failures.faults, Fault::Kind::kLoseFrame, &Fault::kind) +
                    std::ranges::count(failures.faults, Fault::Kind::kLoseBulk, &Fault::kind);
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
