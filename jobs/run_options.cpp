#include "jobs/run_options.hpp"

#include <charconv>
#include <utility>

#include "runtime/host/remote_shell.hpp"
#include "runtime/host/slurm_allocation.hpp"

namespace regroup {
namespace {
constexpr double kThreadsMax = 4096;
constexpr double kBatchMax = 1 << 20;
constexpr double kAttemptsMax = 1'000'000;
constexpr double kStandbysMax = 100;
constexpr double kHeartbeatMsMax = 60'000;
constexpr double kSuspectAfterMsMax = 3'600'000;
constexpr double kWedgeTimeoutSecondsMax = 86'400;
constexpr double kGpuTimeoutSecondsMax = 86'400;
constexpr double kRelaunchesMax = 1'000'000;
constexpr double kStartTimeoutMax = 86'400;
constexpr double kKeepMax = 10'000;
constexpr double kPartnerMemoryMibMax = 1 << 24;
constexpr double kGraceSecondsMax = 86'400;
constexpr double kMtbfSecondsMax = 1e9;
constexpr double kCheckpointSecondsMin = 0.01;
constexpr double kCheckpointSecondsMax = 1e9;

struct Interval {
  CheckpointOptions::Every every = CheckpointOptions::Every::kAuto;
  Nanoseconds period = 0;
};

std::expected<Interval, std::string> parse_interval(const std::string& option,
                                                    const std::string& text) {
  Interval interval;
  if (text == "auto") return interval;
  interval.every = CheckpointOptions::Every::kOff;
  if (text == "off") return interval;
  double seconds = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, seconds);
  const bool fits = seconds >= kCheckpointSecondsMin && seconds <= kCheckpointSecondsMax;
  if (parsed.ec != std::errc() || parsed.ptr != end || !fits) {
    return std::unexpected(option + " takes auto, off or seconds from 0.01 on, not '" + text + "'");
  }
  interval.every = CheckpointOptions::Every::kPeriod;
  interval.period = static_cast<Nanoseconds>(seconds * static_cast<double>(kSecond));
  return interval;
}
}  // namespace

void RunOptions::declare(OptionSet& set) {
  set.add(
         "ranks", ranks,
         "ranks to start; if not given, one for each slot of the nodes, or else one, or as many as "
         "a resumed run had; under mpirun its own count holds")
      .at_least(1)
      .at_most(kRanksMax)
      .value_name("N");
  declare_nodes(set);
  set.add("relaunches", relaunches,
          "how often in a row ranks that could not go on are started again, on the nodes that "
          "answer, without getting any further")
      .at_most(kRelaunchesMax)
      .value_name("K");
  set.add("start-timeout", start_timeout_seconds,
          "how long ranks may take to begin, without a word, until they are given up and others "
          "are started, which get twice as long")
      .at_least(1)
      .at_most(kStartTimeoutMax)
      .value_name("SECONDS");
  set.add("min-nodes", min_nodes, "nodes that must answer for that")
      .at_least(1)
      .at_most(static_cast<double>(kLaunchNodesMax))
      .value_name("M");
  set.add("dry-run", dry_run, "print the command that would start the ranks, and start none");
  set.add(
      "tag-output", tag_output,
      "have mpirun begin each line that a rank writes, on either stream, with the rank's number");
  set.add("continue", go_on,
          "go on from the newest checkpoint in --dir if there is one, and be content if its run is "
          "done");
  set.add("dir", dir, "run directory; if not given, JOB-<UTC time>").value_name("DIR").not_empty();
  set.add("seed", seed, "seed of every random stream");
  set.add("threads", threads, "threads a rank; 0: one a core of its share").at_most(kThreadsMax);
  set.add("bind", bind, "where ranks are pinned").one_of({"auto", "core", "numa", "none"});
  set.add("gpus", gpus, "GPUs to use on a node: auto, none or a number").value_name("WHICH");
  set.add("gpu-timeout", gpu_timeout_seconds,
          "seconds after which a call on a GPU is taken for hung, and the CPU computes in its "
          "place; "
          "0: never")
      .at_most(kGpuTimeoutSecondsMax)
      .value_name("SECONDS");
  set.add("schedule", schedule, "who gets which shards")
      .one_of({"dynamic", "affinity", "static", "peer"});
  set.add("batch", batch, "shards in a lease and in a message at most; 0 adapts")
      .at_most(kBatchMax);
  set.add("prefetch", prefetch, "leases a rank holds ahead; 0 adapts").at_most(kBatchMax);
  set.add("coordinator", coordinator, "whether rank 0 computes too")
      .one_of({"computes", "dedicated"});
  set.add("max-attempts", attempts_max, "tries of a shard before it is given up")
      .at_least(1)
      .at_most(kAttemptsMax);
  set.add("standbys", standbys, "ranks that can go on in place of a lost coordinator")
      .at_most(kStandbysMax)
      .value_name("K");
  set.add(
         "checkpoint-every", checkpoint_every,
         "seconds between checkpoints; auto: as their cost and the rate of failures say; off: only "
         "when a signal asks for one")
      .value_name("WHEN");
  set.add("partner-copies", partner_copies,
          "seconds between copies of what ranks own to the memory of others, which need no files; "
          "auto: as their cost and the rate of failures say; off: none")
      .value_name("WHEN");
  set.add("partner-memory", partner_memory_mib,
          "MiB of such copies that a rank keeps for others; more are refused")
      .at_most(kPartnerMemoryMibMax)
      .value_name("MIB");
  set.add("keep", keep, "sealed checkpoints that are kept")
      .at_least(2)
      .at_most(kKeepMax)
      .value_name("K");
  declare_grace(set);
  set.add("mtbf", mtbf_seconds,
          "mean time between failures, in seconds, before any was seen: for --checkpoint-every and "
          "--partner-copies auto")
      .at_least(1)
      .at_most(kMtbfSecondsMax)
      .value_name("SECONDS");
  set.add("vector-clocks", vector_clocks, "vector stamps on messages, with auto up to 64 ranks")
      .one_of({"auto", "on", "off"});
  set.add("events", events,
          "events that ranks record for 'regroup events': what becomes of the run, of shards too, "
          "or every message as well")
      .one_of({"off", "run", "shards", "messages"});
  set.add("progress", progress, "how progress is shown, on standard error")
      .one_of({"auto", "bar", "plain", "none"});
  set.add("format", format, "what is printed at the end").one_of({"text", "json"});
  set.add("heartbeat", heartbeat_ms, "period of the heartbeats between ranks, in milliseconds")
      .at_least(1)
      .at_most(kHeartbeatMsMax)
      .value_name("MS");
  set.add("suspect-after", suspect_after_ms,
          "silence after which a rank is taken for lost, in milliseconds")
      .at_least(2)
      .at_most(kSuspectAfterMsMax)
      .value_name("MS");
  set.add("wedge-timeout", wedge_timeout_seconds,
          "seconds after which a rank that is stuck inside MPI ends itself, so that the others go "
          "on; 0: never")
      .at_most(kWedgeTimeoutSecondsMax)
      .value_name("SECONDS");
  set.add(
         "on-partition", on_partition,
         "what ranks do that cannot reach half of the others: park, for a minute in which they may "
         "be let in again, or halt; then they end with status 75")
      .one_of({"park", "halt"});
  declare_recovery(set);
  set.add("inject", inject, "faults for rehearsal, such as kill:rank=2,at=2s; see below")
      .value_name("SPEC");
  set.add("config", config, "TOML file with options").value_name("FILE").not_empty();
}

void RunOptions::declare_nodes(OptionSet& set) {
  set.add("hosts", hosts,
          "nodes to start ranks on, and how many on each: n1:4,n2:4; in a Slurm job that of its "
          "allocation if not given")
      .value_name("NODES");
  set.add("hostfile", hostfile, "file with such nodes, one a line: n1 slots=4").value_name("FILE");
  set.add("network", network,
          "interface, or subnet such as 10.1.0.0/16, by which nodes reach each other")
      .value_name("NET");
  set.add("remote-shell", remote_shell,
          "program that starts commands on other nodes, called as ssh; auto: ssh, or srun for the "
          "nodes of a Slurm job")
      .value_name("PROGRAM")
      .not_empty();
}

void RunOptions::declare_grace(OptionSet& set) {
  set.add("grace", grace_seconds,
          "seconds in which a run that a signal stops is to have its checkpoint")
      .at_least(1)
      .at_most(kGraceSecondsMax)
      .value_name("SECONDS");
}

void RunOptions::declare_recovery(OptionSet& set) {
  set.add("recovery", recovery, "what deaths are found with: stock MPI, or the ULFM of Open MPI 5")
      .one_of({"auto", "stock", "ulfm"});
}

std::expected<ScheduleOptions, std::string> RunOptions::schedule_options() const {
  const auto policy = parse_policy(schedule);
  if (!policy) return std::unexpected(policy.error());
  ScheduleOptions options;
  options.policy = *policy;
  options.batch = batch;
  options.prefetch = prefetch;
  options.coordinator_computes = coordinator == "computes";
  options.attempts_max = attempts_max;
  options.standbys = standbys;
  const auto checkpoints = parse_interval("--checkpoint-every", checkpoint_every);
  if (!checkpoints) return std::unexpected(checkpoints.error());
  options.checkpoints.every = checkpoints->every;
  options.checkpoints.period = checkpoints->period;
  const auto copies = parse_interval("--partner-copies", partner_copies);
  if (!copies) return std::unexpected(copies.error());
  options.copies.every = copies->every;
  options.copies.period = copies->period;
  options.copies.bytes_for_others_max = std::uint64_t{partner_memory_mib} << 20;
  options.checkpoints.grace = grace_seconds * kSecond;
  options.checkpoints.failure_interval = mtbf_seconds * kSecond;
  return options;
}

std::expected<void, std::string> RunOptions::check_heartbeats() const {
  if (suspect_after_ms / 2 >= heartbeat_ms) return {};
  return std::unexpected("--suspect-after must be two heartbeats at least: not " +
                         std::to_string(suspect_after_ms) + " ms with --heartbeat " +
                         std::to_string(heartbeat_ms));
}

RecoveryChoice RunOptions::recovery_choice() const {
  return parse_recovery_choice(recovery).value_or(RecoveryChoice::kAuto);
}

// A Slurm job of this node alone needs no other.
std::expected<RunOptions::Nodes, std::string> RunOptions::find_nodes() const {
  auto named = named_nodes();
  if (!named) return std::unexpected(named.error());
  Nodes nodes{.list = std::move(*named), .remote_shell = std::string(kUsualShell)};
  if (nodes.list.empty()) {
    auto allocated = slurm_nodes();
    if (!allocated) return std::unexpected(allocated.error());
    if (allocated->size() == 1 && is_own_name(allocated->front().name)) {
      nodes.own_slots = allocated->front().slots;
    } else if (!allocated->empty()) {
      nodes.list = std::move(*allocated);
      nodes.remote_shell = kSlurmShell;
    }
  }
  if (remote_shell != "auto") nodes.remote_shell = remote_shell;
  return nodes;
}

std::expected<std::vector<LaunchNode>, std::string> RunOptions::named_nodes() const {
  if (hosts.empty() && hostfile.empty()) return std::vector<LaunchNode>{};
  if (!hosts.empty() && !hostfile.empty()) {
    return std::unexpected("--hosts and --hostfile both name nodes: give one of them");
  }
  const char* const option = hosts.empty() ? "--hostfile" : "--hosts";
  auto nodes = hosts.empty() ? read_hostfile(hostfile) : parse_nodes(hosts);
  if (!nodes) return std::unexpected(std::string(option) + ": " + nodes.error());
  return nodes;
}

std::expected<BindingOptions, std::string> RunOptions::binding_options() const {
  BindingOptions options;
  options.threads = threads;
  options.mode = bind == "core"   ? BindMode::kCore
                 : bind == "numa" ? BindMode::kNuma
                 : bind == "none" ? BindMode::kNone
                                  : BindMode::kAutomatic;
  if (gpus == "none") {
    options.gpus = GpuMode::kNone;
  } else if (gpus != "auto") {
    options.gpus = GpuMode::kAtMost;
    const char* const end = gpus.data() + gpus.size();
    const auto parsed = std::from_chars(gpus.data(), end, options.gpus_max);
    if (parsed.ec != std::errc() || parsed.ptr != end) {
      return std::unexpected("--gpus takes auto, none or a number, not '" + gpus + "'");
    }
  }
  return options;
}

std::expected<FaultPlan, std::string> RunOptions::fault_plan(std::uint32_t rank_count) const {
  auto plan = parse_fault_plan(inject);
  if (!plan) return std::unexpected("--inject: " + plan.error());
  if (auto checked = check_ranks(*plan, rank_count); !checked) {
    return std::unexpected("--inject: " + checked.error());
  }
  return plan;
}

}  // namespace regroup
