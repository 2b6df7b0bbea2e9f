// regroup-sim: runs simulated clusters by seed and prints one line for each that breaks an
// invariant, with the command that runs it again. Exit status 1 when one did, 2 on bad usage.
#include <algorithm>
#include <cstdio>
#include <string>
#include <thread>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "runtime/protocol/planted.hpp"
#include "tests/sim/scenario.hpp"
#include "tests/sim/soak.hpp"

namespace {

using namespace regroup::sim;

constexpr std::uint64_t kSoakSeeds = 1'000'000;

struct Arguments {
  std::uint64_t seed = 1;
  std::string range, policy, plant;
  std::uint32_t ranks = 0;
  unsigned jobs = 0;
  bool soak = false;
  bool deaths_in_tree = false;
  bool trace = false;
};

// "A..B", both included.
std::string parse_range(const std::string& text, SoakOptions& options) {
  char rest = 0;
  unsigned long long first = 0, last = 0;
  if (std::sscanf(text.c_str(), "%llu..%llu%c", &first, &last, &rest) != 2 || last < first ||
      first == 0) {
    return "--seeds " + text + ": give a range such as 1..1000";
  }
  options.first = first;
  options.last = last;
  return {};
}

std::string plant(const std::string& name) {
  if constexpr (regroup::kBugsArePlanted) {
    const auto known = std::ranges::find(regroup::kPlantedBugNames, name);
    if (known != regroup::kPlantedBugNames.end()) {
#ifdef REGROUP_PLANTED_BUGS
      regroup::planted_bug =
          static_cast<regroup::PlantedBug>(known - regroup::kPlantedBugNames.begin());
#endif
      return {};
    }
    return "--plant " + name + ": no such bug; give one of " +
           fmt::format("{}", fmt::join(regroup::kPlantedBugNames, ", "));
  }
  return "--plant " + name + ": this program has no bugs in it; use regroup-sim-planted";
}

// One line that says what is wrong, or nothing.
std::string read(const Arguments& arguments, SoakOptions& options) {
  options.first = options.last = arguments.seed;
  options.workers = arguments.jobs != 0 ? arguments.jobs : 1;
  if (arguments.soak) {
    options.last = arguments.seed + kSoakSeeds - 1;
    options.long_run = true;
    if (arguments.jobs == 0) options.workers = std::max(1u, std::thread::hardware_concurrency());
  }
  options.overrides.deaths_in_tree = arguments.deaths_in_tree;
  if (arguments.ranks != 0) options.overrides.ranks = arguments.ranks;
  if (!arguments.policy.empty()) {
    const auto parsed = regroup::parse_policy(arguments.policy);
    if (!parsed) return "--policy: " + parsed.error();
    options.overrides.policy = *parsed;
  }
  if (!arguments.plant.empty()) {
    if (auto problem = plant(arguments.plant); !problem.empty()) return problem;
  }
  return arguments.range.empty() ? std::string() : parse_range(arguments.range, options);
}

int run_one(std::uint64_t seed, const Overrides& overrides, bool trace) {
  WorldOptions options = draw_scenario(seed, overrides);
  options.trace = trace;
  const Report report = run_scenario(options, Repeat::kTwice);
  if (report.violation) {
    fmt::print("{}  # {}\n", reproduce(seed, overrides), *report.violation);
    return 1;
  }
  fmt::print(
      "seed {}: {} ranks, {} faults, exit status {}, {:.3f} ms of at most {:.3f}, {} steps, {} "
      "frames ({} in flight at most)\n",
      seed, options.ranks, options.failures.faults.size() + options.failures.partitions.size(),
      report.exit_status, static_cast<double>(report.virtual_time) / 1e6,
      static_cast<double>(report.time_bound) / 1e6, report.steps, report.frames,
      report.frames_in_flight_max);
  return 0;
}

int run_many(const SoakOptions& options) {
  const SoakSummary summary = soak(options);
  fmt::print(stderr,
             "{} seeds, {} failed, in {:.1f} s over {} processes: {:.1f} seeds/s each; at most "
             "{:.0f} % of the time bound, {} frames in flight\n",
             summary.seeds, summary.failures, summary.seconds, options.workers,
             static_cast<double>(summary.seeds) / summary.seconds / options.workers,
             100 * summary.time_bound_share, summary.frames_in_flight_max);
  for (std::size_t i = 0; i < kProbes; ++i) {
    fmt::print(stderr, "{:10}  {}\n", summary.probes.count(static_cast<Probe>(i)), kProbeNames[i]);
  }
  return summary.failures == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Simulates whole clusters on virtual time, by seed", "regroup-sim");
  Arguments arguments;
  auto* one = app.add_option("--seed", arguments.seed, "The seed to run, or where a soak begins")
                  ->check(CLI::PositiveNumber);
  auto* range = app.add_option("--seeds", arguments.range, "A range of seeds, A..B")->excludes(one);
  app.add_flag("--soak", arguments.soak, "A million seeds, some of 64 and 1,000 ranks")
      ->excludes(range);
  app.add_option("--jobs", arguments.jobs, "Processes: 1, but in a soak one a core")
      ->check(CLI::Range(1, 256));
  app.add_option("--ranks", arguments.ranks, "Ranks, instead of what the seed draws")
      ->check(CLI::Range(1u, World::kRanksMax));
  app.add_option("--policy", arguments.policy,
                 "dynamic, affinity, static or peer, instead of what the seed draws");
  app.add_flag("--deaths-in-tree", arguments.deaths_in_tree,
               "Ranks die while the rest agrees, instead of the faults that the seed draws");
  app.add_option("--plant", arguments.plant, "The planted bug to turn on, in regroup-sim-planted");
  app.add_flag("--trace", arguments.trace, "Print every event of one seed");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  SoakOptions options;
  if (const std::string problem = read(arguments, options); !problem.empty()) {
    fmt::print(stderr, "{}\n", problem);
    return 2;
  }
  if (options.first == options.last) {
    return run_one(options.first, options.overrides, arguments.trace);
  }
  return run_many(options);
}
