// Pages of help: pure functions from options to text that fits a terminal.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "jobs/option_set.hpp"

namespace regroup {

// One line of a table of options. Longer descriptions go on below themselves, and below a name that
// leaves them no room.
std::string help_line(std::string_view name, std::string_view description, int columns);

// "--top K", "--dir DIR", "--ignore-case".
std::string help_name(const Option& option);
// What the option does, which words it takes, and its value now as the default.
std::string help_description(const Option& option);

// The text broken between words into lines of at most `columns`, as far as words are shorter. Lines
// after the first are indented.
std::string wrapped(std::string_view text, int columns, int indent = 0);

// "did you mean WORD? " for the word that `text` is probably a slip of, or "" if there is none.
std::string did_you_mean(std::string_view text, const std::vector<std::string>& words);

}  // namespace regroup
