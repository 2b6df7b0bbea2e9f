// Reads matrices and vectors in the Matrix Market exchange format (Boisvert, Pozo and Remington,
// "The Matrix Market Exchange Formats: Initial Design", NISTIR 5935, 1996), in bounded pieces.
// Real, integer and pattern entries (which count as 1) are read, in coordinate form, general,
// symmetric or skew-symmetric, and in array form, general. Complex and hermitian ones are refused.
// So is whatever breaks the format: errors are one line with the file's name and the line's number.
//
// Lines may end with CRLF, and blank lines and comments may stand anywhere behind the first line.
// An entry's place may occur more than once: whoever reads adds them up.
//
// One reading of the whole file checks it and notes which rows and columns are where, so that
// later, on any rank, the entries of a range of rows are read without the rest where the order of
// the entries allows. A reader belongs to one thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <expected>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "jobs/byte_ranges.hpp"
#include "jobs/range_reader.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup {

struct MatrixHeader {
  enum class Form : std::uint8_t { kCoordinate, kArray };
  enum class Field : std::uint8_t { kReal, kInteger, kPattern };
  enum class Symmetry : std::uint8_t { kGeneral, kSymmetric, kSkewSymmetric };

  Form form = Form::kCoordinate;
  Field field = Field::kReal;
  // Not general: the file has the lower triangle alone.
  Symmetry symmetry = Symmetry::kGeneral;
  std::uint64_t rows = 0;
  std::uint64_t columns = 0;
  std::uint64_t entries = 0;  // that the file has

  friend bool operator==(const MatrixHeader&, const MatrixHeader&) = default;
};

// As the file has it, but counted from 0.
struct MatrixEntry {
  std::uint32_t row = 0;
  std::uint32_t column = 0;
  double value = 0;

  friend bool operator==(const MatrixEntry&, const MatrixEntry&) = default;
};

class MatrixMarketFile {
 public:
  static constexpr std::uint64_t kRowsMax = std::uint64_t{1} << 31;  // and columns

  // Some whole lines of the file: where they are, and what they have.
  struct Piece {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::uint64_t first_entry = 0;
    std::uint32_t row_min = 0;
    std::uint32_t row_max = 0;
    std::uint32_t column_min = 0;
    std::uint32_t column_max = 0;
  };

  using Visit = std::function<void(std::span<const MatrixEntry>)>;

  // Reads the header alone.
  static std::expected<MatrixMarketFile, std::string> open(const std::string& path);

  const MatrixHeader& header() const { return header_; }
  const std::string& path() const { return file_.path; }
  std::uint64_t bytes() const { return file_.bytes; }

  // Hands all entries over, some thousands at a time, in the order of the file.
  std::expected<void, std::string> read(const Visit& visit);
  // Those of the rows [begin, end), and of a matrix that is not general their mirror images in
  // these rows too. Only after read() of this file here, or on the rank that it comes from. The
  // reader keeps its memory, and what it knows of the file, from one call to the next.
  std::expected<void, std::string> read_rows(std::uint64_t begin, std::uint64_t end,
                                             LineRangeReader& reader, const Visit& visit) const;

  void encode(Writer& out) const;
  // Bytes that encode never makes are an error; the Reader is left behind what was read.
  static std::expected<MatrixMarketFile, std::string> decode(Reader& in);

 private:
  MatrixMarketFile() = default;
  std::expected<void, std::string> read_header();

  InputFile file_;
  MatrixHeader header_;
  std::uint64_t header_bytes_ = 0;
  std::uint64_t header_lines_ = 0;
  std::vector<Piece> pieces_;
};

}  // namespace regroup
