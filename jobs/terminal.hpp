// What the user's terminal is like, and text that is safe to show on it.
#pragma once

#include <string>
#include <string_view>

namespace regroup {

// Columns of the terminal behind a file descriptor; 80 where there is none.
int terminal_columns(int fd);

// The text with control bytes and what is no UTF-8 shown as \xNN, so that words of a binary file
// cannot drive a terminal. Longer than `bytes_max` it is cut, with "..." behind it.
std::string printable(std::string_view text, std::size_t bytes_max = 60);

}  // namespace regroup
