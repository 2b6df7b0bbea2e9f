#include "jobs/run_launch.hpp"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "jobs/resumption.hpp"
#include "jobs/run_command.hpp"
#include "jobs/terminal.hpp"
#include "runtime/host/host_loop.hpp"
#include "runtime/host/launch_output.hpp"
#include "runtime/host/remote_shell.hpp"
#include "runtime/host/slurm_allocation.hpp"

namespace regroup {
namespace {

// The supervisor tells its ranks that it reads status.json, and how wide its terminal is.
constexpr const char* kSupervisedVariable = "REGROUP_INTERNAL_SUPERVISED";
constexpr const char* kColumnsVariable = "REGROUP_INTERNAL_COLUMNS";

// How long a rank that refuses its input lets the first rank speak, and mpirun end it in silence.
constexpr auto kFirstRankSpeaks = std::chrono::seconds(5);
// How long ranks whose mpirun has ended may take to end as well, and how often that is looked at.
constexpr auto kRanksEnd = std::chrono::seconds(10);
constexpr auto kRanksEndLook = std::chrono::milliseconds(20);
// Beyond the grace that a stopped run has: to say goodbye.
constexpr auto kStopSlack = std::chrono::seconds(10);

int fail(const std::string& message, int exit_status = kExitBadInput) {
  std::fprintf(stderr, "regroup: %s\n", message.c_str());
  return exit_status;
}

std::string stopped_text(int signal) {
  return std::string(kStoppedBySignal) + std::to_string(signal);
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

// Takes over the directory of a run whose ranks are about to end. Empty if they do not.
std::optional<RunDirectory> claim_after_ranks(const std::filesystem::path& path) {
  const auto deadline = std::chrono::steady_clock::now() + kRanksEnd;
  while (true) {
    auto claimed = RunDirectory::claim(path);
    if (claimed) return std::move(*claimed);
    const bool in_use = claimed.error().kind == RunDirectoryError::Kind::kInUse;
    if (!in_use || std::chrono::steady_clock::now() >= deadline) return std::nullopt;
    std::this_thread::sleep_for(kRanksEndLook);
  }
}

}  // namespace

bool is_supervised() {
  return std::getenv(kSupervisedVariable) != nullptr;
}

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
  if (!launched_ || options_.ranks <= 1 || options_.ranks == launched_->ranks) return {};
  return std::unexpected(fmt::format(
      "-n {} inside a launch of {} ranks: leave -n to the launcher, or start regroup outside it",
      options_.ranks, launched_->ranks));
}

std::expected<FaultPlan, std::string> RunLaunch::check_faults() const {
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

// A job of this node alone needs no other.
std::expected<void, std::string> RunLaunch::find_own_allocation() {
  auto nodes = slurm_nodes();
  if (!nodes) return std::unexpected(nodes.error());
  if (nodes->size() == 1 && is_own_name(nodes->front().name)) {
    request_.usual_ranks = std::max(request_.usual_ranks, nodes->front().slots);
    return {};
  }
  nodes_ = std::move(*nodes);
  nodes_from_slurm_ = !nodes_.empty();
  return {};
}

// Under a launcher they are its concern. Without -n each slot gets a rank.
std::expected<void, std::string> RunLaunch::find_nodes() {
  if (launched_) return {};
  auto nodes = options_.launch_nodes();
  if (!nodes) return std::unexpected(nodes.error());
  nodes_ = std::move(*nodes);
  if (nodes_.empty()) {
    if (auto found = find_own_allocation(); !found) return found;
  }
  if (options_.ranks != 0) return {};
  if (nodes_.empty()) {
    options_.ranks = request_.usual_ranks;
    return {};
  }
  const std::uint64_t slots = slots_of(nodes_);
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
    if (auto prepared = request_.program->prepare(); !prepared) return fail(prepared.error());
  }
  const bool starts_ranks = options_.ranks != 1 || !nodes_.empty() || options_.dry_run;
  return !launched_ && starts_ranks ? supervise() : run_one_rank();
}

// ---- outside MPI, with -n: start the ranks ----

// Of their environment.
std::vector<std::string> RunLaunch::settings_of_ranks() {
  const int columns = isatty(STDERR_FILENO) == 1 ? terminal_columns(STDERR_FILENO) : 0;
  return {std::string(kSupervisedVariable) + "=1", fmt::format("{}={}", kColumnsVariable, columns)};
}

// As somebody would type it: nobody looks after its ranks.
int RunLaunch::show_command() const {
  std::vector<std::string> program = {own_program(), request_.verb};
  std::ranges::copy_if(request_.arguments, std::back_inserter(program),
                       [](const std::string& word) { return word != "--dry-run"; });
  const auto command = mpirun_command(launch_options({}), program);
  if (!command) return fail(command.error(), kExitNotRecovered);
  std::puts(shell_text(*command).c_str());
  return kExitDone;
}

std::string RunLaunch::remote_shell() const {
  if (options_.remote_shell != "auto") return options_.remote_shell;
  return std::string(nodes_from_slurm_ ? kSlurmShell : kUsualShell);
}

// `settings`: of the ranks' environment.
LaunchOptions RunLaunch::launch_options(const std::vector<std::string>& settings) const {
  LaunchOptions launch{
      .ranks = options_.ranks,
      .recovery = options_.recovery_choice(),
      .nodes = nodes_,
      .remote_shell = {own_program(), std::string(kRemoteShellVerb), remote_shell()},
      .network = options_.network,
      .variables = variables_named("REGROUP_")};
  for (const std::string& setting : settings) {
    launch.variables.push_back(setting.substr(0, setting.find('=')));
  }
  std::ranges::sort(launch.variables);
  const auto [first, last] = std::ranges::unique(launch.variables);
  launch.variables.erase(first, last);
  return launch;
}

int RunLaunch::supervise() {
  const bool chosen = !options_.dir.empty();
  if (options_.dry_run) return show_command();
  if (chosen) {
    if (auto usable = check_directory(options_.dir); !usable) return fail(usable.error());
  } else {
    const auto made = default_run_directory(request_.program->name());
    if (!made) return fail(made.error().message);
    options_.dir = made->string();
  }
  std::vector<std::string> program = {own_program(), request_.verb};
  if (!chosen) program.insert(program.end(), {"--dir", options_.dir});
  program.insert(program.end(), request_.arguments.begin(), request_.arguments.end());
  const std::vector<std::string> rank_settings = settings_of_ranks();
  const auto command = mpirun_command(launch_options(rank_settings), program);
  if (!command) return fail(command.error(), kExitNotRecovered);
  std::optional<RunStatus> before;
  if (auto status = read_status(options_.dir)) before = std::move(*status);
  LaunchOutput output(kSurviveByDefault ? LaunchOutput::KnownNoise::kHide
                                        : LaunchOutput::KnownNoise::kShow);
  const auto pass_on = [](const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stderr);
  };
  Watch watch;
  watch.stop_signal = SIGUSR1;  // mpirun passes it on, and kills nobody
  watch.stop_within = std::chrono::seconds(options_.grace_seconds) + kStopSlack;
  watch.is_over = [&] {
    std::error_code ignored;
    directory_seen_ = directory_seen_ || std::filesystem::exists(options_.dir, ignored);
    return is_over(before);
  };
  watch.on_terminate = [&] { output.hide_messages(); };
  watch.on_error_output = [&](std::string_view bytes) {
    pass_on(bytes.empty() ? output.release() : output.take(bytes));
  };
  const LauncherDirectory launcher_directory;
  std::vector<std::string> settings = launcher_directory.settings();
  settings.insert(settings.end(), rank_settings.begin(), rank_settings.end());
  const auto ended = run_in_foreground(*command, settings, watch);
  pass_on(output.release());
  if (!ended) return fail(ended.error(), kExitNotRecovered);
  return judge(*ended, before, output.lost());
}

// A new run would bury the checkpoint of one that was stopped.
std::expected<void, std::string> RunLaunch::check_directory(
    const std::filesystem::path& path) const {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return {};
  if (auto usable = RunDirectory::check(path); !usable) {
    return std::unexpected(usable.error().message);
  }
  if (request_.resumes || !holds_checkpoint(path)) return {};
  return std::unexpected(
      fmt::format("{0} holds the checkpoint of a run that has not ended: '{1} resume {0}' goes on "
                  "with it; give another --dir to begin anew",
                  path.string(), request_.called));
}

// `before` is what an earlier run in this directory left there.
bool RunLaunch::is_over(const std::optional<RunStatus>& before) const {
  const auto status = read_status(options_.dir);
  return status && status->exit && before != *status;
}

// Of a progress bar that its rank had no time to clear away.
void RunLaunch::clear_bar() const {
  const bool may_be_there = options_.progress == "auto" || options_.progress == "bar";
  if (may_be_there && isatty(STDERR_FILENO) == 1) std::fputs("\r\033[K", stderr);
}

// Where there is no status.json, or only that of an earlier run.
std::string RunLaunch::how_nothing_is_known(int signal, const std::string& cause) const {
  std::error_code ignored;
  if (directory_seen_ && !std::filesystem::exists(options_.dir, ignored)) {
    return fmt::format("{} is gone, and with it how the run ended ({})", options_.dir, cause);
  }
  if (signal != 0) return stopped_text(signal) + " before the run began";
  return fmt::format("the ranks ended before the run began ({})", cause);
}

// The truth is in status.json: mpirun's own status may hide a failure, or show one that was
// survived. `before` is what an earlier run in this directory left there. After a signal Open MPI 5
// kills ranks within half a second, so they may have had no time to tell.
int RunLaunch::judge(int mpirun_status, const std::optional<RunStatus>& before,
                     const std::optional<LostRank>& lost) {
  const std::string cause =
      fmt::format("{}mpirun returned {}", lost ? lost_text(*lost) + "; " : "", mpirun_status);
  auto status = read_status(options_.dir);
  const int signal = stop_signal_passed_on();
  const std::string stopped = stopped_text(signal);
  if (!status || before == *status) {
    return fail(how_nothing_is_known(signal, cause), kExitNotRecovered);
  }
  auto claimed = claim_after_ranks(options_.dir);  // a run is over when its directory is free
  if (auto last = read_status(options_.dir)) status = std::move(last);
  // Ranks that a signal's consequences have ended may tell of those alone.
  const bool by_signal = signal != 0 && status->state == RunState::kFailed;
  if (!status->exit || by_signal) {
    const auto newest = newest_sealed(options_.dir);
    status->state = signal != 0 ? RunState::kInterrupted : RunState::kFailed;
    status->exit = newest ? kExitResumable : kExitNotRecovered;
    status->message =
        signal != 0 ? stopped : fmt::format("the ranks ended in the middle of the run ({})", cause);
    if (newest) {
      status->message += fmt::format("; checkpoint {} is sealed; '{} resume {}' goes on",
                                     newest->value, request_.called, options_.dir);
    }
    if (claimed) (void)claimed->write_status(*status);
  } else if (const auto passed_on = stopped_text(SIGUSR1);
             signal != 0 && status->message.starts_with(passed_on)) {
    // The ranks know the signal that was passed on alone.
    status->message.replace(0, passed_on.size(), stopped_text(signal));
    if (claimed) (void)claimed->write_status(*status);
  }
  if (*status->exit != kExitDone) {
    clear_bar();
    say_why(status->job, status->message);
  }
  return *status->exit;
}

// ---- one rank ----

// Under a supervisor, the terminal that counts is the supervisor's.
void RunLaunch::set_up_progress(RankRunRequest& request) const {
  int columns = isatty(STDERR_FILENO) == 1 ? terminal_columns(STDERR_FILENO) : 0;
  if (const char* const text = std::getenv(kColumnsVariable)) columns = std::atoi(text);
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
                         .supervised = std::getenv(kSupervisedVariable) != nullptr,
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
