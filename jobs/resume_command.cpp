// The verb `resume`: finds a run's checkpoint, holds what the user gives against the job in it, and
// has the run go on.
#include <algorithm>
#include <cstdio>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "jobs/command_parser.hpp"
#include "jobs/help_text.hpp"
#include "jobs/job_executor.hpp"
#include "jobs/resumption.hpp"
#include "jobs/run_command.hpp"
#include "jobs/run_launch.hpp"
#include "jobs/supervisor.hpp"
#include "jobs/terminal.hpp"
#include "runtime/host/run_directory.hpp"

namespace regroup {
namespace {

constexpr const char* kAbout =
    "The run goes on with the job and the options that it was begun with, on as many ranks as "
    "before or with -n on fewer or more. Options that make it another job are refused, unless they "
    "are given with --override.";
constexpr const char* kStatuses =
    "Exit status: as of 'run'; and 2 when there is no checkpoint to go on from, 3 when none is "
    "right.";

struct Refusal {
  std::string message;
  int exit_status = kExitBadInput;
};

// Options and inputs, as texts.
using Values = std::vector<std::pair<std::string, std::string>>;

// One invocation of `regroup resume`. All ranks read the arguments; the first one finds the
// checkpoint and holds them against the job in it.
class ResumeCommand {
 public:
  explicit ResumeCommand(const Invocation& invocation) : invocation_(invocation) {
    options_.declare(set_);
    own_set_.add("from", from_, "number of the checkpoint; 0: the newest one that is right")
        .value_name("K");
    own_set_
        .add("override", overrides_, "an option of the job, or the seed, that is to be another now")
        .value_name("NAME=VALUE");
  }

  int run();

 private:
  using Step = std::expected<void, Refusal>;

  std::string words() const { return invocation_.program + " resume"; }
  int explain() const;
  Step find_run();
  Step find_checkpoint();
  Step take_arguments(bool& help_wanted);
  Step check_same_job(const Values& saved);
  Step override_options();
  Values job_values();
  CommandParser parser();
  LaunchRequest launch_request();

  Invocation invocation_;
  std::vector<std::string> arguments_;  // but for the directory
  std::string directory_;
  std::unique_ptr<Program> program_;
  RunOptions options_;
  OptionSet set_;
  OptionSet own_set_;
  std::uint64_t from_ = 0;
  std::vector<std::string> overrides_;
  std::optional<Resumption> resumption_;  // on the rank that speaks
};

std::unexpected<Refusal> refused(std::string message, int exit_status = kExitBadInput) {
  return std::unexpected(Refusal{std::move(message), exit_status});
}

std::unexpected<Refusal> refused(const NoResumption& none) {
  return refused(none.message, none.kind == NoResumption::Kind::kDamaged ? kExitNotRecovered
                               : none.kind == NoResumption::Kind::kDone  ? none.exit_status
                                                                         : kExitBadInput);
}

int ResumeCommand::explain() const {
  if (!asks_for_help(invocation_.arguments)) {
    return refuse(fmt::format("resume takes the directory of a run; see '{} --help'", words()),
                  kExitBadInput);
  }
  if (!speaks()) return kExitDone;
  const int columns = terminal_columns(STDOUT_FILENO);
  std::fputs(fmt::format("Usage: {0} DIR [options]\n\nGoes on from the newest checkpoint of a run "
                         "that was stopped or lost.\n\n{1}\n\n{2}\n\n"
                         "'{0} DIR --help' shows all options.\n\nExamples:\n"
                         "  {0} my-run\n  {0} my-run -n 8\n  {0} my-run --override top=20\n",
                         words(), wrapped(kAbout, columns), wrapped(kStatuses, columns))
                 .c_str(),
             stdout);
  return kExitDone;
}

ResumeCommand::Step ResumeCommand::find_run() {
  const auto job = job_in(directory_);
  if (!job) return refused(job.error());
  program_ = invocation_.registry->make(*job);
  if (!program_) return refused(fmt::format("{}: {}", directory_, unknown_job(invocation_, *job)));
  return {};
}

// --from is looked for ahead of the others, whose defaults the checkpoint decides.
ResumeCommand::Step ResumeCommand::find_checkpoint() {
  if (auto usable = RunDirectory::check_when_ended(directory_); !usable) {
    return refused(usable.error().message);
  }
  auto found = find_resumption(directory_, CheckpointNumber{from_});
  if (!found) return refused(found.error());
  resumption_ = std::move(*found);
  const auto seed = open_job(*program_, resumption_->description.view());
  if (!seed) {
    return refused(
        fmt::format("checkpoint {} cannot be used: {}", resumption_->from.value, seed.error()),
        kExitNotRecovered);
  }
  options_.seed = *seed;
  return {};
}

CommandParser ResumeCommand::parser() {
  CommandParser parser(words() + " DIR",
                       fmt::format("Goes on with a run of {}.", program_->name()));
  parser.add("Options", own_set_);
  parser.add("Options of the job, as they are in the run", program_->options(),
             std::string(program_->name()));
  parser.add("Options of the run", set_);
  parser.add_short('n', "ranks");
  parser.ignore_tables(invocation_.registry->names());
  const int columns = terminal_columns(STDOUT_FILENO);
  parser.examples(fmt::format("{}\n\n{}\n", wrapped(kAbout, columns), wrapped(kStatuses, columns)));
  return parser;
}

ResumeCommand::Step ResumeCommand::take_arguments(bool& help_wanted) {
  CommandParser parser = this->parser();
  const auto parsed = parser.parse(arguments_);
  if (!parsed) return refused(parsed.error());
  help_wanted = *parsed == CommandParser::Outcome::kHelpWanted;
  if (help_wanted && speaks()) {
    std::fputs(parser.help(terminal_columns(STDOUT_FILENO)).c_str(), stdout);
  }
  return {};
}

Values ResumeCommand::job_values() {
  Values values;
  for (const Option& option : program_->options().options()) {
    values.emplace_back("--" + option.name(), option.text());
  }
  if (const auto& inputs = program_->options().input_list()) {
    values.emplace_back(inputs->name(), inputs->text());
  }
  values.emplace_back("--seed", std::to_string(options_.seed));
  return values;
}

ResumeCommand::Step ResumeCommand::check_same_job(const Values& saved) {
  std::string differences;
  const auto now = job_values();
  for (std::size_t i = 0; i < saved.size(); ++i) {
    if (now[i] == saved[i]) continue;
    differences += fmt::format("{}{} is {} in the run and {} here", differences.empty() ? "" : ", ",
                               saved[i].first, saved[i].second, now[i].second);
  }
  if (differences.empty()) return {};
  return refused(
      fmt::format("{}: this would be another job: {}; leave that out, or have it changed "
                  "with --override NAME=VALUE",
                  directory_, differences));
}

ResumeCommand::Step ResumeCommand::override_options() {
  for (const std::string& text : overrides_) {
    const std::size_t equals = text.find('=');
    const std::string name = text.substr(0, equals);
    Option* option = program_->options().find(name);
    if (option == nullptr && name == "seed") option = set_.find(name);
    if (equals == std::string::npos || option == nullptr) {
      return refused(
          fmt::format("--override takes NAME=VALUE with an option of {} or seed, not "
                      "'{}'; see '{} jobs {}'",
                      program_->name(), text, invocation_.program, program_->name()));
    }
    if (auto set = option->set(text.substr(equals + 1)); !set) {
      return refused("--override: " + set.error());
    }
  }
  return {};
}

// Of "--name value" and "--name=value", neither.
std::vector<std::string> without_option(std::vector<std::string> arguments, std::string_view name) {
  const std::string with_value = std::string(name) + "=";
  for (auto word = arguments.begin(); word != arguments.end();) {
    const bool value_follows = *word == name && word + 1 != arguments.end();
    const bool is_it = value_follows || word->starts_with(with_value);
    word = is_it ? arguments.erase(word, word + (value_follows ? 2 : 1)) : word + 1;
  }
  return arguments;
}

// With overrides the job is another one, and looks at its inputs anew.
LaunchRequest ResumeCommand::launch_request() {
  LaunchRequest request{.called = invocation_.program,
                        .verb = "resume",
                        .arguments = {directory_},
                        .resume_arguments = without_option(arguments_, "--from"),
                        .program = std::move(program_),
                        .options = options_,
                        .usual_ranks = 1,
                        .resumes = true,
                        .from = {},
                        .description = {}};
  request.arguments.insert(request.arguments.end(), request.resume_arguments.begin(),
                           request.resume_arguments.end());
  if (!resumption_) return request;
  request.usual_ranks = static_cast<std::uint32_t>(resumption_->facts.ranks);
  request.from = resumption_->from;
  if (overrides_.empty()) request.description = std::move(resumption_->description);
  return request;
}

int ResumeCommand::run() {
  const auto place = first_word(invocation_.arguments, set_);
  if (!place) return explain();
  arguments_ = invocation_.arguments;
  directory_ = arguments_[*place];
  arguments_.erase(arguments_.begin() + static_cast<std::ptrdiff_t>(*place));
  options_.dir = directory_;
  if (const auto at = std::ranges::find(arguments_, "--from");
      at != arguments_.end() && at + 1 != arguments_.end()) {
    (void)own_set_.find("from")->set(*(at + 1));  // what is wrong with it is said below
  }
  bool help_wanted = false;
  Values saved;
  auto step = find_run();
  if (step && speaks()) step = find_checkpoint();
  if (step) saved = job_values();
  if (step) step = take_arguments(help_wanted);
  if (step && help_wanted) return kExitDone;
  if (step && options_.dir != directory_) {
    step = refused("resume takes the directory as its argument, and no --dir");
  }
  // What the run was begun with by its supervisor has been looked at.
  if (step && speaks() && relaunches_before() == 0) step = check_same_job(saved);
  if (step) step = override_options();
  if (!step) return refuse(step.error().message, step.error().exit_status);
  if (resumption_ && !is_supervised()) {
    for (const std::string& line : resumption_->passed_over) {
      std::fprintf(stderr, "regroup: %s\n", line.c_str());
    }
    std::fprintf(stderr, "regroup: %s: going on from checkpoint %llu\n", directory_.c_str(),
                 static_cast<unsigned long long>(resumption_->from.value));
  }
  return RunLaunch(launch_request()).start();
}

}  // namespace

int resume_command(const Invocation& invocation) {
  return ResumeCommand(invocation).run();
}

}  // namespace regroup
