// The doctor on Slurm: its settings that cut runs short, and what the job at hand was given. Both
// are read from what scontrol prints. Settings that did not come have no row.
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "runtime/host/doctor_checks.hpp"

namespace regroup::doctor {
namespace {

constexpr std::uint64_t kExitResumable = 75;
constexpr std::uint64_t kSignalSlackSeconds = 10;  // for the script to pass it on
constexpr std::uint64_t kSlurmdTimeoutSecondsMax = 600;

// The digits that a text begins with.
std::optional<std::uint64_t> number_in(std::string_view text) {
  std::uint64_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  return parsed.ec == std::errc() ? std::optional(number) : std::nullopt;
}

// The value in a line "Name   = value" of scontrol show config.
std::optional<std::string> setting(const DoctorFacts& facts, std::string_view name) {
  std::string_view text = facts.slurm.config_output;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!line.starts_with(name)) continue;
    line.remove_prefix(name.size());
    const std::size_t equals = line.find_first_not_of(' ');
    if (equals == std::string_view::npos || line[equals] != '=') continue;
    const std::size_t value = line.find_first_not_of(' ', equals + 1);
    if (value == std::string_view::npos) return std::string();
    return std::string(line.substr(value, line.find_last_not_of(' ') - value + 1));
  }
  return std::nullopt;
}

std::optional<std::uint64_t> number_setting(const DoctorFacts& facts, std::string_view name) {
  const auto text = setting(facts, name);
  return text ? number_in(*text) : std::nullopt;
}

// The value in " Name=value" of scontrol show job.
std::optional<std::string> job_field(const DoctorFacts& facts, std::string_view name) {
  const std::string& text = facts.slurm.job_output;
  const std::string key = fmt::format("{}=", name);
  for (std::size_t at = text.find(key); at != std::string::npos; at = text.find(key, at + 1)) {
    if (at != 0 && text[at - 1] != ' ' && text[at - 1] != '\n') continue;
    const std::size_t value = at + key.size();
    return text.substr(value, text.find_first_of(" \n", value) - value);
  }
  return std::nullopt;
}

// Slurm's "1-02:03:04" or "02:03:04"; empty for UNLIMITED and what is no time.
std::optional<std::uint64_t> seconds_in(std::string_view text) {
  std::uint64_t days = 0;
  if (const std::size_t dash = text.find('-'); dash != std::string_view::npos) {
    days = number_in(text.substr(0, dash)).value_or(0);
    text.remove_prefix(dash + 1);
  }
  std::uint64_t seconds = 0;
  int fields = 0;
  for (; !text.empty(); ++fields) {
    const std::size_t end = std::min(text.find(':'), text.size());
    const auto field = number_in(text.substr(0, end));
    if (!field) return std::nullopt;
    seconds = seconds * 60 + *field;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  if (fields != 3) return std::nullopt;
  return days * 86'400 + seconds;
}

std::string minutes_text(std::uint64_t seconds) {
  return seconds < 600 ? fmt::format("{} s", seconds) : fmt::format("{} min", seconds / 60);
}

// Whether a list such as "1,64-80" holds the number.
bool holds(std::string_view list, std::uint64_t wanted) {
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(','), list.size());
    const std::string_view item = list.substr(0, end);
    list.remove_prefix(std::min(end + 1, list.size()));
    const auto first = number_in(item);
    const std::size_t dash = item.find('-');
    const auto last = dash == std::string_view::npos ? first : number_in(item.substr(dash + 1));
    if (first && last && *first <= wanted && wanted <= *last) return true;
  }
  return false;
}

std::string early_signal(const DoctorFacts& facts) {
  return fmt::format("--signal=B:USR1@{}", facts.grace_seconds + kSignalSlackSeconds);
}

}  // namespace

std::optional<Finding> check_slurm(const DoctorFacts& facts) {
  const DoctorFacts::Slurm& slurm = facts.slurm;
  if (!slurm.sbatch_path && !slurm.scontrol_path) {
    if (!slurm.job_id) return missing("not on PATH", "nothing to do outside a Slurm cluster");
    return warning(
        "not on PATH",
        "this is a Slurm job: put sbatch and scontrol on PATH so that it can be requeued");
  }
  const std::string trouble = slurm.trouble.empty() ? "" : " (" + slurm.trouble + ")";
  const std::string found =
      (slurm.version.empty() ? "sbatch does not tell its version" + trouble : slurm.version) +
      (slurm.job_id ? ", inside job " + *slurm.job_id : ", outside an allocation");
  if (!slurm.sbatch_path || !slurm.scontrol_path || slurm.version.empty())
    return warning(found,
                   "both sbatch and scontrol must be on PATH and answer, to submit and to requeue");
  if (slurm.config_output.empty())
    return warning(found + "; its settings are not known" + trouble,
                   "'scontrol show config' must answer: see that slurmctld runs and is reached");
  return ok(found);
}

std::optional<Finding> check_slurm_job(const DoctorFacts& facts) {
  const DoctorFacts::Slurm& slurm = facts.slurm;
  if (!slurm.job_id) return std::nullopt;
  if (slurm.job_output.empty())
    return warning("not known", "'scontrol show job' must answer, to requeue this one");
  const std::uint64_t nodes = number_in(job_field(facts, "NumNodes").value_or("")).value_or(1);
  const bool is_batch = job_field(facts, "BatchFlag") == "1";
  const bool is_requeued = is_batch && job_field(facts, "Requeue") == "1";
  const auto limit = seconds_in(job_field(facts, "TimeLimit").value_or(""));
  const auto used = seconds_in(job_field(facts, "RunTime").value_or("")).value_or(0);
  const std::uint64_t left = limit ? *limit - std::min(*limit, used) : 0;
  std::string advice;
  const auto advise = [&advice](const std::string& what) {
    advice += (advice.empty() ? "" : "; ") + what;
  };
  if (is_batch && !is_requeued)
    advise("submit with sbatch --requeue, or 'scontrol update jobid=" + *slurm.job_id +
           " requeue=1'");
  if (limit && left <= facts.grace_seconds)
    advise("no time is left for a checkpoint: submit with more (--time)");
  const std::string found = fmt::format(
      "{} node{}, {}, {}started again after the loss of a node", nodes, nodes == 1 ? "" : "s",
      limit ? minutes_text(left) + " left" : std::string("no time limit"),
      is_requeued ? "" : "not ");
  const bool lacks = !advice.empty();
  // Whether it was is not told.
  if (nodes > 1)
    advise("so that the other nodes go on when one is lost, submit with sbatch --no-kill");
  return lacks ? warning(found, advice) : ok(found, advice);
}

std::optional<Finding> check_kill_wait(const DoctorFacts& facts) {
  const auto seconds = number_setting(facts, "KillWait");
  if (!seconds) return std::nullopt;
  const std::string found =
      fmt::format("{} s from SIGTERM to SIGKILL, grace {} s", *seconds, facts.grace_seconds);
  if (*seconds >= facts.grace_seconds) return ok(found);
  return warning(
      found, fmt::format("at its time limit a run may be killed before its checkpoint is sealed: "
                         "submit with sbatch {}, or give --grace {} or less, or raise KillWait",
                         early_signal(facts), std::max<std::uint64_t>(*seconds, 1)));
}

std::optional<Finding> check_job_requeue(const DoctorFacts& facts) {
  const auto value = number_setting(facts, "JobRequeue");
  if (!value) return std::nullopt;
  if (*value != 0) return ok("jobs are started again when a node is lost");
  return warning("jobs are not started again when a node is lost, unless they ask for it",
                 "submit with sbatch --requeue, or set JobRequeue=1");
}

std::optional<Finding> check_requeue_exit(const DoctorFacts& facts) {
  const auto held = setting(facts, "RequeueExitHold");
  if (held && holds(*held, kExitResumable))
    return warning(fmt::format("jobs that exit with {} are held", kExitResumable),
                   "that is how a run ends that can be resumed: take it out of RequeueExitHold");
  const auto codes = setting(facts, "RequeueExit");
  if (!codes) return std::nullopt;
  if (holds(*codes, kExitResumable))
    return ok(fmt::format("jobs that exit with {} are started again", kExitResumable));
  return ok(
      fmt::format("jobs that exit with {} are not started again by themselves", kExitResumable),
      fmt::format("let the batch script call 'scontrol requeue $SLURM_JOB_ID' when regroup "
                  "exits with {}, and 'regroup run --continue' go on",
                  kExitResumable));
}

std::optional<Finding> check_kill_on_bad_exit(const DoctorFacts& facts) {
  const auto value = number_setting(facts, "KillOnBadExit");
  if (!value) return std::nullopt;
  if (*value == 0) return ok("a step goes on when one of its tasks fails");
  return warning("a step is ended when one of its tasks fails",
                 "ranks that srun itself starts are killed with the one that is lost: let 'regroup "
                 "run' start them in the batch script, or set KillOnBadExit=0");
}

std::optional<Finding> check_slurmd_timeout(const DoctorFacts& facts) {
  const auto seconds = number_setting(facts, "SlurmdTimeout");
  if (!seconds) return std::nullopt;
  if (*seconds == 0)
    return warning("nodes that fall silent are never taken for lost",
                   "a job is not started again when it loses a node: set SlurmdTimeout (300)");
  const std::string found = fmt::format("a silent node is taken for lost after {} s", *seconds);
  if (*seconds > kSlurmdTimeoutSecondsMax)
    return warning(found,
                   "a job that cannot go on in place waits as long to be started again: lower "
                   "SlurmdTimeout (300)");
  return ok(found);
}

std::optional<Finding> check_preempt_mode(const DoctorFacts& facts) {
  const auto mode = setting(facts, "PreemptMode");
  if (!mode) return std::nullopt;
  const std::string found = *mode == "OFF" ? "no job is preempted" : *mode;
  if (mode->find("CANCEL") != std::string::npos)
    return warning(found,
                   "a preempted job is ended, and not started again: 'regroup resume' goes on from "
                   "its last checkpoint, for which --checkpoint-every sees");
  if (mode->find("SUSPEND") != std::string::npos)
    return ok(found, "ranks that are suspended for longer than --suspect-after are left out");
  return ok(found);
}

std::optional<Finding> check_mpi_default(const DoctorFacts& facts) {
  const auto plugin = setting(facts, "MpiDefault");
  if (!plugin) return std::nullopt;
  if (!plugin->starts_with("pmi")) return ok(*plugin);
  return ok(*plugin,
            "ranks that srun itself starts are killed with the one that is lost: let 'regroup run' "
            "start them in the batch script");
}

}  // namespace regroup::doctor
