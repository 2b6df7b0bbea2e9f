// Draws a whole run from one number: cluster, policy, network, job and what goes wrong. Seeds are
// what a failure is reported and reproduced by, so a draw that is added here goes to the end of its
// stream.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tests/sim/world.hpp"
#include "tests/sim/world_options.hpp"

namespace regroup::sim {

// Fixes what a seed would otherwise draw.
struct Overrides {
  std::optional<std::uint32_t> ranks;
  std::optional<Policy> policy;
  // Instead of the faults that the seed draws: a rank dies, and others do while the rest agrees,
  // most of them when they have others agree.
  bool deaths_in_tree = false;
};

WorldOptions draw_scenario(std::uint64_t seed, const Overrides& overrides = {});

enum class Repeat : std::uint8_t { kOnce, kTwice };

// Runs the seed; with kTwice a second time, and holds the traces against each other (I14). An
// aborted process (a broken invariant inside the protocol) says how to reproduce the run as well.
Report run_scenario(const WorldOptions& options, Repeat repeat);

// The command that runs this seed again.
std::string reproduce(std::uint64_t seed, const Overrides& overrides = {});

}  // namespace regroup::sim
