// regroup-sim: runs simulated clusters by seed and prints one line for each that breaks an
// invariant, with the command that runs it again. Exit status 1 when one did, 2 on bad usage.
#include <cstdio>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tests/sim/scenario.hpp"

namespace {

struct Arguments {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  regroup::sim::Overrides overrides;
  bool trace = false;
};

// "A..B", both included.
std::string parse_range(const std::string& text, Arguments& arguments) {
  char rest = 0;
  unsigned long long first = 0, last = 0;
  if (std::sscanf(text.c_str(), "%llu..%llu%c", &first, &last, &rest) != 2 || last < first) {
    return "--seeds " + text + ": give a range such as 1..1000";
  }
  arguments.first = first;
  arguments.last = last;
  return {};
}

int run(const Arguments& arguments) {
  using namespace regroup::sim;
  std::uint64_t failures = 0;
  Probes probes;
  double nearest = 0;
  std::size_t frames_in_flight_max = 0;
  for (std::uint64_t seed = arguments.first; seed <= arguments.last; ++seed) {
    WorldOptions options = draw_scenario(seed, arguments.overrides);
    options.trace = arguments.trace;
    const Report report = run_scenario(options, Repeat::kTwice);
    probes.add(report.probes);
    nearest = std::max(
        nearest, static_cast<double>(report.virtual_time) / static_cast<double>(report.time_bound));
    frames_in_flight_max = std::max(frames_in_flight_max, report.frames_in_flight_max);
    if (report.violation) {
      ++failures;
      fmt::print("{}  # {}\n", reproduce(seed, arguments.overrides), *report.violation);
    } else if (arguments.first == arguments.last) {
      fmt::print(
          "seed {}: {} ranks, exit status {}, {:.3f} ms of at most {:.3f}, {} steps, {} frames "
          "({} in flight at most)\n",
          seed, options.ranks, report.exit_status, static_cast<double>(report.virtual_time) / 1e6,
          static_cast<double>(report.time_bound) / 1e6, report.steps, report.frames,
          report.frames_in_flight_max);
    }
    std::fflush(stdout);
  }
  if (arguments.first != arguments.last) {
    fmt::print(stderr,
               "{} seeds, {} failed; at most {:.0f} % of the time bound, {} frames in flight\n",
               arguments.last - arguments.first + 1, failures, 100 * nearest, frames_in_flight_max);
    for (std::size_t i = 0; i < kProbes; ++i) {
      fmt::print(stderr, "{:10}  {}\n", probes.count(static_cast<Probe>(i)), kProbeNames[i]);
    }
  }
  return failures == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Simulates whole clusters on virtual time, by seed", "regroup-sim");
  Arguments arguments;
  std::uint64_t seed = 1;
  std::string range, policy;
  std::uint32_t ranks = 0;
  auto* one = app.add_option("--seed", seed, "The seed to run");
  app.add_option("--seeds", range, "A range of seeds, A..B")->excludes(one);
  auto* rank_option = app.add_option("--ranks", ranks, "Ranks, instead of what the seed draws")
                          ->check(CLI::Range(1u, regroup::sim::World::kRanksMax));
  app.add_option("--policy", policy,
                 "dynamic, affinity, static or peer, instead of what the seed draws");
  app.add_flag("--trace", arguments.trace, "Print every event");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  arguments.first = arguments.last = seed;
  std::string problem;
  if (!range.empty()) problem = parse_range(range, arguments);
  if (*rank_option) arguments.overrides.ranks = ranks;
  if (!policy.empty()) {
    const auto parsed = regroup::parse_policy(policy);
    if (parsed) {
      arguments.overrides.policy = *parsed;
    } else {
      problem = "--policy: " + parsed.error();
    }
  }
  if (!problem.empty()) {
    fmt::print(stderr, "{}\n", problem);
    return 2;
  }
  return run(arguments);
}
