#include "jobs/run_command.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "jobs/command_parser.hpp"
#include "jobs/rank_run.hpp"
#include "jobs/run_options.hpp"
#include "jobs/terminal.hpp"

namespace regroup {
namespace {

// The supervisor tells its ranks that it reads status.json, and how wide its terminal is.
constexpr const char* kSupervisedVariable = "REGROUP_INTERNAL_SUPERVISED";
constexpr const char* kColumnsVariable = "REGROUP_INTERNAL_COLUMNS";
constexpr int kColumnsDefault = 80;

int fail(const std::string& message, int exit_status = kExitBadInput) {
  std::fprintf(stderr, "regroup: %s\n", message.c_str());
  return exit_status;
}

// JSON's numbers, or text with what is no UTF-8 replaced.
nlohmann::ordered_json to_json(const ResultValue& value) {
  return std::visit([](const auto& plain) { return nlohmann::ordered_json(plain); }, value);
}

std::string to_text(const ResultValue& value) {
  if (const auto* number = std::get_if<double>(&value)) return fmt::format("{:.10g}", *number);
  return std::visit([](const auto& plain) { return fmt::format("{}", plain); }, value);
}

void show_json(const RunSummary& summary) {
  nlohmann::ordered_json result = nlohmann::ordered_json::object();
  for (const NamedValue& value : summary.values) result[value.name] = to_json(value.value);
  if (!summary.columns.empty()) {
    result["rows"] = summary.rows;
    auto rows = nlohmann::ordered_json::array();
    for (const auto& row : summary.first_rows) {
      auto& object = rows.emplace_back(nlohmann::ordered_json::object());
      for (std::size_t i = 0; i < row.size(); ++i) {
        object[summary.columns[i].name] = to_json(row[i]);
      }
    }
    result["first_rows"] = std::move(rows);
  }
  const nlohmann::ordered_json object = {
      {"job", summary.job},       {"dir", summary.dir},
      {"shards", summary.shards}, {"quarantined", summary.quarantined},
      {"seconds", summary.seconds}, {"run_seconds", summary.run_seconds},
      {"ranks", summary.ranks},
      {"epoch", summary.epoch},   {"failures_survived", summary.failures_survived},
      {"exit", summary.exit_status}, {"message", summary.message},
      {"result", std::move(result)}};
  std::puts(object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
}

void show_text(const RunSummary& summary) {
  if (summary.exit_status <= kExitQuarantined) {
    std::size_t width = 0;
    for (const NamedValue& value : summary.values) width = std::max(width, value.name.size());
    for (const NamedValue& value : summary.values) {
      fmt::print("{:<{}}  {}\n", value.name, width, to_text(value.value));
    }
    if (!summary.first_rows.empty()) {
      std::string header;
      for (const ResultColumn& column : summary.columns) {
        header += fmt::format("{}{}", header.empty() ? "" : "  ",
                              column.type == ColumnType::text ? column.name
                                                              : fmt::format("{:>12}", column.name));
      }
      fmt::print("\n{}\n", header);
      for (const auto& row : summary.first_rows) {
        std::string line;
        for (const ResultValue& value : row) {
          const bool text = std::holds_alternative<std::string>(value);
          line += fmt::format("{}{}", line.empty() ? "" : "  ",
                              text ? printable(std::get<std::string>(value))
                                   : fmt::format("{:>12}", to_text(value)));
        }
        fmt::print("{}\n", line);
      }
      if (summary.rows > summary.first_rows.size()) {
        fmt::print("{:>12}  and {} more\n", "...", summary.rows - summary.first_rows.size());
      }
    }
    fmt::print("\n{} shards in {:.2f} s on {} rank{}; all of it: regroup results {}\n",
               summary.shards, summary.seconds, summary.ranks, summary.ranks == 1 ? "" : "s",
               summary.dir);
  }
  std::fflush(stdout);
}

void show(const RunSummary& summary, bool json) {
  for (const std::string& line : summary.quarantine_log) {
    std::fprintf(stderr, "regroup: %s\n", line.c_str());
  }
  if (summary.exit_status != kExitDone) {
    std::fprintf(stderr, "regroup: %s: %s\n", summary.job.c_str(), summary.message.c_str());
  }
  if (json) {
    show_json(summary);
  } else {
    show_text(summary);
  }
  std::fflush(stdout);
}

// One invocation of `regroup run`.
class RunCommand {
 public:
  RunCommand(const std::vector<std::string>& arguments, const JobRegistry& registry)
      : arguments_(arguments), registry_(&registry) {}

  int run();

 private:
  std::expected<CommandParser::Outcome, std::string> parse();
  std::expected<void, std::string> check_ranks();
  int supervise();
  int judge(int mpirun_status);
  int run_one_rank();
  bool speaks() const { return !launched_ || launched_->rank == 0; }

  std::vector<std::string> arguments_;
  const JobRegistry* registry_;
  std::unique_ptr<Program> program_;
  RunOptions options_;
  OptionSet set_;
  ScheduleOptions schedule_;
  BindingOptions binding_;
  std::optional<LaunchedRank> launched_ = launched_rank();
};

std::expected<CommandParser::Outcome, std::string> RunCommand::parse() {
  if (arguments_.empty() || arguments_.front().starts_with("-")) {
    const bool help = !arguments_.empty() && (arguments_.front() == "--help" || arguments_.front() == "-h");
    if (!help) return std::unexpected("run takes the name of a job first; see 'regroup jobs'");
    fmt::print("regroup run JOB [inputs] [options]\n\nRuns a job. 'regroup jobs' lists the jobs, "
               "'regroup run JOB --help' all options of one.\n");
    return CommandParser::Outcome::kHelpShown;
  }
  const std::string job = arguments_.front();
  program_ = registry_->make(job);
  if (!program_) return std::unexpected("unknown job '" + job + "'; 'regroup jobs' lists them");
  options_.declare(set_);
  CommandParser parser("regroup run " + job, std::string(program_->summary()));
  parser.add("Options of the job", program_->options(), job);
  parser.add("Options of the run", set_);
  parser.add_short('n', "ranks");
  parser.examples(fmt::format(
      "\nExamples:\n  regroup run {0}{1} -n 4\n  mpirun -n 4 regroup run {0}{1} --format json\n", job,
      program_->options().input_list() ? " FILE..." : ""));
  return parser.parse({arguments_.begin() + 1, arguments_.end()});
}

std::expected<void, std::string> RunCommand::check_ranks() {
  if (!launched_ || options_.ranks == 1 || options_.ranks == launched_->ranks) return {};
  return std::unexpected(
      fmt::format("-n {} inside a launch of {} ranks: leave -n to the launcher, or start regroup outside it",
                  options_.ranks, launched_->ranks));
}

int RunCommand::run() {
  const auto parsed = parse();
  if (!parsed) return speaks() ? fail(parsed.error()) : kExitBadInput;
  if (*parsed == CommandParser::Outcome::kHelpShown) return kExitDone;
  const auto ranks = check_ranks();
  const auto schedule = options_.schedule_options();
  const auto binding = options_.binding_options();
  for (const auto* error : {ranks ? nullptr : &ranks.error(), schedule ? nullptr : &schedule.error(),
                            binding ? nullptr : &binding.error()}) {
    if (error != nullptr) return speaks() ? fail(*error) : kExitBadInput;
  }
  schedule_ = *schedule;
  binding_ = *binding;
  if (speaks()) {
    if (auto prepared = program_->prepare(); !prepared) return fail(prepared.error());
  }
  return launched_ || options_.ranks == 1 ? run_one_rank() : supervise();
}

// ---- outside MPI, with -n: start the ranks ----

int RunCommand::supervise() {
  const bool chosen = !options_.dir.empty();
  if (chosen) {
    if (auto usable = RunDirectory::check(options_.dir); !usable) return fail(usable.error().message);
  } else {
    const auto made = default_run_directory(program_->name());
    if (!made) return fail(made.error().message);
    options_.dir = made->string();
  }
  std::vector<std::string> program = {own_program(), "run"};
  program.insert(program.end(), arguments_.begin(), arguments_.end());
  if (!chosen) program.insert(program.begin() + 3, {"--dir", options_.dir});
  if (options_.progress == "auto") {
    const bool bar = isatty(STDERR_FILENO) == 1;
    program.insert(program.begin() + 3, {"--progress", bar ? "bar" : "plain"});
  }
  const auto command = mpirun_command(options_.ranks, program);
  if (!command) return fail(command.error(), kExitNotRecovered);
  const auto ended = run_in_foreground(
      *command, {std::string(kSupervisedVariable) + "=1",
                 fmt::format("{}={}", kColumnsVariable, terminal_columns(STDERR_FILENO))});
  if (!ended) return fail(ended.error(), kExitNotRecovered);
  return judge(*ended);
}

// The truth is in status.json: mpirun's own status may hide a failure, or show one that was survived.
int RunCommand::judge(int mpirun_status) {
  auto status = read_status(options_.dir);
  if (status && status->exit) return *status->exit;
  if (!status) {
    return fail(fmt::format("the ranks ended before the run began (mpirun returned {})", mpirun_status),
                kExitNotRecovered);
  }
  status->state = RunState::failed;
  status->exit = kExitNotRecovered;
  status->message = fmt::format("the ranks ended in the middle of the run (mpirun returned {})",
                                mpirun_status);
  if (auto claimed = RunDirectory::claim(options_.dir); claimed) (void)claimed->write_status(*status);
  return fail(status->message, kExitNotRecovered);
}

// ---- one rank ----

int RunCommand::run_one_rank() {
  RankRunRequest request{.program = program_.get(),
                         .options = options_,
                         .schedule = schedule_,
                         .binding = binding_,
                         .launched = launched_};
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
    request.directory = &*directory;
    if (const char* columns = std::getenv(kColumnsVariable)) {
      request.progress_columns = std::atoi(columns);
    } else {
      request.progress_columns = terminal_columns(STDERR_FILENO);
    }
    if (request.options.progress == "auto") {
      request.options.progress = isatty(STDERR_FILENO) == 1 ? "bar" : "plain";
    }
    request.show = [this](const RunSummary& summary) { show(summary, options_.json()); };
  }
  const int exit_status = run_rank(std::move(request));
  // mpirun would add its own words to another status; the supervisor reads status.json instead.
  return std::getenv(kSupervisedVariable) != nullptr ? kExitDone : exit_status;
}

}  // namespace

int run_command(const std::vector<std::string>& arguments, const JobRegistry& registry) {
  return RunCommand(arguments, registry).run();
}

}  // namespace regroup
