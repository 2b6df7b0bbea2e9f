// Shows a binding plan: as a table for a person and as JSON for a program. Reads the plan and the
// node it was made for, decides nothing, and never touches the machine.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "runtime/host/binding.hpp"
#include "runtime/host/node_topology.hpp"

namespace regroup {

// A line about the machine, a table with one row a rank (core and cpu lists wrap to stay within
// `columns`, 60 at least), one row a GPU if there are any, and the plan's notes. Ends in a newline.
std::string topology_text(const NodeTopology& node, const BindingPlan& plan, int columns);

// {"machine": {...}, "cores": [...], "gpus": [...], "plan": {"mode", "ranks": [...], ...}}.
// Cores of a rank are given by Core::index, as in the table; GPUs by their place in "gpus".
nlohmann::ordered_json topology_json(const NodeTopology& node, const BindingPlan& plan);

// The words of the options: "auto", "core", "numa", "none"; "same numa", "same package", ...
const char* to_text(BindMode mode);
const char* to_text(GpuDistance distance);

}  // namespace regroup
