// What Slurm tells a job of its allocation, in its environment, and how it treats its steps. Errors
// are one line. Stateless; any thread.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/host/node_list.hpp"

namespace regroup {

// The nodes of a hostlist, as Slurm writes it: "n[1-3,07],gpu1-[0-1]".
std::expected<std::vector<std::string>, std::string> parse_slurm_nodes(std::string_view text);
// Numbers with repetitions: "2(x3),1" is 2, 2, 2, 1.
std::expected<std::vector<std::uint32_t>, std::string> parse_slurm_counts(std::string_view text);

// The nodes of the allocation that this process runs in and the tasks on each, as
// SLURM_JOB_NODELIST and SLURM_TASKS_PER_NODE have them; empty outside one.
std::expected<std::vector<LaunchNode>, std::string> slurm_nodes();

// Whether Slurm ends what a step has left running when the step's command is over, daemons that
// went their own way among it: where it tracks processes by control groups. `config` is what
// 'scontrol show config' prints.
bool ends_what_steps_leave(std::string_view config);
// The same, asked of scontrol; no where that does not answer.
bool slurm_ends_what_steps_leave();

}  // namespace regroup
