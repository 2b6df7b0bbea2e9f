// The processes of a launch: its mpirun, daemons, ranks and what those have started, on whatever
// node. All have a mark in their environment, by which what is left of a launch is found when its
// mpirun is no more.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace regroup {

inline constexpr std::string_view kLaunchVariable = "REGROUP_INTERNAL_LAUNCH";

// The verb of regroup's command line that ends them on a node: `regroup end-launch MARK`.
inline constexpr std::string_view kEndLaunchVerb = "end-launch";

// A new mark: 32 hexadecimal digits.
std::string new_launch_mark();
bool is_launch_mark(std::string_view text);

// Kills this user's processes on this machine that have the mark, but for this one and those that
// it descends from. Returns how many there were. Waits until they are gone, a few seconds at most.
std::size_t end_launch(std::string_view mark);

}  // namespace regroup
