// regroup-agreement-cost: what agreeing on a view without one lost rank costs, on virtual time: how
// many messages the busiest rank sends and receives, how many all do, and how long it takes from
// the death to the last rank that enters the next view. A table on standard output, a line for each
// number of ranks.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tests/sim/scenario.hpp"

namespace {

using namespace regroup;
using namespace regroup::sim;

struct Arguments {
  std::vector<std::uint32_t> ranks{4, 8, 16, 64, 256, 1000};
  double delay_us = 10;
  double handling_us = 2;
  double token_us = 0.002;
  bool all_see_it = false;
  double second_after_us = 0;
  TreeOptions tree;
};

constexpr double kNanosecondsEach = 1e3;  // microsecond
// When all have long had their first shards, and none has run out of them.
constexpr Nanoseconds kDiesAt = 60 * kMillisecond;
constexpr std::uint64_t kShardsEach = 8;

Nanoseconds nanoseconds(double microseconds) {
  return static_cast<Nanoseconds>(microseconds * kNanosecondsEach);
}

// Of the ranks, one in the middle dies, and the one after it sees that at once, or all do.
WorldOptions world(std::uint32_t ranks, const Arguments& arguments) {
  WorldOptions options;
  options.seed = ranks;
  options.ranks = ranks;
  options.vector_clocks = false;
  options.tree = arguments.tree;
  options.network.delay = nanoseconds(arguments.delay_us);
  options.network.handling = nanoseconds(arguments.handling_us);
  options.network.reorders = true;
  options.job = {.kind = JobKind::kSmallBag,
                 .seed = ranks,
                 .shards = kShardsEach * ranks,
                 .cost = PretendJob::kCostMax};
  options.failures.faults = {
      {.kind = Fault::Kind::kKill, .rank = RankId{ranks / 2}, .at = kDiesAt}};
  if (arguments.second_after_us != 0) {
    options.failures.faults.push_back({.kind = Fault::Kind::kKill,
                                       .rank = RankId{1},
                                       .at = kDiesAt + nanoseconds(arguments.second_after_us)});
  }
  options.failures.evidence_delay_max = 0;
  options.failures.disk_delay = nanoseconds(arguments.token_us);
  if (!arguments.all_see_it) options.failures.only_witness = RankId{ranks / 2 + 1};
  return options;
}

int measure(std::uint32_t ranks, const Arguments& arguments) {
  const Report report = run_scenario(world(ranks, arguments), Repeat::kOnce);
  if (report.violation) {
    fmt::print(stderr, "{} ranks: {}\n", ranks, *report.violation);
    return 1;
  }
  ControlTraffic busiest, all;
  for (const ControlTraffic& rank : report.control) {
    busiest.sent = std::max(busiest.sent, rank.sent);
    busiest.received = std::max(busiest.received, rank.received);
    busiest.bytes = std::max(busiest.bytes, rank.bytes);
    all.sent += rank.sent;
    all.revokes += rank.revokes;
    all.bytes += rank.bytes;
  }
  fmt::print("{:6} {:9} {:9} {:9} {:10.1f} {:9} {:9} {:10.1f} {:10.1f}\n", ranks, busiest.sent,
             busiest.received, (all.revokes + ranks - 1) / ranks,
             static_cast<double>(busiest.bytes) / 1e3, all.sent, all.sent - all.revokes / 2,
             static_cast<double>(all.bytes) / 2e3,
             static_cast<double>(report.last_view - report.first_death.value_or(0)) / 1e3);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("What agreeing on a view costs, on virtual time", "regroup-agreement-cost");
  Arguments arguments;
  app.add_option("--ranks", arguments.ranks, "Numbers of ranks")->check(CLI::Range(4u, 1000u));
  app.add_option("--delay-us", arguments.delay_us, "From rank to rank");
  app.add_option("--handling-us", arguments.handling_us, "Of a message, at each end");
  app.add_option("--token-us", arguments.token_us, "To take the fencing token");
  app.add_flag("--all-see-it", arguments.all_see_it, "Every rank sees the death itself");
  app.add_option("--second-after-us", arguments.second_after_us,
                 "Rank 1, which has others agree, dies so long after the first");
  app.add_option("--star-ranks-max", arguments.tree.star_ranks_max,
                 "Views of which no tree is made");
  app.add_option("--fanout", arguments.tree.fanout, "Of the tree")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  fmt::print("{:>6} {:>9} {:>9} {:>9} {:>10} {:>9} {:>9} {:>10} {:>10}\n", "ranks", "sent",
             "received", "revokes", "kB", "all", "w/o rev.", "all kB", "us");
  int failed = 0;
  for (const std::uint32_t ranks : arguments.ranks) failed |= measure(ranks, arguments);
  return failed;
}
