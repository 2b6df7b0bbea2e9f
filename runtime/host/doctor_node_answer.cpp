// What nodes are asked and what they answered, as text: pure.
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <optional>

#include <arpa/inet.h>
#include <fmt/format.h>

#include "runtime/host/doctor_nodes.hpp"
#include "runtime/host/launcher.hpp"

namespace regroup {
namespace {

// Each part of the answer begins with a line of its own.
constexpr std::string_view kPart = "regroup-node:";
constexpr std::size_t kComplaintBytesMax = 160;

std::string_view next_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

std::string_view next_word(std::string_view& line) {
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  const std::size_t end = std::min(line.find(' '), line.size());
  const std::string_view word = line.substr(0, end);
  line.remove_prefix(end);
  return word;
}

// Of `date +%s.%N`; where there is no %N, it is somewhere in that second.
std::optional<ClockReading> clock_in(std::string_view text, double before, double after) {
  const double uncertainty = (after - before) / 2;
  const double middle = before + uncertainty;
  long long whole = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, whole);
  if (parsed.ec != std::errc()) return std::nullopt;
  double fraction = 0;
  const auto rest = std::from_chars(parsed.ptr, end, fraction, std::chars_format::fixed);
  if (rest.ec == std::errc() && rest.ptr == end) {
    return ClockReading{static_cast<double>(whole) + fraction - middle, uncertainty};
  }
  return ClockReading{static_cast<double>(whole) + 0.5 - middle, uncertainty + 0.5};
}

// "2: eth0    inet 10.77.0.1/24 brd ..." of `ip -o -4 addr show`.
std::optional<LocalNetwork> network_in(std::string_view line) {
  next_word(line);
  std::string_view interface = next_word(line);
  interface = interface.substr(0, interface.find('@'));
  if (interface.empty() || next_word(line) != "inet") return std::nullopt;
  const std::string_view address = next_word(line);
  const std::size_t slash = std::min(address.find('/'), address.size());
  in_addr ip{};
  if (inet_pton(AF_INET, std::string(address.substr(0, slash)).c_str(), &ip) != 1) {
    return std::nullopt;
  }
  unsigned bits = 32;
  if (slash < address.size()) {
    std::from_chars(address.data() + slash + 1, address.data() + address.size(), bits);
  }
  if (bits > 32) return std::nullopt;
  return LocalNetwork{.interface = std::string(interface),
                      .ip = ntohl(ip.s_addr),
                      .mask = bits == 0 ? 0 : ~std::uint32_t{0} << (32 - bits),
                      .loopback = interface == "lo"};
}

}  // namespace

std::string node_command(const NodeQuestion& question) {
  const std::string file = shell_text({question.file});
  const std::string program = shell_text({question.program});
  return fmt::format(
      "echo {0}host; uname -n; echo {0}clock; date +%s.%N; "
      "echo {0}file; test -e {1} && echo seen; "
      "echo {0}lock; test -e {1} && flock -n {1} echo free; "
      "echo {0}program; {2} --version; echo {0}networks; ip -o -4 addr show; echo {0}end",
      kPart, file, program);
}

NodeFacts parse_node_answer(std::string_view name, std::string_view output, double before,
                            double after) {
  NodeFacts facts{.name = std::string(name),
                  .problem = "its shell did not run what it was given",
                  .hostname = {},
                  .clock = {},
                  .version = {},
                  .networks = {}};
  std::string_view part;
  while (!output.empty()) {
    const std::string_view line = next_line(output);
    if (line.starts_with(kPart)) {
      part = line.substr(kPart.size());
      if (part == "end") facts.problem.clear();
    } else if (part == "host") {
      facts.hostname = line;
    } else if (part == "clock") {
      facts.clock = clock_in(line, before, after);
    } else if (part == "file") {
      facts.sees_file = facts.sees_file || line == "seen";
    } else if (part == "lock") {
      facts.ignores_lock = facts.ignores_lock || line == "free";
    } else if (part == "program" && line.starts_with("regroup ")) {
      facts.version = line.substr(std::string_view("regroup ").size());
    } else if (part == "networks") {
      if (auto network = network_in(line)) facts.networks.push_back(std::move(*network));
    }
  }
  return facts;
}

// ssh frames its warning of a changed key with '@'.
std::string first_complaint(std::string_view error_output) {
  constexpr std::string_view kFrame = "@ \t";
  while (!error_output.empty()) {
    std::string_view line = next_line(error_output);
    const std::size_t start = line.find_first_not_of(kFrame);
    if (start == std::string_view::npos) continue;
    line = line.substr(start, line.find_last_not_of(kFrame) - start + 1);
    std::string complaint(line.substr(0, kComplaintBytesMax));
    std::ranges::replace_if(
        complaint, [](unsigned char c) { return std::iscntrl(c) != 0; }, ' ');
    return complaint;
  }
  return {};
}

}  // namespace regroup
