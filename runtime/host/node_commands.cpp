#include "runtime/host/node_commands.hpp"

#include <algorithm>
#include <atomic>
#include <thread>

#include "runtime/host/remote_shell.hpp"

namespace regroup {

std::vector<std::expected<ProgramOutput, std::string>> run_on_nodes(
    const std::vector<LaunchNode>& nodes, const std::string& program, const std::string& command,
    std::chrono::milliseconds timeout) {
  std::vector<std::expected<ProgramOutput, std::string>> answers(nodes.size());
  std::atomic<std::size_t> next = 0;
  const auto ask = [&] {
    for (std::size_t i = next++; i < nodes.size(); i = next++) {
      const std::string& name = nodes[i].name;
      const auto words = is_own_name(name) ? std::vector<std::string>{"/bin/sh", "-c", command}
                                           : remote_command(program, name, command);
      answers[i] = run_program(words, timeout);
    }
  };
  std::vector<std::jthread> askers;
  for (std::size_t i = 0; i < std::min(nodes.size(), kNodesAtOnce); ++i) askers.emplace_back(ask);
  askers.clear();
  return answers;
}

}  // namespace regroup
