#include "jobs/help_text.hpp"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

namespace regroup {
namespace {

constexpr int kNameColumns = 26;  // of a table of options, its indent included
constexpr int kDescriptionColumnsMin = 20;
// Slips in a word that is still taken for another: one for every so many letters.
constexpr std::size_t kLettersPerSlip = 3;

// Letters to insert, drop or change to turn one word into the other (Levenshtein's distance).
std::size_t distance(std::string_view from, std::string_view to) {
  std::vector<std::size_t> row(to.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= from.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= to.size(); ++j) {
      const std::size_t changed = diagonal + (from[i - 1] == to[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({changed, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string wrapped(std::string_view text, int columns, int indent) {
  const auto width = static_cast<std::size_t>(std::max(columns, indent + 1));
  std::string lines;
  std::size_t column = 0;
  while (!text.empty()) {
    const std::size_t length = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, length);
    text.remove_prefix(std::min(length + 1, text.size()));
    if (word.empty()) continue;
    if (column != 0 && column + 1 + word.size() > width) {
      lines += '\n' + std::string(static_cast<std::size_t>(indent), ' ');
      column = static_cast<std::size_t>(indent);
    } else if (column != 0) {
      lines += ' ';
      ++column;
    }
    lines += word;
    column += word.size();
  }
  return lines;
}

std::string help_line(std::string_view name, std::string_view description, int columns) {
  const int width = std::max(columns, kNameColumns + kDescriptionColumnsMin);
  std::string line = fmt::format("  {:<{}}", name, kNameColumns - 2);
  if (line.size() > kNameColumns || line.back() != ' ') {
    line += fmt::format("\n{:{}}", "", kNameColumns);
  }
  // Wrapped as if the name were a part of the text, and then put back behind it.
  return line +
         wrapped(std::string(kNameColumns, '.') + std::string(description), width, kNameColumns)
             .substr(kNameColumns) +
         "\n";
}

std::string help_name(const Option& option) {
  if (option.is_flag()) return "--" + option.name();
  return fmt::format("--{} {}", option.name(), option.value_name());
}

std::string help_description(const Option& option) {
  std::string text = option.help();
  if (!option.choices().empty()) text += ": " + option.choice_list();
  const std::string value = option.text();
  if (!value.empty() && !option.is_flag() && option.holds_value())
    text += " (default " + value + ")";
  return text;
}

std::string did_you_mean(std::string_view text, const std::vector<std::string>& words) {
  std::string closest;
  std::size_t slips_min = text.size() / kLettersPerSlip + 1;
  for (const std::string& word : words) {
    const std::size_t slips = distance(text, word);
    if (slips >= slips_min) continue;
    slips_min = slips;
    closest = word;
  }
  return closest.empty() ? "" : "did you mean " + closest + "? ";
}

}  // namespace regroup
