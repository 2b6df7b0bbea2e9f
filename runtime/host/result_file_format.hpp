// How result.h5 is laid out: the names and numbers that its writer and its reader must agree on.
// docs/result-file.md states the same for other readers; a change here is a new format version.
// Private to result_file_writer.cpp and result_file_reader.cpp.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/host/hdf5_wrapper.hpp"
#include "runtime/host/result_file.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup::result_format {

inline constexpr std::string_view kFormat = "regroup-result";
// Arrays came with version 2: without them a file is one of version 1, and says so.
inline constexpr std::int64_t kFormatVersion = 2;
inline constexpr std::int64_t kFormatVersionWithoutArrays = 1;
inline constexpr const char* kGroup = "result";
inline constexpr const char* kHashAttribute = "xxh3_128";
// Names in use: no attribute of the run and no scalar can have them.
inline constexpr std::array<std::string_view, 2> kReservedAttributes = {"format", "format_version"};
inline constexpr std::array<std::string_view, 5> kReservedScalars = {
    "columns", "column_types", "scalars", "arrays", "xdmf_xxh3_128"};
// Of the group: the hash of result.xdmf.
inline constexpr const char* kXdmfHashAttribute = "xdmf_xxh3_128";

// What makes a picture of an array, by the HDF5 Image and Palette Specification, version 1.2.
inline constexpr const char* kClassAttribute = "CLASS";
inline constexpr std::string_view kImageClass = "IMAGE";

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

// Of an array; nothing if it has none along a dimension, or too many.
inline std::optional<std::uint64_t> elements_of(const std::vector<std::uint64_t>& shape) {
  std::uint64_t elements = 1;
  for (const std::uint64_t count : shape) {
    if (count == 0 || count > ResultLimits::array_elements_max / elements) return std::nullopt;
    elements *= count;
  }
  return elements;
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
