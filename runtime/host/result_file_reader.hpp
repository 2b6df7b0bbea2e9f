// Reads a job's result in blocks, in bounded memory, and holds it against its content hashes. A
// file that is damaged, foreign or newer is refused, never half believed. Not thread-safe;
// different readers may be used by different threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "runtime/host/result_file.hpp"

namespace regroup {

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
  const std::vector<ResultArray>& arrays() const;  // in the order of writing
  const std::string& xdmf_hash() const;            // of result.xdmf; empty: there are no fields

  // Reads every column and array and holds it against its content hash. Memory: about 1 MiB.
  std::expected<void, std::string> verify() const;

  // Fills `rows` with the rows from `first_row` on: at least one unless there is none, at most
  // `rows_max`, and fewer where they would take more than about 4 MiB of text. Reuses its memory.
  std::expected<void, std::string> read(std::uint64_t first_row, std::size_t rows_max,
                                        ResultRows& rows) const;

  // The elements with this place in the slowest dimension of the array of that number, in C order:
  // of a picture a row of pixels.
  std::expected<void, std::string> read_array_row(std::size_t array, std::uint64_t row,
                                                  std::vector<std::byte>& elements) const;

 private:
  friend class ResultFileWriter;  // reads back what it wrote, under its other name
  struct State;
  explicit ResultFileReader(std::unique_ptr<State> state);
  static std::expected<ResultFileReader, std::string> open_file(const std::filesystem::path& path);
  std::unique_ptr<State> state_;
};

}  // namespace regroup
