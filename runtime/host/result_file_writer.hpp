// Writes a job's result. The file appears whole or not at all: written under another name, synced,
// read back against its content hashes, renamed. Its bytes depend on what is written alone: not on
// the time, the host, the rank count or how the rows were cut into calls. Pictures are also written
// as PNG files beside it. Not thread-safe; different writers may be used by different threads.
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

#include "runtime/host/file_digest.hpp"
#include "runtime/host/file_system.hpp"
#include "runtime/host/picture.hpp"
#include "runtime/host/result_file.hpp"

namespace regroup {

// Some rows of one column, to be written.
using ColumnValues =
    std::variant<std::span<const double>, std::span<const std::int64_t>,
                 std::span<const std::uint64_t>, std::span<const std::string_view>>;

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

  // Adds an array of 1 to 3 dimensions with all its elements, in C order (little-endian).
  std::expected<void, std::string> array(const ResultArray& array,
                                         std::span<const std::byte> elements);
  // Adds an array that is a field on a grid of 2 or 3 dimensions, by whose name it goes, at a time.
  // finish() writes result.xdmf, which describes all fields; the time there is that of the last.
  std::expected<void, std::string> field(const GridField& field, double time,
                                         std::span<const double> numbers);
  // Adds an array that is a picture, and its PNG file, which finish() writes. Pixels must be as
  // many as its size says.
  std::expected<void, std::string> picture(const Picture& picture);

  // Completes, syncs, verifies and publishes the file, after those of its pictures. Only success
  // means that the result is on disk.
  std::expected<void, std::string> finish();
  // Of the finished file.
  const FileDigest& digest() const;

 private:
  struct State;
  explicit ResultFileWriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace regroup
