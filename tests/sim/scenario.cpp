#include "tests/sim/scenario.hpp"

#include <algorithm>
#include <csignal>
#include <cstdio>

#include <fmt/format.h>

#include "runtime/protocol/planted.hpp"
#include "tests/sim/broken_check.hpp"
#include "tests/sim/random.hpp"

namespace regroup::sim {
namespace {

constexpr std::uint64_t kClusterStream = 11, kScheduleStream = 12, kNetworkStream = 13,
                        kJobStream = 14, kUpsetStream = 15, kFailuresStream = 16, kStormStream = 17,
                        kRareStream = 18, kTreeStream = 19, kDeafStream = 20,
                        kRegistryFaultsStream = 21, kDeadLinkStream = 23, kCopyFaultsStream = 24;
// Chosen so that seeds which were kept before these came are what they were.
constexpr std::uint64_t kRegistryStream = 381, kCheckpointStream = 15324, kBulkStream = 2468,
                        kCopiesStream = 437838, kIterateStream = 372, kMoreOfCellsStream = 373,
                        kBrokenStream = 595;
// Keep one run short: virtual computing time of a whole rank, and the number of shards.
constexpr double kRankTimeMax = 150e6;
constexpr double kShardsMax = 2000;
// How many runs use the registry, and in how many shards of a stage at most.
constexpr double kRunsThatAsk = 0.4, kShardsThatAsk = 60;
constexpr std::uint64_t kBulkTransfersMax = 12;
constexpr double kRunsThatIterate = 0.12, kStepsMax = 100;
constexpr std::uint64_t kCellsMax = 20;
constexpr Nanoseconds kTickOfLongRuns = 2 * kMillisecond;
// In a cluster of more ranks than this every failure is told to so many that few must do.
constexpr std::uint32_t kRanksOfStormMax = 64, kFaultsOfLargeWorld = 64, kFaultsOfHugeWorld = 6;

NetworkOptions draw_network(Random random) {
  NetworkOptions network;
  network.spread = random.pick({Spread::kUniform, Spread::kExponential, Spread::kHeavyTail});
  network.delay = static_cast<Nanoseconds>(random.log_uniform(1e3, 300e3));
  network.delay_max = 20 * network.delay;
  network.reorders = random.chance(0.7);
  network.duplicate = random.pick({0.0, 0.05, 0.3});
  network.damage = random.pick({0.0, 0.5});
  return network;
}

// In half of the worlds few ranks agree as many would.
TreeOptions draw_tree(Random& random, std::uint32_t ranks) {
  TreeOptions tree;
  const bool small = random.chance(0.5);
  const std::uint32_t star_ranks_max = random.pick({0u, 0u, 4u});
  const std::uint32_t fanout = random.pick({1u, 2u, 2u, 3u});
  if (!small || ranks > kRanksOfStormMax) return tree;
  return {star_ranks_max, fanout};
}

ScheduleOptions draw_schedule(Random random) {
  ScheduleOptions schedule;
  schedule.policy =
      random.pick({Policy::kDynamic, Policy::kAffinity, Policy::kStatic, Policy::kPeer});
  schedule.batch = random.pick({0u, 0u, 0u, 1u, 2u, 7u, 64u});
  schedule.prefetch = random.pick({0u, 0u, 1u, 2u, 5u});
  schedule.coordinator_computes = random.chance(0.7);
  schedule.attempts_max = static_cast<std::uint32_t>(random.between(1, 4));
  schedule.standbys = random.pick({2u, 2u, 2u, 1u, 3u, 0u});
  return schedule;
}

JobOptions draw_job(Random random, std::uint64_t seed, std::uint32_t ranks) {
  JobOptions job;
  job.seed = scatter({seed, kJobStream});
  job.kind = random.pick({JobKind::kSmallBag, JobKind::kSmallBag, JobKind::kVariedBag,
                          JobKind::kMapReduce, JobKind::kMapReduce, JobKind::kChain});
  job.cost_spread = random.pick({Spread::kConstant, Spread::kUniform, Spread::kHeavyTail});
  job.cost = static_cast<Nanoseconds>(random.log_uniform(200, 3e6));
  double shards_max = std::min(kShardsMax, ranks * kRankTimeMax / static_cast<double>(job.cost));
  if (job.kind == JobKind::kVariedBag) shards_max = std::min(shards_max, 150.0);
  if (job.kind == JobKind::kMapReduce || job.kind == JobKind::kChain) {
    shards_max = std::min(shards_max, 200.0);
  }
  job.shards = static_cast<std::uint64_t>(random.log_uniform(1, shards_max));
  if (random.chance(0.03)) job.shards = 0;
  job.partitions = random.between(1, 20);
  job.map_value_bytes = random.pick({0u, 8u});
  job.flaky = random.pick({0.0, 0.0, 0.02, 0.3});
  job.hopeless = random.pick({0.0, 0.0, 0.0, 0.01, 0.1});
  Random registry(seed, kRegistryStream);
  if (registry.chance(kRunsThatAsk)) {
    const auto shards = static_cast<double>(std::max<std::uint64_t>(job.shards, 1));
    job.registry = std::min(1.0, registry.log_uniform(2, kShardsThatAsk) / shards);
  }
  return job;
}

void draw_upset(Random random, WorldOptions& options) {
  if (!random.chance(0.12)) return;
  options.upset = random.pick(
      {Upset::kStop, Upset::kStop, Upset::kOpenFails, Upset::kOtherJob, Upset::kFinalizeFails});
  options.upset_rank = RankId{static_cast<std::uint32_t>(random.below(options.ranks))};
  if (options.upset == Upset::kFinalizeFails) options.upset_rank = RankId{0};
  if (options.upset == Upset::kOtherJob) {  // other than the coordinator's
    if (options.ranks == 1) options.upset = Upset::kOpenFails;
    options.upset_rank.value = std::max(options.upset_rank.value, options.ranks > 1 ? 1u : 0u);
  }
  if (options.upset == Upset::kStop) {
    options.stop_at = static_cast<Nanoseconds>(random.log_uniform(10e3, 100e6));
  }
}

// Ranks are killed and stand still while the job runs, or soon before or after.
FailureOptions draw_failures(Random random, const WorldOptions& world) {
  FailureOptions failures;
  if (world.ranks == 1 || !random.chance(0.6)) return failures;
  failures.witnesses = random.pick({1.0, 0.5, 0.0});
  failures.evidence_delay_max = static_cast<Nanoseconds>(random.log_uniform(100e3, 20e6));
  failures.suspect_after = static_cast<Nanoseconds>(random.log_uniform(5e6, 200e6));
  failures.control_loss = random.pick({0.0, 0.0, 0.05, 0.3});
  failures.disk_delay = static_cast<Nanoseconds>(random.log_uniform(20e3, 20e6));
  failures.disk_error = random.pick({0.0, 0.0, 0.3});
  const std::uint64_t count = random.between(1, std::min(world.ranks, kFaultsOfLargeWorld));
  const Nanoseconds computing_from = (world.start_spread + world.open_time_max) / 2;
  const double computing_time = 1.5 * static_cast<double>(world.job.cost) *
                                static_cast<double>(world.job.shards) / world.ranks;
  const auto span = static_cast<double>(world.start_spread + world.open_time_max) + 100e6;
  for (std::uint64_t i = 0; i < count; ++i) {
    Fault fault;
    fault.kind = random.chance(0.7) ? Fault::Kind::kKill : Fault::Kind::kPause;
    fault.rank = RankId{static_cast<std::uint32_t>(random.between(0, world.ranks - 1))};
    // Early, or anywhere while the job computes.
    fault.at = static_cast<Nanoseconds>(random.log_uniform(10e3, span));
    if (random.chance(0.5))
      fault.at = computing_from + static_cast<Nanoseconds>(random.unit() * computing_time);
    if (fault.kind == Fault::Kind::kPause) {
      fault.duration = static_cast<Nanoseconds>(random.log_uniform(100e3, 1e9));
    }
    failures.faults.push_back(fault);
  }
  return failures;
}

// Some ranks do not hear others for a while: often a few are cut off, in one direction or both.
Partition draw_partition(Random& random, std::uint32_t ranks, double at_max, double duration_max) {
  Partition partition;
  const std::uint64_t cut_off = random.between(1, std::max(1u, ranks / 2));
  std::vector<RankId> few, rest;
  for (std::uint32_t rank = 0; rank < ranks; ++rank) rest.emplace_back(rank);
  while (few.size() < cut_off) {
    // Rank 0 less often, for with it go the rest of the run.
    const auto at = rest.begin() + static_cast<std::ptrdiff_t>(random.below(rest.size()) |
                                                               (random.chance(0.7) ? 1u : 0u));
    if (at >= rest.end()) continue;
    few.push_back(*at);
    rest.erase(at);
  }
  partition.from = RankSet(std::move(few));
  partition.to = RankSet(std::move(rest));
  if (random.chance(0.5)) std::swap(partition.from, partition.to);
  if (random.chance(0.2)) {  // some links only
    for (RankSet* side : {&partition.from, &partition.to}) {
      while (side->size() > 1 && random.chance(0.5)) {
        side->erase(side->list()[random.below(side->size())]);
      }
    }
  }
  partition.at = static_cast<Nanoseconds>(random.log_uniform(10e3, at_max));
  partition.duration = static_cast<Nanoseconds>(random.log_uniform(1e6, duration_max));
  return partition;
}

void add_partitions(Random& random, const WorldOptions& world, std::uint64_t count,
                    FailureOptions& failures) {
  for (std::uint64_t i = 0; i < count; ++i) {
    failures.partitions.push_back(draw_partition(random, world.ranks, 150e6, 800e6));
    if (random.chance(0.4)) continue;  // this way only
    Partition back = failures.partitions.back();
    std::swap(back.from, back.to);
    failures.partitions.push_back(std::move(back));
  }
}

Fault draw_fault(Random& random, const WorldOptions& world, bool may_kill) {
  using Kind = Fault::Kind;
  Fault fault;
  fault.kind = random.pick(
      {Kind::kPause, Kind::kPause, Kind::kPause, Kind::kDoubt, Kind::kDoubt, Kind::kLoseFrame});
  if (may_kill) fault.kind = random.pick({Kind::kKill, Kind::kKillSending, Kind::kKillSending});
  fault.rank = RankId{static_cast<std::uint32_t>(random.below(world.ranks))};
  fault.at = static_cast<Nanoseconds>(random.log_uniform(10e3, 150e6));
  if (fault.kind == Kind::kPause || fault.kind == Kind::kDoubt) {
    fault.duration = static_cast<Nanoseconds>(random.log_uniform(100e3, 300e6));
  }
  if (fault.kind == Kind::kKillSending && random.chance(0.7)) {
    fault.sending = random.pick({MessageKind::kPrepare, MessageKind::kPromise, MessageKind::kAccept,
                                 MessageKind::kAccepted, MessageKind::kDecide, MessageKind::kRevoke,
                                 MessageKind::kResults, MessageKind::kLease, MessageKind::kFinish,
                                 MessageKind::kLedger, MessageKind::kLedgerHeld,
                                 MessageKind::kLedgerCopy, MessageKind::kOpen});
  }
  return fault;
}

// Many faults, close together. Mostly those that are killed leave a quorum of all ranks.
FailureOptions draw_storm(Random& random, const WorldOptions& world) {
  FailureOptions failures;
  failures.witnesses = random.pick({1.0, 0.5, 0.0});
  failures.evidence_delay_max = static_cast<Nanoseconds>(random.log_uniform(100e3, 20e6));
  failures.suspect_after = static_cast<Nanoseconds>(random.log_uniform(5e6, 100e6));
  failures.control_loss = random.pick({0.0, 0.0, 0.05, 0.2});
  failures.disk_delay = static_cast<Nanoseconds>(random.log_uniform(20e3, 20e6));
  failures.disk_error = random.pick({0.0, 0.0, 0.3});
  const std::uint64_t count = random.between(10, 60);
  const std::uint64_t partitions = random.below(count / 4 + 1);
  add_partitions(random, world, partitions, failures);
  std::uint64_t kills = random.below(random.chance(0.8) ? (world.ranks + 1) / 2 : world.ranks);
  while (failures.faults.size() + failures.partitions.size() < count) {
    failures.faults.push_back(draw_fault(random, world, kills != 0));
    kills -= kills != 0 ? 1 : 0;
  }
  return failures;
}

// From some time on nothing gets through to a rank any more, from it, or over some links, although
// everybody lives and is seen to: as where the MPI of a rank no longer hands over what arrives.
void draw_deafness(Random& random, WorldOptions& world) {
  Partition deaf = draw_partition(random, world.ranks, 150e6, 1e6);
  deaf.for_good = true;
  world.failures.partitions.push_back(std::move(deaf));
  world.tick_period = std::max(world.tick_period, kTickOfLongRuns);
}

// Two ranks cannot talk to each other any more, in one direction at least; all others can.
void draw_dead_link(Random& random, WorldOptions& world) {
  const auto first = static_cast<std::uint32_t>(random.below(world.ranks));
  const auto second = static_cast<std::uint32_t>(random.below(world.ranks - 1));
  Partition link;
  link.from = {RankId{first}};
  link.to = {RankId{second < first ? second : second + 1}};
  link.at = static_cast<Nanoseconds>(random.log_uniform(10e3, 150e6));
  link.for_good = true;
  world.failures.partitions.push_back(link);
  if (random.chance(0.3)) {
    std::swap(link.from, link.to);
    world.failures.partitions.push_back(link);
  }
  world.tick_period = std::max(world.tick_period, kTickOfLongRuns);
}

RarePaths draw_rare_paths(Random& random) {
  RarePaths rare;
  rare.late_control = random.pick({0.0, 0.02, 0.2});
  rare.late_frame = random.pick({0.0, 0.0, 0.005, 0.05});
  rare.token_lost = random.pick({0.0, 0.3});
  rare.late_tick = random.pick({0.0, 0.0, 0.001});
  rare.slow_order = random.pick({0.0, 0.01});
  rare.late_max = static_cast<Nanoseconds>(random.log_uniform(2e6, 2e9));
  return rare;
}

// A death, and more while the rest agrees on it. Those that are to die when they have others
// promise, vote or enter a view are many, for most never do.
FailureOptions draw_deaths_in_tree(Random random, WorldOptions& world) {
  using Kind = Fault::Kind;
  world.tree = {.star_ranks_max = 0, .fanout = random.pick({1u, 2u, 3u, 4u, 8u})};
  if (world.ranks > kRanksOfStormMax) world.tree.fanout = std::max(2u, world.tree.fanout);
  FailureOptions failures;
  failures.witnesses = random.pick({1.0, 0.1, 0.0});
  failures.evidence_delay_max = static_cast<Nanoseconds>(random.log_uniform(10e3, 20e6));
  failures.suspect_after = static_cast<Nanoseconds>(random.log_uniform(5e6, 50e6));
  failures.control_loss = random.pick({0.0, 0.0, 0.0, 0.02});
  const auto any_rank = [&] {
    return RankId{static_cast<std::uint32_t>(random.below(world.ranks))};
  };
  const auto first = static_cast<Nanoseconds>(random.log_uniform(100e3, 50e6));
  failures.faults.push_back({.kind = Kind::kKill, .rank = any_rank(), .at = first});
  // Of many ranks, the heads of the largest branches and those just after them.
  const bool many = world.ranks > kRanksOfStormMax;
  const std::uint32_t armed = many ? kFaultsOfHugeWorld : world.ranks / 3;
  for (std::uint32_t i = 0; i < armed; ++i) {
    const MessageKind sending =
        random.pick({MessageKind::kPrepare, MessageKind::kPrepare, MessageKind::kAccept,
                     MessageKind::kAccept, MessageKind::kDecide});
    const std::uint64_t branch = random.below(world.tree.fanout) * world.ranks / world.tree.fanout;
    const RankId head{static_cast<std::uint32_t>(branch + random.below(3))};
    failures.faults.push_back({.kind = Kind::kKillSending,
                               .rank = many ? head : any_rank(),
                               .at = first,
                               .sending = sending});
  }
  for (std::uint64_t more = random.below(4); more != 0; --more) {
    const auto at = first + static_cast<Nanoseconds>(random.log_uniform(10e3, 30e6));
    failures.faults.push_back({.kind = random.pick({Kind::kKill, Kind::kPause}),
                               .rank = any_rank(),
                               .at = at,
                               .duration = static_cast<Nanoseconds>(random.log_uniform(1e6, 1e9))});
  }
  return failures;
}

// What goes wrong beyond draw_failures, on streams of its own.
void draw_more_failures(std::uint64_t seed, WorldOptions& options) {
  if (options.ranks == 1) return;
  if (options.ranks > kRanksOfStormMax) {
    auto& faults = options.failures.faults;
    if (faults.size() > kFaultsOfHugeWorld) faults.resize(kFaultsOfHugeWorld);
    return;
  }
  Random storm(seed, kStormStream);
  FailureOptions& failures = options.failures;
  if (storm.chance(0.2)) {
    failures = draw_storm(storm, options);
  } else if (failures.any() && storm.chance(0.3)) {
    add_partitions(storm, options, storm.between(1, 3), failures);
  }
  Random registry(seed, kRegistryFaultsStream);
  for (Fault& fault : failures.faults) {
    const bool dies_sending = fault.kind == Fault::Kind::kKillSending && options.job.registry != 0;
    if (!dies_sending || !registry.chance(0.5)) continue;
    fault.sending = registry.pick({MessageKind::kRegistryRequest, MessageKind::kRegistryAnswer,
                                   MessageKind::kRegistryAnswer, MessageKind::kLedger,
                                   MessageKind::kLedgerHeld});
  }
  Random deaf(seed, kDeafStream);
  if (deaf.chance(0.02)) draw_deafness(deaf, options);
  Random dead_link(seed, kDeadLinkStream);
  if (dead_link.chance(0.02)) draw_dead_link(dead_link, options);
  Random broken(seed, kBrokenStream);
  if (broken.chance(0.2)) {
    failures.broken_connections = broken.pick({0.3, 1.0});
    for (Partition& partition : failures.partitions) partition.noticed = partition.for_good;
  }
  Random rare(seed, kRareStream);
  if (failures.any() && rare.chance(0.3)) failures.rare = draw_rare_paths(rare);
}

// In a third of the runs ranks send bulk transfers. In a few of those one is stuck, and whoever
// waits for it has nothing to fall back on but the next view.
void draw_bulk(Random random, WorldOptions& options) {
  if (options.ranks == 1 || !random.chance(0.33)) return;
  options.bulk.transfers = static_cast<std::uint32_t>(random.between(1, kBulkTransfersMax));
  if (options.ranks > kRanksOfStormMax) options.bulk.transfers = 1;
  options.bulk.waits = random.chance(0.5);
  for (Fault& fault : options.failures.faults) {
    if (fault.kind != Fault::Kind::kKillSending || !random.chance(0.3)) continue;
    fault.sending =
        random.pick({MessageKind::kBulkOffer, MessageKind::kBulkReady, MessageKind::kBulkEnd});
  }
  if (options.upset != Upset::kNone || !random.chance(0.03)) return;
  const RankId loser{static_cast<std::uint32_t>(random.below(options.ranks))};
  options.bulk.waits = true;
  options.failures.faults.push_back({.kind = Fault::Kind::kLoseBulk, .rank = loser});
  options.tick_period = std::max(options.tick_period, kTickOfLongRuns);
}

// Half of the runs take checkpoints, and most of those end before they are done, once or twice, to
// be launched again.
void draw_checkpoints(Random random, WorldOptions& options) {
  CheckpointOptions& checkpoints = options.schedule.checkpoints;
  checkpoints.grace = 200 * kMillisecond;
  checkpoints.timeout = kSecond;
  if (!random.chance(0.5)) return;
  if (random.chance(0.7)) {
    checkpoints.every = CheckpointOptions::Every::kPeriod;
    checkpoints.period = static_cast<Nanoseconds>(random.log_uniform(2e6, 200e6));
  }
  const double span = std::max(20e6, 1.5 * static_cast<double>(options.job.cost) *
                                         static_cast<double>(options.job.shards) / options.ranks);
  for (std::uint64_t wishes = random.between(0, 2); wishes != 0; --wishes) {
    options.checkpoint_wishes.push_back(static_cast<Nanoseconds>(random.log_uniform(100e3, span)));
  }
  options.launches_max = 3;
  if (options.upset == Upset::kStop) {
    options.stop_wish = random.pick({Wish::kStop, Wish::kCheckpointAndStop});
  } else if (options.upset == Upset::kNone && random.chance(0.4)) {
    options.power_off_at = static_cast<Nanoseconds>(random.log_uniform(1e6, span));
  }
  const bool survives = options.upset == Upset::kNone && options.ranks > 2;
  if (!survives || options.checkpoint_wishes.empty() || !random.chance(0.5)) return;
  // The coordinator is lost while one is taken, or just after.
  const auto soon = static_cast<Nanoseconds>(random.log_uniform(20e3, 20e6));
  const Nanoseconds at = options.start_spread + options.checkpoint_wishes.back() + soon;
  options.failures.faults.push_back({.kind = Fault::Kind::kKill, .rank = RankId{0}, .at = at});
}

// Ranks lie on a few hosts. In most runs with partitions they are copied often, in some beyond what
// a partner has room for, in some not at all.
void draw_copies(Random random, WorldOptions& options) {
  CopyOptions& copies = options.schedule.copies;
  copies.every = CopyOptions::Every::kOff;
  if (!random.chance(0.5)) return;
  for (std::uint32_t rank = 0; rank < options.ranks; ++rank) {
    options.schedule.hosts.push_back(static_cast<std::uint32_t>(random.below(3)));
  }
  if (random.chance(0.2)) {
    copies.every = CopyOptions::Every::kAuto;
  } else {
    copies.every = CopyOptions::Every::kPeriod;
    copies.period = static_cast<Nanoseconds>(random.log_uniform(300e3, 30e6));
  }
  if (random.chance(0.1)) copies.bytes_for_others_max = random.below(4096);
  copies.bulk_bytes_min = random.pick({1u, 100u, 1u << 16});
}

// An owner dies in the middle of a map stage, or while copies are on their way; or it stands still
// until the others have gone on, and comes back. Often another dies soon after, its partner, too.
void draw_copy_faults(Random random, WorldOptions& options) {
  using Kind = Fault::Kind;
  const bool has_partitions =
      options.job.kind == JobKind::kMapReduce || options.job.kind == JobKind::kChain;
  const bool copies = options.schedule.copies.every == CopyOptions::Every::kPeriod;
  const bool few = options.ranks > 2 && options.ranks <= kRanksOfStormMax;
  if (!has_partitions || !copies || !few || options.upset != Upset::kNone) return;
  if (!random.chance(0.6)) return;
  options.power_off_at.reset();
  options.job.shards = std::max<std::uint64_t>(options.job.shards, 10 * options.ranks);
  options.job.cost = std::clamp(options.job.cost, 300 * kMicrosecond, kMillisecond);
  options.schedule.copies.period = std::min(options.schedule.copies.period, 2 * kMillisecond);
  FailureOptions& failures = options.failures;
  const Kind first = random.pick({Kind::kKill, Kind::kKill, Kind::kKillSending, Kind::kPause});
  if (first == Kind::kPause) {
    options.job.shards = std::max<std::uint64_t>(options.job.shards, 80 * options.ranks);
  }
  const Nanoseconds begins = options.start_spread + options.open_time_max / 2;
  const double takes = static_cast<double>(options.job.cost) *
                       static_cast<double>(options.job.shards) / options.ranks;
  Fault fault{.kind = first};
  fault.rank = RankId{static_cast<std::uint32_t>(random.below(options.ranks))};
  fault.at = begins + static_cast<Nanoseconds>(random.unit() * takes);
  if (fault.kind == Kind::kPause) {
    fault.at = begins + static_cast<Nanoseconds>(random.unit() * takes / 2);
    failures.suspect_after = 2 * kMillisecond;
    fault.duration = static_cast<Nanoseconds>(random.log_uniform(3e6, 30e6));
    if (random.chance(0.7)) options.schedule.copies.bytes_for_others_max = 0;
  }
  if (fault.kind == Kind::kKillSending) {
    fault.sending = random.pick({MessageKind::kCopy, MessageKind::kCopyKept,
                                 MessageKind::kCopyWanted, MessageKind::kCopyBack});
  }
  failures.faults.push_back(fault);
  const bool paused = fault.kind == Kind::kPause;
  if (!paused && !random.chance(0.6)) return;
  fault.kind = random.pick({Kind::kKill, Kind::kKillSending});
  fault.rank.value = (fault.rank.value + 1) % options.ranks;
  fault.at += paused ? fault.duration + static_cast<Nanoseconds>(random.log_uniform(3e6, 30e6))
                     : static_cast<Nanoseconds>(random.log_uniform(10e3, 10e6));
  failures.faults.push_back(fault);
}

// In some runs cells go on step by step, with copies of them made often. An owner dies or stands
// still while they do, or just when it says something of cells; and often a second one.
void draw_iterate(Random random, WorldOptions& options) {
  using Kind = Fault::Kind;
  if (!random.chance(kRunsThatIterate)) return;
  JobOptions& job = options.job;
  job.kind = JobKind::kIterate;
  job.shards = random.between(0, 40);
  job.cells = random.chance(0.03) ? 0 : random.between(1, kCellsMax);
  job.cost = static_cast<Nanoseconds>(random.log_uniform(1e3, 300e3));
  job.steps = static_cast<std::uint64_t>(random.log_uniform(1, kStepsMax));
  job.totals_every = random.pick({0u, 1u, 1u, 3u});
  job.cell_bytes = random.pick({0u, 0u, 200u, 5000u});
  CopyOptions& copies = options.schedule.copies;
  copies.every = random.chance(0.8) ? CopyOptions::Every::kPeriod : CopyOptions::Every::kOff;
  copies.period = static_cast<Nanoseconds>(random.log_uniform(100e3, 10e6));
  copies.bytes_for_others_max = random.chance(0.1) ? random.below(4096) : std::uint64_t{1} << 30;
  copies.bulk_bytes_min = random.pick({1u, 100u, 1u << 16});
  const bool faults = options.ranks > 2 && options.ranks <= kRanksOfStormMax &&
                      options.upset == Upset::kNone && random.chance(0.6);
  if (!faults) return;
  const Nanoseconds begins = options.start_spread + options.open_time_max / 2;
  const double takes =
      static_cast<double>(job.steps) *
      (static_cast<double>(job.cost) * static_cast<double>(job.cells) / options.ranks +
       4.0 * static_cast<double>(options.network.delay));
  Fault fault{.kind = random.pick({Kind::kKill, Kind::kKill, Kind::kKillSending, Kind::kPause})};
  fault.rank = RankId{static_cast<std::uint32_t>(random.below(options.ranks))};
  fault.at = begins + static_cast<Nanoseconds>(random.unit() * takes);
  if (fault.kind == Kind::kPause) {
    options.failures.suspect_after = 2 * kMillisecond;
    fault.duration = static_cast<Nanoseconds>(random.log_uniform(3e6, 30e6));
  }
  if (fault.kind == Kind::kKillSending) {
    fault.sending = random.pick({MessageKind::kHalos, MessageKind::kCells, MessageKind::kPartials,
                                 MessageKind::kTotals, MessageKind::kCellNews,
                                 MessageKind::kSnapshotAt, MessageKind::kCellCopy,
                                 MessageKind::kCellCopyKept, MessageKind::kCellCopyWanted});
  }
  options.failures.faults.push_back(fault);
  if (!random.chance(0.5)) return;
  fault.kind = random.pick({Kind::kKill, Kind::kKillSending});
  fault.rank.value = (fault.rank.value + 1) % options.ranks;
  fault.at += static_cast<Nanoseconds>(random.log_uniform(10e3, 30e6));
  options.failures.faults.push_back(fault);
}

// In some of those a cell throws, but not so often that the run gives up; in some, most of what
// cells are lies in a field.
void draw_more_of_cells(Random random, WorldOptions& options) {
  JobOptions& job = options.job;
  if (job.kind != JobKind::kIterate || job.cells == 0) return;
  job.cells_in_field = job.cell_bytes != 0 && random.chance(0.5);
  if (options.schedule.attempts_max == 1 || !random.chance(0.3)) return;
  job.cell_failures = options.schedule.attempts_max - 1;
  job.failing_order = random.chance(0.7) ? WorkKind::kStep : WorkKind::kSave;
  job.failing_cell = random.below(job.cells);
  job.failing_step = random.below(job.steps);
}

// ---- a last word when a check inside the protocol aborts ----

char last_words[256];

extern "C" void say_last_words(int) {
  std::fputs(last_words, stderr);
}

// Where broken checks are thrown, one is a violation of its own.
Report simulate_safely(const WorldOptions& options) {
  try {
    return simulate(options);
  } catch (const BrokenCheck& broken) {
    Report report;
    report.violation = fmt::format("check: seed {}: the protocol found itself broken: {}",
                                   options.seed, broken.what);
    return report;
  }
}

}  // namespace

WorldOptions draw_scenario(std::uint64_t seed, const Overrides& overrides) {
  WorldOptions options;
  options.seed = seed;
  Random cluster(seed, kClusterStream);
  options.ranks = static_cast<std::uint32_t>(cluster.between(1, 9));
  if (overrides.ranks) options.ranks = *overrides.ranks;
  options.vector_clocks = cluster.chance(0.9) && options.ranks <= kVectorClockRanksDefaultMax;
  options.tick_period = static_cast<Nanoseconds>(cluster.log_uniform(50e3, 400e3));
  options.start_spread = static_cast<Nanoseconds>(cluster.log_uniform(1e3, 5e6));
  options.open_time_max = static_cast<Nanoseconds>(cluster.log_uniform(1e3, 30e6));
  if (cluster.chance(0.25)) {
    options.slow_rank = RankId{static_cast<std::uint32_t>(cluster.below(options.ranks))};
  }
  options.tree = draw_tree(cluster, options.ranks);
  options.schedule = draw_schedule(Random(seed, kScheduleStream));
  if (overrides.policy) options.schedule.policy = *overrides.policy;
  options.network = draw_network(Random(seed, kNetworkStream));
  options.job = draw_job(Random(seed, kJobStream), seed, options.ranks);
  draw_upset(Random(seed, kUpsetStream), options);
  if (options.upset == Upset::kNone) {
    options.failures = draw_failures(Random(seed, kFailuresStream), options);
    draw_more_failures(seed, options);
  }
  draw_checkpoints(Random(seed, kCheckpointStream), options);
  draw_copies(Random(seed, kCopiesStream), options);
  draw_copy_faults(Random(seed, kCopyFaultsStream), options);
  draw_bulk(Random(seed, kBulkStream), options);
  draw_iterate(Random(seed, kIterateStream), options);
  draw_more_of_cells(Random(seed, kMoreOfCellsStream), options);
  if (overrides.deaths_in_tree && options.ranks > 1) {
    options.upset = Upset::kNone;
    options.failures = draw_deaths_in_tree(Random(seed, kTreeStream), options);
  }
  return options;
}

std::string reproduce(std::uint64_t seed, const Overrides& overrides) {
  std::string command = "regroup-sim";
  if (kBugsArePlanted) command += fmt::format("-planted --plant {}", name_of(planted_bug));
  command += fmt::format(" --seed {}", seed);
  if (overrides.ranks) command += fmt::format(" --ranks {}", *overrides.ranks);
  if (overrides.policy) command += fmt::format(" --policy {}", name_of(*overrides.policy));
  if (overrides.deaths_in_tree) command += " --deaths-in-tree";
  return command + " --trace";
}

Report run_scenario(const WorldOptions& options, Repeat repeat) {
  const auto written = fmt::format_to_n(last_words, sizeof last_words - 1,
                                        "while simulating seed {} ({} ranks, {})\n", options.seed,
                                        options.ranks, name_of(options.schedule.policy));
  *written.out = '\0';
  const auto handler_before = std::signal(SIGABRT, say_last_words);
  Report report = simulate_safely(options);
  if (repeat == Repeat::kTwice && !report.violation) {
    WorldOptions silent = options;
    silent.trace = false;
    const Report again = simulate_safely(silent);
    if (again.trace_hash != report.trace_hash || again.virtual_time != report.virtual_time) {
      report.violation =
          fmt::format("I14 same trace: rank 0, t = {:.6f} ms, seed {}: two runs differ",
                      static_cast<double>(report.virtual_time) / 1e6, options.seed);
    }
  }
  std::signal(SIGABRT, handler_before);
  return report;
}

}  // namespace regroup::sim
