#include "runtime/host/node_commands.hpp"

#include <algorithm>
#include <atomic>
#include <thread>

#include "runtime/host/remote_shell.hpp"

namespace regroup {

void ask_at_once(std::size_t nodes, std::size_t at_once,
                 const std::function<void(std::size_t)>& ask) {
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t i = next++; i < nodes; i = next++) ask(i);
  };
  std::vector<std::jthread> askers;
  for (std::size_t i = 0; i < std::min(nodes, at_once); ++i) askers.emplace_back(work);
}

std::vector<std::expected<ProgramOutput, std::string>> run_on_nodes(
    const std::vector<LaunchNode>& nodes, const std::string& program, const std::string& command,
    std::chrono::milliseconds timeout) {
  std::vector<std::expected<ProgramOutput, std::string>> answers(nodes.size());
  ask_at_once(nodes.size(), kNodesAtOnce, [&](std::size_t i) {
    const std::string& name = nodes[i].name;
    const auto words = is_own_name(name) ? std::vector<std::string>{"/bin/sh", "-c", command}
                                         : remote_command(program, name, command);
    answers[i] = run_program(words, timeout);
  });
  return answers;
}

}  // namespace regroup
