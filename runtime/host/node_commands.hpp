// Commands on the nodes of a run, through a remote shell, on all nodes at once. Errors are one
// line. Safe to call from several threads.
#pragma once

#include <chrono>
#include <expected>
#include <functional>
#include <string>
#include <vector>

#include "runtime/host/node_list.hpp"
#include "runtime/host/subprocess.hpp"

namespace regroup {

// Nodes that are asked at the same time.
inline constexpr std::size_t kNodesAtOnce = 64;

// Calls `ask` once for each number below `nodes`, so many at a time, each on a thread of its own.
void ask_at_once(std::size_t nodes, std::size_t at_once,
                 const std::function<void(std::size_t)>& ask);

// Has a shell on each node run the command, started by `program` (see remote_command()), and on the
// node that this process is on by a shell alone. For each node, in their order, what it wrote and
// how it ended (255: no connection, with ssh), or why there is nothing to say: it had `timeout`.
std::vector<std::expected<ProgramOutput, std::string>> run_on_nodes(
    const std::vector<LaunchNode>& nodes, const std::string& program, const std::string& command,
    std::chrono::milliseconds timeout);

}  // namespace regroup
