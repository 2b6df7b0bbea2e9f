#include "jobs/config_file.hpp"

#include <filesystem>

#include <fmt/format.h>
#include <toml++/toml.h>

namespace regroup {
namespace {

// Nothing for what a flag has no words for: tables, dates, arrays in arrays.
std::optional<std::string> text_of(const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return fmt::format("{}", number->get());
  if (const auto* number = node.as_floating_point()) return fmt::format("{}", number->get());
  if (const auto* flag = node.as_boolean()) return fmt::format("{}", flag->get());
  return std::nullopt;
}

// Appends the values of one table; the error is one line without the file's name.
std::expected<void, std::string> append_values(const toml::table& table, const std::string& name,
                                               ConfigFile& file) {
  for (const auto& [key, node] : table) {
    if (name.empty() && node.is_table()) continue;
    ConfigValue& value = file.values.emplace_back();
    value.table = name;
    value.key = key.str();
    value.line = node.source().begin.line;
    value.is_array = node.is_array();
    bool plain = true;
    const auto append = [&](const toml::node& element) {
      const auto text = text_of(element);
      plain &= text.has_value();
      value.texts.push_back(text.value_or(""));
    };
    if (const auto* array = node.as_array()) {
      for (const toml::node& element : *array) append(element);
    } else {
      append(node);
    }
    if (!plain) {
      return std::unexpected(
          fmt::format("{}: '{}' takes a text, a number, true or false, or an array of them",
                      value.line, value.key));
    }
  }
  return {};
}

}  // namespace

std::expected<ConfigFile, std::string> read_config_file(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::unexpected(path + ": no such file");
  if (!std::filesystem::is_regular_file(path, error)) {
    return std::unexpected(path + ": is no file; name a TOML file");
  }
  toml::table root;
  try {
    root = toml::parse_file(path);
  } catch (const toml::parse_error& problem) {
    const auto begin = problem.source().begin;
    if (begin.line == 0) return std::unexpected(path + ": cannot be read; see ls -l of it");
    return std::unexpected(fmt::format("{}:{}:{}: not TOML: {}", path, begin.line, begin.column,
                                       problem.description()));
  }
  ConfigFile file;
  auto appended = append_values(root, "", file);
  for (const auto& [key, node] : root) {
    if (!appended || !node.is_table()) continue;
    const std::string name(key.str());
    file.tables.push_back({name, node.source().begin.line});
    appended = append_values(*node.as_table(), name, file);
  }
  if (!appended) return std::unexpected(path + ":" + appended.error());
  return file;
}

}  // namespace regroup
