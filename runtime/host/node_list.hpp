// The nodes that a run is to be started on, as a user names them: in words as mpirun's -H takes
// them, or in a file as its --hostfile does. Errors are one line. Stateless; any thread.
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace regroup {

struct LaunchNode {
  std::string name;
  std::uint32_t slots = 1;  // ranks that it is meant to hold
  friend bool operator==(const LaunchNode&, const LaunchNode&) = default;
};

inline constexpr std::size_t kLaunchNodesMax = 65'536;
inline constexpr std::uint32_t kNodeSlotsMax = 65'536;

// "n1:2,n2": names, and how many ranks each holds; one named twice holds both together.
std::expected<std::vector<LaunchNode>, std::string> parse_nodes(std::string_view text);
// A node a line: "n1", "n1:2" or "n1 slots=2", as well with "max_slots=4", which is not looked at;
// '#' begins a comment.
std::expected<std::vector<LaunchNode>, std::string> parse_hostfile(std::string_view text);
std::expected<std::vector<LaunchNode>, std::string> read_hostfile(
    const std::filesystem::path& path);

// Whether the name is this machine's, by its first part.
bool is_own_name(std::string_view node);

// As parse_nodes() takes them.
std::string node_words(const std::vector<LaunchNode>& nodes);
std::uint64_t slots_of(const std::vector<LaunchNode>& nodes);

}  // namespace regroup
