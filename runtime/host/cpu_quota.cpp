#include "runtime/host/cpu_quota.hpp"

#include <algorithm>
#include <charconv>
#include <string>

#include "runtime/host/control_group.hpp"

namespace regroup {
namespace {

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
  for (const std::string& folder : control_group_folders("")) {
    limit(parse_cpu_max(read_limit(folder + "/cpu.max")));
  }
  for (const std::string& folder : control_group_folders("cpu")) {
    limit(
        ratio(read_limit(folder + "/cpu.cfs_quota_us"), read_limit(folder + "/cpu.cfs_period_us")));
  }
  return tightest;
}

}  // namespace regroup
