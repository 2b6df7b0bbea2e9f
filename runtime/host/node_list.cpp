#include "runtime/host/node_list.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>

#include <fmt/format.h>
#include <unistd.h>

#include "runtime/host/file_system.hpp"

namespace regroup {
namespace {

using Nodes = std::vector<LaunchNode>;

constexpr std::string_view kBlank = " \t\r";
// A hostfile beyond this is not one.
constexpr std::size_t kHostfileBytesMax = std::size_t{16} << 20;

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

// The text up to the separator, which is taken off the front of the rest.
std::string_view next_of(std::string_view& rest, std::string_view separators) {
  const std::size_t end = std::min(rest.find_first_of(separators), rest.size());
  const std::string_view word = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return word;
}

bool is_host_name(std::string_view name) {
  return !name.empty() && name.front() != '-' && std::ranges::all_of(name, [](char letter) {
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
           (letter >= '0' && letter <= '9') || letter == '.' || letter == '-' || letter == '_';
  });
}

std::expected<std::uint32_t, std::string> parse_slots(std::string_view name,
                                                      std::string_view text) {
  std::uint32_t slots = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), slots);
  const bool whole = parsed.ec == std::errc() && parsed.ptr == text.data() + text.size();
  if (!whole || slots == 0 || slots > kNodeSlotsMax) {
    return std::unexpected(fmt::format("node {} has '{}' slots: give a number from 1 to {}", name,
                                       text, kNodeSlotsMax));
  }
  return slots;
}

std::expected<LaunchNode, std::string> parse_node(std::string_view word) {
  const std::string_view name = next_of(word, ":");
  if (!is_host_name(name)) {
    return std::unexpected(fmt::format("'{}' is no name of a node", name));
  }
  LaunchNode node{.name = std::string(name)};
  if (!word.empty()) {
    const auto slots = parse_slots(name, word);
    if (!slots) return std::unexpected(slots.error());
    node.slots = *slots;
  }
  return node;
}

std::expected<void, std::string> add(Nodes& nodes, LaunchNode node) {
  const auto same = std::ranges::find(nodes, node.name, &LaunchNode::name);
  if (same != nodes.end()) {
    if (node.slots > kNodeSlotsMax - same->slots) {
      return std::unexpected(
          fmt::format("node {} has more than {} slots", node.name, kNodeSlotsMax));
    }
    same->slots += node.slots;
  } else if (nodes.size() == kLaunchNodesMax) {
    return std::unexpected(fmt::format("there are more than {} nodes", kLaunchNodesMax));
  } else {
    nodes.push_back(std::move(node));
  }
  return {};
}

// "n1", "n1:2" or "n1 slots=2 max_slots=4"; a comment is off already.
std::expected<LaunchNode, std::string> parse_line(std::string_view line) {
  auto node = parse_node(next_of(line, kBlank));
  while (node && !(line = trimmed(line)).empty()) {
    std::string_view setting = next_of(line, kBlank);
    const std::string_view key = next_of(setting, "=");
    if (key == "slots") {
      const auto slots = parse_slots(node->name, setting);
      if (!slots) return std::unexpected(slots.error());
      node->slots = *slots;
    } else if (key != "max_slots" && key != "max-slots") {
      return std::unexpected(fmt::format("'{}' is not known here: give slots=N", key));
    }
  }
  return node;
}

}  // namespace

std::expected<Nodes, std::string> parse_nodes(std::string_view text) {
  Nodes nodes;
  do {
    auto node = parse_node(trimmed(next_of(text, ",")));
    if (!node) return std::unexpected(node.error());
    if (auto added = add(nodes, std::move(*node)); !added) return std::unexpected(added.error());
  } while (!text.empty());
  return nodes;
}

std::expected<Nodes, std::string> parse_hostfile(std::string_view text) {
  Nodes nodes;
  for (std::size_t number = 1; !text.empty(); ++number) {
    std::string_view rest = next_of(text, "\n");
    const std::string_view line = trimmed(next_of(rest, "#"));
    if (line.empty()) continue;
    auto node = parse_line(line);
    if (!node) return std::unexpected(fmt::format("line {}: {}", number, node.error()));
    if (auto added = add(nodes, std::move(*node)); !added) {
      return std::unexpected(fmt::format("line {}: {}", number, added.error()));
    }
  }
  if (nodes.empty()) return std::unexpected("it names no node");
  return nodes;
}

std::expected<Nodes, std::string> read_hostfile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::unexpected(fmt::format("{}: {}", path.string(), errno_text(errno)));
  std::string text(kHostfileBytesMax + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() > kHostfileBytesMax) {
    return std::unexpected(fmt::format("{} is too large to be a hostfile", path.string()));
  }
  auto nodes = parse_hostfile(text);
  if (!nodes) return std::unexpected(fmt::format("{}: {}", path.string(), nodes.error()));
  return nodes;
}

bool is_own_name(std::string_view node) {
  char own[256] = "";
  if (gethostname(own, sizeof own - 1) != 0) return false;
  const auto first_part = [](std::string_view name) { return name.substr(0, name.find('.')); };
  return first_part(node) == first_part(own);
}

std::string node_words(const Nodes& nodes) {
  std::string words;
  for (const LaunchNode& node : nodes) {
    words += fmt::format("{}{}:{}", words.empty() ? "" : ",", node.name, node.slots);
  }
  return words;
}

std::uint64_t slots_of(const Nodes& nodes) {
  std::uint64_t slots = 0;
  for (const LaunchNode& node : nodes) slots += node.slots;
  return slots;
}

}  // namespace regroup
