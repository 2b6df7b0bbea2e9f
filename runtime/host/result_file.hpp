// A job's result as DIR/result.h5: attributes of the run, named scalars, one table of equal-length
// columns, and arrays, some of which are pictures or fields. Here is what both sides speak of:
// names, values, columns, arrays and their limits. result_file_writer.hpp writes the file,
// result_file_reader.hpp reads it; docs/result-file.md has the schema for other readers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "runtime/protocol/field.hpp"

namespace regroup {

inline constexpr std::string_view kResultFileName = "result.h5";

enum class ColumnType : std::uint8_t { kFloat64, kInt64, kUint64, kText };

// Names of columns, scalars and attributes: 1 to 128 of A-Z a-z 0-9 _ - . with a letter or digit
// first.
struct ResultColumn {
  std::string name;
  ColumnType type = ColumnType::kFloat64;
  friend bool operator==(const ResultColumn&, const ResultColumn&) = default;
};

// A text here has no NUL and at most 60000 bytes; UTF-8 is meant. Columns take any bytes.
using ResultValue = std::variant<std::string, std::int64_t, std::uint64_t, double>;

struct NamedValue {
  std::string name;
  ResultValue value;
  friend bool operator==(const NamedValue&, const NamedValue&) = default;
};

// Numbers on a grid of 1 to 3 dimensions, the slowest first. A picture is one of uint8: rows of
// pixels from the top down, and in colour each of red, green and blue.
struct ResultArray {
  std::string name;  // as that of a column
  ElementType type = ElementType::kFloat64;
  std::vector<std::uint64_t> shape;
  bool is_picture = false;
  friend bool operator==(const ResultArray&, const ResultArray&) = default;
};

// Beside the result file, when it has fields: says to ParaView and VisIt where they are.
inline constexpr std::string_view kResultXdmfName = "result.xdmf";

// Where a picture is shown to those who do not read HDF5: beside the result file.
inline std::string picture_file_name(std::string_view name) {
  return std::string(name) + ".png";
}

struct ResultLimits {
  static constexpr std::size_t columns_max = 256;
  static constexpr std::size_t named_values_max = 256;  // attributes, and as many scalars
  static constexpr std::size_t name_bytes_max = 128;
  static constexpr std::size_t text_bytes_max = std::size_t{1} << 30;  // one text of a column
  static constexpr std::size_t arrays_max = 64;
  static constexpr std::uint64_t array_elements_max = std::uint64_t{1} << 32;
};

}  // namespace regroup
