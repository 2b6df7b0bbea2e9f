// The verbs of the command line, but for `run`, which has a file of its own.
#include <cstdio>
#include <filesystem>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "jobs/command_parser.hpp"
#include "jobs/registry.hpp"
#include "jobs/run_command.hpp"
#include "jobs/run_options.hpp"
#include "jobs/terminal.hpp"
#include "jobs/version.hpp"
#include "runtime/host/binding_report.hpp"
#include "runtime/host/device.hpp"
#include "runtime/host/doctor.hpp"
#include "runtime/host/hdf5_wrapper.hpp"
#include "runtime/host/hwloc_wrapper.hpp"
#include "runtime/host/launcher.hpp"
#include "runtime/host/mpi_session.hpp"
#include "runtime/host/result_text.hpp"

namespace regroup {
namespace {

using Arguments = std::vector<std::string>;

int fail(const std::string& message) {
  std::fprintf(stderr, "regroup: %s\n", message.c_str());
  return kExitBadInput;
}

// Parses, or returns what main() is to return: help was shown, or the input is bad.
std::optional<int> parse_or_exit(CommandParser& parser, const Arguments& arguments) {
  const auto parsed = parser.parse(arguments);
  if (!parsed) return fail(parsed.error());
  if (*parsed == CommandParser::Outcome::kHelpShown) return kExitDone;
  return std::nullopt;
}

int results_command(const Arguments& arguments, const JobRegistry&) {
  std::vector<std::string> directories;
  std::string format = "tsv";
  std::uint64_t rows = 0;
  OptionSet set;
  set.inputs("DIR", directories, "the run directory");
  set.add("format", format, "how a row is written").one_of({"tsv", "csv", "jsonl"});
  set.add("rows", rows, "rows at most; 0: all").value_name("K");
  CommandParser parser("regroup results", "Prints the result of a run as text.");
  parser.add("", set);
  parser.examples(
      "\nExamples:\n  regroup results wordcount-20260131T235959Z | head\n"
      "  regroup results DIR --format jsonl\n");
  if (const auto status = parse_or_exit(parser, arguments)) return *status;
  if (directories.size() != 1) return fail("results takes one run directory");
  const auto reader = ResultFileReader::open(directories.front());
  if (!reader) return fail(reader.error());
  const auto written =
      write_text(*reader, *text_format_named(format), STDOUT_FILENO, rows == 0 ? kAllRows : rows);
  if (written) return kExitDone;
  fail(written.error());
  return kExitNotRecovered;
}

int jobs_command(const Arguments& arguments, const JobRegistry& registry) {
  std::vector<std::string> names;
  OptionSet set;
  set.inputs("JOB", names, "show this job's options");
  CommandParser parser("regroup jobs", "Lists the jobs, or one job's options.");
  parser.add("", set);
  if (const auto status = parse_or_exit(parser, arguments)) return *status;
  if (names.size() > 1) return fail("jobs takes one job at most");
  if (names.empty()) {
    for (const auto& [name, make] : registry.factories()) {
      fmt::print("{:<14}{}\n", name, make()->summary());
    }
    return kExitDone;
  }
  const auto program = registry.make(names.front());
  if (!program) return fail("unknown job '" + names.front() + "'; 'regroup jobs' lists them");
  const OptionSet& options = program->options();
  fmt::print("{}: {}\n\nregroup run {}{} [options]\n\n", program->name(), program->summary(),
             program->name(),
             options.input_list() ? " " + options.input_list()->name() + "..." : "");
  for (const Option& option : options.options()) {
    const std::string shown = option.text();
    fmt::print("  --{:<18}{}{}\n", option.name(), option.help(),
               shown.empty() || option.is_flag() ? "" : " [" + shown + "]");
  }
  return kExitDone;
}

int topology_command(const Arguments& arguments, const JobRegistry&) {
  RunOptions run;
  std::string xml;
  std::string format = "text";
  OptionSet set;
  set.add("ranks", run.ranks, "ranks on the node").at_least(1).at_most(1 << 16).value_name("N");
  set.add("threads", run.threads, "threads a rank; 0: one a core of its share").at_most(4096);
  set.add("bind", run.bind, "where ranks are pinned").one_of({"auto", "core", "numa", "none"});
  set.add("gpus", run.gpus, "GPUs to use: auto, none or a number");
  set.add("xml", xml, "plan for the machine in a file of lstopo's").value_name("FILE");
  set.add("format", format, "what is printed").one_of({"text", "json"});
  CommandParser parser("regroup topology",
                       "Shows which cores and GPU each rank of this node would get.");
  parser.add("", set);
  parser.add_short('n', "ranks");
  parser.examples(
      "\nExamples:\n  regroup topology -n 4\n  regroup topology -n 8 --xml node.xml --format "
      "json\n");
  if (const auto status = parse_or_exit(parser, arguments)) return *status;
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

int doctor_command(const Arguments& arguments, const JobRegistry&) {
  std::string format = "text";
  OptionSet set;
  set.add("format", format, "what is printed").one_of({"text", "json"});
  CommandParser parser("regroup doctor",
                       "Says what this machine can do for a run, and what is missing.");
  parser.add("", set);
  if (const auto status = parse_or_exit(parser, arguments)) return *status;
  const DoctorReport report = examine({mpi_description(), hdf5_description()});
  if (format == "json") {
    std::puts(doctor_json(report).dump(2).c_str());
  } else {
    std::fputs(doctor_text(report, terminal_columns(STDOUT_FILENO)).c_str(), stdout);
  }
  return report.ready() ? kExitDone : kExitQuarantined;
}

struct Verb {
  const char* name;
  const char* usage;
  const char* summary;
  int (*command)(const Arguments&, const JobRegistry&);
};

constexpr Verb kVerbs[] = {
    {"run", "run JOB [inputs] [-n N]", "run a job", run_command},
    {"results", "results DIR", "a run's result as text", results_command},
    {"jobs", "jobs [JOB]", "list jobs, or one job's options", jobs_command},
    {"topology", "topology [-n N]", "which cores and GPU each rank would get", topology_command},
    {"doctor", "doctor", "what this machine can do, and what is missing", doctor_command},
};

void show_usage(std::FILE* out, const std::string& program) {
  fmt::print(out, "{}: the job runtime for MPI clusters that keeps going when ranks die\n\n",
             program);
  for (const Verb& verb : kVerbs)
    fmt::print(out, "  {} {:<26}{}\n", program, verb.usage, verb.summary);
  fmt::print(out, "\n'{} VERB --help' tells more. Example:\n  {} run montecarlo -n 4\n", program,
             program);
}

}  // namespace

int regroup_main(int argc, char** argv, const JobRegistry& registry) {
  const Arguments arguments(argv + 1, argv + argc);
  const std::string program = std::filesystem::path(argv[0]).filename().string();
  const bool launched_silent = launched_rank().value_or(LaunchedRank{}).rank != 0;
  if (arguments.empty()) {
    if (!launched_silent) show_usage(stderr, program);
    return kExitBadInput;
  }
  if (arguments.front() == "--help" || arguments.front() == "-h" || arguments.front() == "help") {
    show_usage(stdout, program);
    return kExitDone;
  }
  if (arguments.front() == "--version") {
    fmt::print("regroup {}\n", kVersion);
    return kExitDone;
  }
  for (const Verb& verb : kVerbs) {
    if (arguments.front() == verb.name) {
      return verb.command({arguments.begin() + 1, arguments.end()}, registry);
    }
  }
  if (launched_silent) return kExitBadInput;
  return fail("unknown verb '" + arguments.front() + "'; see '" + program + " --help'");
}

}  // namespace regroup
