// Where the limits of this process's control groups are to be read, of version 1 and 2: some of
// them no other interface shows. Reads /proc and /sys, changes nothing. Stateless; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace regroup {

// The folders of this process's group and of all groups around it, innermost first, in the
// hierarchy of a controller of version 1 ("cpu", "memory"), or in that of version 2 ("").
std::vector<std::string> control_group_folders(std::string_view controller);

// The file's text; empty where it is not there or cannot be read.
std::string read_limit(const std::string& path);

// "4096\n" is a limit; "max", which version 2 has, and numbers that version 1 has in its place are
// none.
std::optional<std::uint64_t> parse_limit(std::string_view text);

// Bytes that all processes of the group may have together: the tightest limit counts.
std::optional<std::uint64_t> memory_limit();

// Processes and threads that may yet be started in the group: where the fewest are left.
std::optional<std::uint64_t> tasks_left();

}  // namespace regroup
