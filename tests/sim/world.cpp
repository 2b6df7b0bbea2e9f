#include "tests/sim/world.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "runtime/protocol/agreement.hpp"
#include "runtime/protocol/check.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup::sim {
namespace {

// Streams of chance.
constexpr std::uint64_t kRanksStream = 1, kNetworkStream = 2, kFailureStream = 3, kRareStream = 4,
                        kDiskStream = 5, kBulkStream = 6;
// Later than any run ends.
constexpr Nanoseconds kNever = 1'000'000 * kSecond;
constexpr double kClockRateError = 100e-6;
constexpr double kTickSkew = 0.2;
// Of a bulk transfer: what a byte takes, and how often it comes damaged where copies of frames do.
constexpr double kBulkByteTime = 0.5;
constexpr double kBulkDamage = 0.1;

std::uint64_t first_word(std::span<const std::byte> bytes) {
  std::uint64_t word = 0;
  std::memcpy(&word, bytes.data(), std::min(bytes.size(), sizeof word));
  return word;
}

const char* name_of(WorkKind kind) {
  switch (kind) {
    case WorkKind::kDescribe:
      return "describe";
    case WorkKind::kOpen:
      return "open";
    case WorkKind::kRun:
      return "run";
    case WorkKind::kAbsorb:
      return "absorb";
    case WorkKind::kSave:
      return "save";
    case WorkKind::kRestore:
      return "restore";
    case WorkKind::kForget:
      return "forget";
    case WorkKind::kBegin:
      return "begin";
    case WorkKind::kStep:
      return "step";
    case WorkKind::kFinalize:
      return "finalize";
  }
  return "?";
}

}  // namespace

World::World(const WorldOptions& options, PretendDisk& disk)
    : options_(options),
      job_(options.job, options.schedule.attempts_max),
      cell_failures_left_(options.job.cell_failures),
      checkers_(options_, job_),
      agreement_(options.ranks, checkers_),
      bulk_checker_([this](const char* invariant, const std::string& what) {
        checkers_.violated(invariant, what);
      }),
      ranks_(options.ranks),
      network_random_(options.seed, kNetworkStream),
      failure_random_(options.seed, kFailureStream),
      rare_random_(options.seed, kRareStream),
      disk_random_(options.seed, kDiskStream),
      bulk_random_(options.seed, kBulkStream),
      disk_(&disk),
      ranks_running_(options.ranks) {
  REGROUP_CHECK(options.ranks >= 1 && options.ranks <= kRanksMax, "a world of 1 to 1,000 ranks");
  if (!options.network.reorders)
    link_free_at_.resize(std::size_t{options.ranks} * options.ranks, 0);
  report_.control.resize(options.ranks);
  Random random(options.seed, kRanksStream);
  for (std::uint32_t i = 0; i < options.ranks; ++i) {
    Rank& rank = ranks_[i];
    rank.clock_offset = static_cast<Nanoseconds>(random.below(kSecond));
    rank.clock_rate = 1 + kClockRateError * (2 * random.unit() - 1);
    rank.tick_period = static_cast<Nanoseconds>(static_cast<double>(options.tick_period) *
                                                (1 + kTickSkew * (2 * random.unit() - 1)));
    const auto start = static_cast<Nanoseconds>(random.below(options.start_spread + 1));
    const auto open_time = static_cast<Nanoseconds>(random.below(options.open_time_max + 1));
    const RankId self{i};
    const Upset upset = options.upset_rank == self ? options.upset : Upset::kNone;
    const std::uint32_t slowness = options.slow_rank == self ? options.slowness : 1;
    rank.executor = std::make_unique<PretendExecutor>(job_, self, slowness, open_time, upset,
                                                      cell_failures_left_);
    rank.user = std::make_unique<RegistryUser>(job_, self, options.launch);
    make_rank(self);
    schedule({.time = start, .kind = Kind::kStart, .rank = self});
  }
  if (options.upset == Upset::kStop) {
    schedule(
        {.time = options.start_spread + options.stop_at, .kind = Kind::kStop, .rank = RankId{0}});
  }
  for (const Nanoseconds at : options.checkpoint_wishes) {
    schedule({.time = options.start_spread + at, .kind = Kind::kWish, .rank = RankId{0}});
  }
  if (options.power_off_at) schedule({.time = *options.power_off_at, .kind = Kind::kPowerOff});
  for (std::uint32_t i = 0; i < options.failures.faults.size(); ++i) {
    const Fault& fault = options.failures.faults[i];
    schedule({.time = fault.at, .kind = Kind::kFault, .rank = fault.rank, .fault = i});
  }
  const auto& partitions = options_.failures.partitions;
  if (!partitions.empty()) {
    blocked_until_.resize(std::size_t{options.ranks} * options.ranks, 0);
    silent_until_.resize(blocked_until_.size(), 0);
  }
  for (std::uint32_t i = 0; i < partitions.size(); ++i) {
    schedule({.time = partitions[i].at, .kind = Kind::kPartition, .fault = i});
  }
  observe_options();
}

void World::make_rank(RankId self) {
  const NodeOptions node_options{.self = self,
                                 .ranks = options_.ranks,
                                 .vector_clocks = options_.vector_clocks,
                                 .events = EventLevel::kMessages,
                                 .give_up_after = options_.failures.give_up_after,
                                 .tree = options_.tree};
  Buffer description;
  if (self == RankId{0}) description = Buffer(std::as_bytes(std::span(kDescription)));
  auto service =
      std::make_unique<BulkUser>(options_.schedule, checkers_.sink(self), std::move(description),
                                 options_.bulk, options_.seed, self, bulk_checker_);
  ranks_[self.value].node = std::make_unique<Node>(node_options, std::move(service), pool_);
}

Nanoseconds World::local_time(const Rank& rank) const {
  return rank.clock_offset + static_cast<Nanoseconds>(static_cast<double>(now_) * rank.clock_rate);
}

// ---- the queue of what will happen ----

Report World::run() {
  const Nanoseconds time_bound = checkers_.time_bound();
  const std::uint64_t steps_bound = checkers_.step_bound();
  while (ranks_running_ != 0 && !checkers_.violation() && !report_.powered_off) {
    std::ranges::pop_heap(queue_, Later{});
    const Happening next = queue_.back();
    queue_.pop_back();
    now_ = next.time;
    checkers_.at_time(now_, next.rank);
    bulk_checker_.at_time(now_);
    if (now_ > time_bound) {
      checkers_.out_of_bounds(fmt::format("the run should have ended by {:.3f} ms",
                                          static_cast<double>(time_bound) / 1e6));
    } else if (report_.steps > steps_bound) {
      checkers_.out_of_bounds(fmt::format("the run takes more than {} steps", steps_bound));
    } else {
      happen(next);
    }
  }
  const bool over = !report_.powered_off;
  if (over && !checkers_.violation()) checkers_.run_ended();
  if (over && !checkers_.violation()) agreement_.run_ended();
  const bool peaceful = !options_.failures.any() && options_.network.damage == 0;
  if (over && peaceful && !checkers_.violation()) bulk_checker_.ended_in_peace();
  report_.probes.hit(Probe::kBulkDelivered, bulk_checker_.delivered());
  report_.probes.add(checkers_.registry().probes());
  report_.probes.add(agreement_.probes());
  report_.violation = checkers_.violation();
  report_.virtual_time = now_;
  report_.time_bound = time_bound;
  return std::move(report_);
}

void World::schedule(Happening happening) {
  happening.number = happenings_++;
  queue_.push_back(happening);
  std::ranges::push_heap(queue_, Later{});
}

void World::happen(const Happening& happening) {
  note(static_cast<std::uint64_t>(happening.time));
  note(static_cast<std::uint64_t>(happening.kind) << 32 | happening.rank.value);
  if (options_.trace) trace(happening);
  const Rank& rank = ranks_[happening.rank.value];
  const bool befalls = happening.kind == Kind::kFault || happening.kind == Kind::kPartition;
  if (rank.paused_until > now_ && !befalls) {
    Happening later = happening;
    later.time = rank.paused_until;
    return schedule(later);
  }
  switch (happening.kind) {
    case Kind::kStart:
      return start(happening.rank);
    case Kind::kTick:
      return tick(happening.rank);
    case Kind::kFrame:
      return finds_time(happening) ? frame_arrives(happening) : void();
    case Kind::kComputed:
      return computed(happening.rank);
    case Kind::kStop:
      if (ranks_[happening.rank.value].ended) return;
      report_.probes.hit(Probe::kStopped);
      return step(happening.rank, WishArrived{options_.stop_wish, "stopped by the simulator"});
    case Kind::kFault:
      return befall(options_.failures.faults[happening.fault]);
    case Kind::kEvidence:
      if (rank.ended) return;
      if (happening.evidence == EvidenceKind::kTrusted &&
          seems_dead(happening.from, happening.rank)) {
        return;
      }
      if (!rank.started) return ranks_[happening.rank.value].before_start.push_back(happening);
      return step(happening.rank, PeerEvidence{happening.from, happening.evidence});
    case Kind::kFenced:
      return fenced(happening.rank);
    case Kind::kPartition:
      return part(options_.failures.partitions[happening.fault]);
    case Kind::kAsk:
      return ask_registry(happening.rank);
    case Kind::kWish:
      if (rank.ended || !rank.started) return;
      report_.probes.hit(Probe::kCheckpointWished);
      return step(happening.rank, WishArrived{Wish::kCheckpoint, "asked by the simulator"});
    case Kind::kDisk:
      return disk_done(happening.rank);
    case Kind::kPowerOff:
      report_.probes.hit(Probe::kPoweredOff);
      report_.powered_off = true;
      return;
    case Kind::kBulkMoves:
      return bulk_moves(happening);
    case Kind::kBulkLeaves:
      return bulk_leaves(happening);
    case Kind::kBulkComes:
      return bulk_comes(happening);
  }
}

// ---- failures ----

void World::befall(const Fault& fault) {
  Rank& rank = ranks_[fault.rank.value];
  if (rank.ended) return;
  const FailureOptions& failures = options_.failures;
  switch (fault.kind) {
    case Fault::Kind::kKill:
      return kill(fault.rank);
    case Fault::Kind::kKillSending:
      rank.dies_sending = &fault;
      return;
    case Fault::Kind::kLoseFrame:
      ++rank.frames_to_lose;
      return;
    case Fault::Kind::kLoseBulk:
      ++rank.bulks_to_lose;
      return;
    case Fault::Kind::kDoubt:
      report_.probes.hit(Probe::kDoubted);
      show_evidence(fault.rank, EvidenceKind::kSuspected, 0, failures.evidence_delay_max, 0.5);
      show_evidence(fault.rank, EvidenceKind::kTrusted, fault.duration, failures.evidence_delay_max,
                    1);
      return;
    case Fault::Kind::kPause:
      break;
  }
  report_.probes.hit(Probe::kPaused);
  rank.paused_until = std::max(rank.paused_until, now_ + fault.duration);
  if (fault.duration <= failures.suspect_after) return;
  report_.probes.hit(Probe::kFalselySuspected);
  show_evidence(fault.rank, EvidenceKind::kSuspected, failures.suspect_after,
                failures.suspect_after / 4, 1);
  show_evidence(fault.rank, EvidenceKind::kTrusted, fault.duration, failures.evidence_delay_max, 1);
}

// Whether it is its time to die: then some of the frames of this step are gone with it.
bool World::dies_sending(RankId id) {
  const Fault* fault = ranks_[id.value].dies_sending;
  if (!fault || output_.frames.empty()) return false;
  const auto is_meant = [&](const OutgoingFrame& frame) {
    const auto opened = open_frame(frame.bytes.view());
    return !fault->sending || (opened && opened->header.kind == *fault->sending);
  };
  if (std::ranges::none_of(output_.frames, is_meant)) return false;
  report_.probes.hit(Probe::kKilledSending);
  output_.frames.resize(rare_random_.below(output_.frames.size() + 1));
  return true;
}

// The frames of now on are held or lost; who hears nothing suspects, and trusts again afterwards.
void World::part(const Partition& partition) {
  report_.probes.hit(Probe::kPartitioned);
  const FailureOptions& failures = options_.failures;
  const Nanoseconds heals_at = partition.for_good ? kNever : now_ + partition.duration;
  if (partition.for_good) agreement_.cut(partition.from, partition.to);
  const auto soon = [&](Nanoseconds at_most) {
    return static_cast<Nanoseconds>(rare_random_.below(static_cast<std::uint64_t>(at_most) + 1));
  };
  for (const RankId from : partition.from) {
    for (const RankId to : partition.to) {
      if (from == to) continue;
      Nanoseconds& until = blocked_until(from, to);
      until = std::max(until, heals_at);
      if (partition.noticed) {
        report_.probes.hit(Probe::kLinkBroken);
        schedule({.time = now_ + soon(failures.evidence_delay_max),
                  .kind = Kind::kEvidence,
                  .rank = from,
                  .from = to,
                  .evidence = EvidenceKind::kUnreachable});
      }
      if (partition.for_good) continue;
      Nanoseconds& silent = silent_until_[std::size_t{from.value} * options_.ranks + to.value];
      silent = std::max(silent, heals_at);
      if (partition.duration <= failures.suspect_after) continue;
      Happening evidence{.time = now_ + failures.suspect_after + soon(failures.suspect_after / 4),
                         .kind = Kind::kEvidence,
                         .rank = to,
                         .from = from,
                         .evidence = EvidenceKind::kSuspected};
      schedule(evidence);
      evidence.time = heals_at + soon(failures.evidence_delay_max);
      evidence.evidence = EvidenceKind::kTrusted;
      schedule(evidence);
    }
  }
}

// Whether nothing is heard of it there, so that trust is not for now.
bool World::seems_dead(RankId about, RankId to) const {
  const Rank& rank = ranks_[about.value];
  const bool silent = !silent_until_.empty() &&
                      silent_until_[std::size_t{about.value} * options_.ranks + to.value] > now_;
  return rank.ended || rank.paused_until > now_ || silent;
}

void World::kill(RankId id) {
  report_.probes.hit(Probe::kKilled);
  agreement_.rank_killed(id);
  if (!report_.first_death) report_.first_death = now_;
  Rank& rank = ranks_[id.value];
  if (rank.asks_for_another) report_.probes.hit(Probe::kKilledInTree);
  rank.ended = true;
  --ranks_running_;
  checkers_.rank_killed(id);
  const FailureOptions& failures = options_.failures;
  if (failures.only_witness) {
    schedule({.time = now_,
              .kind = Kind::kEvidence,
              .rank = *failures.only_witness,
              .from = id,
              .evidence = EvidenceKind::kConfirmed});
  } else {
    show_evidence(id, EvidenceKind::kConfirmed, 0, failures.evidence_delay_max, failures.witnesses);
  }
  if (failures.broken_connections != 0) {
    report_.probes.hit(Probe::kConnectionsBroke);
    show_evidence(id, EvidenceKind::kUnreachable, 0, failures.evidence_delay_max,
                  failures.broken_connections);
  }
  show_evidence(id, EvidenceKind::kSuspected, failures.suspect_after, failures.suspect_after / 4,
                1);
}

void World::show_evidence(RankId about, EvidenceKind kind, Nanoseconds after, Nanoseconds spread,
                          double share) {
  for (std::uint32_t i = 0; i < options_.ranks; ++i) {
    if (RankId{i} == about || !failure_random_.chance(share)) continue;
    const auto delay =
        static_cast<Nanoseconds>(failure_random_.below(static_cast<std::uint64_t>(spread) + 1));
    Nanoseconds time = now_ + after + delay;
    // A detector takes back what it has said, and not what it is yet to say.
    Nanoseconds& doubted_at = doubted_at_[{RankId{i}, about}];
    if (kind == EvidenceKind::kSuspected) doubted_at = std::max(doubted_at, time);
    if (kind == EvidenceKind::kTrusted) time = std::max(time, doubted_at + 1);
    schedule({.time = time,
              .kind = Kind::kEvidence,
              .rank = RankId{i},
              .from = about,
              .evidence = kind});
  }
}

void World::ask_fence(RankId id, FenceRequest request) {
  Rank& rank = ranks_[id.value];
  if (rank.fence) return;  // the same again, before the first was answered
  rank.fence = std::move(request);
  const Nanoseconds delay = options_.failures.disk_delay;
  schedule({.time = now_ + delay / 2 +
                    static_cast<Nanoseconds>(
                        failure_random_.below(static_cast<std::uint64_t>(delay) + 1)),
            .kind = Kind::kFenced,
            .rank = id});
}

void World::fenced(RankId id) {
  Rank& rank = ranks_[id.value];
  FenceRequest request = std::move(*rank.fence);
  rank.fence.reset();
  if (rank.ended) return;
  FenceAnswer answer{request.epoch, {}};
  if (failure_random_.chance(options_.failures.disk_error)) {
    report_.probes.hit(Probe::kFenceFailed);
  } else {
    const auto [held, taken] = fences_.try_emplace(request.epoch, Buffer(request.content.view()));
    if (taken) {
      agreement_.token_made(request.epoch, held->second.view());
    } else {
      report_.probes.hit(Probe::kFenceTaken);
    }
    if (rare_random_.chance(options_.failures.rare.token_lost)) {
      report_.probes.hit(Probe::kTokenLost);
    } else {
      answer.content.emplace(held->second.view());
    }
  }
  step(id, std::move(answer));
}

// ---- checkpoints ----

void World::ask_disk(RankId id, DiskRequest request) {
  Rank& rank = ranks_[id.value];
  rank.disk.push_back(std::move(request));
  if (rank.disk.size() == 1) carry_out_next(id);
}

void World::carry_out_next(RankId id) {
  const Nanoseconds delay = options_.failures.disk_delay;
  schedule(
      {.time = now_ + delay / 2 +
               static_cast<Nanoseconds>(disk_random_.below(static_cast<std::uint64_t>(delay) + 1)),
       .kind = Kind::kDisk,
       .rank = id});
}

// Of a rank that was killed nobody knows whether its disk still did what it was asked.
void World::disk_done(RankId id) {
  Rank& rank = ranks_[id.value];
  DiskRequest request = std::move(rank.disk.front());
  rank.disk.pop_front();
  if (rank.ended && disk_random_.chance(0.5)) return;
  const bool superseded = fences_.contains(Epoch{request.epoch.value + 1});
  const bool fails = disk_random_.chance(options_.failures.disk_error);
  DiskAnswer answer =
      fails ? PretendDisk::fail(request) : disk_->carry_out(id, request, superseded);
  if (fails) report_.probes.hit(Probe::kCheckpointFailed);
  if (rank.ended) return;
  if (!rank.disk.empty()) carry_out_next(id);
  step(id, DiskAnswered{&answer});
}

// I11: what somebody was told is sealed is there, and whoever coordinates later knows.
void World::observe_checkpoints(RankId id) {
  for (const Event& event : output_.events) {
    const CheckpointNumber number{event.a};
    if (event.kind == EventKind::kSeal) {
      report_.probes.hit(Probe::kCheckpointSealed);
      if (number > disk_->told()) told_in_ = checkers_.epoch_of(id);
      disk_->told(number);
      if (disk_->newest() < number) checkers_.violated("I11 checkpoints", "sealed, and not there");
    }
    if (event.kind == EventKind::kRestore) {
      report_.probes.hit(Probe::kRestored);
      if (number < disk_->told()) checkers_.violated("I11 checkpoints", "an older one is loaded");
    }
    if (event.kind != EventKind::kElect || disk_->told().value == 0) continue;
    const auto progress = static_cast<Scheduler&>(ranks_[id.value].node->service()).progress();
    if (!progress || CheckpointNumber{progress->checkpoints.newest} >= disk_->told()) continue;
    checkers_.forgot_checkpoint(id, told_in_);
  }
}

// ---- the life of a rank ----

void World::start(RankId id) {
  Rank& rank = ranks_[id.value];
  if (rank.ended) return;
  rank.started = true;
  ++report_.steps;
  rank.node->start(local_time(rank), output_);
  drain(id);
  for (const Happening& early : std::exchange(rank.before_start, {})) happen(early);
  tick(id);
}

void World::tick(RankId id) {
  Rank& rank = ranks_[id.value];
  if (rank.ended) return;
  step(id, Tick{local_time(rank)});
  want_work(id);
  if (rank.ended) return;
  Nanoseconds next = rank.tick_period;
  if (rare_random_.chance(options_.failures.rare.late_tick)) {
    report_.probes.hit(Probe::kLateTick);
    next += static_cast<Nanoseconds>(
        rare_random_.log_uniform(1e6, static_cast<double>(options_.failures.rare.late_max)));
  }
  schedule({.time = now_ + next, .kind = Kind::kTick, .rank = id});
}

// One frame after the other; without a cost of handling, at once.
bool World::finds_time(const Happening& happening) {
  if (options_.network.handling == 0 || happening.handled) return true;
  Rank& rank = ranks_[happening.rank.value];
  rank.handles_until = std::max(rank.handles_until, now_) + options_.network.handling;
  Happening later = happening;
  later.handled = true;
  later.time = rank.handles_until;
  schedule(later);
  return false;
}

// As the host loop does it: the frame, then a look at the clock, then, if idle, more work.
void World::frame_arrives(const Happening& happening) {
  Rank& rank = ranks_[happening.rank.value];
  if (!rank.started && !rank.ended) {
    report_.probes.hit(Probe::kFrameBeforeStart);
    rank.before_start.push_back(happening);
    return;
  }
  const Buffer bytes = std::move(slots_[happening.slot]);
  free_slots_.push_back(happening.slot);
  if (!rank.ended) {
    rank.damaged_frames += happening.damaged ? 1 : 0;
    const std::uint64_t drops_before = rank.node->drops().total();
    ++report_.steps;
    if (const auto frame = open_frame(bytes.view())) {
      count_control(happening.rank, *frame, &ControlTraffic::received);
    }
    agreement_.arrives(*rank.node, happening.from, bytes.view());
    rank.node->step(FrameArrived{happening.from, bytes.view()}, output_);
    agreement_.taken_in(output_);
    const bool received = std::ranges::any_of(
        output_.events, [](const Event& event) { return event.kind == EventKind::kReceive; });
    if (!received && rank.node->drops().total() == drops_before) {
      report_.probes.hit(Probe::kFrameHeld);
    }
    drain(happening.rank);
  }
  if (!rank.ended) step(happening.rank, Tick{local_time(rank)});
  want_work(happening.rank);
}

void World::computed(RankId id) {
  Rank& rank = ranks_[id.value];
  if (rank.ended) return;
  rank.computing = false;
  if (rank.result.kind == WorkKind::kOpen) rank.open = true;
  checkers_.order_ends(rank.result);
  if (rank.result.kind == WorkKind::kRestore) report_.probes.hit(Probe::kPartitionRestored);
  step(id, WorkFinished{&rank.result});
  if (!rank.ended) step(id, Tick{local_time(rank)});
  want_work(id);
}

// ---- one rank ----

void World::step(RankId id, const Input& input) {
  ++report_.steps;
  ranks_[id.value].node->step(input, output_);
  drain(id);
}

void World::want_work(RankId id) {
  Rank& rank = ranks_[id.value];
  if (rank.ended || rank.computing) return;
  step(id, WorkWanted{});
  if (rank.ended || !rank.order) return;
  WorkOrder order = std::move(*rank.order);
  rank.order.reset();
  checkers_.order_begins(order);
  if (order.kind == WorkKind::kFinalize) checkers_.sink(id).use_up();
  rank.computing = true;
  rank.result.restart(order);
  rank.executor->execute(order, rank.result);
  if (options_.trace) {
    fmt::print("{:14.6f} rank {} begins {} stage {} shards {}+{}\n",
               static_cast<double>(now_) / 1e6, id.value, name_of(order.kind), order.stage.value,
               order.shards.first.value, order.shards.count);
  }
  if (rare_random_.chance(options_.failures.rare.slow_order)) {
    report_.probes.hit(Probe::kSlowOrder);
    rank.result.elapsed += static_cast<Nanoseconds>(rare_random_.log_uniform(1e5, 50e6));
  }
  rank.computing_since = now_;
  rank.user->begin(order);
  ask_registry(id);
}

// The shards of an order ask the registry, one call after the other, and then compute.
void World::ask_registry(RankId id) {
  Rank& rank = ranks_[id.value];
  if (rank.ended) return;
  std::optional<RegistryCall> call = rank.user->next();
  if (!call) {
    const Nanoseconds computing = rank.result.elapsed;
    rank.result.elapsed += now_ - rank.computing_since;
    return schedule({.time = now_ + computing, .kind = Kind::kComputed, .rank = id});
  }
  step(id, Tick{local_time(rank)});
  if (rank.ended) return;
  checkers_.registry().asked(id, rank.node->view().epoch, *call);
  rank.waits_for_reply = true;
  step(id, RegistryAsked{&*call});
}

void World::take_replies(RankId id) {
  Rank& rank = ranks_[id.value];
  for (const RegistryReply& reply : output_.replies) {
    checkers_.registry().replied(id, rank.node->view().epoch, reply);
    rank.user->replied(reply);
    if (!std::exchange(rank.waits_for_reply, false)) continue;
    const Nanoseconds think =
        1 + static_cast<Nanoseconds>(scatter(reply.id) %
                                     static_cast<std::uint64_t>(RegistryUser::kThinkTime));
    schedule({.time = now_ + think, .kind = Kind::kAsk, .rank = id});
  }
}

void World::drain(RankId id) {
  Rank& rank = ranks_[id.value];
  observe_events();
  checkers_.after_step(*rank.node, output_);
  agreement_.after_step(id, *rank.node);
  observe_checkpoints(id);
  const bool dies = dies_sending(id);
  for (const BulkReceive& receive : output_.bulk_receives) {
    rank.awaits[{receive.from, receive.tag}] = pool_.take_large(receive.size);
  }
  for (OutgoingFrame& frame : output_.frames) send(id, frame);
  if (dies) {
    if (options_.trace)
      fmt::print("{:14.6f} rank {} dies\n", static_cast<double>(now_) / 1e6, id.value);
    kill(id);
    output_.clear();
    return;
  }
  for (BulkSend& send : output_.bulk_sends) begin_bulk(id, send);
  for (WorkOrder& order : output_.orders) rank.order = std::move(order);
  take_replies(id);
  if (output_.fence) agreement_.token_wanted(id, *rank.node, *output_.fence);
  if (output_.fence) ask_fence(id, std::move(*output_.fence));
  for (DiskRequest& request : output_.disk) ask_disk(id, std::move(request));
  if (output_.outcome) end_rank(id);
  output_.clear();
}

void World::end_rank(RankId id) {
  Rank& rank = ranks_[id.value];
  const DropCounters& drops = rank.node->drops();
  const auto dropped = [&](FrameError error) {
    return drops.frames[static_cast<std::size_t>(error)];
  };
  report_.probes.hit(Probe::kDuplicateDropped, drops.duplicates);
  report_.probes.hit(Probe::kTruncatedDropped, dropped(FrameError::kTruncated));
  report_.probes.hit(Probe::kOversizedDropped, dropped(FrameError::kOversized));
  report_.probes.hit(Probe::kForeignDropped, dropped(FrameError::kForeign));
  report_.probes.hit(Probe::kVersionDropped, dropped(FrameError::kVersion));
  report_.probes.hit(Probe::kDamagedDropped, dropped(FrameError::kChecksum));
  report_.probes.hit(Probe::kRevokedDropped, drops.revoked);
  report_.probes.hit(Probe::kOtherEpochDropped, drops.other_epochs);
  report_.probes.hit(Probe::kBulkDamaged, drops.bulks);
  if (output_.outcome->alone) report_.probes.hit(Probe::kCutOff);
  checkers_.rank_ended(*rank.node, *output_.outcome, rank.damaged_frames);
  agreement_.rank_ended(id, *output_.outcome);
  rank.ended = true;
  --ranks_running_;
  const Nanoseconds delay = options_.failures.evidence_delay_max;
  const auto how = output_.outcome->alone ? EvidenceKind::kConfirmed : EvidenceKind::kLeft;
  if (options_.failures.any()) show_evidence(id, how, delay, delay, 1);
  const auto progress = static_cast<Scheduler&>(rank.node->service()).progress();
  if (!progress) return;
  report_.exit_status = output_.outcome->exit_status;
  if (progress->duplicates != 0) report_.probes.hit(Probe::kResultsAfterEnd);
}

// ---- the network ----

void World::send(RankId from, OutgoingFrame& frame) {
  const auto opened = open_frame(frame.bytes.view());
  REGROUP_CHECK(opened.has_value(), "a rank sent a frame that is none");
  checkers_.sent(opened->header, frame.to, opened->body);
  agreement_.sent(from, *opened);
  observe_sent(frame.to, *opened);
  count_control(from, *opened, &ControlTraffic::sent);
  note(first_word(frame.bytes.view()));  // its checksum
  ++report_.frames;
  if (is_lost(from, frame.to, opened->header.kind)) {
    pool_.give(std::move(frame.bytes));
    return;
  }
  put_on_wire(from, frame.to, frame.bytes, false);
  if (network_random_.chance(options_.network.duplicate)) {
    Buffer copy(frame.bytes.view());
    const bool damaged = network_random_.chance(options_.network.damage);
    if (damaged) damage(copy);
    put_on_wire(from, frame.to, copy, damaged);
  }
  pool_.give(std::move(frame.bytes));
}

bool World::is_lost(RankId from, RankId to, MessageKind kind) {
  Rank& sender = ranks_[from.value];
  if (is_control(kind)) {
    const bool lost = failure_random_.chance(options_.failures.control_loss);
    if (lost) report_.probes.hit(Probe::kControlLost);
    return lost || (!blocked_until_.empty() && blocked_until(from, to) > now_);
  }
  if (sender.frames_to_lose == 0) return false;
  --sender.frames_to_lose;
  report_.probes.hit(Probe::kFrameLost);
  return true;
}

// What a frame that is sent now is late beyond what the network is worth.
Nanoseconds World::delay_of(RankId from, RankId to, bool control) {
  const RarePaths& rare = options_.failures.rare;
  Nanoseconds delay = 0;
  if (!control && !blocked_until_.empty() && blocked_until(from, to) > now_) {
    report_.probes.hit(Probe::kFrameHeldBack);
    delay = blocked_until(from, to) - now_;
  }
  if (rare_random_.chance(control ? rare.late_control : rare.late_frame)) {
    report_.probes.hit(control ? Probe::kLateControl : Probe::kLateFrame);
    delay +=
        static_cast<Nanoseconds>(rare_random_.log_uniform(1e6, static_cast<double>(rare.late_max)));
  }
  return delay;
}

// Flips a bit, more often in the header than its size would have it; or cuts off or adds a byte.
void World::damage(Buffer& bytes) {
  const std::uint64_t way = network_random_.below(8);
  if (way == 0) return bytes.resize(network_random_.below(bytes.size()));
  if (way == 1) return bytes.append(std::as_bytes(std::span("\x55", 1)));
  const std::uint64_t reach = way < 5 ? kFrameHeaderBytes : bytes.size();
  const std::uint64_t bit = network_random_.below(8 * reach);
  bytes.data()[bit / 8] ^= std::byte{1} << (bit % 8);
}

void World::put_on_wire(RankId from, RankId to, const Buffer& bytes, bool damaged) {
  const NetworkOptions& network = options_.network;
  Rank& sender = ranks_[from.value];
  if (network.handling != 0) {
    sender.handles_until = std::max(sender.handles_until, now_) + network.handling;
  }
  Nanoseconds arrival =
      (network.handling != 0 ? sender.handles_until : now_) + 1 +
      spread_out(network.spread, network_random_.unit(), network.delay, network.delay_max);
  const auto opened = open_frame(bytes.view());  // a damaged copy may not
  arrival += delay_of(from, to, opened && is_control(opened->header.kind));
  if (!network.reorders) {
    Nanoseconds& free_at = link_free_at_[std::size_t{from.value} * options_.ranks + to.value];
    arrival = free_at = std::max(arrival, free_at);
  }
  if (free_slots_.empty()) {
    free_slots_.push_back(static_cast<std::uint32_t>(slots_.size()));
    slots_.emplace_back();
  }
  const std::uint32_t slot = free_slots_.back();
  free_slots_.pop_back();
  slots_[slot] = Buffer(bytes.view());
  const std::size_t in_flight = slots_.size() - free_slots_.size();
  report_.frames_in_flight_max = std::max(report_.frames_in_flight_max, in_flight);
  checkers_.in_flight(in_flight);
  schedule({.time = arrival,
            .kind = Kind::kFrame,
            .rank = to,
            .from = from,
            .slot = slot,
            .damaged = damaged});
}

// ---- bulk transfers ----

// Both ends see it move, and hear that it is done, at times of their own. One of them, or both, may
// hear of the end never.
void World::begin_bulk(RankId from, BulkSend& send) {
  Rank& sender = ranks_[from.value];
  const auto slot = static_cast<std::uint32_t>(bulks_.size());
  note(send.tag.value);
  bulks_.push_back({from, send.to, send.tag, send.epoch, std::move(send.bytes), {}});
  Bulk& bulk = bulks_.back();
  bulk.copy = Buffer(bulk.bytes->view());
  const NetworkOptions& network = options_.network;
  const auto soon = [&] {
    return 1 + spread_out(network.spread, bulk_random_.unit(), network.delay, network.delay_max);
  };
  const Nanoseconds moves = now_ + soon() + delay_of(from, send.to, false);
  const auto takes =
      static_cast<Nanoseconds>(kBulkByteTime * static_cast<double>(bulk.copy.size()));
  schedule_bulk(Kind::kBulkMoves, slot, from, moves + takes / 2);
  schedule_bulk(Kind::kBulkMoves, slot, send.to, moves + takes / 2);
  const bool stuck = sender.bulks_to_lose != 0;
  if (stuck) {
    --sender.bulks_to_lose;
    report_.probes.hit(Probe::kBulkStuck);
  }
  const std::uint64_t lost = stuck ? bulk_random_.between(1, 3) : 0;
  if ((lost & 1) == 0) schedule_bulk(Kind::kBulkLeaves, slot, from, moves + takes + soon());
  if ((lost & 2) == 0) schedule_bulk(Kind::kBulkComes, slot, send.to, moves + takes + soon());
}

void World::schedule_bulk(Kind kind, std::uint32_t slot, RankId rank, Nanoseconds at) {
  schedule({.time = at, .kind = kind, .rank = rank, .slot = slot});
}

void World::bulk_moves(const Happening& happening) {
  const Bulk& bulk = bulks_[happening.slot];
  if (ranks_[happening.rank.value].ended) return;
  const bool out = happening.rank == bulk.from;
  step(happening.rank, BulkMoved{out ? BulkMoved::Way::kOut : BulkMoved::Way::kIn,
                                 out ? bulk.to : bulk.from, bulk.tag});
}

void World::bulk_leaves(const Happening& happening) {
  Bulk& bulk = bulks_[happening.slot];
  const auto bytes = std::exchange(bulk.bytes, nullptr);
  if (ranks_[bulk.from.value].ended) return;
  step(bulk.from, BulkSent{bulk.to, bulk.tag, hash_of_bulk(bytes->view())});
}

// Of a sender that was killed some transfers have left as a whole. That the epoch has ended is for
// the receiver to find out.
void World::bulk_comes(const Happening& happening) {
  Bulk& bulk = bulks_[happening.slot];
  Rank& receiver = ranks_[bulk.to.value];
  Buffer copy = std::move(bulk.copy);
  const auto awaited = receiver.awaits.extract({bulk.from, bulk.tag});
  REGROUP_CHECK(!awaited.empty(), "a bulk transfer that nobody waits for");
  if (receiver.ended) return;
  if (ranks_[bulk.from.value].ended && bulk_random_.chance(0.5)) {
    return report_.probes.hit(Probe::kBulkCutShort);
  }
  Buffer& bytes = awaited.mapped();
  std::ranges::copy(copy.view(), bytes.data());
  const bool damaged = options_.network.damage > 0 && bulk_random_.chance(kBulkDamage);
  if (damaged && !bytes.empty()) {
    bytes.data()[bulk_random_.below(bytes.size())] ^= std::byte{1} << bulk_random_.below(8);
  }
  if (receiver.node->view().epoch != bulk.epoch) report_.probes.hit(Probe::kBulkLate);
  const BulkHash hash = hash_of_bulk(bytes.view());
  step(bulk.to, BulkArrived{bulk.from, bulk.tag, hash, &bytes});
  if (bytes.capacity() != 0) pool_.give_large(std::move(bytes));
}

// ---- probes and trace ----

void World::observe_options() {
  Probes& probes = report_.probes;
  if (options_.ranks == 1) probes.hit(Probe::kLoneRank);
  const FailureOptions& failures = options_.failures;
  if (failures.faults.size() + failures.partitions.size() >= 10) probes.hit(Probe::kManyFaults);
  if (options_.slow_rank) probes.hit(Probe::kSlowRank);
  if (!options_.schedule.coordinator_computes && options_.ranks > 1) {
    probes.hit(Probe::kCoordinatorOnly);
  }
  for (const StagePlan& stage : job_.stages()) {
    if (stage.shards == 0) probes.hit(Probe::kStageWithoutShards);
  }
  if (options_.upset == Upset::kOpenFails) probes.hit(Probe::kOpenFailed);
  if (options_.upset == Upset::kOtherJob) probes.hit(Probe::kJobsDiffer);
  if (options_.upset == Upset::kFinalizeFails) probes.hit(Probe::kFinalizeFailed);
}

void World::observe_sent(RankId to, const Frame& frame) {
  Probes& probes = report_.probes;
  if (frame.header.flags & kFlagMoreFollows) probes.hit(Probe::kMessageFragmented);
  Reader reader(frame.body);
  observe_agreement(frame);
  switch (frame.header.kind) {
    case MessageKind::kRecall:
      probes.hit(Probe::kRecall);
      return;
    case MessageKind::kReturned:
      reader.get<StageId>();
      probes.hit(reader.get<std::uint32_t>() ? Probe::kRecallGaveShards
                                             : Probe::kRecallGaveNothing);
      return;
    case MessageKind::kStealRequest:
      ranks_[frame.header.from.value].asked_in_stage = reader.get<StageId>();
      return;
    case MessageKind::kStealReply:
      if (reader.get<StageId>() != ranks_[to.value].asked_in_stage) {
        probes.hit(Probe::kStealOfOtherStage);
      }
      probes.hit(reader.get<std::uint32_t>() ? Probe::kStealSucceeded : Probe::kStealMissed);
      return;
    case MessageKind::kRefuse:
      probes.hit(Probe::kBallotRefused);
      return;
    case MessageKind::kLedgerWanted:
      probes.hit(Probe::kCaughtUp);
      return;
    case MessageKind::kLedger:
      reader.get<LedgerPosition>();
      probes.hit(reader.get<LedgerForm>() == LedgerForm::kState ? Probe::kStateReplicated
                                                                : Probe::kRecordsReplicated);
      return;
    case MessageKind::kAcknowledge:
      probes.hit(Probe::kReportsAcknowledged);
      return;
    case MessageKind::kCopyKept:
      observe_verdict(reader);
      return;
    case MessageKind::kCopyBack:
      observe_copy_back(to, frame);
      return;
    case MessageKind::kCells:
    case MessageKind::kCellNews:
    case MessageKind::kCellCopyWanted:
    case MessageKind::kTotals:
    case MessageKind::kCellCopyKept:
      return observe_cells(frame);
    case MessageKind::kAnnounce:
      reader.get<StageId>();
      if (reader.get_range().count != 0) probes.hit(Probe::kRunningAnnounced);
      return;
    default:
      return;
  }
}

void World::observe_verdict(Reader reader) {
  reader.get<StageId>();
  reader.get<std::uint32_t>();
  reader.get<std::uint64_t>();
  observe_verdict_of(reader.get<CopyVerdict>());
}

void World::observe_verdict_of(CopyVerdict verdict) {
  switch (verdict) {
    case CopyVerdict::kKept:
      return report_.probes.hit(Probe::kCopyKept);
    case CopyVerdict::kNoRoom:
      return report_.probes.hit(Probe::kCopyNoRoom);
    case CopyVerdict::kDamaged:
      if (options_.network.damage == 0) {
        checkers_.violated("I6 delivery", "a copy came damaged to a partner");
      }
      return report_.probes.hit(Probe::kCopyDamaged);
    case CopyVerdict::kNotNow:
      return report_.probes.hit(Probe::kCopyNotNow);
  }
}

void World::observe_cells(const Frame& frame) {
  Probes& probes = report_.probes;
  Reader reader(frame.body);
  const auto stage = reader.get<StageId>();
  if (frame.header.kind == MessageKind::kCellCopyKept) {
    reader.get<std::uint32_t>();
    reader.get<std::uint64_t>();
    return observe_verdict_of(reader.get<CopyVerdict>());
  }
  if (frame.header.kind == MessageKind::kCellCopyWanted) {
    ranks_[frame.header.from.value].copies_from_others.insert({stage, reader.get<std::uint32_t>()});
    return;
  }
  const CellRound round = get_cell_round(reader);
  if (frame.header.kind == MessageKind::kTotals) return probes.hit(Probe::kTotalsAdded);
  if (frame.header.kind == MessageKind::kCells) {
    if (round == CellRound{0, 1}) return;
    switch (reader.get<CellStart>()) {
      case CellStart::kBegin:
        return probes.hit(Probe::kCellsBegunAgain);
      case CellStart::kMemory:
        return probes.hit(Probe::kCellsSetBack);
      case CellStart::kFile:
        return probes.hit(Probe::kCellsSetToFile);
    }
    return;
  }
  switch (reader.get<CellNews>()) {
    case CellNews::kKept:
      return probes.hit(Probe::kCellsKept);
    case CellNews::kMissed:
      return probes.hit(Probe::kCellsMissed);
    case CellNews::kFailed:
      return probes.hit(Probe::kCellFailed);
    default:
      return;
  }
}

// An answer without a copy counts as well, which the simulator never saw.
void World::observe_copy_back(RankId to, const Frame& frame) {
  Reader reader(frame.body);
  const auto stage = reader.get<StageId>();
  ranks_[to.value].copies_from_others.insert({stage, reader.get<std::uint32_t>()});
}

void World::observe_regained(const Event& event) {
  const bool by_message = ranks_[event.rank.value].copies_from_others.erase(
                              {event.stage, static_cast<std::uint32_t>(event.a)}) != 0;
  if (job_.stages()[event.stage.value].kind == StageKind::kIterate) {
    if (static_cast<RegainedFrom>(event.b) != RegainedFrom::kPartner) return;
    return report_.probes.hit(by_message ? Probe::kCellRegainedElsewhere
                                         : Probe::kCellRegainedHere);
  }
  switch (static_cast<RegainedFrom>(event.b)) {
    case RegainedFrom::kSnapshot:
      return report_.probes.hit(Probe::kRegainedSnapshot);
    case RegainedFrom::kPartner:
      return report_.probes.hit(by_message ? Probe::kRegainedCopyElsewhere
                                           : Probe::kRegainedCopyHere);
    case RegainedFrom::kFile:
      return report_.probes.hit(Probe::kRegainedFile);
  }
}

// What is carried by a tree.
void World::observe_agreement(const Frame& frame) {
  Probes& probes = report_.probes;
  Rank& rank = ranks_[frame.header.from.value];
  Reader reader(frame.body);
  const auto last = [&] { return get_other_ranks(reader, options_.ranks).value_or(RankSet()); };
  switch (frame.header.kind) {
    case MessageKind::kPrepare:
    case MessageKind::kAccept:
      reader.get<Epoch>();
      rank.asks_for_another = proposer_of(reader.get<Ballot>()) != frame.header.from;
      if (rank.asks_for_another) probes.hit(Probe::kRequestPassedOn);
      return;
    case MessageKind::kPromise:
      rank.asks_for_another = false;
      return;
    case MessageKind::kAccepted:
      rank.asks_for_another = false;
      reader.get<Epoch>();
      reader.get<Ballot>();
      if (!last().empty()) probes.hit(Probe::kAnswersMerged);
      return;
    case MessageKind::kDecide:
      rank.asks_for_another = false;
      (void)get_view(reader, options_.ranks);
      if (!last().empty()) probes.hit(Probe::kDecisionPassedOn);
      return;
    default:
      return;
  }
}

void World::count_control(RankId rank, const Frame& frame, std::uint64_t ControlTraffic::*way) {
  const MessageKind kind = frame.header.kind;
  if (!report_.first_death || !is_control(kind) || kind == MessageKind::kLinkStatus) return;
  ControlTraffic& traffic = report_.control[rank.value];
  ++(traffic.*way);
  if (kind == MessageKind::kRevoke) ++traffic.revokes;
  traffic.bytes += kFrameHeaderBytes + frame.body.size();
}

void World::observe_events() {
  for (const Event& event : output_.events) {
    note(static_cast<std::uint64_t>(event.kind) << 32 | event.rank.value);
    note(event.lamport);
    note(event.a);
    note(event.b);
    if (options_.trace && event.kind >= EventKind::kLease && event.kind <= EventKind::kReturn) {
      constexpr const char* kWhat[] = {"leases", "commits", "retries", "gives up", "takes back"};
      fmt::print(
          "{:14.6f} rank {} {} {}+{} (rank {})\n", static_cast<double>(now_) / 1e6,
          event.rank.value,
          kWhat[static_cast<std::size_t>(event.kind) - static_cast<std::size_t>(EventKind::kLease)],
          event.a, event.b, event.peer.value);
    }
    if (options_.trace && event.kind == EventKind::kView) {
      std::string members;
      for (const RankId member : ranks_[event.rank.value].node->view().members) {
        members += fmt::format(" {}", member.value);
      }
      fmt::print("{:14.6f} rank {} enters view {} of{}, coordinator {}\n",
                 static_cast<double>(now_) / 1e6, event.rank.value, event.a, members,
                 event.peer.value);
    }
    if (event.kind == EventKind::kView) {
      report_.probes.hit(Probe::kViewInstalled);
      report_.last_view = now_;
      const View& view = ranks_[event.rank.value].node->view();
      if (view.joined.contains(event.rank)) report_.probes.hit(Probe::kRankCameBack);
    }
    if (event.kind == EventKind::kElect) {
      report_.probes.hit(Probe::kCoordinatorLost);
      report_.probes.hit(event.a == 0 ? Probe::kBegunAnew : Probe::kTakenOver);
      if (options_.trace) {
        fmt::print("{:14.6f} rank {} takes over in stage {} at position {}\n",
                   static_cast<double>(now_) / 1e6, event.rank.value, event.stage.value, event.a);
      }
    }
    if (event.kind == EventKind::kRegain) observe_regained(event);
    if (event.kind == EventKind::kRound) report_.probes.hit(Probe::kRoundBegun);
    if (event.kind == EventKind::kKeep) report_.probes.hit(Probe::kShardsKept, event.b);
    if (event.kind == EventKind::kRetry) report_.probes.hit(Probe::kRetry);
    if (event.kind == EventKind::kQuarantine) report_.probes.hit(Probe::kQuarantine);
  }
}

namespace {

std::string to_text(const RankSet& ranks) {
  std::string text = "ranks";
  for (const RankId rank : ranks) text += fmt::format(" {}", rank.value);
  return text;
}

}  // namespace

void World::trace(const Happening& happening) {
  constexpr const char* kNames[] = {"starts",
                                    "ticks",
                                    "frame",
                                    "computed",
                                    "is stopped",
                                    "befallen",
                                    "evidence",
                                    "fenced",
                                    "parted",
                                    "asks",
                                    "is asked for a checkpoint",
                                    "has its disk's answer",
                                    "and all others lose power",
                                    "sees a bulk transfer move",
                                    "has sent a bulk transfer",
                                    "has received a bulk transfer"};
  if (happening.kind == Kind::kPartition) {
    const Partition& parted = options_.failures.partitions[happening.fault];
    return fmt::print(
        "{:14.6f} nothing gets from {} to {} {}\n", static_cast<double>(now_) / 1e6,
        to_text(parted.from), to_text(parted.to),
        parted.for_good ? "for good, but heartbeats"
                        : fmt::format("for {:.3f} ms", static_cast<double>(parted.duration) / 1e6));
  }
  if (happening.kind == Kind::kTick || ranks_[happening.rank.value].paused_until > now_) return;
  fmt::print("{:14.6f} rank {} {}", static_cast<double>(now_) / 1e6, happening.rank.value,
             kNames[static_cast<std::size_t>(happening.kind)]);
  if (happening.kind == Kind::kFrame) {
    const auto frame = open_frame(slots_[happening.slot].view());
    fmt::print(" from {}", happening.from.value);
    if (frame) {
      fmt::print(" kind {} epoch {} sequence {} bytes {}", static_cast<int>(frame->header.kind),
                 frame->header.epoch.value, frame->header.sequence, slots_[happening.slot].size());
    } else {
      fmt::print(" {}", describe(frame.error()));
    }
  }
  if (happening.kind == Kind::kEvidence) {
    constexpr const char* kSays[] = {"dead", "silent", "heard again", "leaves", "cut off"};
    fmt::print(": rank {} {}", happening.from.value,
               kSays[static_cast<std::size_t>(happening.evidence)]);
  }
  if (happening.kind == Kind::kFault) {
    const Fault& fault = options_.failures.faults[happening.fault];
    constexpr const char* kFaults[] = {
        "killed", "paused", "dies when it sends", "loses a frame", "loses a bulk transfer",
        "doubted"};
    fmt::print(": {}, {:.3f} ms", kFaults[static_cast<std::size_t>(fault.kind)],
               static_cast<double>(fault.duration) / 1e6);
  }
  fmt::print("\n");
}

namespace {

// Another cluster that goes on: of as many ranks as come next, at peace.
WorldOptions next_launch(const WorldOptions& options, const PretendDisk& disk,
                         std::uint32_t launch) {
  WorldOptions next = options;
  next.launch = launch;
  next.seed = scatter({options.seed, launch});
  next.ranks = 1 + static_cast<std::uint32_t>(next.seed % 9);
  next.failures = {};
  next.failures.disk_delay = options.failures.disk_delay;
  next.upset = Upset::kNone;
  next.slow_rank.reset();
  next.checkpoint_wishes.clear();
  next.power_off_at.reset();
  next.schedule.checkpoints.resume = disk.newest().value != 0;
  next.schedule.launch = launch;
  return next;
}

}  // namespace

Report simulate(const WorldOptions& options) {
  constexpr int kExitResumable = 75;
  PretendDisk disk;
  Report report = World(options, disk).run();
  for (std::uint32_t launch = 1; launch < options.launches_max && !report.violation; ++launch) {
    if (!report.powered_off && report.exit_status != kExitResumable) break;
    Report next = World(next_launch(options, disk, launch), disk).run();
    next.trace_hash = scatter({report.trace_hash, next.trace_hash});
    next.steps += report.steps;
    next.virtual_time += report.virtual_time;
    next.time_bound += report.time_bound;
    next.probes.add(report.probes);
    next.probes.hit(Probe::kLaunchedAgain);
    report = std::move(next);
  }
  return report;
}

}  // namespace regroup::sim
