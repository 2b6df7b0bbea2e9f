// How the doctor asks the nodes that a run is to use: one command through the remote shell that a
// run would use, many nodes at a time, and each answer made facts. For the doctor's own files.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/host/doctor_facts.hpp"

namespace regroup {

// What each node is asked about: paths that it should have as this node has them.
struct NodeQuestion {
  std::string file;     // that this node has just created, and holds a lock on
  std::string program;  // regroup
};

struct AskLimits {
  std::size_t nodes_at_once = 32;
  std::chrono::milliseconds each{10'000};
  std::chrono::milliseconds all{120'000};  // nodes that are not reached by then are not asked
};

// For the login shell there, whichever it is: a line of simple commands that end by themselves.
std::string node_command(const NodeQuestion& question);

// Facts from what that command printed, greetings of the login shell before it; with `problem` if
// it did not come to its end. `before` and `after` are this node's clock, in seconds.
NodeFacts parse_node_answer(std::string_view name, std::string_view output, double before,
                            double after);

// Why a remote shell failed, from its standard error: its first line that says something.
std::string first_complaint(std::string_view error_output);

// In the order of the nodes. A node that is this one is asked without the remote shell, as mpirun
// does. Blocks, for `limits.all` and `limits.each` at most.
std::vector<NodeFacts> ask_nodes(const std::vector<LaunchNode>& nodes,
                                 const std::string& remote_shell, const NodeQuestion& question,
                                 const AskLimits& limits = {});

}  // namespace regroup
