#include "jobs/supervisor.hpp"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "jobs/resumption.hpp"
#include "jobs/run_command.hpp"
#include "jobs/terminal.hpp"
#include "runtime/host/host_loop.hpp"
#include "runtime/host/launch_keeper.hpp"
#include "runtime/host/launch_processes.hpp"
#include "runtime/host/node_commands.hpp"
#include "runtime/host/remote_shell.hpp"
#include "runtime/host/run_pulse.hpp"
#include "runtime/host/slurm_allocation.hpp"

namespace regroup {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kSupervisedVariable = "REGROUP_INTERNAL_SUPERVISED";
constexpr const char* kColumnsVariable = "REGROUP_INTERNAL_COLUMNS";
constexpr const char* kRelaunchesVariable = "REGROUP_INTERNAL_RELAUNCHES";
constexpr const char* kBegunVariable = "REGROUP_INTERNAL_BEGUN";
constexpr const char* kPatienceVariable = "REGROUP_INTERNAL_PATIENCE";

// How long ranks whose mpirun has ended may take to end as well.
constexpr auto kRanksEnd = std::chrono::seconds(10);
constexpr auto kRanksEndLook = std::chrono::milliseconds(20);
// Beyond the grace that a stopped run has: to say goodbye.
constexpr auto kStopSlack = std::chrono::seconds(10);
// A launch that is slow to begin is given twice as long the next time.
constexpr std::uint64_t kStartDoublingsMax = 10;
// Beyond what ranks need to notice that one of them is lost, or stuck.
constexpr auto kSilenceSlack = std::chrono::seconds(20);
// For a node to say that nothing is left there: when the run is over, and before the next launch.
constexpr auto kNodeAnswersAtEnd = std::chrono::seconds(10);
constexpr auto kNodeAnswers = std::chrono::seconds(25);  // ssh gives up after 20
// A node that is cut off keeps the directory for as long as its ranks hope to be let in again.
constexpr auto kDirectoryFree = std::chrono::seconds(90);
constexpr auto kDirectoryLook = std::chrono::milliseconds(200);
// What run_in_foreground() returns of a command that a signal ended is above this.
constexpr int kKilled = 128;

// Before ranks are started again in vain: doubled each time.
constexpr auto kBackoffMin = std::chrono::seconds(1);
constexpr auto kBackoffMax = std::chrono::seconds(60);
constexpr auto kBackoffLook = std::chrono::milliseconds(50);

int fail(const std::string& message, int exit_status) {
  std::fprintf(stderr, "regroup: %s\n", message.c_str());
  return exit_status;
}

std::string stopped_text(int signal) {
  return std::string(kStoppedBySignal) + std::to_string(signal);
}

// Takes over the directory of a run whose ranks are about to end. Empty if they do not.
std::optional<RunDirectory> claim_after_ranks(const std::filesystem::path& path) {
  const auto deadline = Clock::now() + kRanksEnd;
  while (true) {
    auto claimed = RunDirectory::claim(path);
    if (claimed) return std::move(*claimed);
    const bool in_use = claimed.error().kind == RunDirectoryError::Kind::kInUse;
    if (!in_use || Clock::now() >= deadline) return std::nullopt;
    std::this_thread::sleep_for(kRanksEndLook);
  }
}

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The status in a directory, read once a look, and parsed when it has changed.
class StatusLook {
 public:
  explicit StatusLook(std::filesystem::path directory) : directory_(std::move(directory)) {}

  void look() {
    std::string text = text_of(directory_ / "status.json");
    if (text == text_) return;
    text_ = std::move(text);
    auto parsed = parse_run_status(text_);
    status_ = parsed ? std::optional(std::move(*parsed)) : std::nullopt;
  }
  const std::optional<RunStatus>& status() const { return status_; }
  // What changes every second as long as there are ranks; "": there is no run.
  std::string signs_of_life() const {
    return text_.empty() ? text_ : text_ + text_of(directory_ / kPulseFile);
  }

 private:
  std::filesystem::path directory_;
  std::string text_;
  std::optional<RunStatus> status_;
};

// What is seen of a run that has not begun.
const std::string kNotBegun = "not begun";

std::uint64_t number_in(const char* variable) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? 0 : std::strtoull(text, nullptr, 10);
}

void pass_on(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
}

// The ranks could not go on, and have not failed: nobody has said how the run ended, or only one
// that was cut off from the others, or those whose daemons stopped them when mpirun was killed.
bool was_cut_short(const RunStatus& status, int mpirun_status) {
  const bool cut_off = status.state == RunState::kFailed && status.exit == kExitResumable;
  const bool abandoned = status.state == RunState::kInterrupted && mpirun_status >= kKilled;
  return !status.exit || cut_off || abandoned;
}

}  // namespace

bool is_supervised() {
  return std::getenv(kSupervisedVariable) != nullptr;
}

std::uint64_t relaunches_before() {
  return number_in(kRelaunchesVariable);
}

bool has_begun_before() {
  return number_in(kBegunVariable) != 0;
}

std::chrono::seconds supervisor_patience() {
  return std::chrono::seconds(number_in(kPatienceVariable));
}

std::optional<int> supervisor_columns() {
  const char* const text = std::getenv(kColumnsVariable);
  return text == nullptr ? std::nullopt : std::optional(std::atoi(text));
}

Supervisor::Supervisor(SupervisedRun run) : run_(std::move(run)) {}

// ---- the command ----

std::vector<std::string> Supervisor::program_of(const Launch& launch) const {
  std::vector<std::string> program = {own_program(), launch.verb};
  program.insert(program.end(), launch.arguments.begin(), launch.arguments.end());
  if (launch.from) program.insert(program.end(), {"--from", std::to_string(*launch.from)});
  return program;
}

LaunchOptions Supervisor::launch_options(const Launch& launch,
                                         const std::vector<std::string>& settings) const {
  LaunchOptions options{
      .ranks = launch.ranks,
      .recovery = run_.options.recovery_choice(),
      .nodes = launch.nodes,
      .remote_shell = {own_program(), std::string(kRemoteShellVerb), run_.remote_shell},
      .network = run_.options.network,
      .daemons_stay = is_slurm_shell(run_.remote_shell) && slurm_ends_what_steps_leave(),
      .tag_output = run_.options.tag_output,
      .variables = variables_named("REGROUP_")};
  for (const std::string& setting : settings) {
    options.variables.push_back(setting.substr(0, setting.find('=')));
  }
  std::ranges::sort(options.variables);
  const auto [first, last] = std::ranges::unique(options.variables);
  options.variables.erase(first, last);
  return options;
}

// Of the environment of ranks and daemons.
std::vector<std::string> Supervisor::settings() const {
  const int columns = isatty(STDERR_FILENO) == 1 ? terminal_columns(STDERR_FILENO) : 0;
  return {fmt::format("{}=1", kSupervisedVariable),
          fmt::format("{}={}", kColumnsVariable, columns),
          fmt::format("{}={}", kRelaunchesVariable, relaunches_),
          fmt::format("{}={}", kBegunVariable, has_begun_ ? 1 : 0),
          fmt::format("{}={}", kPatienceVariable, start_silence_max().count()),
          fmt::format("{}={}", kLaunchVariable, mark_),
          fmt::format("{}={}", kRunDirectoryVariable,
                      std::filesystem::absolute(run_.options.dir).string())};
}

// As somebody would type it: nobody looks after its ranks.
int Supervisor::show_command() const {
  const Launch launch{run_.verb, run_.arguments, run_.nodes, run_.options.ranks, run_.from};
  const auto command = mpirun_command(launch_options(launch, {}), program_of(launch));
  if (!command) return fail(command.error(), kExitNotRecovered);
  std::puts(shell_text(*command).c_str());
  return kExitDone;
}

// ---- one launch ----

// After this long without a word there are no ranks any more.
std::chrono::seconds Supervisor::silence_max() const {
  const auto suspect = std::chrono::seconds(run_.options.suspect_after_ms / 1000 + 1);
  const auto wedge = std::chrono::seconds(run_.options.wedge_timeout_seconds);
  const bool may_be_stuck_for_ever = run_.options.wedge_timeout_seconds == 0;
  return may_be_stuck_for_ever ? std::chrono::hours(24 * 365) : suspect + wedge + kSilenceSlack;
}

// So long ranks may take to begin, without a word.
std::chrono::seconds Supervisor::start_silence_max() const {
  const auto doublings = std::min(starts_given_up_, kStartDoublingsMax);
  const std::chrono::seconds wait(std::uint64_t{run_.options.start_timeout_seconds} << doublings);
  return wait + std::chrono::floor<std::chrono::seconds>(2 * run_.prepared_within);
}

Supervisor::Ending Supervisor::start(const Launch& launch) {
  mark_ = new_launch_mark();
  StatusLook there(run_.options.dir);
  there.look();
  const std::optional<RunStatus> before = there.status();  // of an earlier launch
  const std::vector<std::string> settings = this->settings();
  const auto command = mpirun_command(launch_options(launch, settings), program_of(launch));
  if (!command) return {.message = command.error(), .exit_status = kExitNotRecovered};

  LaunchOutput output(kSurviveByDefault ? LaunchOutput::KnownNoise::kHide
                                        : LaunchOutput::KnownNoise::kShow);
  RunPulse pulse(start_silence_max());
  bool told_to_end = false;
  bool has_begun = false;
  std::optional<LaunchKeeper> keeper;
  Watch watch;
  watch.on_start = [&](pid_t mpirun) {
    keeper.emplace(mpirun, [this] { end_leftovers(kNodeAnswers); });
  };
  watch.stop_signal = SIGUSR1;  // mpirun passes it on, and kills nobody
  watch.stop_within = std::chrono::seconds(run_.options.grace_seconds) + kStopSlack;
  const auto is_new = [&] { return there.status() && there.status() != before; };
  watch.is_deserted = [&] {
    there.look();
    has_begun = has_begun || is_new();
    if (has_begun) {
      pulse.silence_max(silence_max());
      has_begun_ = true;
      starts_given_up_ = 0;
    }
    pulse.look(Clock::now(), has_begun ? there.signs_of_life() : kNotBegun);
    return pulse.is_silent();
  };
  watch.is_over = [&] {
    std::error_code ignored;
    directory_seen_ = directory_seen_ || std::filesystem::exists(run_.options.dir, ignored);
    return is_new() && there.status()->exit.has_value();
  };
  watch.on_terminate = [&] {
    told_to_end = true;
    output.hide_messages();
  };
  watch.on_error_output = [&](std::string_view bytes) {
    if (!bytes.empty()) pulse.heard();
    pass_on(bytes.empty() ? output.release() : output.take(bytes));
  };
  const LauncherDirectory launcher_directory;
  std::vector<std::string> environment = launcher_directory.settings();
  environment.insert(environment.end(), settings.begin(), settings.end());
  const auto ended = run_in_foreground(*command, environment, watch);
  pass_on(output.release());
  if (!ended) return {.message = ended.error(), .exit_status = kExitNotRecovered};
  Ending ending = judge(*ended, before, output.loss());
  if (!has_begun && !ending.status && pulse.is_silent() && stop_signal_passed_on() == 0) {
    ending.message =
        fmt::format("the ranks did not begin within {} s", start_silence_max().count());
    ending.never_began = ending.may_go_on = true;
    ++starts_given_up_;
  }
  ending.by_itself = !told_to_end && !ending.may_go_on;
  return ending;
}

// Where there is no status.json, or only that of an earlier launch.
std::string Supervisor::how_nothing_is_known(int signal, const std::string& cause) const {
  std::error_code ignored;
  if (directory_seen_ && !std::filesystem::exists(run_.options.dir, ignored)) {
    return fmt::format("{} is gone, and with it how the run ended ({})", run_.options.dir, cause);
  }
  if (signal != 0) return stopped_text(signal) + " before the run began";
  return fmt::format("the ranks ended before the run began ({})", cause);
}

std::string Supervisor::goes_on_from(const std::optional<CheckpointNumber>& newest) const {
  if (!newest) return "";
  return fmt::format("; checkpoint {} is sealed; '{} resume {}' goes on", newest->value,
                     run_.called, run_.options.dir);
}

// The truth is in status.json: mpirun's own status may hide a failure, or show one that was
// survived. After a signal Open MPI 5 kills ranks within half a second, so they may have had no
// time to tell.
Supervisor::Ending Supervisor::judge(int mpirun_status, const std::optional<RunStatus>& before,
                                     const std::string& loss) const {
  const std::string cause =
      fmt::format("{}{}mpirun returned {}", loss, loss.empty() ? "" : "; ", mpirun_status);
  const int signal = stop_signal_passed_on();
  auto status = read_status(run_.options.dir);
  if (!status || before == *status) {
    // A launch that never began may have met a node that was lost.
    const auto newest = newest_sealed(run_.options.dir);
    return {.message = how_nothing_is_known(signal, cause) + goes_on_from(newest),
            .exit_status = newest ? kExitResumable : kExitNotRecovered,
            .may_go_on = signal == 0 && !run_.nodes.empty()};
  }
  const auto claimed = claim_after_ranks(run_.options.dir);  // a run is over when it is free
  if (auto last = read_status(run_.options.dir)) status = std::move(last);
  Ending ending{.may_go_on = signal == 0 && was_cut_short(*status, mpirun_status)};
  // Ranks that a signal's consequences have ended may tell of those alone.
  const bool by_signal = signal != 0 && status->state == RunState::kFailed;
  if (!status->exit || by_signal) {
    const auto newest = newest_sealed(run_.options.dir);
    status->state = signal != 0 ? RunState::kInterrupted : RunState::kFailed;
    status->exit = newest ? kExitResumable : kExitNotRecovered;
    status->message = signal != 0
                          ? stopped_text(signal)
                          : fmt::format("the ranks ended in the middle of the run ({})", cause);
    status->message += goes_on_from(newest);
  } else if (const auto passed_on = stopped_text(SIGUSR1);
             signal != 0 && status->message.starts_with(passed_on)) {
    // The ranks know the signal that was passed on alone.
    status->message.replace(0, passed_on.size(), stopped_text(signal));
  }
  ending.message = status->message;
  ending.exit_status = *status->exit;
  ending.status = std::move(*status);
  return ending;
}

// ---- the next launch ----

// On all nodes. Returns those that answer.
std::vector<LaunchNode> Supervisor::end_leftovers(std::chrono::seconds node_answers) const {
  end_launch(mark_);
  if (run_.nodes.empty()) return {};
  const std::string command = shell_text({own_program(), std::string(kEndLaunchVerb), mark_});
  const auto answers = run_on_nodes(run_.nodes, run_.remote_shell, command, node_answers);
  std::vector<LaunchNode> answering;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    if (answers[i] && answers[i]->ok()) answering.push_back(run_.nodes[i]);
  }
  return answering;
}

// A rank that can no longer be reached, and lives, may hold it.
bool Supervisor::directory_is_free() const {
  const auto deadline = Clock::now() + kDirectoryFree;
  while (RunDirectory::is_held(run_.options.dir).value_or(false)) {
    if (Clock::now() >= deadline || stop_signal_passed_on() != 0) return false;
    std::this_thread::sleep_for(kDirectoryLook);
  }
  return true;
}

// False if a signal came.
bool Supervisor::wait_before_launch() const {
  if (in_vain_ <= 1) return stop_signal_passed_on() == 0;
  const auto doubled = kBackoffMin * (1 << std::min<std::uint64_t>(in_vain_ - 2, 10));
  const auto until = Clock::now() + std::min<Clock::duration>(doubled, kBackoffMax);
  while (Clock::now() < until && stop_signal_passed_on() == 0) {
    std::this_thread::sleep_for(kBackoffLook);
  }
  return stop_signal_passed_on() == 0;
}

// Ranks that could not leave a word there would end like those before them.
std::optional<std::string> Supervisor::problem_with_directory(const Ending& before) const {
  if (!before.status) return std::nullopt;
  auto claimed = RunDirectory::claim(run_.options.dir);
  if (!claimed) return claimed.error().message;
  const auto written = claimed->write_status(*before.status);
  return written ? std::nullopt : std::optional(written.error());
}

// Why there is to be none; one line.
std::optional<std::string> Supervisor::problem_with(const std::vector<LaunchNode>& answering,
                                                    const Ending& before) const {
  if (in_vain_ > run_.options.relaunches) {
    if (run_.options.relaunches == 0) return "";
    return fmt::format("ranks were started again {} times in vain", run_.options.relaunches);
  }
  if (!run_.nodes.empty()) {
    const bool all = answering.size() == run_.nodes.size();
    // Whatever it was, it is there still.
    if (!before.status && !before.never_began && all) return "";
    const std::size_t wanted = std::max<std::size_t>(run_.options.min_nodes, 1);
    if (answering.size() < wanted) {
      return fmt::format("{} of {} nodes answer, and {} are wanted", answering.size(),
                         run_.nodes.size(), wanted);
    }
  }
  if (!directory_is_free()) return "ranks that cannot be reached still hold the directory";
  return std::nullopt;
}

// Ranks that could not be reached have finished meanwhile.
std::optional<Supervisor::Ending> Supervisor::ending_if_done() const {
  auto status = read_status(run_.options.dir);
  if (!status || status->state != RunState::kDone || !status->exit) return std::nullopt;
  Ending ending{.message = status->message, .exit_status = *status->exit};
  ending.status = std::move(*status);
  return ending;
}

// Or how the run ends without one.
std::expected<Supervisor::Launch, Supervisor::Ending> Supervisor::next_launch(
    const Ending& before) {
  Progress come_to;
  if (before.status) come_to = {before.status->shards_done, before.status->step.value_or(0)};
  const bool further = come_to.shards > furthest_.shards || come_to.step > furthest_.step;
  in_vain_ = further ? 1 : in_vain_ + 1;
  furthest_ = {std::max(furthest_.shards, come_to.shards), std::max(furthest_.step, come_to.step)};
  const auto none = [&](const std::string& why) {
    Ending ending = before;
    ending.may_go_on = false;
    if (!why.empty()) ending.message += "; " + why;
    return std::unexpected(std::move(ending));
  };
  const std::vector<LaunchNode> answering = end_leftovers(kNodeAnswers);
  if (const auto problem = problem_with(answering, before)) return none(*problem);
  if (auto done = ending_if_done()) return std::unexpected(std::move(*done));
  if (const auto problem = problem_with_directory(before)) return none(*problem);

  Launch next{run_.verb, run_.arguments, answering, run_.options.ranks, std::nullopt};
  const std::uint64_t slots = slots_of(run_.nodes);
  if (!run_.nodes.empty() && next.ranks <= slots) {
    next.ranks = std::min(next.ranks, static_cast<std::uint32_t>(slots_of(answering)));
  }
  const auto from = has_begun_ ? 0 : run_.from.value_or(0);  // 0: the newest
  const auto resumption = find_resumption(run_.options.dir, CheckpointNumber{from});
  if (resumption) {
    next.verb = "resume";
    next.arguments = {run_.options.dir};
    next.arguments.insert(next.arguments.end(), run_.resume_arguments.begin(),
                          run_.resume_arguments.end());
    next.from = resumption->from.value;
  } else if (resumption.error().kind != NoResumption::Kind::kNotThere || run_.verb == "resume") {
    return none(resumption.error().message);
  }
  if (!wait_before_launch()) return none(stopped_text(stop_signal_passed_on()));
  return next;
}

void Supervisor::say_going_on(const Ending& before, const Launch& next) const {
  clear_bar();
  std::string where;
  if (!next.nodes.empty()) where = " on " + node_words(next.nodes);
  for (const LaunchNode& node : run_.nodes) {
    if (std::ranges::find(next.nodes, node) != next.nodes.end()) continue;
    std::fprintf(stderr, "regroup: %s: node %s does not answer\n", run_.job.c_str(),
                 node.name.c_str());
  }
  const std::string from =
      next.from ? fmt::format("from checkpoint {}", *next.from) : "from the beginning";
  const std::string reason = before.message.substr(0, before.message.find("; checkpoint "));
  std::fprintf(stderr, "regroup: %s: %s: starting %u ranks again%s, %s\n", run_.job.c_str(),
               reason.c_str(), next.ranks, where.c_str(), from.c_str());
}

// ---- the whole ----

int Supervisor::run() {
  const ForegroundSignals signals(SIGUSR1);
  Launch launch{run_.verb, run_.arguments, run_.nodes, run_.options.ranks, run_.from};
  while (true) {
    Ending ending = start(launch);
    if (!ending.status && known_) {
      // These ranks left no word, and those before them left a checkpoint, perhaps.
      const std::string message = std::move(ending.message);
      const bool may_go_on = ending.may_go_on, never_began = ending.never_began;
      ending = *known_;
      ending.message += "; " + message;
      ending.may_go_on = may_go_on;
      ending.never_began = never_began;
    }
    if (!ending.may_go_on) {
      if (!ending.by_itself) end_leftovers(kNodeAnswersAtEnd);
      return conclude(std::move(ending));
    }
    auto next = next_launch(ending);
    if (!next) return conclude(std::move(next.error()));
    if (ending.status) known_ = ending;
    ++relaunches_;
    say_going_on(ending, *next);
    launch = std::move(*next);
  }
}

// Of a progress bar that its rank had no time to clear away.
void Supervisor::clear_bar() const {
  const bool may_be_there = run_.options.progress == "auto" || run_.options.progress == "bar";
  if (may_be_there && isatty(STDERR_FILENO) == 1) std::fputs("\r\033[K", stderr);
}

// Leaves the last word in status.json, and says it.
int Supervisor::conclude(Ending ending) const {
  if (auto done = ending_if_done()) ending = std::move(*done);
  if (!ending.status) return fail(ending.message, ending.exit_status);
  ending.status->message = ending.message;
  const auto there = read_status(run_.options.dir);
  if (!there || *there != *ending.status) {
    auto claimed = claim_after_ranks(run_.options.dir);
    if (claimed) (void)claimed->write_status(*ending.status);
  }
  if (ending.exit_status != kExitDone) {
    clear_bar();
    std::fprintf(stderr, "regroup: %s: %s\n", run_.job.c_str(), ending.message.c_str());
  }
  return ending.exit_status;
}

}  // namespace regroup
