#include "jobs/text_fields.hpp"

#include <algorithm>
#include <array>
#include <cctype>

#include <fmt/format.h>

#include "jobs/help_text.hpp"

namespace regroup {
namespace {

constexpr int kNameColumns = 15;
constexpr int kTextColumnsMin = 20;

}  // namespace

std::string field_line(std::string_view name, std::string_view text, int columns) {
  const int width = std::max(columns, kNameColumns + kTextColumnsMin);
  std::string line = fmt::format("{:<{}}", name, kNameColumns);
  if (line.back() != ' ') line += fmt::format("\n{:{}}", "", kNameColumns);
  // Wrapped as if the name were a part of the text, and then put back before it.
  return line +
         wrapped(std::string(kNameColumns, '.') + std::string(text), width, kNameColumns)
             .substr(kNameColumns) +
         "\n";
}

std::string counted(std::uint64_t count, std::string_view what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

std::string bytes_text(std::uint64_t bytes) {
  constexpr std::array<const char*, 6> kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  constexpr double kStep = 1024;
  if (bytes < 1024) return counted(bytes, "byte");
  double amount = static_cast<double>(bytes) / kStep;
  std::size_t unit = 0;
  for (; amount >= kStep && unit + 1 < kUnits.size(); ++unit) amount /= kStep;
  return fmt::format("{:.1f} {}", amount, kUnits[unit]);
}

std::string shell_word(std::string_view path) {
  constexpr std::string_view kPlain = "/._-+=:,@%";
  const bool plain = !path.empty() && path.front() != '-' && std::ranges::all_of(path, [&](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || kPlain.contains(c);
  });
  if (plain) return std::string(path);
  std::string quoted = path.starts_with('-') ? "'./" : "'";
  for (const char c : path) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

}  // namespace regroup
