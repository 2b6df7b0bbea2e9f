#include "runtime/host/cpu_quota.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace regroup {
namespace {

constexpr std::size_t kGroupDepthMax = 64;

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

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

std::optional<double> ratio(std::string_view quota, std::string_view period) {
  long long quota_us = 0;
  long long period_us = 0;
  std::from_chars(quota.data(), quota.data() + quota.size(), quota_us);
  std::from_chars(period.data(), period.data() + period.size(), period_us);
  if (quota_us <= 0 || period_us <= 0) return std::nullopt;  // "max", or -1: no limit
  return static_cast<double>(quota_us) / static_cast<double>(period_us);
}

}  // namespace

std::optional<double> parse_cpu_max(std::string_view text) {
  const std::size_t space = text.find(' ');
  if (space == std::string_view::npos) return std::nullopt;
  return ratio(text.substr(0, space), text.substr(space + 1));
}

std::optional<double> cpu_quota() {
  std::optional<double> tightest;
  const auto limit = [&tightest](std::optional<double> quota) {
    if (quota) tightest = std::min(*quota, tightest.value_or(*quota));
  };
  for (const std::string& group : enclosing_groups(group_path(""))) {
    limit(parse_cpu_max(read_text("/sys/fs/cgroup" + group + "/cpu.max")));
  }
  for (const std::string& group : enclosing_groups(group_path("cpu"))) {
    const std::string folder = "/sys/fs/cgroup/cpu" + group;
    limit(ratio(read_text(folder + "/cpu.cfs_quota_us"), read_text(folder + "/cpu.cfs_period_us")));
  }
  return tightest;
}

}  // namespace regroup
