#include "runtime/host/launch_processes.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

namespace regroup {
namespace {

constexpr std::size_t kMarkDigits = 32;
constexpr auto kGoneWithin = std::chrono::seconds(3);
constexpr auto kLook = std::chrono::milliseconds(20);

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// 0: there is none, or it cannot be told.
pid_t parent_of(pid_t pid) {
  const std::string stat = text_of(fmt::format("/proc/{}/stat", pid));
  const std::size_t name_end = stat.rfind(')');
  constexpr std::size_t kToParent = 4;  // ") S "
  if (name_end == std::string::npos || stat.size() < name_end + kToParent) return 0;
  pid_t parent = 0;
  std::from_chars(stat.data() + name_end + kToParent, stat.data() + stat.size(), parent);
  return parent;
}

std::set<pid_t> own_line() {
  std::set<pid_t> line;
  for (pid_t pid = getpid(); pid > 0 && line.insert(pid).second; pid = parent_of(pid)) continue;
  return line;
}

// Others' environments cannot be read, nor those of processes that have ended.
std::vector<pid_t> processes_with(const std::string& setting) {
  std::vector<pid_t> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename().string();
    pid_t pid = 0;
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (parsed.ec != std::errc() || parsed.ptr != name.data() + name.size()) continue;
    const std::string environment = '\0' + text_of(entry.path() / "environ");
    if (environment.find('\0' + setting + '\0') != std::string::npos) found.push_back(pid);
  }
  return found;
}

}  // namespace

std::string new_launch_mark() {
  std::random_device random;
  std::string mark;
  while (mark.size() < kMarkDigits) mark += fmt::format("{:08x}", random());
  return mark;
}

bool is_launch_mark(std::string_view text) {
  return text.size() == kMarkDigits && std::ranges::all_of(text, [](char digit) {
           return (digit >= '0' && digit <= '9') || (digit >= 'a' && digit <= 'f');
         });
}

std::size_t end_launch(std::string_view mark) {
  const std::string setting = fmt::format("{}={}", kLaunchVariable, mark);
  const std::set<pid_t> spared = own_line();
  const auto deadline = std::chrono::steady_clock::now() + kGoneWithin;
  std::set<pid_t> ended;
  while (true) {
    bool any = false;
    for (const pid_t pid : processes_with(setting)) {
      if (spared.contains(pid) || kill(pid, SIGKILL) != 0) continue;
      ended.insert(pid);
      any = true;
    }
    if (!any || std::chrono::steady_clock::now() >= deadline) return ended.size();
    std::this_thread::sleep_for(kLook);
  }
}

}  // namespace regroup
