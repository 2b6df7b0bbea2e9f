#include "runtime/host/control_group.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>

namespace regroup {
namespace {

constexpr std::size_t kGroupDepthMax = 64;
// Version 1 says that there is no limit by the largest number of whole pages.
constexpr std::uint64_t kNoLimitMin = std::uint64_t{1} << 62;

// Where this process's group is: the third field of the line of /proc/self/cgroup that is about
// `controller` ("" for the one hierarchy of version 2).
std::string group_path(std::string_view controller) {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string names = ',' + line.substr(first + 1, second - first - 1) + ',';
    if (names.find(',' + std::string(controller) + ',') != std::string::npos) {
      return line.substr(second + 1);
    }
  }
  return {};
}

// A group and all groups around it, innermost first; "" is the root of the hierarchy. A container
// often sees its own group as that root, whatever its path says.
std::vector<std::string> enclosing_groups(std::string path) {
  std::vector<std::string> groups;
  while (path.size() > 1 && groups.size() < kGroupDepthMax) {
    groups.push_back(path);
    path.erase(path.rfind('/'));
  }
  groups.emplace_back();
  return groups;
}

}  // namespace

std::vector<std::string> control_group_folders(std::string_view controller) {
  const std::string root =
      "/sys/fs/cgroup" + (controller.empty() ? "" : "/" + std::string(controller));
  std::vector<std::string> folders = enclosing_groups(group_path(controller));
  for (std::string& folder : folders) folder.insert(0, root);
  return folders;
}

std::string read_limit(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::optional<std::uint64_t> parse_limit(std::string_view text) {
  std::uint64_t limit = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), limit);
  if (parsed.ec != std::errc() || limit >= kNoLimitMin) return std::nullopt;
  return limit;
}

std::optional<std::uint64_t> memory_limit() {
  std::optional<std::uint64_t> tightest;
  const auto look = [&tightest](const std::string& path) {
    const auto limit = parse_limit(read_limit(path));
    if (limit) tightest = std::min(*limit, tightest.value_or(*limit));
  };
  for (const std::string& folder : control_group_folders("")) look(folder + "/memory.max");
  for (const std::string& folder : control_group_folders("memory")) {
    look(folder + "/memory.limit_in_bytes");
  }
  return tightest;
}

std::optional<std::uint64_t> tasks_left() {
  std::optional<std::uint64_t> fewest;
  for (const char* controller : {"", "pids"}) {
    for (const std::string& folder : control_group_folders(controller)) {
      const auto limit = parse_limit(read_limit(folder + "/pids.max"));
      const auto used = parse_limit(read_limit(folder + "/pids.current"));
      if (!limit || !used) continue;
      const std::uint64_t left = *limit - std::min(*limit, *used);
      fewest = std::min(left, fewest.value_or(left));
    }
  }
  return fewest;
}

}  // namespace regroup
