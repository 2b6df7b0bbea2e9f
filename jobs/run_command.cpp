#include "jobs/run_command.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "jobs/command_parser.hpp"
#include "jobs/help_text.hpp"
#include "jobs/rank_run.hpp"
#include "jobs/run_options.hpp"
#include "jobs/terminal.hpp"
#include "runtime/host/host_loop.hpp"
#include "runtime/host/launch_output.hpp"

namespace regroup {
namespace {

// The supervisor tells its ranks that it reads status.json, and how wide its terminal is.
constexpr const char* kSupervisedVariable = "REGROUP_INTERNAL_SUPERVISED";
constexpr const char* kColumnsVariable = "REGROUP_INTERNAL_COLUMNS";

constexpr const char* kSources =
    "An option that is not given comes from a variable, REGROUP_SEED for --seed, or else from the "
    "TOML file that --config names, where the job's own options stand in a table of its name.";
constexpr const char* kFaults =
    "--inject makes the run fail where you want it to, to see what happens. A fault is kill, stop, "
    "wedge, slow, duplicate-results or late-results; then, after ':', whom it strikes: rank=N, "
    "all-but=N, "
    "coordinator or successor; and when: after-shards=N, at=2s, at=start, at=end, at=election, "
    "at=agreement or at=shrink. stop takes for=3s too, slow takes factor=10, late-results takes "
    "by=200ms. More faults follow after a comma, or in another --inject.";
constexpr const char* kStatuses =
    "Exit status: 0 done; 1 done, but some shards were given up; 2 bad input, nothing was written; "
    "3 the run could not be completed.";

// How long a rank that refuses its input lets the first rank speak, and mpirun end it in silence.
constexpr auto kFirstRankSpeaks = std::chrono::seconds(5);
// How long ranks whose mpirun has ended may take to end as well, and how often that is looked at.
constexpr auto kRanksEnd = std::chrono::seconds(10);
constexpr auto kRanksEndLook = std::chrono::milliseconds(20);

int fail(const std::string& message, int exit_status = kExitBadInput) {
  std::fprintf(stderr, "regroup: %s\n", message.c_str());
  return exit_status;
}

bool is_supervised() {
  return std::getenv(kSupervisedVariable) != nullptr;
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

// One invocation of `regroup run`.
class RunCommand {
 public:
  explicit RunCommand(const Invocation& invocation) : invocation_(invocation) {}

  int run();

 private:
  using Parsed = std::expected<CommandParser::Outcome, std::string>;

  Parsed parse();
  std::optional<std::size_t> find_job();
  Parsed without_job() const;
  CommandParser parser_for(const std::string& job);
  void say(const std::string& text) const;
  std::expected<void, std::string> check_ranks();
  std::expected<FaultPlan, std::string> check_faults() const;
  std::expected<void, std::string> check_recovery() const;
  int supervise();
  bool is_over(const std::optional<RunStatus>& before) const;
  int judge(int mpirun_status, const std::optional<RunStatus>& before,
            const std::optional<LostRank>& lost);
  void clear_bar() const;
  int refuse(const std::string& message) const;
  int run_one_rank();
  void set_up_progress(RankRunRequest& request) const;
  bool speaks() const { return !launched_ || launched_->rank == 0; }
  std::string run_words() const { return invocation_.program + " run"; }

  Invocation invocation_;
  std::unique_ptr<Program> program_;
  RunOptions options_;
  OptionSet set_;
  ScheduleOptions schedule_;
  BindingOptions binding_;
  FaultPlan faults_;
  std::optional<LaunchedRank> launched_ = launched_rank();
};

void RunCommand::say(const std::string& text) const {
  if (speaks()) std::fputs(text.c_str(), stdout);
}

// The place of the job among the arguments: the first one that is neither an option of the run nor
// the value of one.
std::optional<std::size_t> RunCommand::find_job() {
  const std::vector<std::string>& arguments = invocation_.arguments;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (!argument.starts_with("-")) return i;
    const Option* const option = argument == "-n"             ? set_.find("ranks")
                                 : argument.starts_with("--") ? set_.find(argument.substr(2))
                                                              : nullptr;
    if (option != nullptr && !option->is_flag()) ++i;
  }
  return std::nullopt;
}

RunCommand::Parsed RunCommand::without_job() const {
  const std::vector<std::string>& arguments = invocation_.arguments;
  const bool help = std::ranges::find(arguments, "--help") != arguments.end() ||
                    std::ranges::find(arguments, "-h") != arguments.end();
  if (!help) {
    return std::unexpected(
        fmt::format("run takes the name of a job; see '{} jobs'", invocation_.program));
  }
  say(fmt::format("Usage: {0} JOB [options] [inputs]\n\nRuns a job:\n\n", run_words()));
  for (const auto& [name, make] : invocation_.registry->factories()) {
    say(help_line(name, make()->summary(), terminal_columns(STDOUT_FILENO)));
  }
  say(fmt::format("\n'{0} JOB --help' shows all options of one.\n\nExample:\n  {0} {1} -n 4\n",
                  run_words(), invocation_.registry->factories().begin()->first));
  return CommandParser::Outcome::kHelpWanted;
}

CommandParser RunCommand::parser_for(const std::string& job) {
  std::string summary = fmt::format("{}: {}.", job, program_->summary());
  if (!program_->description().empty()) summary += fmt::format(" {}", program_->description());
  CommandParser parser(run_words() + " " + job, summary);
  parser.add("Options of the job", program_->options(), job);
  parser.add("Options of the run", set_);
  parser.add_short('n', "ranks");
  std::vector<std::string> jobs;
  for (const auto& [name, make] : invocation_.registry->factories()) jobs.push_back(name);
  parser.ignore_tables(std::move(jobs));
  const int columns = terminal_columns(STDOUT_FILENO);
  const char* const inputs = program_->options().input_list() ? " FILE..." : "";
  parser.examples(
      fmt::format("{0}\n\n{1}\n\n{2}\n\n"
                  "Examples:\n"
                  "  {3} {4}{5} -n 4\n"
                  "  {3} {4}{5} -n 4 --dir my-run --format json\n"
                  "  {3} {4}{5} -n 4 --inject kill:rank=2,after-shards=10\n"
                  "  mpirun -n 4 {3} {4}{5}\n",
                  wrapped(kSources, columns), wrapped(kFaults, columns),
                  wrapped(kStatuses, columns), run_words(), job, inputs));
  return parser;
}

RunCommand::Parsed RunCommand::parse() {
  options_.declare(set_);
  const auto place = find_job();
  if (!place) return without_job();
  std::vector<std::string> rest = invocation_.arguments;
  const std::string job = rest[*place];
  rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(*place));
  program_ = invocation_.registry->make(job);
  if (!program_) return std::unexpected(unknown_job(invocation_, job));
  CommandParser parser = parser_for(job);
  const auto parsed = parser.parse(rest);
  if (parsed == CommandParser::Outcome::kHelpWanted) {
    say(parser.help(terminal_columns(STDOUT_FILENO)));
  }
  return parsed;
}

std::expected<void, std::string> RunCommand::check_ranks() {
  if (!launched_ || options_.ranks == 1 || options_.ranks == launched_->ranks) return {};
  return std::unexpected(fmt::format(
      "-n {} inside a launch of {} ranks: leave -n to the launcher, or start regroup outside it",
      options_.ranks, launched_->ranks));
}

std::expected<FaultPlan, std::string> RunCommand::check_faults() const {
  auto plan = options_.fault_plan(launched_ ? launched_->ranks : options_.ranks);
  if (plan && launched_ && options_.dir.empty() && plan->needs_run_directory()) {
    return std::unexpected(
        "--inject: a fault at the coordinator or successor needs --dir under mpirun, where ranks "
        "agree on whom it struck");
  }
  return plan;
}

std::expected<void, std::string> RunCommand::check_recovery() const {
  if (!launched_ && options_.ranks == 1) return {};
  const auto problem = problem_with(options_.recovery_choice(), launched_.has_value());
  return problem ? std::unexpected(*problem) : std::expected<void, std::string>{};
}

// Of several ranks with the same arguments the first one says what is wrong with them. The others
// wait for that: mpirun ends a launch when one rank fails, and would end the first before it spoke.
// A rank that is still there afterwards was given other arguments.
int RunCommand::refuse(const std::string& message) const {
  if (speaks()) return fail(message);
  std::this_thread::sleep_for(kFirstRankSpeaks);
  return fail(fmt::format("rank {}: {}", launched_->rank, message));
}

int RunCommand::run() {
  const auto parsed = parse();
  if (!parsed) return refuse(parsed.error());
  if (*parsed == CommandParser::Outcome::kHelpWanted) return kExitDone;
  const auto ranks = check_ranks();
  const auto schedule = options_.schedule_options();
  const auto binding = options_.binding_options();
  const auto faults = check_faults();
  const auto heartbeats = options_.check_heartbeats();
  const auto recovery = check_recovery();
  for (const auto* error :
       {ranks ? nullptr : &ranks.error(), schedule ? nullptr : &schedule.error(),
        binding ? nullptr : &binding.error(), faults ? nullptr : &faults.error(),
        heartbeats ? nullptr : &heartbeats.error(), recovery ? nullptr : &recovery.error()}) {
    if (error != nullptr) return refuse(*error);
  }
  schedule_ = *schedule;
  binding_ = *binding;
  faults_ = *faults;
  if (speaks()) {
    if (auto prepared = program_->prepare(); !prepared) return fail(prepared.error());
  }
  return launched_ || options_.ranks == 1 ? run_one_rank() : supervise();
}

// ---- outside MPI, with -n: start the ranks ----

int RunCommand::supervise() {
  const bool chosen = !options_.dir.empty();
  if (chosen) {
    if (auto usable = RunDirectory::check(options_.dir); !usable)
      return fail(usable.error().message);
  } else {
    const auto made = default_run_directory(program_->name());
    if (!made) return fail(made.error().message);
    options_.dir = made->string();
  }
  std::vector<std::string> program = {own_program(), "run"};
  if (!chosen) program.insert(program.end(), {"--dir", options_.dir});
  program.insert(program.end(), invocation_.arguments.begin(), invocation_.arguments.end());
  const auto command =
      mpirun_command({.ranks = options_.ranks, .recovery = options_.recovery_choice()}, program);
  if (!command) return fail(command.error(), kExitNotRecovered);
  std::optional<RunStatus> before;
  if (auto status = read_status(options_.dir)) before = std::move(*status);
  const int columns = isatty(STDERR_FILENO) == 1 ? terminal_columns(STDERR_FILENO) : 0;
  LaunchOutput output(kSurviveByDefault ? LaunchOutput::KnownNoise::kHide
                                        : LaunchOutput::KnownNoise::kShow);
  const auto pass_on = [](const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stderr);
  };
  Watch watch;
  watch.is_over = [&] { return is_over(before); };
  watch.on_terminate = [&] { output.hide_messages(); };
  watch.on_error_output = [&](std::string_view bytes) {
    pass_on(bytes.empty() ? output.release() : output.take(bytes));
  };
  const LauncherDirectory launcher_directory;
  std::vector<std::string> settings = launcher_directory.settings();
  settings.push_back(std::string(kSupervisedVariable) + "=1");
  settings.push_back(fmt::format("{}={}", kColumnsVariable, columns));
  const auto ended = run_in_foreground(*command, settings, watch);
  pass_on(output.release());
  if (!ended) return fail(ended.error(), kExitNotRecovered);
  return judge(*ended, before, output.lost());
}

// `before` is what an earlier run in this directory left there.
bool RunCommand::is_over(const std::optional<RunStatus>& before) const {
  const auto status = read_status(options_.dir);
  return status && status->exit && before != *status;
}

// Of a progress bar that its rank had no time to clear away.
void RunCommand::clear_bar() const {
  const bool may_be_there = options_.progress == "auto" || options_.progress == "bar";
  if (may_be_there && isatty(STDERR_FILENO) == 1) std::fputs("\r\033[K", stderr);
}

// The truth is in status.json: mpirun's own status may hide a failure, or show one that was
// survived. `before` is what an earlier run in this directory left there. After a signal Open MPI 5
// kills ranks within half a second, so they may have had no time to tell.
int RunCommand::judge(int mpirun_status, const std::optional<RunStatus>& before,
                      const std::optional<LostRank>& lost) {
  const std::string cause =
      fmt::format("{}mpirun returned {}", lost ? lost_text(*lost) + "; " : "", mpirun_status);
  auto status = read_status(options_.dir);
  const int signal = stop_signal_passed_on();
  const std::string stopped = std::string(kStoppedBySignal) + std::to_string(signal);
  if (!status || before == *status) {
    return fail(signal != 0 ? stopped + " before the run began"
                            : fmt::format("the ranks ended before the run began ({})", cause),
                kExitNotRecovered);
  }
  auto claimed = claim_after_ranks(options_.dir);  // a run is over when its directory is free
  if (auto last = read_status(options_.dir)) status = std::move(last);
  // Ranks that a signal's consequences have ended may tell of those alone.
  const bool by_signal = signal != 0 && status->state == RunState::kFailed;
  if (!status->exit || by_signal) {
    status->state = signal != 0 ? RunState::kInterrupted : RunState::kFailed;
    status->exit = kExitNotRecovered;
    status->message =
        signal != 0 ? stopped : fmt::format("the ranks ended in the middle of the run ({})", cause);
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
void RunCommand::set_up_progress(RankRunRequest& request) const {
  int columns = isatty(STDERR_FILENO) == 1 ? terminal_columns(STDERR_FILENO) : 0;
  if (const char* const text = std::getenv(kColumnsVariable)) columns = std::atoi(text);
  if (options_.progress == "auto") request.options.progress = columns > 0 ? "bar" : "plain";
  if (columns > 0) request.progress_columns = columns;
}

int RunCommand::run_one_rank() {
  RankRunRequest request{.program = program_.get(),
                         .options = options_,
                         .schedule = schedule_,
                         .binding = binding_,
                         .faults = faults_,
                         .launched = launched_,
                         .supervised = std::getenv(kSupervisedVariable) != nullptr};
  std::optional<RunDirectory> directory;
  if (speaks()) {
    std::filesystem::path path = options_.dir;
    if (path.empty()) {
      const auto made = default_run_directory(program_->name());
      if (!made) return fail(made.error().message);
      path = *made;
    }
    auto claimed = RunDirectory::claim(path);
    if (!claimed) return fail(claimed.error().message);
    directory = std::move(*claimed);
    forget_strikes(path);
    request.directory = &*directory;
  }
  set_up_progress(request);
  request.show = [this](const RunSummary& summary) {
    show(summary, options_.json(), invocation_.program);
  };
  const int exit_status = run_rank(std::move(request));
  // mpirun would add its own words to another status; the supervisor reads status.json instead.
  return is_supervised() ? kExitDone : exit_status;
}

}  // namespace

std::string unknown_job(const Invocation& invocation, const std::string& job) {
  std::vector<std::string> names;
  for (const auto& [name, make] : invocation.registry->factories()) names.push_back(name);
  return fmt::format("unknown job '{}'; {}'{} jobs' lists them", job, did_you_mean(job, names),
                     invocation.program);
}

int run_command(const Invocation& invocation) {
  return RunCommand(invocation).run();
}

}  // namespace regroup
