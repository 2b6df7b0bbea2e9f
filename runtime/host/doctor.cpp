#include "runtime/host/doctor.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace regroup {
namespace {

// Words in lines of at most `width`; a longer word gets a line of its own.
std::vector<std::string> wrap_words(const std::string& text, std::size_t width) {
  std::vector<std::string> lines(1);
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = std::min(text.find(' ', start), text.size());
    const std::string word = text.substr(start, end - start);
    if (!lines.back().empty() && lines.back().size() + 1 + word.size() > width) {
      lines.emplace_back();
    }
    lines.back() += (lines.back().empty() ? "" : " ") + word;
    start = end + 1;
  }
  return lines;
}

}  // namespace

bool DoctorReport::ready() const {
  return std::none_of(checks.begin(), checks.end(), [](const DoctorCheck& check) {
    return check.required && check.status == CheckStatus::kMissing;
  });
}

DoctorReport examine(const DoctorRequest& request) {
  return judge(look_around(request));
}

std::string doctor_text(const DoctorReport& report, int columns) {
  constexpr std::size_t kIndent = 28;  // status and name, below
  constexpr std::size_t kTextWidthMin = 40;
  const auto wanted = static_cast<std::size_t>(std::max(columns, 0));
  const std::size_t width = std::max(wanted, kIndent + kTextWidthMin) - kIndent;
  std::string text;
  for (const DoctorCheck& check : report.checks) {
    std::string start = fmt::format("{:<9}{:<19}", to_text(check.status), check.name);
    for (const std::string& line : wrap_words(check.found, width)) {
      text += fmt::format("{}{}\n", std::exchange(start, std::string(kIndent, ' ')), line);
    }
    if (check.advice.empty()) continue;
    for (const std::string& line : wrap_words("-> " + check.advice, width)) {
      text += fmt::format("{}{}\n", std::string(kIndent, ' '), line);
    }
  }
  return text;
}

nlohmann::ordered_json doctor_json(const DoctorReport& report) {
  nlohmann::ordered_json checks = nlohmann::ordered_json::array();
  for (const DoctorCheck& check : report.checks) {
    checks.push_back({{"name", check.name},
                      {"status", to_text(check.status)},
                      {"required", check.required},
                      {"found", check.found},
                      {"advice", check.advice}});
  }
  return {{"ready", report.ready()}, {"checks", std::move(checks)}};
}

const char* to_text(CheckStatus status) {
  switch (status) {
    case CheckStatus::kOk:
      return "ok";
    case CheckStatus::kWarning:
      return "warning";
    case CheckStatus::kMissing:
      return "missing";
  }
  return "missing";
}

}  // namespace regroup
