// Lines that reports for people are made of: a name and what there is to say of it, broken so that
// it fits the terminal. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace regroup {

// "state         done\n"; what is too long goes on below itself. A name that leaves no room has a
// line of its own.
std::string field_line(std::string_view name, std::string_view text, int columns);

// "1 shard", "3 shards".
std::string counted(std::uint64_t count, std::string_view what);

// "512 bytes", "3.2 MiB".
std::string bytes_text(std::uint64_t bytes);

// A path as one word for a shell.
std::string shell_word(std::string_view path);

}  // namespace regroup
