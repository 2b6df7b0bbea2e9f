// How result.h5 is laid out: the names and numbers that its writer and its reader must agree on.
// docs/result-file.md states the same for other readers; a change here is a new format version.
// Private to result_file_writer.cpp and result_file_reader.cpp.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/host/hdf5_wrapper.hpp"
#include "runtime/host/result_file.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup::result_format {

inline constexpr std::string_view kFormat = "regroup-result";
inline constexpr std::int64_t kFormatVersion = 1;
inline constexpr const char* kGroup = "result";
inline constexpr const char* kHashAttribute = "xxh3_128";
// Names in use: no attribute of the run and no scalar can have them.
inline constexpr std::array<std::string_view, 2> kReservedAttributes = {"format", "format_version"};
inline constexpr std::array<std::string_view, 3> kReservedScalars = {"columns", "column_types",
                                                                     "scalars"};

// Chunks shape the file's bytes.
inline constexpr std::uint64_t kNumberChunkRows = 65'536;    // 512 KiB
inline constexpr std::uint64_t kTextChunkBytes = 1'048'576;  // 1 MiB

// By ColumnType: what the file calls it.
inline constexpr std::array<std::string_view, 4> kColumnTypeNames = {"float64", "int64", "uint64",
                                                                     "text"};

// A text column is two datasets.
inline std::string bytes_name(const std::string& column) {
  return column + "_bytes";
}
inline std::string offset_name(const std::string& column) {
  return column + "_offset";
}

// Of a column of numbers.
inline hdf5::ElementType element_type(ColumnType type) {
  switch (type) {
    case ColumnType::kFloat64:
      return hdf5::ElementType::kFloat64;
    case ColumnType::kInt64:
      return hdf5::ElementType::kInt64;
    case ColumnType::kUint64:
      return hdf5::ElementType::kUint64;
    case ColumnType::kText:
      break;
  }
  REGROUP_CHECK(false, "a text column is two datasets");
}

}  // namespace regroup::result_format
