// Asking the nodes: as many at a time as the limits say, each with a deadline.
#include <algorithm>
#include <array>
#include <filesystem>

#include <fmt/format.h>

#include "runtime/host/doctor_nodes.hpp"
#include "runtime/host/node_commands.hpp"
#include "runtime/host/node_list.hpp"
#include "runtime/host/remote_shell.hpp"
#include "runtime/host/subprocess.hpp"

namespace regroup {
namespace {

using Clock = std::chrono::steady_clock;

double wall_clock_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

bool is_this_node(const std::string& name) {
  return name == "localhost" || is_own_name(name);
}

// As a run calls the shell. ssh takes the first of two settings: it gives up by itself a little
// before the deadline, says why, and no more than that.
std::vector<std::string> shell_words(const std::string& remote_shell, const std::string& node,
                                     const std::string& command,
                                     std::chrono::milliseconds deadline) {
  std::vector<std::string> words = remote_command(remote_shell, node, command);
  if (std::filesystem::path(remote_shell).filename() == kUsualShell) {
    const auto seconds = std::max<std::int64_t>(deadline.count() * 4 / 5 / 1000, 1);
    words.insert(words.begin() + 1,
                 {"-o", "LogLevel=ERROR", "-o", fmt::format("ConnectTimeout={}", seconds)});
  }
  return words;
}

NodeFacts no_answer(const std::string& name, std::string problem) {
  NodeFacts facts;
  facts.name = name;
  facts.problem = std::move(problem);
  return facts;
}

NodeFacts ask(const std::string& name, const std::vector<std::string>& words,
              std::chrono::milliseconds deadline) {
  const double before = wall_clock_seconds();
  const auto output = run_program(words, deadline);
  if (!output) return no_answer(name, output.error());
  NodeFacts facts = parse_node_answer(name, output->standard_output, before, wall_clock_seconds());
  if (facts.problem.empty()) return facts;
  const std::string complaint = first_complaint(output->standard_error);
  if (!complaint.empty()) return no_answer(name, complaint);
  if (output->ok()) return facts;
  return no_answer(name, fmt::format("{} ended with status {}", words.front(), output->exit_code));
}

}  // namespace

std::vector<NodeFacts> ask_nodes(const std::vector<LaunchNode>& nodes,
                                 const std::string& remote_shell, const NodeQuestion& question,
                                 const AskLimits& limits) {
  const std::string command = node_command(question);
  const Clock::time_point end = Clock::now() + limits.all;
  std::vector<NodeFacts> answers(nodes.size());
  ask_at_once(nodes.size(), limits.nodes_at_once, [&](std::size_t i) {
    const std::string& name = nodes[i].name;
    if (Clock::now() >= end) {
      answers[i] = no_answer(name, "not asked: others took all the time that there was");
    } else if (is_this_node(name)) {
      answers[i] = ask(name, {"sh", "-c", command}, limits.each);
    } else {
      answers[i] = ask(name, shell_words(remote_shell, name, command, limits.each), limits.each);
    }
  });
  return answers;
}

}  // namespace regroup
