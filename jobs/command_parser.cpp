#include "jobs/command_parser.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <toml++/toml.h>
#include <unistd.h>

namespace regroup {
namespace {

constexpr std::string_view kConfigOption = "config";

std::string environment_name(const std::string& option) {
  std::string name = "REGROUP_";
  for (const char c : option) {
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return name;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::ranges::find(names, name) != names.end();
}

// A TOML value as the text that a flag would have, one element for each of an array.
std::expected<std::vector<std::string>, std::string> texts_of(const toml::node& node) {
  if (const auto* text = node.as_string()) return std::vector{text->get()};
  if (const auto* number = node.as_integer()) return std::vector{fmt::format("{}", number->get())};
  if (const auto* number = node.as_floating_point()) {
    return std::vector{fmt::format("{}", number->get())};
  }
  if (const auto* flag = node.as_boolean()) return std::vector{fmt::format("{}", flag->get())};
  std::vector<std::string> texts;
  const auto* array = node.as_array();
  if (array == nullptr) return std::unexpected("takes a value, not a table");
  for (const toml::node& element : *array) {
    auto one = texts_of(element);
    if (!one) return one;
    texts.insert(texts.end(), one->begin(), one->end());
  }
  return texts;
}

// What CLI11 found for one option.
struct Found {
  Option* option = nullptr;
  std::vector<std::string> values;
  bool flag = false;
  CLI::Option* cli = nullptr;
};

}  // namespace

std::expected<CommandParser::Outcome, std::string> CommandParser::parse(
    const std::vector<std::string>& arguments) {
  CLI::App app(summary_, command_);
  app.footer(examples_);
  app.allow_extras();
  app.get_formatter()->column_width(34);
  std::vector<std::unique_ptr<Found>> found;
  for (const Section& section : sections_) {
    for (Option& option : section.set->options()) {
      auto& entry = *found.emplace_back(std::make_unique<Found>());
      entry.option = &option;
      std::string names = "--" + option.name();
      for (const Short& other : shorts_) {
        if (other.name == option.name()) names = std::string("-") + other.letter + "," + names;
      }
      const std::string text = option.text();
      const std::string help =
          option.help() + (text.empty() || option.is_flag() ? "" : " [" + text + "]");
      if (option.is_flag()) {
        entry.cli = app.add_flag(names, entry.flag, help);
      } else {
        entry.cli = app.add_option(names, entry.values, help);
        entry.cli->expected(1)->allow_extra_args(false);
        if (!option.is_list()) entry.cli->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
        entry.cli->type_name(option.value_name().empty() ? "VALUE" : option.value_name());
      }
      if (!section.title.empty()) entry.cli->group(section.title);
    }
    if (auto& inputs = section.set->input_list()) {
      auto& entry = *found.emplace_back(std::make_unique<Found>());
      entry.option = &*inputs;
      entry.cli = app.add_option(inputs->name(), entry.values, inputs->help());
      entry.cli->type_name("");
    }
  }

  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
  try {
    app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
    return Outcome::kHelpShown;
  } catch (const CLI::ParseError& error) {
    std::string what = error.what();
    std::ranges::replace(what, '\n', ' ');
    return std::unexpected(what + hint());
  }
  if (const auto extras = app.remaining(); !extras.empty()) {
    const bool option = extras.front().starts_with("-");
    return std::unexpected(fmt::format(
        "{} '{}'{}", option ? "unknown option" : "unexpected argument", extras.front(), hint()));
  }

  std::vector<std::string> given;
  for (const auto& entry : found) {
    if (entry->cli->count() == 0) continue;
    given.push_back(entry->option->name());
    if (entry->option->is_flag()) entry->values = {entry->flag ? "true" : "false"};
    for (const std::string& value : entry->values) {
      if (auto set = entry->option->set(value); !set) return std::unexpected(set.error());
    }
  }
  std::string config;
  if (const char* path = std::getenv("REGROUP_CONFIG")) config = path;
  for (const Section& section : sections_) {
    if (Option* option = section.set->find(kConfigOption);
        option && contains(given, option->name())) {
      config = option->text();
    }
  }
  // The file first, then the environment over it; neither over what a flag gave.
  if (!config.empty()) {
    if (auto applied = apply_config(config, given); !applied)
      return std::unexpected(applied.error());
  }
  if (auto applied = apply_environment(given); !applied) return std::unexpected(applied.error());
  return Outcome::kRun;
}

std::expected<void, std::string> CommandParser::apply_environment(
    const std::vector<std::string>& given) {
  for (const Section& section : sections_) {
    for (Option& option : section.set->options()) {
      const std::string name = environment_name(option.name());
      const char* const text = std::getenv(name.c_str());
      if (text == nullptr || contains(given, option.name())) continue;
      if (auto set = option.set(text); !set) return std::unexpected(name + ": " + set.error());
    }
  }
  return {};
}

std::expected<void, std::string> CommandParser::apply_config(
    const std::string& path, const std::vector<std::string>& given) {
  toml::table root;
  try {
    root = toml::parse_file(path);
  } catch (const toml::parse_error& error) {
    const auto begin = error.source().begin;
    return std::unexpected(begin.line == 0 ? fmt::format("{}: {}", path, error.description())
                                           : fmt::format("{}:{}:{}: not TOML: {}", path, begin.line,
                                                         begin.column, error.description()));
  }
  const auto section_of = [&](const std::string& table) {
    return std::ranges::find(sections_, table, &Section::table);
  };
  const auto apply_table = [&](const toml::table& table,
                               const std::string& name) -> std::expected<void, std::string> {
    for (const auto& [key_node, node] : table) {
      const std::string key(key_node.str());
      if (name.empty() && node.is_table()) continue;
      Option* option = nullptr;
      for (const Section& section : sections_) {
        if (section.table == name && option == nullptr) option = section.set->find(key);
      }
      if (option == nullptr) {
        return std::unexpected(
            fmt::format("{}:{}: unknown key '{}'{}", path, node.source().begin.line, key, hint()));
      }
      if (contains(given, key)) continue;
      const auto texts = texts_of(node);
      if (!texts) {
        return std::unexpected(
            fmt::format("{}:{}: '{}' {}", path, node.source().begin.line, key, texts.error()));
      }
      for (const std::string& text : *texts) {
        if (auto set = option->set(text); !set) {
          return std::unexpected(
              fmt::format("{}:{}: {}", path, node.source().begin.line, set.error()));
        }
      }
    }
    return {};
  };
  if (auto applied = apply_table(root, ""); !applied) return applied;
  for (const auto& [key_node, node] : root) {
    const std::string key(key_node.str());
    // A table of another job is fine: one file may serve several.
    if (!node.is_table() || section_of(key) == sections_.end()) continue;
    if (auto applied = apply_table(*node.as_table(), key); !applied) return applied;
  }
  return {};
}

}  // namespace regroup
