// The options of a command or a job, bound to the variables they set. One declaration serves the
// command line, REGROUP_* environment variables, the configuration file, --help, and the copy of a
// job's parameters that the coordinator sends to every rank. Not thread-safe.
#pragma once

#include <cstdint>
#include <expected>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "runtime/protocol/wire.hpp"

namespace regroup {

class Option {
 public:
  using Target = std::variant<bool*, std::uint32_t*, std::uint64_t*, std::int64_t*, double*,
                              std::string*, std::vector<std::string>*>;

  Option(std::string name, Target target, std::string help)
      : name_(std::move(name)), target_(target), help_(std::move(help)) {}

  // Numbers below are refused. Of a list: how many elements there must be.
  Option& at_least(double minimum) {
    minimum_ = minimum;
    return *this;
  }
  Option& at_most(double maximum) {
    maximum_ = maximum;
    return *this;
  }
  // Other words are refused.
  Option& one_of(std::vector<std::string> choices) {
    choices_ = std::move(choices);
    return *this;
  }
  // An empty text is refused. Not for a job's options, whose defaults travel through set().
  Option& not_empty() {
    may_be_empty_ = false;
    return *this;
  }
  // What the help calls the value, e.g. "SECONDS".
  Option& value_name(std::string name) {
    value_name_ = std::move(name);
    return *this;
  }

  // Sets the variable from text, or says on one line what is wrong and what to give instead.
  std::expected<void, std::string> set(const std::string& text);
  // Whether the variable holds what set() would take: a number below the minimum is none yet.
  bool holds_value() const;
  // The variable as text that set() takes; lists as one element a line.
  std::string text() const;

  const std::string& name() const { return name_; }  // without the dashes
  const std::string& help() const { return help_; }
  // Without one of its own: "N", "X", "TEXT" or "WORD".
  std::string value_name() const;
  const std::vector<std::string>& choices() const { return choices_; }
  std::string choice_list() const;  // "auto, core or none"
  double minimum() const { return minimum_; }
  double maximum() const { return maximum_; }
  std::size_t element_count() const;  // 1, unless it is a list
  bool is_flag() const { return std::holds_alternative<bool*>(target_); }
  bool is_list() const { return std::holds_alternative<std::vector<std::string>*>(target_); }
  const Target& target() const { return target_; }

 private:
  std::expected<void, std::string> refuse(const std::string& text, const std::string& wanted) const;
  template <class Number>
  std::expected<void, std::string> set_number(Number& variable, const std::string& text);

  std::string name_;
  Target target_;
  std::string help_;
  std::string value_name_;
  double minimum_ = -std::numeric_limits<double>::infinity();
  double maximum_ = std::numeric_limits<double>::infinity();
  std::vector<std::string> choices_;
  bool may_be_empty_ = true;
};

class OptionSet {
 public:
  // `name` without dashes ("top"); the variable holds the default and must outlive the set.
  template <class T>
  Option& add(std::string name, T& variable, std::string help) {
    return options_.emplace_back(std::move(name), Option::Target(&variable), std::move(help));
  }
  // The arguments that are no options, e.g. a job's inputs. At most one such list. at_least() and
  // at_most() of it say how many there may be.
  Option& inputs(std::string name, std::vector<std::string>& variable, std::string help) {
    return inputs_.emplace(std::move(name), Option::Target(&variable), std::move(help));
  }

  std::vector<Option>& options() { return options_; }
  const std::vector<Option>& options() const { return options_; }
  std::optional<Option>& input_list() { return inputs_; }
  const std::optional<Option>& input_list() const { return inputs_; }
  Option* find(std::string_view name);

  // All values, inputs included, to bytes and back: how a rank gets the coordinator's.
  void save(Writer& writer) const;
  std::expected<void, std::string> load(Reader& reader);

 private:
  std::vector<Option> options_;
  std::optional<Option> inputs_;
};

}  // namespace regroup
