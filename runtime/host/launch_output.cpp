#include "runtime/host/launch_output.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

#include <fmt/format.h>

namespace regroup {
namespace {

constexpr std::size_t kRuleDashesMin = 60;

bool is_rule(std::string_view line) {
  const std::string_view dashes = line.substr(0, line.find_first_of("\r\n"));
  return dashes.size() >= kRuleDashesMin && dashes.find_first_not_of('-') == std::string_view::npos;
}

// What mpirun says because a rank died, between rules of dashes (4.1.4 and 5.0.7).
bool tells_of_a_death(std::string_view message) {
  constexpr std::string_view kSigns[] = {
      "noticed that process rank", "Primary job  terminated normally, but",
      "has exited due to process rank", "lost communication with a remote daemon"};
  return std::ranges::any_of(
      kSigns, [&](std::string_view sign) { return message.find(sign) != std::string_view::npos; });
}

// That a signal is passed on, or that a daemon is not bound, as it should be.
bool tells_of_routine(std::string_view line) {
  constexpr std::string_view kBeginnings[] = {
      "mpirun: Forwarding signal ", "prterun: Forwarding signal ",
      "srun: cluster configuration lacks support for cpu binding"};
  return std::ranges::any_of(kBeginnings,
                             [&](std::string_view begin) { return line.starts_with(begin); });
}

// Lines that 4.1.4 logs for each death, for ranks that leave without MPI_Finalize, and for a
// connection that broke (UCX); and what 5.0.7's event library says of a descriptor that was closed
// with a rank.
bool is_known_log_line(std::string_view line) {
  if (!line.starts_with('[')) return false;
  constexpr std::string_view kSigns[] = {"[warn] Epoll ",
                                         "PMIX ERROR: BAD-PARAM in file",
                                         "plm:rsh: Warning: setpgid(",
                                         "Error: ucx send failed: ",
                                         "Error: ucx recv failed: ",
                                         "more process has sent help message",
                                         "more processes have sent help message",
                                         "Set MCA parameter \"orte_base_help_aggregate\" to 0"};
  return std::ranges::any_of(
      kSigns, [&](std::string_view sign) { return line.find(sign) != std::string_view::npos; });
}

// The text between `before` and `after`.
std::optional<std::string_view> between(std::string_view text, std::string_view before,
                                        std::string_view after) {
  const std::size_t begin = text.find(before);
  if (begin == std::string_view::npos) return std::nullopt;
  text.remove_prefix(begin + before.size());
  const std::size_t end = text.find(after);
  if (end == std::string_view::npos) return std::nullopt;
  return text.substr(0, end);
}

template <class Number>
bool read_number(std::optional<std::string_view> text, Number& number) {
  if (!text) return false;
  const auto parsed = std::from_chars(text->data(), text->data() + text->size(), number);
  return parsed.ec == std::errc() && parsed.ptr == text->data() + text->size();
}

}  // namespace

std::string lost_text(const LostRank& lost) {
  return fmt::format("rank {} on node {} was killed by signal {}", lost.rank, lost.node,
                     lost.signal);
}

std::string LaunchOutput::take(std::string_view bytes) {
  std::string shown;
  while (!bytes.empty()) {
    const std::size_t newline = bytes.find('\n');
    const std::size_t count = newline == std::string_view::npos ? bytes.size() : newline + 1;
    held_ += bytes.substr(0, count);
    std::erase(held_, '\0');  // Open MPI 5 ends some of its messages with one
    bytes.remove_prefix(count);
    if (newline == std::string_view::npos) break;
    take_line(std::exchange(held_, {}), shown);
  }
  if (!held_.empty() && message_.empty() && !may_be_mpiruns()) {
    shown += std::exchange(held_, {});
    at_line_start_ = false;
  }
  if (message_.size() + held_.size() > kMessageBytesMax) shown += release();
  return shown;
}

// A line of mpirun's own begins with a dash of its rule or with the name of a node in brackets.
bool LaunchOutput::may_be_mpiruns() const {
  return at_line_start_ && (held_.front() == '-' || held_.front() == '[');
}

void LaunchOutput::take_line(std::string line, std::string& shown) {
  const bool whole = std::exchange(at_line_start_, true);
  if (!message_.empty()) {
    message_ += line;
    if (is_rule(line)) {
      end_message(shown);
    } else if (message_.size() > kMessageBytesMax) {
      shown += std::exchange(message_, {});
    }
    return;
  }
  if (whole && is_rule(line)) {
    message_ = std::move(line);
    return;
  }
  const bool hidden = noise_ == KnownNoise::kHide || hide_messages_;
  if (hidden && tells_of_routine(line)) return;  // also behind a progress bar
  if (!whole || !hidden || !is_known_log_line(line)) shown += line;
}

void LaunchOutput::end_message(std::string& shown) {
  note_lost(message_);
  const bool hidden = hide_messages_ || (noise_ == KnownNoise::kHide && tells_of_a_death(message_));
  if (!hidden) shown += message_;
  message_.clear();
}

// "mpirun noticed that process rank 2 with PID 0 on node n1 exited on signal 9 (Killed).", broken
// into lines anywhere.
void LaunchOutput::note_lost(const std::string& message) {
  std::string text = message;
  std::ranges::replace(text, '\n', ' ');
  note_lost_node(text);
  if (lost_) return;
  LostRank lost;
  const auto node = between(text, " on node ", " exited on");
  if (!node || !read_number(between(text, "noticed that process rank ", " "), lost.rank) ||
      !read_number(between(text, "exited on signal ", " "), lost.signal)) {
    return;
  }
  lost.node = *node;
  lost_ = std::move(lost);
}

// "Remote daemon: [prterun-n1-94@0,2] on node n2"
void LaunchOutput::note_lost_node(std::string_view text) {
  const auto daemon = between(text, "Remote daemon:", "This is usually due");
  if (!daemon || !lost_node_.empty()) return;
  lost_node_ = between(*daemon, " on node ", " ").value_or("");
}

std::string LaunchOutput::loss() const {
  if (lost_) return lost_text(*lost_);
  return lost_node_.empty() ? "" : fmt::format("node {} was lost", lost_node_);
}

std::string LaunchOutput::release() {
  if (!held_.empty()) at_line_start_ = false;
  return std::exchange(message_, {}) + std::exchange(held_, {});
}

}  // namespace regroup
