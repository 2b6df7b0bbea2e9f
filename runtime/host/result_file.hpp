// A job's result as DIR/result.h5: attributes of the run, named scalars, and one table of
// equal-length columns. It appears whole or not at all: written under another name, synced, read
// back against its content hashes, renamed. Its bytes depend on what is written alone: not on the
// time, the host, the rank count or how the rows were cut into calls. docs/result-file.md has the
// schema for other readers. Neither class is thread-safe; different objects may be used by
// different threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "runtime/host/file_system.hpp"

namespace regroup {

inline constexpr std::string_view kResultFileName = "result.h5";

enum class ColumnType : std::uint8_t { kFloat64, kInt64, kUint64, kText };
std::string_view column_type_name(ColumnType type);  // "float64", "int64", "uint64", "text"

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

// Some rows of one column, to be written.
using ColumnValues =
    std::variant<std::span<const double>, std::span<const std::int64_t>,
                 std::span<const std::uint64_t>, std::span<const std::string_view>>;

struct ResultLimits {
  static constexpr std::size_t columns_max = 256;
  static constexpr std::size_t named_values_max = 256;  // attributes, and as many scalars
  static constexpr std::size_t name_bytes_max = 128;
  static constexpr std::size_t text_bytes_max = std::size_t{1} << 30;  // one text of a column
};

struct ResultFileOptions {
  // 0 stores columns as they are. 1 to 9 compresses full chunks (shuffle, then deflate), which
  // makes the file smaller and writing several times slower, and its bytes depend on the zlib in
  // use.
  int deflate_level = 0;
};

// Errors are one line: file, problem, what to do. After the first one every call returns it again,
// and the unfinished file is removed with the writer. An existing result.h5 stays until finish()
// replaces it. One writer a directory: its caller holds the RunDirectory.
class ResultFileWriter {
 public:
  static std::expected<ResultFileWriter, std::string> create(
      const std::filesystem::path& directory, const ResultFileOptions& options = {},
      FileSystem& file_system = FileSystem::real());
  ResultFileWriter(ResultFileWriter&&) noexcept;
  ResultFileWriter& operator=(ResultFileWriter&&) noexcept;
  ~ResultFileWriter();

  // About the run as a whole: job name, seed, input hash.
  std::expected<void, std::string> attribute(std::string name, ResultValue value);
  // A single number or text of the result; kept in the order of the calls.
  std::expected<void, std::string> scalar(std::string name, ResultValue value);

  // Defines the table, once, before any row.
  std::expected<void, std::string> columns(std::vector<ResultColumn> columns);
  // Adds rows: one span a column, in the order and of the types of columns(), all of one length.
  // Any length will do; at most about 1 MiB a column is held back.
  std::expected<void, std::string> append_rows(std::span<const ColumnValues> values);
  std::expected<void, std::string> append_rows(std::initializer_list<ColumnValues> values);

  // Completes, syncs, verifies and publishes the file. Only success means that the result is on
  // disk.
  std::expected<void, std::string> finish();

 private:
  struct State;
  explicit ResultFileWriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// The texts of some rows: text i is bytes [offsets[i], offsets[i + 1]).
struct TextRows {
  std::vector<char> bytes;
  std::vector<std::uint64_t> offsets;  // rows + 1, from 0

  std::string_view operator[](std::size_t row) const {
    return {bytes.data() + offsets[row], static_cast<std::size_t>(offsets[row + 1] - offsets[row])};
  }
};

// Some rows of all columns, as read.
struct ResultRows {
  std::size_t rows = 0;
  std::vector<std::variant<std::vector<double>, std::vector<std::int64_t>,
                           std::vector<std::uint64_t>, TextRows>>
      columns;
};

class ResultFileReader {
 public:
  // Errors are one line: file, problem, what to do. Missing, truncated, foreign and newer files are
  // told apart.
  static std::expected<ResultFileReader, std::string> open(const std::filesystem::path& directory);
  ResultFileReader(ResultFileReader&&) noexcept;
  ResultFileReader& operator=(ResultFileReader&&) noexcept;
  ~ResultFileReader();

  const std::filesystem::path& path() const;
  const std::vector<NamedValue>& attributes() const;  // in alphabetical order
  const std::vector<NamedValue>& scalars() const;     // in the order of writing
  const std::vector<ResultColumn>& columns() const;   // empty: there is no table
  std::uint64_t rows() const;

  // Reads every column and holds it against its content hash. Memory: about 1 MiB.
  std::expected<void, std::string> verify() const;

  // Fills `rows` with the rows from `first_row` on: at least one unless there is none, at most
  // `rows_max`, and fewer where they would take more than about 4 MiB of text. Reuses its memory.
  std::expected<void, std::string> read(std::uint64_t first_row, std::size_t rows_max,
                                        ResultRows& rows) const;

 private:
  friend class ResultFileWriter;
  struct State;
  explicit ResultFileReader(std::unique_ptr<State> state);
  static std::expected<ResultFileReader, std::string> open_file(const std::filesystem::path& path);
  std::unique_ptr<State> state_;
};

}  // namespace regroup
