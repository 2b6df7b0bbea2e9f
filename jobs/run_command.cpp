#include "jobs/run_command.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "jobs/command_parser.hpp"
#include "jobs/help_text.hpp"
#include "jobs/resumption.hpp"
#include "jobs/run_launch.hpp"
#include "jobs/run_options.hpp"
#include "jobs/supervisor.hpp"
#include "jobs/terminal.hpp"

namespace regroup {
namespace {

constexpr const char* kSources =
    "An option that is not given comes from a variable, REGROUP_SEED for --seed, or else from the "
    "TOML file that --config names, where the job's own options stand in a table of its name.";
constexpr const char* kFaults =
    "--inject makes the run fail where you want it to, to see what happens. A fault is kill, stop, "
    "wedge, slow, duplicate-results or late-results; then, after ':', whom it strikes: rank=N, "
    "all-but=N, coordinator or successor; and when: after-shards=N, at=2s, at=start, at=end, "
    "at=election, at=agreement, at=shrink, or at a checkpoint's part, manifest, seal or after it: "
    "at=part, at=manifest, at=seal, at=sealed. stop takes for=3s too, slow takes factor=10, "
    "late-results takes by=200ms. disk-full:after=3 and disk-error:after=3 fail each rank's third "
    "checkpoint and later ones, and take rank=N, all-but=N and for=3s if wanted. gpu-error:rank=2 "
    "and gpu-hang:rank=2 fail what a rank asks of its GPU, and take for=3s if wanted. More faults "
    "follow after a comma, or in another --inject.";
constexpr const char* kStatuses =
    "Exit status: 0 done; 1 done, but some shards were given up; 2 bad input, nothing was written; "
    "3 the run could not be completed; 75 it was stopped on a sealed checkpoint: 'resume' goes on.";
constexpr const char* kSignals =
    "Signals: SIGUSR1, SIGTERM and ctrl-c have a checkpoint taken and the run end; SIGUSR2 has one "
    "taken; a second ctrl-c ends the run at once.";

// One invocation of `regroup run`.
class RunCommand {
 public:
  explicit RunCommand(const Invocation& invocation) : invocation_(invocation) {}

  int run();

 private:
  using Parsed = std::expected<CommandParser::Outcome, std::string>;

  Parsed parse();
  Parsed without_job() const;
  CommandParser parser_for(const std::string& job);
  std::expected<std::optional<int>, std::string> go_on() const;
  void say(const std::string& text) const;
  std::string run_words() const { return invocation_.program + " run"; }

  Invocation invocation_;
  std::vector<std::string> arguments_;  // but for the job's name
  std::unique_ptr<Program> program_;
  RunOptions options_;
  OptionSet set_;
};

void RunCommand::say(const std::string& text) const {
  if (speaks()) std::fputs(text.c_str(), stdout);
}

RunCommand::Parsed RunCommand::without_job() const {
  if (!asks_for_help(invocation_.arguments)) {
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
  parser.ignore_tables(invocation_.registry->names());
  const int columns = terminal_columns(STDOUT_FILENO);
  const char* const inputs = program_->options().input_list() ? " FILE..." : "";
  parser.examples(fmt::format(
      "{0}\n\n{1}\n\n{2}\n\n{6}\n\n"
      "Examples:\n"
      "  {3} {4}{5} -n 4\n"
      "  {3} {4}{5} -n 4 --dir my-run --format json\n"
      "  {3} {4}{5} -n 4 --inject kill:rank=2,after-shards=10\n"
      "  mpirun -n 4 {3} {4}{5}\n",
      wrapped(kSources, columns), wrapped(kFaults, columns), wrapped(kStatuses, columns),
      run_words(), job, inputs, wrapped(kSignals, columns)));
  return parser;
}

RunCommand::Parsed RunCommand::parse() {
  options_.declare(set_);
  const auto place = first_word(invocation_.arguments, set_);
  if (!place) return without_job();
  arguments_ = invocation_.arguments;
  const std::string job = arguments_[*place];
  arguments_.erase(arguments_.begin() + static_cast<std::ptrdiff_t>(*place));
  program_ = invocation_.registry->make(job);
  if (!program_) return std::unexpected(unknown_job(invocation_, job));
  CommandParser parser = parser_for(job);
  const auto parsed = parser.parse(arguments_);
  if (parsed == CommandParser::Outcome::kHelpWanted) {
    say(parser.help(terminal_columns(STDOUT_FILENO)));
  }
  return parsed;
}

// With --continue: the exit status, if there was something to go on with, or no more to do.
std::expected<std::optional<int>, std::string> RunCommand::go_on() const {
  if (options_.dir.empty()) return std::unexpected("--continue takes --dir, with the run in it");
  const auto job = job_in(options_.dir);
  if (!job && job.error().kind == NoResumption::Kind::kDone) {
    if (speaks()) std::fprintf(stderr, "regroup: %s\n", job.error().message.c_str());
    return job.error().exit_status;
  }
  if (!job || !holds_checkpoint(options_.dir)) return std::nullopt;
  if (*job != program_->name()) {
    return std::unexpected(
        fmt::format("{} holds a run of {}, not of {}", options_.dir, *job, program_->name()));
  }
  std::vector<std::string> arguments{options_.dir};
  arguments.insert(arguments.end(), arguments_.begin(), arguments_.end());
  return resume_command({invocation_.program, std::move(arguments), invocation_.registry});
}

int RunCommand::run() {
  const auto parsed = parse();
  if (!parsed) return refuse(parsed.error(), kExitBadInput);
  if (*parsed == CommandParser::Outcome::kHelpWanted) return kExitDone;
  if (options_.go_on && !is_supervised()) {
    const auto status = go_on();
    if (!status) return refuse(status.error(), kExitBadInput);
    if (*status) return **status;
  }
  return RunLaunch({.called = invocation_.program,
                    .verb = "run",
                    .arguments = invocation_.arguments,
                    .resume_arguments = arguments_,
                    .program = std::move(program_),
                    .options = options_})
      .start();
}

}  // namespace

std::optional<std::size_t> first_word(const std::vector<std::string>& arguments, OptionSet& set) {
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (!argument.starts_with("-")) return i;
    const Option* const option = argument == "-n"             ? set.find("ranks")
                                 : argument.starts_with("--") ? set.find(argument.substr(2))
                                                              : nullptr;
    if (option != nullptr && !option->is_flag()) ++i;
  }
  return std::nullopt;
}

bool asks_for_help(const std::vector<std::string>& arguments) {
  return std::ranges::find(arguments, "--help") != arguments.end() ||
         std::ranges::find(arguments, "-h") != arguments.end();
}

std::string unknown_job(const Invocation& invocation, const std::string& job) {
  return fmt::format("unknown job '{}'; {}'{} jobs' lists them", job,
                     did_you_mean(job, invocation.registry->names()), invocation.program);
}

int run_command(const Invocation& invocation) {
  return RunCommand(invocation).run();
}

}  // namespace regroup
