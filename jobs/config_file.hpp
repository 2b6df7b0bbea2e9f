// A TOML configuration file as plain values: what --config names. Knows nothing of which options
// there are; CommandParser does.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <vector>

namespace regroup {

struct ConfigValue {
  std::string table;  // "" for the top level
  std::string key;
  std::uint32_t line = 0;
  bool is_array = false;
  std::vector<std::string> texts;  // as a flag would have them; one unless it is an array
};

struct ConfigTable {
  std::string name;
  std::uint32_t line = 0;
};

struct ConfigFile {
  std::vector<ConfigTable> tables;
  std::vector<ConfigValue> values;
};

// The error is one line: file, place, problem.
std::expected<ConfigFile, std::string> read_config_file(const std::string& path);

}  // namespace regroup
