// The command line of one verb: options of any number of OptionSets, from flags, then REGROUP_*
// environment variables, then a TOML configuration file, in that order of precedence. Errors are
// one line that names the thing and says what to do. Used once, by one thread.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "jobs/option_set.hpp"

namespace regroup {

class CommandParser {
 public:
  struct Section {
    std::string title;  // in --help; "" is the verb's own
    OptionSet* set;
    std::string table;  // of the configuration file; "" is its top level
  };

  // `command` as a user types it: "regroup run wordcount".
  CommandParser(std::string command, std::string summary)
      : command_(std::move(command)), summary_(std::move(summary)) {}

  // The set outlives the parser.
  void add(std::string title, OptionSet& set, std::string table = "") {
    sections_.push_back({std::move(title), &set, std::move(table)});
  }
  // Another spelling of an option, e.g. ('n', "ranks").
  void add_short(char letter, std::string name) { shorts_.push_back({letter, std::move(name)}); }
  // Lines at the end of --help.
  void examples(std::string text) { examples_ = std::move(text); }

  enum class Outcome { kRun, kHelpShown };
  // `arguments` without the verb. Prints help to standard output when asked to.
  std::expected<Outcome, std::string> parse(const std::vector<std::string>& arguments);

 private:
  struct Short {
    char letter;
    std::string name;
  };

  std::expected<void, std::string> apply_environment(const std::vector<std::string>& given);
  std::expected<void, std::string> apply_config(const std::string& path,
                                                const std::vector<std::string>& given);
  std::string hint() const { return "; see '" + command_ + " --help'"; }

  std::string command_;
  std::string summary_;
  std::string examples_;
  std::vector<Section> sections_;
  std::vector<Short> shorts_;
};

}  // namespace regroup
