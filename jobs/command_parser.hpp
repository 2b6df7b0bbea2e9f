// The command line of one verb: options of any number of OptionSets, from flags, then REGROUP_*
// environment variables, then a TOML configuration file, in that order of precedence. Errors are
// one line that names the thing and says what to do. Nothing is printed. Used once, by one thread.
#pragma once

#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "jobs/config_file.hpp"
#include "jobs/option_set.hpp"

namespace regroup {

class CommandParser {
 public:
  // `command` as a user types it, "regroup run wordcount"; `summary`: what it does.
  CommandParser(std::string command, std::string summary)
      : command_(std::move(command)), summary_(std::move(summary)) {}

  // `title` stands above the options in the help; `table` is theirs in the configuration file, ""
  // its top level. No two options have one name, and at most one set has inputs (checked). The set
  // outlives the parser.
  void add(std::string title, OptionSet& set, std::string table = "");
  // Another spelling of an option, e.g. ('n', "ranks").
  void add_short(char letter, std::string name) { shorts_.push_back({letter, std::move(name)}); }
  // Tables of the configuration file that are not for this command, and no mistake there.
  void ignore_tables(std::vector<std::string> tables) { ignored_tables_ = std::move(tables); }
  // Lines for the end of the help.
  void examples(std::string text) { examples_ = std::move(text); }

  enum class Outcome { kRun, kHelpWanted };
  // `arguments` without the verb. Sets the options' variables, or none of them where help is
  // wanted.
  std::expected<Outcome, std::string> parse(const std::vector<std::string>& arguments);

  // The page that --help shows, with the values that the options have now as the defaults.
  std::string help(int columns) const;

 private:
  struct Section {
    std::string title;
    OptionSet* set;
    std::string table;
  };
  struct Short {
    char letter;
    std::string name;
  };
  using Checked = std::expected<void, std::string>;

  Checked take_arguments(const std::vector<std::string>& arguments);
  Checked take_values(Option& option, const std::vector<std::string>& texts);
  Checked check_inputs();
  Checked apply_environment();
  Checked apply_config(const std::string& path);
  Checked apply_value(const ConfigValue& value);

  Option* find(std::string_view name) const;
  Option* inputs() const;
  bool is_given(std::string_view name) const;
  std::string usage() const;
  std::string names_of(const Option& option) const;
  bool is_spelling(const std::string& text) const;
  std::string spellings_of(const Option& option) const;
  std::string needs_a_value(const std::string& complaint) const;
  std::string not_expected(const std::string& argument) const;
  std::string unknown_option(const std::string& argument) const;
  std::string hint() const { return "; see '" + command_ + " --help'"; }

  std::string command_;
  std::string summary_;
  std::string examples_;
  std::vector<Section> sections_;
  std::vector<Short> shorts_;
  std::vector<std::string> ignored_tables_;
  std::vector<std::string> given_;  // options that have their value
};

}  // namespace regroup
