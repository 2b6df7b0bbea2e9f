#include "runtime/host/host_identity.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <iterator>
#include <string_view>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace regroup {
namespace {

constexpr std::size_t kHostNameMax = 256;
constexpr int kStartField = 22;      // of /proc/PID/stat, see proc(5)
constexpr int kFirstFieldAfter = 3;  // the name, which may hold anything, spaces included

std::uint64_t inode(const char* path) {
  struct stat status {};
  return ::stat(path, &status) == 0 ? status.st_ino : 0;
}

}  // namespace

HostIdentity own_host() {
  HostIdentity host;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), host.boot_id);
  std::array<char, kHostNameMax + 1> name{};
  if (::gethostname(name.data(), kHostNameMax) == 0) host.hostname = name.data();
  host.pid_namespace = inode("/proc/self/ns/pid");
  return host;
}

std::vector<std::uint32_t> on_host_of(const std::vector<HostIdentity>& hosts, std::size_t self) {
  std::vector<std::uint32_t> numbers;
  for (std::uint32_t number = 0; number < hosts.size(); ++number) {
    if (hosts[number] == hosts[self]) numbers.push_back(number);
  }
  return numbers;
}

std::vector<std::uint32_t> first_on_host(const std::vector<HostIdentity>& hosts) {
  std::vector<std::uint32_t> numbers;
  for (const HostIdentity& host : hosts) {
    numbers.push_back(static_cast<std::uint32_t>(std::ranges::find(hosts, host) - hosts.begin()));
  }
  return numbers;
}

std::uint64_t own_network_namespace() {
  return inode("/proc/self/ns/net");
}

std::uint64_t process_start(std::int32_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::string_view rest = std::string_view(text).substr(name_end + 1);
  for (int field = kFirstFieldAfter; field <= kStartField; ++field) {
    const std::size_t begin = rest.find_first_not_of(' ');
    if (begin == std::string_view::npos) return 0;
    rest.remove_prefix(begin);
    if (field != kStartField) rest.remove_prefix(std::min(rest.find(' '), rest.size()));
  }
  std::uint64_t ticks = 0;
  std::from_chars(rest.data(), rest.data() + rest.size(), ticks);
  return ticks;
}

}  // namespace regroup
