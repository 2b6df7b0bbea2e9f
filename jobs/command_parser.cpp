#include "jobs/command_parser.hpp"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <deque>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "jobs/config_file.hpp"
#include "jobs/help_text.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

constexpr std::string_view kConfigOption = "config";
constexpr std::string_view kHelpOption = "help";

std::string environment_name(const std::string& option) {
  std::string name = "REGROUP_";
  for (const char c : option) {
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return name;
}

}  // namespace

void CommandParser::add(std::string title, OptionSet& set, std::string table) {
  for (const Option& option : set.options()) {
    REGROUP_CHECK(find(option.name()) == nullptr && option.name() != kHelpOption,
                  "two options are called --" + option.name() + ": rename the job's");
  }
  REGROUP_CHECK(inputs() == nullptr || !set.input_list(), "two lists of inputs for one command");
  sections_.push_back({std::move(title), &set, std::move(table)});
}

std::expected<CommandParser::Outcome, std::string> CommandParser::parse(
    const std::vector<std::string>& arguments) {
  for (const std::string& argument : arguments) {
    if (argument == "--") break;
    if (argument == "--help" || argument == "-h") return Outcome::kHelpWanted;
  }
  // Each step leaves alone what the ones before it have set.
  if (auto taken = take_arguments(arguments); !taken) return std::unexpected(taken.error());
  if (auto applied = apply_environment(); !applied) return std::unexpected(applied.error());
  if (const Option* config = find(kConfigOption); config != nullptr && !config->text().empty()) {
    if (auto applied = apply_config(config->text()); !applied) {
      return std::unexpected(applied.error());
    }
  }
  return Outcome::kRun;
}

// ---- flags and inputs ----

// CLI11 parts the arguments; what they mean, and every word to the user, is ours.
CommandParser::Checked CommandParser::take_arguments(const std::vector<std::string>& arguments) {
  struct Part {
    Option* option;
    CLI::Option* place;
    std::vector<std::string> values;
  };
  CLI::App app;
  app.set_help_flag();
  app.allow_extras();
  std::deque<Part> parts;  // CLI11 keeps the addresses of the values
  for (const Section& section : sections_) {
    for (Option& option : section.set->options()) {
      Part& part = parts.emplace_back(Part{&option, nullptr, {}});
      part.place = option.is_flag() ? app.add_flag(spellings_of(option))
                                    : app.add_option(spellings_of(option), part.values);
      part.place->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
      if (!option.is_flag()) part.place->expected(1)->allow_extra_args(false);
    }
  }
  if (Option* const list = inputs()) {
    Part& part = parts.emplace_back(Part{list, nullptr, {}});
    part.place = app.add_option(list->name(), part.values);
  }
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::ArgumentMismatch& mismatch) {
    return std::unexpected(needs_a_value(mismatch.what()));
  } catch (const CLI::ParseError& error) {
    return std::unexpected(error.what() + hint());
  }
  // Values first: "--samples -n 4" leaves 4 over, but what is wrong is the value of --samples.
  for (const Part& part : parts) {
    const auto& texts = part.option->is_flag() ? part.place->results() : part.values;
    if (auto taken = take_values(*part.option, texts); !taken) return taken;
  }
  for (const std::string& extra : app.remaining()) {
    if (extra != "--") return std::unexpected(not_expected(extra));
  }
  return check_inputs();
}

CommandParser::Checked CommandParser::take_values(Option& option,
                                                  const std::vector<std::string>& texts) {
  if (texts.empty()) return {};
  if (texts.size() > 1 && !option.is_list()) {
    return std::unexpected(fmt::format("--{} is given twice; give it once", option.name()));
  }
  given_.push_back(option.name());
  for (const std::string& text : texts) {
    // CLI11 takes the next option for the value of one that has none.
    if (is_spelling(text) && &option != inputs()) {
      return std::unexpected(needs_a_value("--" + option.name()));
    }
    if (auto set = option.set(text); !set) return set;
  }
  return {};
}

// "--ranks,-n", as CLI11 wants them.
std::string CommandParser::spellings_of(const Option& option) const {
  const auto found = std::ranges::find(shorts_, option.name(), &Short::name);
  const std::string name = "--" + option.name();
  return found == shorts_.end() ? name : fmt::format("{},-{}", name, found->letter);
}

// "--" and anything, or "-n".
bool CommandParser::is_spelling(const std::string& text) const {
  if (text.starts_with("--")) return true;
  return text.size() == 2 && text.front() == '-' &&
         std::ranges::find(shorts_, text.back(), &Short::letter) != shorts_.end();
}

// `complaint` begins with the option's name and a colon.
std::string CommandParser::needs_a_value(const std::string& complaint) const {
  const std::string name = complaint.substr(0, complaint.find(':'));
  const Option* const option = name.starts_with("--") ? find(name.substr(2)) : nullptr;
  if (option == nullptr) return complaint + hint();
  return fmt::format("{} needs a value: {}{}", name, help_name(*option), hint());
}

std::string CommandParser::not_expected(const std::string& argument) const {
  if (argument.starts_with("-") && argument.size() > 1) return unknown_option(argument);
  return fmt::format("unexpected argument '{}'{}", argument, hint());
}

CommandParser::Checked CommandParser::check_inputs() {
  const Option* const list = inputs();
  if (list == nullptr) return {};
  const auto count = static_cast<double>(list->element_count());
  if (count < list->minimum()) {
    return std::unexpected(fmt::format("{} is missing: {}", list->name(), usage()));
  }
  if (count > list->maximum()) {
    return std::unexpected(fmt::format("too many arguments: {}", usage()));
  }
  return {};
}

std::string CommandParser::unknown_option(const std::string& argument) const {
  const std::string name = argument.substr(0, argument.find('='));
  std::vector<std::string> names;
  for (const Section& section : sections_) {
    for (const Option& option : section.set->options()) names.push_back("--" + option.name());
  }
  return fmt::format("unknown option '{}'; {}{}see '{} --help'", name, did_you_mean(name, names),
                     inputs() == nullptr ? "" : "inputs that begin with '-' go behind '--'; ",
                     command_);
}

// ---- environment and configuration file ----

CommandParser::Checked CommandParser::apply_environment() {
  for (const Section& section : sections_) {
    for (Option& option : section.set->options()) {
      const std::string name = environment_name(option.name());
      const char* const text = std::getenv(name.c_str());
      if (text == nullptr || is_given(option.name())) continue;
      if (auto set = option.set(text); !set) return std::unexpected(name + ": " + set.error());
      given_.push_back(option.name());
    }
  }
  return {};
}

CommandParser::Checked CommandParser::apply_config(const std::string& path) {
  const auto file = read_config_file(path);
  if (!file) return std::unexpected(file.error());
  for (const ConfigTable& table : file->tables) {
    // A table of another job is fine: one file may serve several.
    if (std::ranges::find(sections_, table.name, &Section::table) != sections_.end()) continue;
    if (std::ranges::find(ignored_tables_, table.name) != ignored_tables_.end()) continue;
    return std::unexpected(
        fmt::format("{}:{}: unknown table [{}]{}", path, table.line, table.name, hint()));
  }
  for (const ConfigValue& value : file->values) {
    if (std::ranges::find(sections_, value.table, &Section::table) == sections_.end()) continue;
    if (auto applied = apply_value(value); !applied) {
      return std::unexpected(fmt::format("{}:{}: {}", path, value.line, applied.error()));
    }
  }
  return {};
}

CommandParser::Checked CommandParser::apply_value(const ConfigValue& value) {
  Option* option = nullptr;
  for (const Section& section : sections_) {
    if (section.table == value.table && option == nullptr) option = section.set->find(value.key);
  }
  if (option == nullptr || value.key == kConfigOption) {
    return std::unexpected(fmt::format("unknown key '{}'{}", value.key, hint()));
  }
  if (is_given(value.key)) return {};
  if (value.is_array && !option->is_list()) {
    return std::unexpected(fmt::format("'{}' takes one value, not an array", value.key));
  }
  for (const std::string& text : value.texts) {
    if (auto set = option->set(text); !set) return set;
  }
  return {};
}

// ---- help ----

std::string CommandParser::usage() const {
  std::string line = command_ + " [options]";
  if (const Option* const list = inputs()) {
    line += list->minimum() >= 1 ? " " : " [";
    line += list->name();
    if (list->maximum() > 1) line += "...";
    if (list->minimum() < 1) line += "]";
  }
  return line;
}

std::string CommandParser::names_of(const Option& option) const {
  const auto found = std::ranges::find(shorts_, option.name(), &Short::name);
  return (found == shorts_.end() ? "" : fmt::format("-{}, ", found->letter)) + help_name(option);
}

std::string CommandParser::help(int columns) const {
  std::string page = fmt::format("Usage: {}\n\n{}\n", usage(), wrapped(summary_, columns));
  if (const Option* const list = inputs()) {
    page += "\n" + help_line(list->name(), list->help(), columns);
  }
  for (const Section& section : sections_) {
    if (section.set->options().empty()) continue;
    page += fmt::format("\n{}:\n", section.title);
    for (const Option& option : section.set->options()) {
      page += help_line(names_of(option), help_description(option), columns);
    }
  }
  page += "\n" + help_line("-h, --help", "show this page and do nothing", columns);
  if (!examples_.empty()) page += "\n" + examples_;
  return page;
}

// ---- finding ----

Option* CommandParser::find(std::string_view name) const {
  for (const Section& section : sections_) {
    if (Option* const option = section.set->find(name)) return option;
  }
  return nullptr;
}

Option* CommandParser::inputs() const {
  for (const Section& section : sections_) {
    if (auto& list = section.set->input_list()) return &*list;
  }
  return nullptr;
}

bool CommandParser::is_given(std::string_view name) const {
  return std::ranges::find(given_, name) != given_.end();
}

}  // namespace regroup
