// The verbs of the command line, but for those that have a file of their own.
#include <algorithm>
#include <cstdio>
#include <filesystem>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "jobs/command_parser.hpp"
#include "jobs/help_text.hpp"
#include "jobs/inspection_report.hpp"
#include "jobs/registry.hpp"
#include "jobs/run_command.hpp"
#include "jobs/run_options.hpp"
#include "jobs/terminal.hpp"
#include "jobs/verification_report.hpp"
#include "jobs/version.hpp"
#include "runtime/host/binding_report.hpp"
#include "runtime/host/device.hpp"
#include "runtime/host/doctor.hpp"
#include "runtime/host/hdf5_wrapper.hpp"
#include "runtime/host/hwloc_wrapper.hpp"
#include "runtime/host/launch_processes.hpp"
#include "runtime/host/launcher.hpp"
#include "runtime/host/mpi_session.hpp"
#include "runtime/host/recovery_backend.hpp"
#include "runtime/host/remote_shell.hpp"
#include "runtime/host/result_text.hpp"

namespace regroup {
namespace {

constexpr int kExitProblems = 1;  // of `verify`

int fail(const std::string& message) {
  std::fprintf(stderr, "regroup: %s\n", message.c_str());
  return kExitBadInput;
}

int fail(const RunReadError& error) {
  fail(error.message);
  return error.kind == RunReadError::Kind::kBadInput ? kExitBadInput : kExitNotRecovered;
}

// Parses, or returns what main() is to return: help was shown, or the input is bad.
std::optional<int> parse_or_exit(CommandParser& parser, const Invocation& invocation) {
  const auto parsed = parser.parse(invocation.arguments);
  if (!parsed) return fail(parsed.error());
  if (*parsed == CommandParser::Outcome::kRun) return std::nullopt;
  std::fputs(parser.help(terminal_columns(STDOUT_FILENO)).c_str(), stdout);
  return kExitDone;
}

int results_command(const Invocation& invocation) {
  std::vector<std::string> directories;
  std::string format = "tsv";
  std::uint64_t rows = 0;
  OptionSet set;
  set.inputs("DIR", directories, "the run directory").at_least(1).at_most(1);
  set.add("format", format, "how a row is written").one_of({"tsv", "csv", "jsonl"});
  set.add("rows", rows, "rows at most; 0: all").value_name("K");
  CommandParser parser(invocation.program + " results", "Prints the result of a run as text.");
  parser.add("Options", set);
  parser.examples(
      fmt::format("Examples:\n  {0} results wordcount-20260131T235959Z | head\n"
                  "  {0} results my-run --format jsonl\n",
                  invocation.program));
  if (const auto status = parse_or_exit(parser, invocation)) return *status;
  const auto reader = ResultFileReader::open(directories.front());
  if (!reader) return fail(reader.error());
  const auto written =
      write_text(*reader, *text_format_named(format), STDOUT_FILENO, rows == 0 ? kAllRows : rows);
  if (written) return kExitDone;
  fail(written.error());
  return kExitNotRecovered;
}

// Of the verbs that tell of a run directory, which have one input and one option.
struct DirectoryOptions {
  std::vector<std::string> directories;
  std::string format = "text";

  std::optional<int> parse_or_exit(const Invocation& invocation, const std::string& verb,
                                   const std::string& summary, std::string_view statuses);
  const std::string& directory() const { return directories.front(); }
  bool json() const { return format == "json"; }
};

std::optional<int> DirectoryOptions::parse_or_exit(const Invocation& invocation,
                                                   const std::string& verb,
                                                   const std::string& summary,
                                                   std::string_view statuses) {
  OptionSet set;
  set.inputs("DIR", directories, "the run directory").at_least(1).at_most(1);
  set.add("format", format, "what is printed").one_of({"text", "json"});
  const std::string command = invocation.program + " " + verb;
  CommandParser parser(command, summary);
  parser.add("Options", set);
  parser.examples(fmt::format("{1}\n\nExamples:\n  {0} my-run\n  {0} my-run --format json\n",
                              command, wrapped(statuses, terminal_columns(STDOUT_FILENO))));
  return regroup::parse_or_exit(parser, invocation);
}

int inspect_command(const Invocation& invocation) {
  DirectoryOptions options;
  const auto status = options.parse_or_exit(
      invocation, "inspect",
      "Says what is in a run directory: what ran, on which ranks, which failures it survived, its "
      "checkpoints and its result. Reads no data.",
      "Exit status: 0 told; 2 bad input, such as no run directory; 3 it could not be read.");
  if (status) return *status;
  const auto inspection = inspect_run(options.directory());
  if (!inspection) return fail(inspection.error());
  const std::string text = options.json() ? inspection_json(*inspection, invocation.program)
                                          : inspection_text(*inspection, invocation.program,
                                                            terminal_columns(STDOUT_FILENO));
  std::fputs(text.c_str(), stdout);
  return kExitDone;
}

int verify_command(const Invocation& invocation) {
  DirectoryOptions options;
  const auto status = options.parse_or_exit(
      invocation, "verify",
      "Reads every byte of the checkpoints and the result in a run directory, and holds them "
      "against their hashes and the status.",
      "Exit status: 0 all is right; 1 something is wrong; 2 bad input, such as no run directory; 3 "
      "it could not be read.");
  if (status) return *status;
  const auto verification = verify_run(options.directory());
  if (!verification) return fail(verification.error());
  const std::string text = options.json()
                               ? verification_json(*verification)
                               : verification_text(*verification, terminal_columns(STDOUT_FILENO));
  std::fputs(text.c_str(), stdout);
  return verification->valid() ? kExitDone : kExitProblems;
}

int jobs_command(const Invocation& invocation) {
  std::vector<std::string> names;
  OptionSet set;
  set.inputs("JOB", names, "the job whose options to show").at_most(1);
  CommandParser parser(invocation.program + " jobs", "Lists the jobs, or one job's options.");
  parser.add("Options", set);
  const auto& jobs = invocation.registry->factories();
  if (!jobs.empty()) {
    parser.examples(fmt::format("Examples:\n  {0} jobs\n  {0} jobs {1}\n", invocation.program,
                                jobs.begin()->first));
  }
  if (const auto status = parse_or_exit(parser, invocation)) return *status;
  const int columns = terminal_columns(STDOUT_FILENO);
  if (names.empty()) {
    for (const auto& [name, make] : invocation.registry->factories()) {
      std::fputs(help_line(name, make()->summary(), columns).c_str(), stdout);
    }
    return kExitDone;
  }
  const std::string& job = names.front();
  const auto program = invocation.registry->make(job);
  if (!program) return fail(unknown_job(invocation, job));
  CommandParser page(invocation.program + " run " + job,
                     fmt::format("{}: {}. {}", job, program->summary(), program->description()));
  page.add("Options of the job", program->options());
  page.examples(fmt::format("'{} run {} --help' shows the options that every run has, too.\n",
                            invocation.program, job));
  std::fputs(page.help(columns).c_str(), stdout);
  return kExitDone;
}

int topology_command(const Invocation& invocation) {
  RunOptions run;
  run.ranks = 1;
  std::string xml;
  std::string format = "text";
  OptionSet set;
  set.add("ranks", run.ranks, "ranks on the node").at_least(1).at_most(1 << 16).value_name("N");
  set.add("threads", run.threads, "threads a rank; 0: one a core of its share").at_most(4096);
  set.add("bind", run.bind, "where ranks are pinned").one_of({"auto", "core", "numa", "none"});
  set.add("gpus", run.gpus, "GPUs to use: auto, none or a number").value_name("WHICH");
  set.add("xml", xml, "plan for the machine in a file of lstopo's").value_name("FILE");
  set.add("format", format, "what is printed").one_of({"text", "json"});
  CommandParser parser(invocation.program + " topology",
                       "Shows which cores and GPU each rank of this node would get.");
  parser.add("Options", set);
  parser.add_short('n', "ranks");
  parser.examples(
      fmt::format("Examples:\n  {0} topology -n 4\n"
                  "  {0} topology -n 8 --xml node.xml --format json\n",
                  invocation.program));
  if (const auto status = parse_or_exit(parser, invocation)) return *status;
  const auto binding = run.binding_options();
  if (!binding) return fail(binding.error());
  const auto machine = xml.empty() ? Machine::this_machine() : Machine::from_xml(xml);
  if (!machine) return fail(machine.error());
  auto node = machine->usable();
  if (!node) return fail(node.error());
  if (xml.empty()) node = with_devices(std::move(*node), discover_devices().devices);
  const BindingPlan plan = plan_binding(*node, run.ranks, *binding);
  if (format == "json") {
    std::puts(topology_json(*node, plan).dump(2).c_str());
  } else {
    std::fputs(topology_text(*node, plan, terminal_columns(STDOUT_FILENO)).c_str(), stdout);
  }
  return kExitDone;
}

int doctor_command(const Invocation& invocation) {
  std::string format = "text";
  std::string directory = ".";
  OptionSet set;
  RunOptions run;
  run.declare_nodes(set);
  set.add("dir", directory, "where the run directory is to be").value_name("DIR").not_empty();
  run.declare_grace(set);
  run.declare_recovery(set);
  set.add("format", format, "what is printed").one_of({"text", "json"});
  CommandParser parser(invocation.program + " doctor",
                       "Says what this machine, the nodes that are named and Slurm can do for a "
                       "run, and what is to be changed before one.");
  parser.add("Options", set);
  constexpr std::string_view kStatuses =
      "Exit status: 0 such a run can be started; 1 something that it needs is missing; 2 bad "
      "input.";
  parser.examples(
      fmt::format("{1}\n\nExamples:\n  {0} doctor\n  {0} doctor --hosts n1:4,n2:4 --dir /shared\n"
                  "  {0} doctor --format json\n",
                  invocation.program, wrapped(kStatuses, terminal_columns(STDOUT_FILENO))));
  if (const auto status = parse_or_exit(parser, invocation)) return *status;
  auto nodes = run.find_nodes();
  if (!nodes) return fail(nodes.error());
  const DoctorReport report = examine({.libraries = {.mpi = mpi_description(),
                                                     .hdf5 = hdf5_description(),
                                                     .mpi_has_ulfm = built_with_ulfm()},
                                       .recovery = run.recovery_choice(),
                                       .nodes = std::move(nodes->list),
                                       .remote_shell = nodes->remote_shell,
                                       .network = run.network,
                                       .grace_seconds = run.grace_seconds,
                                       .directory = directory,
                                       .program = own_program(),
                                       .version = kVersion});
  if (format == "json") {
    std::puts(doctor_json(report).dump(2).c_str());
  } else {
    std::fputs(doctor_text(report, terminal_columns(STDOUT_FILENO)).c_str(), stdout);
  }
  return report.ready() ? kExitDone : kExitQuarantined;
}

struct Verb {
  std::string_view name;
  const char* usage;
  const char* summary;
  int (*command)(const Invocation&);
};

constexpr Verb kVerbs[] = {
    {"run", "run JOB [inputs] [-n N]", "run a job", run_command},
    {"resume", "resume DIR [-n N]", "go on from a run's newest checkpoint", resume_command},
    {"results", "results DIR", "a run's result as text", results_command},
    {"inspect", "inspect DIR", "what ran, its checkpoints, failures survived", inspect_command},
    {"events", "events DIR", "what ranks have recorded, in one order", events_command},
    {"verify", "verify DIR", "hold every byte of a run's files against its hash", verify_command},
    {"jobs", "jobs [JOB]", "list jobs, or one job's options", jobs_command},
    {"topology", "topology [-n N]", "which cores and GPU each rank would get", topology_command},
    {"doctor", "doctor [--hosts NODES]", "what a run would lack here, and what to change",
     doctor_command},
};

std::string usage(const std::string& program, const JobRegistry& registry) {
  std::string page =
      program + ": the job runtime for MPI clusters that keeps going when ranks die\n\n";
  for (const Verb& verb : kVerbs) {
    page += fmt::format("  {} {:<26}{}\n", program, verb.usage, verb.summary);
  }
  page += fmt::format("\n'{0} VERB --help' tells more, '{0} --version' which version this is.\n",
                      program);
  if (registry.factories().empty()) return page;
  return page +
         fmt::format("Example:\n  {} run {} -n 4\n", program, registry.factories().begin()->first);
}

int unknown_verb(const std::string& name, const std::string& program) {
  std::vector<std::string> names;
  for (const Verb& verb : kVerbs) names.emplace_back(verb.name);
  return fail(fmt::format("unknown verb '{}'; {}see '{} --help'", name, did_you_mean(name, names),
                          program));
}

}  // namespace

int regroup_main(int argc, char** argv, const JobRegistry& registry) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const std::string program = std::filesystem::path(argv[0]).filename().string();
  const std::string first = arguments.empty() ? "" : arguments.front();
  // Of several ranks only the first one speaks. `run` and `resume` see to that themselves: there,
  // all have work.
  const bool silent = launched_rank().value_or(LaunchedRank{}).rank != 0;
  const bool works = first == "run" || first == "resume";
  if (silent && !works) return arguments.empty() ? kExitBadInput : kExitDone;
  if (arguments.empty()) {
    std::fputs(usage(program, registry).c_str(), stderr);
    return kExitBadInput;
  }
  if (first == "--help" || first == "-h" || first == "help") {
    std::fputs(usage(program, registry).c_str(), stdout);
    return kExitDone;
  }
  if (first == "--version") {
    fmt::print("regroup {}\n", kVersion);
    return kExitDone;
  }
  if (first == kRemoteShellVerb) {
    return run_remote_shell({arguments.begin() + 1, arguments.end()});
  }
  if (first == kEndLaunchVerb && arguments.size() == 2 && is_launch_mark(arguments[1])) {
    end_launch(arguments[1]);
    return kExitDone;
  }
  const auto verb = std::ranges::find(kVerbs, first, &Verb::name);
  if (verb == std::end(kVerbs)) return unknown_verb(first, program);
  return verb->command({program, {arguments.begin() + 1, arguments.end()}, &registry});
}

}  // namespace regroup
