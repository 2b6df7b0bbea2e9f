// How much cpu time a control group leaves this process, which no topology shows: a container with
// a quota of two cpus on a machine of 64 still sees 64. Reads /proc and /sys, changes nothing.
#pragma once

#include <optional>
#include <string_view>

namespace regroup {

// Cpus' worth of time; empty where there is no limit or it cannot be read. The tightest limit of
// the process's group and the groups around it counts. Knows cgroup versions 1 and 2.
std::optional<double> cpu_quota();

// "200000 100000" is 2.0, "max 100000" no limit: the form of a version 2 group's cpu.max.
std::optional<double> parse_cpu_max(std::string_view text);

}  // namespace regroup
