#include "jobs/matrix_market.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <system_error>

#include <fmt/format.h>

namespace regroup {
namespace {

// No line of the format is long; the standard allows 1,024 characters.
constexpr RangeReaderLimits kLimits{.block_bytes = 256 << 10, .record_bytes_max = 64 << 10};
constexpr std::uint64_t kExactWholeMax = std::uint64_t{1} << 53;
constexpr std::string_view kBanner = "%%matrixmarket";

using Failure = std::unexpected<std::string>;

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r';
}

std::string lowered(std::string_view text) {
  std::string low(text);
  for (char& c : low) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return low;
}

// The fields of a line, one after the other.
class Fields {
 public:
  explicit Fields(std::string_view line) : at_(line.data()), end_(line.data() + line.size()) {}

  bool at_end() {
    while (at_ != end_ && is_blank(*at_)) ++at_;
    return at_ == end_;
  }
  std::string_view word() {
    if (at_end()) return {};
    const char* const begin = at_;
    while (at_ != end_ && !is_blank(*at_)) ++at_;
    return {begin, at_};
  }
  // False unless the next field is a number as a whole.
  template <class Number>
  bool number(Number& value) {
    if (at_end()) return false;
    const char* begin = at_;
    if (*begin == '+' && begin + 1 != end_ && begin[1] != '-') ++begin;
    const auto [behind, error] = std::from_chars(begin, end_, value);
    if (error != std::errc() || (behind != end_ && !is_blank(*behind))) return false;
    at_ = behind;
    return true;
  }

 private:
  const char* at_;
  const char* end_;
};

std::string_view next_line(std::string_view& block) {
  const std::size_t end = block.find('\n');
  const std::string_view line = block.substr(0, end);
  block.remove_prefix(end == std::string_view::npos ? block.size() : end + 1);
  return line;
}

std::string shown(std::string_view line) {
  constexpr std::size_t kShownMax = 60;
  while (!line.empty() && is_blank(line.back())) line.remove_suffix(1);
  std::string text(line.substr(0, kShownMax));
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = '?';
  }
  return "'" + text + (line.size() > kShownMax ? "...'" : "'");
}

// Turns lines into entries, with what the format says of them.
class EntryParser {
 public:
  EntryParser(const MatrixHeader& header, std::uint64_t first_entry)
      : header_(&header), next_(first_entry) {}

  std::uint64_t next_entry() const { return next_; }

  // Adds the entries of whole lines and counts these; the error says what is wrong with the last.
  std::expected<void, std::string> parse(std::string_view block, std::vector<MatrixEntry>& entries,
                                         std::uint64_t& lines) {
    while (!block.empty()) {
      const std::string_view line = next_line(block);
      ++lines;
      Fields fields(line);
      if (fields.at_end() || line.front() == '%') continue;
      if (next_ == header_->entries) {
        return Failure(
            fmt::format("is behind the last of the {} entries that the size line "
                        "announces",
                        header_->entries));
      }
      if (auto parsed = entry(fields, line, entries.emplace_back()); !parsed) return parsed;
      ++next_;
    }
    return {};
  }

 private:
  std::expected<void, std::string> entry(Fields& fields, std::string_view line,
                                         MatrixEntry& entry) const {
    if (header_->form == MatrixHeader::Form::kArray) {
      entry.row = static_cast<std::uint32_t>(next_ % header_->rows);
      entry.column = static_cast<std::uint32_t>(next_ / header_->rows);
    } else {
      std::uint64_t row = 0;
      std::uint64_t column = 0;
      if (!fields.number(row) || !fields.number(column)) return malformed(line);
      if (row - 1 >= header_->rows || column - 1 >= header_->columns) {
        return Failure(fmt::format("row {}, column {} is outside the matrix of {} x {}", row,
                                   column, header_->rows, header_->columns));
      }
      entry.row = static_cast<std::uint32_t>(row - 1);
      entry.column = static_cast<std::uint32_t>(column - 1);
    }
    if (auto found = value(fields, line, entry.value); !found) return found;
    if (!fields.at_end()) return malformed(line);
    return header_->symmetry == MatrixHeader::Symmetry::kGeneral
               ? std::expected<void, std::string>()
               : check_triangle(entry);
  }

  std::expected<void, std::string> value(Fields& fields, std::string_view line,
                                         double& value) const {
    if (header_->field == MatrixHeader::Field::kPattern) {
      value = 1;
    } else if (header_->field == MatrixHeader::Field::kInteger) {
      std::int64_t whole = 0;
      if (!fields.number(whole)) return malformed(line);
      if (whole > std::int64_t{kExactWholeMax} || whole < -std::int64_t{kExactWholeMax}) {
        return Failure(fmt::format("{} is no exact double; keep to 2^53", whole));
      }
      value = static_cast<double>(whole);
    } else {
      if (!fields.number(value)) return malformed(line);
      if (!std::isfinite(value)) return Failure("a value is not finite: " + shown(line));
    }
    return {};
  }

  std::expected<void, std::string> check_triangle(const MatrixEntry& entry) const {
    if (entry.column > entry.row) {
      return Failure(
          fmt::format("row {}, column {} is above the diagonal, where a {} file has none",
                      entry.row + std::uint64_t{1}, entry.column + std::uint64_t{1},
                      header_->symmetry == MatrixHeader::Symmetry::kSymmetric ? "symmetric"
                                                                              : "skew-symmetric"));
    }
    if (header_->symmetry == MatrixHeader::Symmetry::kSkewSymmetric && entry.row == entry.column) {
      return Failure("is on the diagonal, where a skew-symmetric file has none");
    }
    return {};
  }

  std::expected<void, std::string> malformed(std::string_view line) const {
    const bool array = header_->form == MatrixHeader::Form::kArray;
    const bool pattern = header_->field == MatrixHeader::Field::kPattern;
    return Failure(fmt::format("{} is no entry: {}{} within a double's range", shown(line),
                               array ? "wanted is " : "wanted are row, column",
                               pattern ? ", whole and"
                               : array ? "a value"
                                       : " and a value"));
  }

  const MatrixHeader* header_;
  std::uint64_t next_;
};

Failure at_line(const std::string& path, std::uint64_t line, const std::string& what) {
  return Failure(fmt::format("{}, line {}: {}", path, line, what));
}

template <class Value>
std::expected<Value, std::string> one_of(
    std::string_view word, std::initializer_list<std::pair<std::string_view, Value>> choices) {
  std::string names;
  for (const auto& [name, value] : choices) {
    if (name == word) return value;
    names += (names.empty() ? "" : ", ") + std::string(name);
  }
  return Failure(fmt::format("'{}' is not among what is read: {}", word, names));
}

std::expected<MatrixHeader, std::string> parse_banner(std::string_view line) {
  const std::string low = lowered(line);
  Fields fields(low);
  if (fields.word() != kBanner || fields.word() != "matrix") {
    return Failure("does not begin with '%%MatrixMarket matrix': is this a Matrix Market file?");
  }
  using Header = MatrixHeader;
  const auto form = one_of<Header::Form>(
      fields.word(), {{"coordinate", Header::Form::kCoordinate}, {"array", Header::Form::kArray}});
  if (!form) return Failure(form.error());
  const auto field = one_of<Header::Field>(fields.word(), {{"real", Header::Field::kReal},
                                                           {"double", Header::Field::kReal},
                                                           {"integer", Header::Field::kInteger},
                                                           {"pattern", Header::Field::kPattern}});
  if (!field) return Failure(field.error());
  const auto symmetry = one_of<Header::Symmetry>(
      fields.word(), {{"general", Header::Symmetry::kGeneral},
                      {"symmetric", Header::Symmetry::kSymmetric},
                      {"skew-symmetric", Header::Symmetry::kSkewSymmetric}});
  if (!symmetry) return Failure(symmetry.error());
  const bool dense = *form == Header::Form::kArray;
  if (dense && (*field == Header::Field::kPattern || *symmetry != Header::Symmetry::kGeneral)) {
    return Failure("of arrays only real and integer ones that are general are read");
  }
  return Header{.form = *form, .field = *field, .symmetry = *symmetry};
}

std::expected<void, std::string> parse_sizes(std::string_view line, MatrixHeader& header) {
  Fields fields(line);
  const bool dense = header.form == MatrixHeader::Form::kArray;
  const bool whole = fields.number(header.rows) && fields.number(header.columns) &&
                     (dense || fields.number(header.entries)) && fields.at_end();
  if (!whole) {
    return Failure(fmt::format("{} is no size line: wanted are rows, columns{}", shown(line),
                               dense ? "" : " and entries"));
  }
  if (header.rows == 0 || header.columns == 0) return Failure("the matrix has no rows or columns");
  if (std::max(header.rows, header.columns) > MatrixMarketFile::kRowsMax) {
    return Failure("more than 2^31 rows or columns are not read");
  }
  if (header.symmetry != MatrixHeader::Symmetry::kGeneral && header.rows != header.columns) {
    return Failure(
        fmt::format("a matrix of {} x {} cannot be symmetric", header.rows, header.columns));
  }
  if (dense) header.entries = header.rows * header.columns;
  return {};
}

MatrixMarketFile::Piece piece_of(std::span<const MatrixEntry> entries) {
  MatrixMarketFile::Piece piece{.row_min = UINT32_MAX, .column_min = UINT32_MAX};
  for (const MatrixEntry& entry : entries) {
    piece.row_min = std::min(piece.row_min, entry.row);
    piece.row_max = std::max(piece.row_max, entry.row);
    piece.column_min = std::min(piece.column_min, entry.column);
    piece.column_max = std::max(piece.column_max, entry.column);
  }
  return piece;
}

bool within(std::uint32_t index, std::uint64_t begin, std::uint64_t end) {
  return index >= begin && index < end;
}

}  // namespace

std::expected<MatrixMarketFile, std::string> MatrixMarketFile::open(const std::string& path) {
  auto files = open_inputs(std::span(&path, 1));
  if (!files) return Failure(files.error());
  MatrixMarketFile file;
  file.file_ = std::move(files->front());
  if (auto header = file.read_header(); !header) return Failure(header.error());
  return file;
}

std::expected<void, std::string> MatrixMarketFile::read_header() {
  LineRangeReader reader(kLimits);
  if (auto opened = reader.open(file_, 0, file_.bytes); !opened) return opened;
  while (true) {
    const auto block = reader.next();
    if (!block) return Failure(block.error());
    if (block->empty()) {
      return Failure(fmt::format("{}: ends before its {} line", file_.path,
                                 header_lines_ == 0 ? "first" : "size"));
    }
    for (std::string_view rest = *block; !rest.empty();) {
      const std::string_view line = next_line(rest);
      if (++header_lines_ == 1) {
        auto parsed = parse_banner(line);
        if (!parsed) return at_line(file_.path, 1, parsed.error());
        header_ = *parsed;
        continue;
      }
      if (Fields(line).at_end() || line.front() == '%') continue;
      if (auto sizes = parse_sizes(line, header_); !sizes) {
        return at_line(file_.path, header_lines_, sizes.error());
      }
      header_bytes_ += block->size() - rest.size();
      return {};
    }
    header_bytes_ += block->size();
  }
}

std::expected<void, std::string> MatrixMarketFile::read(const Visit& visit) {
  LineRangeReader reader(kLimits);
  if (auto opened = reader.open(file_, header_bytes_, file_.bytes); !opened) return opened;
  EntryParser parser(header_, 0);
  std::vector<MatrixEntry> entries;
  std::uint64_t lines = header_lines_;
  std::uint64_t begin = header_bytes_;
  pieces_.clear();
  while (true) {
    const auto block = reader.next();
    if (!block) return Failure(block.error());
    if (block->empty()) break;
    const std::uint64_t first_entry = parser.next_entry();
    entries.clear();
    if (auto parsed = parser.parse(*block, entries, lines); !parsed) {
      return at_line(file_.path, lines, parsed.error());
    }
    if (!entries.empty()) {
      Piece piece = piece_of(entries);
      piece.begin = begin;
      piece.end = begin + block->size();
      piece.first_entry = first_entry;
      pieces_.push_back(piece);
      visit(entries);
    }
    begin += block->size();
  }
  if (parser.next_entry() != header_.entries) {
    return at_line(file_.path, lines,
                   fmt::format("the file ends here, with {} of the {} entries that its size line "
                               "announces",
                               parser.next_entry(), header_.entries));
  }
  return {};
}

std::expected<void, std::string> MatrixMarketFile::read_rows(std::uint64_t begin, std::uint64_t end,
                                                             LineRangeReader& reader,
                                                             const Visit& visit) const {
  const bool mirrored = header_.symmetry != MatrixHeader::Symmetry::kGeneral;
  const double sign = header_.symmetry == MatrixHeader::Symmetry::kSkewSymmetric ? -1 : 1;
  const auto meets = [&](std::uint32_t least, std::uint32_t greatest) {
    return least < end && greatest >= begin;
  };
  std::vector<MatrixEntry> entries;
  std::vector<MatrixEntry> found;
  for (const Piece& piece : pieces_) {
    const bool in_rows = meets(piece.row_min, piece.row_max);
    if (!in_rows && !(mirrored && meets(piece.column_min, piece.column_max))) continue;
    if (auto opened = reader.open(file_, piece.begin, piece.end); !opened) return opened;
    EntryParser parser(header_, piece.first_entry);
    while (true) {
      const auto block = reader.next();
      if (!block) return Failure(block.error());
      if (block->empty()) break;
      std::uint64_t lines = 0;
      entries.clear();
      if (auto parsed = parser.parse(*block, entries, lines); !parsed) {
        return Failure(file_.path + ": is no longer what it was when the run began");
      }
      found.clear();
      for (const MatrixEntry& entry : entries) {
        if (within(entry.row, begin, end)) found.push_back(entry);
        if (mirrored && entry.row != entry.column && within(entry.column, begin, end)) {
          found.push_back({entry.column, entry.row, sign * entry.value});
        }
      }
      if (!found.empty()) visit(found);
    }
  }
  return {};
}

void MatrixMarketFile::encode(Writer& out) const {
  out.put_string(file_.path);
  out.put(file_.bytes);
  out.put(file_.sample.blocks);
  out.put(file_.sample.hash);
  out.put(static_cast<std::uint8_t>(header_.form));
  out.put(static_cast<std::uint8_t>(header_.field));
  out.put(static_cast<std::uint8_t>(header_.symmetry));
  for (const std::uint64_t size : {header_.rows, header_.columns, header_.entries}) out.put(size);
  out.put(static_cast<std::uint32_t>(pieces_.size()));
  for (const Piece& piece : pieces_) {
    for (const std::uint64_t at : {piece.begin, piece.end, piece.first_entry}) out.put(at);
    for (const std::uint32_t index :
         {piece.row_min, piece.row_max, piece.column_min, piece.column_max}) {
      out.put(index);
    }
  }
}

std::expected<MatrixMarketFile, std::string> MatrixMarketFile::decode(Reader& in) {
  constexpr std::size_t kPieceBytes = 3 * 8 + 4 * 4;
  MatrixMarketFile file;
  file.file_.path = in.get_string();
  file.file_.bytes = in.get<std::uint64_t>();
  file.file_.sample.blocks = in.get<std::uint8_t>();
  file.file_.sample.hash = in.get<std::uint64_t>();
  const std::array kinds = {in.get<std::uint8_t>(), in.get<std::uint8_t>(), in.get<std::uint8_t>()};
  file.header_.form = static_cast<MatrixHeader::Form>(kinds[0]);
  file.header_.field = static_cast<MatrixHeader::Field>(kinds[1]);
  file.header_.symmetry = static_cast<MatrixHeader::Symmetry>(kinds[2]);
  for (std::uint64_t* size : {&file.header_.rows, &file.header_.columns, &file.header_.entries}) {
    *size = in.get<std::uint64_t>();
  }
  file.pieces_.resize(in.get_count(kPieceBytes));
  bool sound = !in.failed() && kinds[0] <= 1 && kinds[1] <= 2 && kinds[2] <= 2 &&
               file.header_.rows - 1 < kRowsMax && file.header_.columns - 1 < kRowsMax &&
               file.file_.sample.blocks <= SampleLimits::blocks_of_file_max;
  for (Piece& piece : file.pieces_) {
    for (std::uint64_t* at : {&piece.begin, &piece.end, &piece.first_entry}) {
      *at = in.get<std::uint64_t>();
    }
    for (std::uint32_t* index :
         {&piece.row_min, &piece.row_max, &piece.column_min, &piece.column_max}) {
      *index = in.get<std::uint32_t>();
    }
    sound = sound && piece.begin <= piece.end && piece.end <= file.file_.bytes;
  }
  if (in.failed() || !sound) return Failure("the description of a matrix file is damaged");
  return file;
}

}  // namespace regroup
