#include "runtime/host/result_file_reader.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/host/content_hash.hpp"
#include "runtime/host/file_system.hpp"
#include "runtime/host/hdf5_wrapper.hpp"
#include "runtime/host/result_file_format.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

using namespace result_format;
using hdf5::ElementType;
using Outcome = std::expected<void, std::string>;

constexpr std::size_t kReadTextBytesMax = std::size_t{4} << 20;
constexpr std::size_t kVerifyBlockBytes = std::size_t{1} << 20;

struct ColumnReader {
  hdf5::Dataset values;
  std::optional<hdf5::Dataset> offsets;

  std::uint64_t rows() const { return offsets ? offsets->rows() - 1 : values.rows(); }
};

// Why the file cannot be an HDF5 file at all, if so. Found before HDF5 is asked, whose words for
// these cases help nobody.
std::optional<std::string> problem_with_file(const std::filesystem::path& path) {
  FileSystem& file_system = FileSystem::real();
  const FileDescriptor file(file_system,
                            file_system.open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0));
  if (!file.is_open() && errno == ENOENT) {
    std::error_code ignored;
    if (!std::filesystem::is_directory(path.parent_path().empty() ? "." : path.parent_path(),
                                       ignored))
      return "there is no such directory; name the run's directory";
    return "there is no result yet; finish the run with `regroup resume DIR`";
  }
  if (!file.is_open()) return fmt::format("{}; make it readable", errno_text(errno));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return errno_text(errno);
  if (!S_ISREG(status.st_mode)) return "it is not a regular file; name the run's directory";
  constexpr std::string_view signature = "\x89HDF\r\n\x1a\n";
  std::array<char, signature.size()> start{};
  const ssize_t count = ::read(file.get(), start.data(), start.size());
  if (count < 0) return fmt::format("{}; make it readable", errno_text(errno));
  if (count < static_cast<ssize_t>(start.size()))
    return "it is truncated; run the job again or restore the file";
  if (std::string_view(start.data(), start.size()) != signature)
    return "it is not an HDF5 file, so not a result of Regroup; name the run's directory";
  return std::nullopt;
}

std::optional<ColumnType> column_type_named(std::string_view name) {
  const auto found = std::ranges::find(kColumnTypeNames, name);
  if (found == kColumnTypeNames.end()) return std::nullopt;
  return static_cast<ColumnType>(found - kColumnTypeNames.begin());
}

hdf5::Expected<std::vector<NamedValue>> read_values(const hdf5::Node& node,
                                                    const std::vector<std::string>& names) {
  std::vector<NamedValue> values;
  for (const auto& name : names) {
    auto value = node.attribute(name);
    if (!value) return std::unexpected(value.error());
    if (!*value) return std::unexpected(fmt::format("attribute '{}' is missing", name));
    values.push_back({name, std::move(**value)});
  }
  return values;
}

hdf5::Expected<ColumnReader> open_column(const hdf5::Group& group, const ResultColumn& column) {
  const bool text = column.type == ColumnType::kText;
  auto values = group.open_dataset(text ? bytes_name(column.name) : column.name);
  if (!values) return std::unexpected(fmt::format("column '{}': {}", column.name, values.error()));
  if (values->type() != (text ? ElementType::kUint8 : element_type(column.type)))
    return std::unexpected(fmt::format("column '{}' has another type than it says", column.name));
  if (!text) return ColumnReader{std::move(*values), std::nullopt};
  auto offsets = group.open_dataset(offset_name(column.name));
  if (!offsets)
    return std::unexpected(fmt::format("column '{}': {}", column.name, offsets.error()));
  if (offsets->type() != ElementType::kUint64 || offsets->rows() == 0)
    return std::unexpected(fmt::format("column '{}' has no valid offsets", column.name));
  return ColumnReader{std::move(*values), std::move(*offsets)};
}

// Feeds the dataset to `visit` in blocks; stops at the first error.
template <class Visit>
hdf5::Expected<void> for_each_block(const hdf5::Dataset& dataset, Visit visit) {
  const std::size_t bytes_each = hdf5::element_bytes(dataset.type());
  const std::uint64_t block_rows = kVerifyBlockBytes / bytes_each;
  std::vector<std::byte> block;
  for (std::uint64_t row = 0; row < dataset.rows(); row += block_rows) {
    block.resize(std::min(block_rows, dataset.rows() - row) * bytes_each);
    if (auto done = dataset.read(row, block); !done) return done;
    visit(std::span<const std::byte>(block));
  }
  return {};
}

// The same of an array, in C order. A block is a stretch along one dimension, one element wide in
// those before it and whole in those after.
template <class Visit>
hdf5::Expected<void> for_each_block(const hdf5::Array& array, Visit visit) {
  const auto& shape = array.shape();
  const std::size_t bytes_each = hdf5::element_bytes(array.type());
  std::vector<std::uint64_t> extent(shape.size(), 1);
  std::size_t along = shape.size() - 1;
  std::uint64_t row_bytes = bytes_each;  // of one step along it
  while (along > 0 && shape[along] * row_bytes <= kVerifyBlockBytes) {
    extent[along] = shape[along];
    row_bytes *= shape[along--];
  }
  const std::uint64_t steps = std::max<std::uint64_t>(1, kVerifyBlockBytes / row_bytes);
  std::vector<std::uint64_t> start(shape.size(), 0);
  std::vector<std::byte> block;
  while (start[0] < shape[0]) {
    extent[along] = std::min(steps, shape[along] - start[along]);
    block.resize(extent[along] * row_bytes);
    if (auto done = array.read(start, extent, block); !done) return done;
    visit(std::span<const std::byte>(block));
    start[along] += extent[along];
    for (std::size_t i = along; i > 0 && start[i] == shape[i]; --i) {
      start[i] = 0;
      ++start[i - 1];
    }
  }
  return {};
}

template <class Stored>
hdf5::Expected<void> verify_hash(const Stored& dataset) {
  const auto stored = dataset.attribute(kHashAttribute);
  if (!stored) return std::unexpected(stored.error());
  const auto* expected = *stored ? std::get_if<std::string>(&**stored) : nullptr;
  if (expected == nullptr) return std::unexpected("it has no content hash");
  ContentHasher hasher;
  auto done = for_each_block(dataset, [&](auto block) { hasher.update(block); });
  if (!done) return done;
  if (hasher.hex() != *expected)
    return std::unexpected(fmt::format("its content hash is {}, not {}", hasher.hex(), *expected));
  return {};
}

// Offsets start at 0, never fall, and end where the bytes end.
hdf5::Expected<void> verify_offsets(const ColumnReader& column) {
  std::uint64_t previous = 0;
  bool first = true;
  bool ordered = true;
  auto done = for_each_block(*column.offsets, [&](std::span<const std::byte> block) {
    for (std::size_t at = 0; at < block.size(); at += sizeof previous) {
      std::uint64_t offset = 0;
      std::memcpy(&offset, block.data() + at, sizeof offset);
      ordered = ordered && (first ? offset == 0 : offset >= previous);
      first = false;
      previous = offset;
    }
  });
  if (!done) return done;
  if (!ordered || previous != column.values.rows())
    return std::unexpected("its offsets do not fit its bytes");
  return {};
}

template <class T>
hdf5::Expected<void> read_numbers(const hdf5::Dataset& dataset, std::uint64_t first_row,
                                  std::size_t count, std::vector<T>& numbers) {
  numbers.resize(count);
  return dataset.read(first_row, std::as_writable_bytes(std::span(numbers)));
}

// Reads count + 1 offsets, and returns how many of the texts are read together: at least one.
hdf5::Expected<std::size_t> read_offsets(const ColumnReader& column, std::uint64_t first_row,
                                         std::size_t count, std::vector<std::uint64_t>& offsets) {
  if (auto done = read_numbers(*column.offsets, first_row, count + 1, offsets); !done)
    return std::unexpected(done.error());
  std::size_t fitting = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const bool valid = offsets[i] <= offsets[i + 1] && offsets[i + 1] <= column.values.rows() &&
                       offsets[i + 1] - offsets[i] <= ResultLimits::text_bytes_max;
    if (!valid) return std::unexpected("its offsets do not fit its bytes");
    if (i > 0 && offsets[i + 1] - offsets[0] > kReadTextBytesMax) break;
    fitting = i + 1;
  }
  return fitting;
}

hdf5::Expected<void> read_texts(const ColumnReader& column, std::size_t count, TextRows& texts) {
  texts.offsets.resize(count + 1);
  const std::uint64_t start = texts.offsets.front();
  texts.bytes.resize(texts.offsets.back() - start);
  for (auto& offset : texts.offsets) offset -= start;
  return column.values.read(start, std::as_writable_bytes(std::span(texts.bytes)));
}

}  // namespace

struct ResultFileReader::State {
  Outcome load();
  Outcome load_table();
  Outcome load_arrays();
  std::unexpected<std::string> damaged(std::string_view problem) const {
    return std::unexpected(fmt::format(
        "{}: it is damaged: {}; run the job again or restore the file", path.string(), problem));
  }

  std::filesystem::path path;
  hdf5::File file;
  hdf5::Group group;
  std::vector<NamedValue> attributes;
  std::vector<NamedValue> scalars;
  std::vector<ResultColumn> columns;
  std::vector<ColumnReader> readers;
  std::uint64_t rows = 0;
  std::vector<ResultArray> arrays;
  std::vector<hdf5::Array> array_readers;
  std::string xdmf_hash;
};

Outcome ResultFileReader::State::load() {
  auto opened = hdf5::File::open_read_only(path);
  if (!opened) return damaged(opened.error());
  file = std::move(*opened);
  const auto root = file.root();
  if (!root) return damaged(root.error());

  const auto format = root->attribute("format");
  const auto version = root->attribute("format_version");
  const auto* format_text = format && *format ? std::get_if<std::string>(&**format) : nullptr;
  const auto* version_number =
      version && *version ? std::get_if<std::int64_t>(&**version) : nullptr;
  if (!format) return damaged(format.error());
  if (format_text == nullptr || *format_text != kFormat || version_number == nullptr)
    return std::unexpected(
        fmt::format("{}: it is an HDF5 file, but not a result of Regroup; name the run's directory",
                    path.string()));
  if (*version_number < kFormatVersionWithoutArrays || *version_number > kFormatVersion)
    return std::unexpected(fmt::format(
        "{}: it has format version {}, this Regroup reads {} to {}; use the Regroup that wrote it",
        path.string(), *version_number, kFormatVersionWithoutArrays, kFormatVersion));

  auto names = root->attribute_names();
  if (!names) return damaged(names.error());
  std::erase_if(*names, [](const auto& name) {
    return std::ranges::find(kReservedAttributes, name) != kReservedAttributes.end();
  });
  auto values = read_values(*root, *names);
  if (!values) return damaged(values.error());
  attributes = std::move(*values);
  auto opened_group = root->open_group(kGroup);
  if (!opened_group) return damaged(opened_group.error());
  group = std::move(*opened_group);
  if (auto done = load_table(); !done) return done;
  if (*version_number == kFormatVersionWithoutArrays) return {};
  return load_arrays();
}

Outcome ResultFileReader::State::load_table() {
  const auto scalar_names = group.text_attributes("scalars");
  if (!scalar_names) return damaged(scalar_names.error());
  auto values = read_values(group, *scalar_names);
  if (!values) return damaged(values.error());
  scalars = std::move(*values);

  const auto names = group.text_attributes("columns");
  const auto types = group.text_attributes("column_types");
  if (!names) return damaged(names.error());
  if (!types) return damaged(types.error());
  if (names->size() != types->size()) return damaged("columns and column_types differ in length");
  for (std::size_t i = 0; i < names->size(); ++i) {
    const auto type = column_type_named((*types)[i]);
    if (!type) return damaged(fmt::format("column '{}' is of an unknown type", (*names)[i]));
    columns.push_back({(*names)[i], *type});
    auto reader = open_column(group, columns.back());
    if (!reader) return damaged(reader.error());
    if (i == 0) rows = reader->rows();
    if (reader->rows() != rows) return damaged("its columns differ in length");
    readers.push_back(std::move(*reader));
  }
  return {};
}

// An array of uint8 that says that it is an image has the shape of one.
Outcome ResultFileReader::State::load_arrays() {
  const auto names = group.text_attributes("arrays");
  if (!names) return damaged(names.error());
  for (const auto& name : *names) {
    auto array = group.open_array(name);
    if (!array) return damaged(fmt::format("array '{}': {}", name, array.error()));
    const auto& shape = array->shape();
    if (!elements_of(shape)) return damaged(fmt::format("array '{}' is too large or empty", name));
    const auto found = array->attribute(kClassAttribute);
    if (!found) return damaged(fmt::format("array '{}': {}", name, found.error()));
    const auto* class_text = *found ? std::get_if<std::string>(&**found) : nullptr;
    const bool is_picture = class_text != nullptr && *class_text == kImageClass;
    const bool has_pixels = array->type() == ElementType::kUint8 &&
                            (shape.size() == 2 || (shape.size() == 3 && shape[2] == 3));
    if (is_picture && !has_pixels)
      return damaged(fmt::format("picture '{}' has no pixels of 8 bits", name));
    arrays.push_back({name, array->type(), shape, is_picture});
    array_readers.push_back(std::move(*array));
  }
  const auto hash = group.attribute(kXdmfHashAttribute);
  if (!hash) return damaged(hash.error());
  const auto* const text = *hash ? std::get_if<std::string>(&**hash) : nullptr;
  if (text != nullptr) xdmf_hash = *text;
  return {};
}

ResultFileReader::ResultFileReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
ResultFileReader::ResultFileReader(ResultFileReader&&) noexcept = default;
ResultFileReader& ResultFileReader::operator=(ResultFileReader&&) noexcept = default;
ResultFileReader::~ResultFileReader() = default;

std::expected<ResultFileReader, std::string> ResultFileReader::open(
    const std::filesystem::path& directory) {
  return open_file(directory / kResultFileName);
}

std::expected<ResultFileReader, std::string> ResultFileReader::open_file(
    const std::filesystem::path& path) {
  if (const auto problem = problem_with_file(path))
    return std::unexpected(fmt::format("{}: {}", path.string(), *problem));
  auto state = std::make_unique<State>();
  state->path = path;
  if (auto done = state->load(); !done) return std::unexpected(done.error());
  return ResultFileReader(std::move(state));
}

const std::filesystem::path& ResultFileReader::path() const {
  return state_->path;
}
const std::vector<NamedValue>& ResultFileReader::attributes() const {
  return state_->attributes;
}
const std::vector<NamedValue>& ResultFileReader::scalars() const {
  return state_->scalars;
}
const std::vector<ResultColumn>& ResultFileReader::columns() const {
  return state_->columns;
}
std::uint64_t ResultFileReader::rows() const {
  return state_->rows;
}

const std::vector<ResultArray>& ResultFileReader::arrays() const {
  return state_->arrays;
}

const std::string& ResultFileReader::xdmf_hash() const {
  return state_->xdmf_hash;
}

Outcome ResultFileReader::verify() const {
  for (std::size_t i = 0; i < state_->readers.size(); ++i) {
    const auto& reader = state_->readers[i];
    auto done = verify_hash(reader.values);
    if (done && reader.offsets) done = verify_hash(*reader.offsets);
    if (done && reader.offsets) done = verify_offsets(reader);
    if (!done)
      return state_->damaged(fmt::format("column '{}': {}", state_->columns[i].name, done.error()));
  }
  for (std::size_t i = 0; i < state_->arrays.size(); ++i)
    if (const auto done = verify_hash(state_->array_readers[i]); !done)
      return state_->damaged(fmt::format("array '{}': {}", state_->arrays[i].name, done.error()));
  return {};
}

Outcome ResultFileReader::read_array_row(std::size_t array, std::uint64_t row,
                                         std::vector<std::byte>& elements) const {
  const auto& reader = state_->array_readers[array];
  std::vector<std::uint64_t> start(reader.shape().size(), 0);
  std::vector<std::uint64_t> extent = reader.shape();
  elements.resize(*elements_of(extent) / extent[0] * hdf5::element_bytes(reader.type()));
  start[0] = row;
  extent[0] = 1;
  if (const auto done = reader.read(start, extent, elements); !done)
    return state_->damaged(fmt::format("array '{}': {}", state_->arrays[array].name, done.error()));
  return {};
}

// Gives each column of `rows` the container of its type, keeping those that have it with their
// memory.
static void shape(const std::vector<ResultColumn>& columns, ResultRows& rows) {
  rows.columns.resize(columns.size());
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (rows.columns[i].index() == static_cast<std::size_t>(columns[i].type)) continue;
    switch (columns[i].type) {
      case ColumnType::kFloat64:
        rows.columns[i] = std::vector<double>();
        break;
      case ColumnType::kInt64:
        rows.columns[i] = std::vector<std::int64_t>();
        break;
      case ColumnType::kUint64:
        rows.columns[i] = std::vector<std::uint64_t>();
        break;
      case ColumnType::kText:
        rows.columns[i] = TextRows();
        break;
    }
  }
}

Outcome ResultFileReader::read(std::uint64_t first_row, std::size_t rows_max,
                               ResultRows& rows) const {
  REGROUP_CHECK(first_row <= state_->rows, "rows are read inside the table");
  REGROUP_CHECK(rows_max > 0, "at least one row is asked for");
  shape(state_->columns, rows);
  rows.rows = static_cast<std::size_t>(std::min<std::uint64_t>(rows_max, state_->rows - first_row));
  const auto failed = [&](std::size_t i, const std::string& problem) {
    return state_->damaged(fmt::format("column '{}': {}", state_->columns[i].name, problem));
  };
  // Offsets first: they decide how many rows fit.
  for (std::size_t i = 0; i < rows.columns.size(); ++i) {
    auto* texts = std::get_if<TextRows>(&rows.columns[i]);
    if (texts == nullptr) continue;
    const auto fitting = read_offsets(state_->readers[i], first_row, rows.rows, texts->offsets);
    if (!fitting) return failed(i, fitting.error());
    rows.rows = *fitting;
  }
  for (std::size_t i = 0; i < rows.columns.size(); ++i) {
    const auto& reader = state_->readers[i];
    auto done = std::visit(
        [&](auto& values) -> hdf5::Expected<void> {
          if constexpr (std::is_same_v<std::remove_cvref_t<decltype(values)>, TextRows>)
            return read_texts(reader, rows.rows, values);
          else
            return read_numbers(reader.values, first_row, rows.rows, values);
        },
        rows.columns[i]);
    if (!done) return failed(i, done.error());
  }
  return {};
}

}  // namespace regroup
