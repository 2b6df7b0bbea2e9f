#include "runtime/host/slurm_allocation.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <optional>

#include <fmt/format.h>

#include "runtime/host/subprocess.hpp"

namespace regroup {
namespace {

constexpr int kDigitsMax = 9;
constexpr std::chrono::seconds kScontrolAnswers{5};

// Takes a number off the front.
std::optional<std::uint32_t> take_number(std::string_view& text) {
  std::uint32_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  const auto digits = parsed.ptr - text.data();
  if (parsed.ec != std::errc() || digits > kDigitsMax) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(digits));
  return number;
}

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// "1-3,07": as texts, as wide as the first of each range.
std::optional<std::vector<std::string>> parse_ranges(std::string_view text) {
  std::vector<std::string> numbers;
  do {
    const std::string_view begin = text;
    const auto first = take_number(text);
    if (!first) return std::nullopt;
    const std::size_t width = begin.size() - text.size();
    auto last = first;
    if (take(text, "-")) last = take_number(text);
    if (!last || *last < *first || *last - *first >= kLaunchNodesMax) return std::nullopt;
    for (std::uint32_t number = *first; number <= *last; ++number) {
      numbers.push_back(fmt::format("{:0{}}", number, width));
    }
    if (numbers.size() > kLaunchNodesMax) return std::nullopt;
  } while (take(text, ","));
  if (!text.empty()) return std::nullopt;
  return numbers;
}

// Every name so far, with each of the endings.
std::optional<std::vector<std::string>> combined(const std::vector<std::string>& names,
                                                 const std::vector<std::string>& endings) {
  if (names.size() * endings.size() > kLaunchNodesMax) return std::nullopt;
  std::vector<std::string> all;
  for (const std::string& name : names) {
    for (const std::string& ending : endings) all.push_back(name + ending);
  }
  return all;
}

// One element of the list, off its front: "n[1-3]-ib" with any number of brackets.
std::optional<std::vector<std::string>> take_element(std::string_view& text) {
  std::optional<std::vector<std::string>> names{{""}};
  while (names && !text.empty() && text.front() != ',') {
    std::vector<std::string> endings;
    if (take(text, "[")) {
      const std::size_t end = text.find(']');
      const auto ranges = parse_ranges(text.substr(0, end));
      if (end == std::string_view::npos || !ranges) return std::nullopt;
      text.remove_prefix(end + 1);
      endings = *ranges;
    } else {
      const std::size_t end = std::min(text.find_first_of(",["), text.size());
      endings = {std::string(text.substr(0, end))};
      text.remove_prefix(end);
    }
    names = combined(*names, endings);
  }
  return names;
}

const char* variable(const char* name) {
  const char* const text = std::getenv(name);
  return text == nullptr ? "" : text;
}

}  // namespace

std::expected<std::vector<std::string>, std::string> parse_slurm_nodes(std::string_view text) {
  const std::string_view all = text;
  std::vector<std::string> nodes;
  do {
    const auto element = take_element(text);
    const bool empty = element && element->front().empty();
    if (!element || empty || nodes.size() + element->size() > kLaunchNodesMax) {
      return std::unexpected(fmt::format("'{}' is no list of nodes", all));
    }
    nodes.insert(nodes.end(), element->begin(), element->end());
  } while (take(text, ","));
  return nodes;
}

std::expected<std::vector<std::uint32_t>, std::string> parse_slurm_counts(std::string_view text) {
  const std::string_view all = text;
  const auto wrong = [all] {
    return std::unexpected(fmt::format("'{}' are no counts of tasks", all));
  };
  std::vector<std::uint32_t> counts;
  do {
    const auto count = take_number(text);
    auto repetitions = std::optional<std::uint32_t>(1);
    if (count && take(text, "(x")) {
      repetitions = take_number(text);
      if (!take(text, ")")) return wrong();
    }
    const bool fits =
        count && *count != 0 && repetitions && *repetitions <= kLaunchNodesMax - counts.size();
    if (!fits) return wrong();
    counts.insert(counts.end(), *repetitions, *count);
  } while (take(text, ","));
  if (!text.empty()) return wrong();
  return counts;
}

std::expected<std::vector<LaunchNode>, std::string> slurm_nodes() {
  const std::string list = variable("SLURM_JOB_NODELIST");
  if (list.empty()) return {};
  const auto names = parse_slurm_nodes(list);
  if (!names) return std::unexpected("SLURM_JOB_NODELIST: " + names.error());
  const auto counts = parse_slurm_counts(variable("SLURM_TASKS_PER_NODE"));
  if (!counts) return std::unexpected("SLURM_TASKS_PER_NODE: " + counts.error());
  if (counts->size() != names->size()) {
    return std::unexpected(
        fmt::format("Slurm names {} nodes, and tasks of {}", names->size(), counts->size()));
  }
  std::vector<LaunchNode> nodes;
  for (std::size_t i = 0; i < names->size(); ++i) nodes.push_back({(*names)[i], (*counts)[i]});
  return nodes;
}

bool ends_what_steps_leave(std::string_view config) {
  const std::size_t at = config.find("ProctrackType");
  if (at == std::string_view::npos) return false;
  return config.substr(at, config.find('\n', at) - at).find("cgroup") != std::string_view::npos;
}

bool slurm_ends_what_steps_leave() {
  const std::string command[] = {"scontrol", "show", "config"};
  const auto config = run_program(command, kScontrolAnswers);
  return config && config->ok() && ends_what_steps_leave(config->standard_output);
}

}  // namespace regroup
