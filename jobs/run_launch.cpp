#include "jobs/run_launch.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <new>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "jobs/resumption.hpp"
#include "jobs/run_command.hpp"
#include "jobs/supervisor.hpp"
#include "jobs/terminal.hpp"

namespace regroup {
namespace {

// How long a rank that refuses its input lets the first rank speak, and mpirun end it in silence.
constexpr auto kFirstRankSpeaks = std::chrono::seconds(5);

int fail(const std::string& message, int exit_status = kExitBadInput) {
  std::fprintf(stderr, "regroup: %s\n", message.c_str());
  return exit_status;
}

// Says why a run is not simply done.
void say_why(const std::string& job, const std::string& message) {
  std::fprintf(stderr, "regroup: %s: %s\n", job.c_str(), message.c_str());
}

// The supervisor says how a run ended that was not simply done: Open MPI 5 drops what ranks write
// once a signal has come.
void show(const RunSummary& summary, bool json, const std::string& program) {
  for (const std::string& line : summary.quarantine_log) {
    std::fprintf(stderr, "regroup: %s\n", line.c_str());
  }
  const bool left_to_supervisor = is_supervised() && summary.in_status;
  if (summary.exit_status != kExitDone && !left_to_supervisor) {
    say_why(summary.job, summary.message);
  }
  const std::string text = json ? summary_json(summary) + "\n" : summary_text(summary, program);
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

}  // namespace

bool speaks() {
  const auto launched = launched_rank();
  return !launched || launched->rank == 0;
}

// The others wait for the first: mpirun ends a launch when one rank fails, and would end the first
// before it spoke. A rank that is still there afterwards was given other arguments.
int refuse(const std::string& message, int exit_status) {
  if (speaks()) return fail(message, exit_status);
  std::this_thread::sleep_for(kFirstRankSpeaks);
  return fail(fmt::format("rank {}: {}", launched_rank()->rank, message), exit_status);
}

std::expected<void, std::string> RunLaunch::check_ranks() const {
  const bool as_told = options_.ranks == 0 || (launched_ && options_.ranks == launched_->ranks);
  if (!launched_ || is_supervised() || as_told) return {};
  return std::unexpected(fmt::format(
      "-n {} inside a launch of {} ranks: leave -n to the launcher, or start regroup outside it",
      options_.ranks, launched_->ranks));
}

// What was rehearsed has happened when ranks are started again.
std::expected<FaultPlan, std::string> RunLaunch::check_faults() const {
  if (has_begun_before()) return FaultPlan();
  auto plan = options_.fault_plan(launched_ ? launched_->ranks : options_.ranks);
  if (plan && launched_ && options_.dir.empty() && plan->needs_run_directory()) {
    return std::unexpected(
        "--inject: a fault at the coordinator or successor needs --dir under mpirun, where ranks "
        "agree on whom it struck");
  }
  return plan;
}

std::expected<void, std::string> RunLaunch::check_recovery() const {
  if (!launched_ && options_.ranks == 1) return {};
  const auto problem = problem_with(options_.recovery_choice(), launched_.has_value());
  return problem ? std::unexpected(*problem) : std::expected<void, std::string>{};
}

// Under a launcher they are its concern. Without -n each slot gets a rank.
std::expected<void, std::string> RunLaunch::find_nodes() {
  if (launched_) return {};
  auto nodes = options_.find_nodes();
  if (!nodes) return std::unexpected(nodes.error());
  nodes_ = std::move(*nodes);
  if (options_.ranks != 0) return {};
  if (nodes_.list.empty()) {
    options_.ranks = std::max(request_.usual_ranks, nodes_.own_slots);
    return {};
  }
  const std::uint64_t slots = slots_of(nodes_.list);
  if (slots > RunOptions::kRanksMax) {
    return std::unexpected(fmt::format("the nodes have {} slots: give -n", slots));
  }
  options_.ranks = static_cast<std::uint32_t>(slots);
  return {};
}

int RunLaunch::start() {
  const auto nodes = find_nodes();
  const auto ranks = check_ranks();
  const auto schedule = options_.schedule_options();
  const auto binding = options_.binding_options();
  const auto faults = check_faults();
  const auto heartbeats = options_.check_heartbeats();
  const auto recovery = check_recovery();
  for (const auto* error :
       {nodes ? nullptr : &nodes.error(), ranks ? nullptr : &ranks.error(),
        schedule ? nullptr : &schedule.error(), binding ? nullptr : &binding.error(),
        faults ? nullptr : &faults.error(), heartbeats ? nullptr : &heartbeats.error(),
        recovery ? nullptr : &recovery.error()}) {
    if (error != nullptr) return refuse(*error, kExitBadInput);
  }
  schedule_ = *schedule;
  schedule_.checkpoints.resume = request_.resumes;
  schedule_.checkpoints.from = request_.from;
  binding_ = *binding;
  faults_ = *faults;
  if (speaks() && !request_.description) {
    const auto begin = std::chrono::steady_clock::now();
    if (auto prepared = prepare(); !prepared) return fail(prepared.error());
    prepared_within_ = std::chrono::steady_clock::now() - begin;
  }
  const bool starts_ranks = options_.ranks != 1 || !nodes_.list.empty() || options_.dry_run;
  return !launched_ && starts_ranks ? supervise() : run_one_rank();
}

std::expected<void, std::string> RunLaunch::prepare() const {
  try {
    return request_.program->prepare();
  } catch (const std::bad_alloc&) {
    return std::unexpected("the job needs more memory than there is; give a smaller one");
  }
}

// ---- outside MPI, with -n: start the ranks ----

int RunLaunch::supervise() {
  const bool chosen = !options_.dir.empty();
  SupervisedRun run{.called = request_.called,
                    .job = std::string(request_.program->name()),
                    .verb = request_.verb,
                    .arguments = request_.arguments,
                    .resume_arguments = request_.resume_arguments,
                    .options = options_,
                    .nodes = nodes_.list,
                    .remote_shell = nodes_.remote_shell,
                    .prepared_within = prepared_within_};
  if (request_.from.value != 0) run.from = request_.from.value;
  if (options_.dry_run) {
    std::erase(run.arguments, "--dry-run");
    return Supervisor(std::move(run)).show_command();
  }
  if (chosen) {
    if (auto usable = check_directory(options_.dir); !usable) return fail(usable.error());
  } else {
    const auto made = default_run_directory(request_.program->name());
    if (!made) return fail(made.error().message);
    run.options.dir = made->string();
    run.arguments.insert(run.arguments.begin(), {"--dir", run.options.dir});
  }
  return Supervisor(std::move(run)).run();
}

// A new run would bury the checkpoint of one that was stopped.
std::expected<void, std::string> RunLaunch::check_directory(
    const std::filesystem::path& path) const {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return {};
  if (auto usable = RunDirectory::check_when_ended(path); !usable) {
    return std::unexpected(usable.error().message);
  }
  if (request_.resumes || !holds_checkpoint(path)) return {};
  return std::unexpected(
      fmt::format("{0} holds the checkpoint of a run that has not ended: '{1} resume {0}' goes on "
                  "with it; give another --dir to begin anew",
                  path.string(), request_.called));
}

// ---- one rank ----

// Under a supervisor, the terminal that counts is the supervisor's.
void RunLaunch::set_up_progress(RankRunRequest& request) const {
  int columns = isatty(STDERR_FILENO) == 1 ? terminal_columns(STDERR_FILENO) : 0;
  columns = supervisor_columns().value_or(columns);
  if (options_.progress == "auto") request.options.progress = columns > 0 ? "bar" : "plain";
  if (columns > 0) request.progress_columns = columns;
}

int RunLaunch::run_one_rank() {
  RankRunRequest request{.program = request_.program.get(),
                         .options = options_,
                         .schedule = schedule_,
                         .binding = binding_,
                         .faults = faults_,
                         .launched = launched_,
                         .supervised = is_supervised(),
                         .relaunches = relaunches_before(),
                         .description = std::move(request_.description)};
  std::optional<RunDirectory> directory;
  if (speaks()) {
    std::filesystem::path path = options_.dir;
    if (path.empty()) {
      const auto made = default_run_directory(request_.program->name());
      if (!made) return fail(made.error().message);
      path = *made;
    }
    if (auto usable = check_directory(path); !usable) return fail(usable.error());
    auto claimed = RunDirectory::claim(path);
    if (!claimed) return fail(claimed.error().message);
    directory = std::move(*claimed);
    forget_strikes(path);
    request.directory = &*directory;
  }
  set_up_progress(request);
  request.show = [this](const RunSummary& summary) {
    show(summary, options_.json(), request_.called);
  };
  const int exit_status = run_rank(std::move(request));
  // mpirun would add its own words to another status; the supervisor reads status.json instead.
  return is_supervised() ? kExitDone : exit_status;
}

}  // namespace regroup
