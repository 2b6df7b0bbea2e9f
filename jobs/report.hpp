// Where a job puts its result, at the end, on the coordinator: named values, rows of a table,
// arrays and pictures. All of it goes to DIR/result.h5, and a picture to DIR/NAME.png as well; the
// values and the first rows are also shown to the user and are the "result" of --format json. Rows
// stream: a table of any length takes bounded memory. Errors (a full disk) are kept and end the run
// with exit status 3; a job need not look. Not thread-safe.
#pragma once

#include <cstdint>
#include <expected>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "runtime/host/result_file_writer.hpp"

namespace regroup {

using ReportCell = std::variant<double, std::int64_t, std::uint64_t, std::string_view>;

class Report {
 public:
  static constexpr std::size_t kPreviewRowsMax = 20;
  static constexpr std::size_t kRowsHeld = 8192;

  // The writer outlives it.
  explicit Report(ResultFileWriter& file) : file_(&file) {}

  // A named number or text: an estimate, a count.
  void value(std::string name, ResultValue value);
  // Defines the table, once, before the first row.
  void columns(std::vector<ResultColumn> columns);
  // One cell a column, of the column's type. Texts are copied.
  void row(std::initializer_list<ReportCell> cells);

  // Numbers on a grid of 1 to 3 dimensions (`shape`: the slowest first), all of them, in C order.
  void array(std::string name, std::vector<std::uint64_t> shape, std::span<const double> numbers);
  void array(std::string name, std::vector<std::uint64_t> shape,
             std::span<const std::uint64_t> numbers);
  // On a grid of 2 or 3 dimensions, at a time: an array by the field's name that DIR/result.xdmf
  // describes to ParaView and VisIt.
  void field(const GridField& field, double time, std::span<const double> numbers);
  // Of 1 to Picture::kBytesMax bytes, as many as its size says; its name is also that of its file.
  void picture(const Picture& picture);

  // Ends the table; the first error of all that happened.
  std::expected<void, std::string> finish();

  const std::vector<NamedValue>& values() const { return values_; }
  const std::vector<ResultColumn>& column_list() const { return columns_; }
  std::uint64_t rows() const { return rows_; }
  // The first rows, at most kPreviewRowsMax, one value a column.
  const std::vector<std::vector<ResultValue>>& preview() const { return preview_; }
  // The names of the pictures' files within the run directory.
  const std::vector<std::string>& picture_files() const { return picture_files_; }

 private:
  struct Texts {
    std::string bytes;
    std::vector<std::size_t> ends;
  };
  using Held = std::variant<std::vector<double>, std::vector<std::int64_t>,
                            std::vector<std::uint64_t>, Texts>;

  void keep(std::expected<void, std::string> outcome);
  void flush();

  ResultFileWriter* file_;
  std::vector<NamedValue> values_;
  std::vector<ResultColumn> columns_;
  std::vector<Held> held_;  // rows not yet handed to the file, by column
  std::size_t rows_held_ = 0;
  std::uint64_t rows_ = 0;
  std::vector<std::vector<ResultValue>> preview_;
  std::vector<std::string> picture_files_;
  std::expected<void, std::string> status_;
};

}  // namespace regroup
