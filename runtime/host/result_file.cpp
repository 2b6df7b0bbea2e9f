#include "runtime/host/result_file.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <set>
#include <type_traits>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/host/content_hash.hpp"
#include "runtime/host/hdf5_wrapper.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

using hdf5::ElementType;
using Outcome = std::expected<void, std::string>;

constexpr std::string_view kFormat = "regroup-result";
constexpr std::int64_t kFormatVersion = 1;
constexpr const char* kGroup = "result";
constexpr const char* kHashAttribute = "xxh3_128";
constexpr std::array<std::string_view, 2> kReservedAttributes = {"format", "format_version"};
constexpr std::array<std::string_view, 3> kReservedScalars = {"columns", "column_types", "scalars"};

// Part of the format, since chunks shape the file's bytes.
constexpr std::uint64_t kNumberChunkRows = 65'536;    // 512 KiB
constexpr std::uint64_t kTextChunkBytes = 1'048'576;  // 1 MiB

constexpr std::size_t kReadTextBytesMax = std::size_t{4} << 20;
constexpr std::size_t kVerifyBlockBytes = std::size_t{1} << 20;

std::string bytes_name(const std::string& column) {
  return column + "_bytes";
}
std::string offset_name(const std::string& column) {
  return column + "_offset";
}

ElementType element_type(ColumnType type) {
  switch (type) {
    case ColumnType::kFloat64:
      return ElementType::kFloat64;
    case ColumnType::kInt64:
      return ElementType::kInt64;
    case ColumnType::kUint64:
      return ElementType::kUint64;
    case ColumnType::kText:
      break;
  }
  REGROUP_CHECK(false, "a text column is two datasets");
}

std::optional<ColumnType> column_type_of(std::string_view name) {
  for (const auto type :
       {ColumnType::kFloat64, ColumnType::kInt64, ColumnType::kUint64, ColumnType::kText})
    if (column_type_name(type) == name) return type;
  return std::nullopt;
}

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_name(std::string_view name) {
  if (name.empty() || name.size() > ResultLimits::name_bytes_max || !is_alphanumeric(name[0]))
    return false;
  return std::ranges::all_of(
      name, [](char c) { return is_alphanumeric(c) || c == '_' || c == '-' || c == '.'; });
}

template <class T>
std::span<const std::byte> bytes_of(std::span<const T> values) {
  return std::as_bytes(values);
}

// One dataset that grows: holds back less than a chunk, hashes what goes through. A dataset that
// never fills a chunk is stored contiguously at its exact size, so that small results are small
// files.
class DatasetStream {
 public:
  DatasetStream(std::string name, ElementType type, std::uint64_t chunk_rows, int deflate_level)
      : name_(std::move(name)),
        type_(type),
        layout_{0, chunk_rows, deflate_level},
        chunk_bytes_(chunk_rows * hdf5::element_bytes(type)) {}

  const std::string& name() const { return name_; }

  // Writes each chunk as soon as it is full.
  hdf5::Expected<void> append(hdf5::Group& group, std::span<const std::byte> bytes) {
    hasher_.update(bytes);
    while (!bytes.empty()) {
      const auto part =
          bytes.first(std::min<std::size_t>(bytes.size(), chunk_bytes_ - pending_.size()));
      pending_.insert(pending_.end(), part.begin(), part.end());
      bytes = bytes.subspan(part.size());
      if (pending_.size() < chunk_bytes_) continue;
      if (auto done = write_chunk(group); !done) return done;
    }
    return {};
  }

  // Writes what is left, then the hash.
  hdf5::Expected<void> finish(hdf5::Group& group) {
    if (auto done = write_rest(group); !done) return done;
    pending_ = {};
    if (auto done = dataset_.put_attribute(kHashAttribute, hasher_.hex()); !done) return done;
    return dataset_.close();
  }

 private:
  hdf5::Expected<void> create(hdf5::Group& group, const hdf5::Layout& layout) {
    auto dataset = group.create_dataset(name_, type_, layout);
    if (!dataset) return std::unexpected(dataset.error());
    dataset_ = std::move(*dataset);
    created_ = true;
    return {};
  }

  hdf5::Expected<void> write_chunk(hdf5::Group& group) {
    if (!created_)
      if (auto done = create(group, layout_); !done) return done;
    auto done = dataset_.append(pending_);
    pending_.clear();
    return done;
  }

  hdf5::Expected<void> write_rest(hdf5::Group& group) {
    if (created_) return pending_.empty() ? hdf5::Expected<void>() : write_chunk(group);
    const hdf5::Layout exact{pending_.size() / hdf5::element_bytes(type_), 0, 0};
    if (auto done = create(group, exact); !done) return done;
    return dataset_.write(0, pending_);
  }

  std::string name_;
  ElementType type_;
  hdf5::Layout layout_;
  std::size_t chunk_bytes_;
  std::vector<std::byte> pending_;
  ContentHasher hasher_;
  hdf5::Dataset dataset_;
  bool created_ = false;
};

// A column being written: one stream, or for texts their bytes and where each ends.
struct ColumnWriter {
  ResultColumn column;
  DatasetStream values;                  // the numbers, or the bytes of the texts
  std::optional<DatasetStream> offsets;  // texts only
  std::uint64_t text_bytes = 0;
};

ColumnWriter column_writer(const ResultColumn& column, int deflate_level) {
  if (column.type != ColumnType::kText)
    return {column,
            DatasetStream(column.name, element_type(column.type), kNumberChunkRows, deflate_level),
            std::nullopt};
  return {
      column,
      DatasetStream(bytes_name(column.name), ElementType::kUint8, kTextChunkBytes, deflate_level),
      DatasetStream(offset_name(column.name), ElementType::kUint64, kNumberChunkRows,
                    deflate_level)};
}

std::size_t length_of(const ColumnValues& values) {
  return std::visit([](const auto& span) { return span.size(); }, values);
}

// The alternatives of ColumnValues are in the order of ColumnType.
ColumnType type_of(const ColumnValues& values) {
  return static_cast<ColumnType>(values.index());
}

// What is wrong with a table of these columns, if anything.
std::optional<std::string> problem_with(const std::vector<ResultColumn>& columns) {
  if (columns.empty() || columns.size() > ResultLimits::columns_max)
    return fmt::format("a table has 1 to {} columns, not {}", ResultLimits::columns_max,
                       columns.size());
  std::set<std::string> datasets;
  for (const auto& column : columns) {
    if (!is_name(column.name))
      return fmt::format(
          "'{}' is no name for a column; use up to {} letters, digits, '_', '-' and '.'",
          column.name, ResultLimits::name_bytes_max);
    const bool text = column.type == ColumnType::kText;
    if (!datasets.insert(text ? bytes_name(column.name) : column.name).second ||
        (text && !datasets.insert(offset_name(column.name)).second))
      return fmt::format("column '{}' needs a dataset name that another column has; rename one",
                         column.name);
  }
  return std::nullopt;
}

// What is wrong with adding this attribute or scalar, if anything.
std::optional<std::string> problem_with(const NamedValue& added,
                                        const std::vector<NamedValue>& present,
                                        std::span<const std::string_view> reserved) {
  if (!is_name(added.name))
    return fmt::format(
        "'{}' is no name for a value; use up to {} letters, digits, '_', '-' and '.'", added.name,
        ResultLimits::name_bytes_max);
  const bool taken = std::ranges::find(reserved, added.name) != reserved.end() ||
                     std::ranges::find(present, added.name, &NamedValue::name) != present.end();
  if (taken) return fmt::format("the name '{}' is taken; use another", added.name);
  if (present.size() == ResultLimits::named_values_max)
    return fmt::format("more than {} named values; use a table", ResultLimits::named_values_max);
  const auto* text = std::get_if<std::string>(&added.value);
  if (text != nullptr && (text->size() > hdf5::attribute_bytes_max || text->contains('\0')))
    return fmt::format("the text of '{}' has a NUL or more than {} bytes; use a text column",
                       added.name, hdf5::attribute_bytes_max);
  return std::nullopt;
}

std::vector<std::string> names_of(const std::vector<NamedValue>& values) {
  std::vector<std::string> names;
  for (const auto& value : values) names.push_back(value.name);
  return names;
}

}  // namespace

std::string_view column_type_name(ColumnType type) {
  constexpr std::array<std::string_view, 4> names = {"float64", "int64", "uint64", "text"};
  return names[static_cast<std::size_t>(type)];
}

// ---- Writing ----

struct ResultFileWriter::State {
  State(FileSystem& the_file_system, const std::filesystem::path& the_directory,
        const ResultFileOptions& the_options)
      : file_system(the_file_system),
        directory(the_directory),
        final_path(the_directory / kResultFileName),
        temporary_path(final_path.string() + ".tmp"),
        options(the_options) {}
  ~State() {
    file = {};
    if (!published) file_system.unlink(temporary_path.c_str());
  }

  Outcome fail(std::string problem) {
    error = std::move(problem);
    return std::unexpected(*error);
  }
  Outcome fail_writing(std::string_view what, std::string_view why) {
    return fail(fmt::format(
        "{}: cannot write {}: {}; make room or repair the directory, then resume the run",
        final_path.string(), what, why));
  }
  Outcome refuse(const std::string& problem) {
    return fail(fmt::format("{}: {}", final_path.string(), problem));
  }

  Outcome open();
  Outcome append_block(std::span<const ColumnValues> values, std::size_t first, std::size_t count);
  Outcome append_text_row(std::span<const ColumnValues> values, std::size_t row);
  Outcome write_rest();
  Outcome write_names();
  Outcome close_and_sync();
  Outcome verify_and_publish();

  FileSystem& file_system;
  std::filesystem::path directory;
  std::filesystem::path final_path;
  std::filesystem::path temporary_path;
  ResultFileOptions options;

  hdf5::File file;
  hdf5::Group root;
  hdf5::Group group;
  std::vector<NamedValue> attributes;
  std::vector<NamedValue> scalars;
  std::vector<ColumnWriter> columns;
  std::uint64_t rows = 0;
  std::optional<std::string> error;
  bool published = false;
};

Outcome ResultFileWriter::State::open() {
  // A left-over of a writer that died is not written into: should that one live, it keeps its own
  // file.
  file_system.unlink(temporary_path.c_str());
  auto created = hdf5::File::create(temporary_path, file_system);
  if (!created) return fail_writing("the file", created.error());
  file = std::move(*created);
  auto opened_root = file.root();
  if (!opened_root) return fail_writing("the file", opened_root.error());
  root = std::move(*opened_root);
  auto created_group = root.create_group(kGroup);
  if (!created_group) return fail_writing("the file", created_group.error());
  group = std::move(*created_group);
  return {};
}

// Chunks must reach the file in an order that does not depend on how rows were cut into calls. So
// the texts go row by row, and only then the numbers, in blocks that end where their chunks are
// full.
Outcome ResultFileWriter::State::append_block(std::span<const ColumnValues> values,
                                              std::size_t first, std::size_t count) {
  const bool has_text =
      std::ranges::any_of(columns, [](const auto& c) { return c.offsets.has_value(); });
  for (std::size_t row = first; has_text && row < first + count; ++row)
    if (auto done = append_text_row(values, row); !done) return done;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (columns[i].offsets) continue;
    const auto bytes = std::visit(
        [&](const auto& span) { return bytes_of(span.subspan(first, count)); }, values[i]);
    if (auto done = columns[i].values.append(group, bytes); !done)
      return fail_writing(fmt::format("column '{}'", columns[i].column.name), done.error());
  }
  rows += count;
  return {};
}

Outcome ResultFileWriter::State::append_text_row(std::span<const ColumnValues> values,
                                                 std::size_t row) {
  for (std::size_t i = 0; i < columns.size(); ++i) {
    auto& column = columns[i];
    if (!column.offsets) continue;
    const std::string_view text = std::get<std::span<const std::string_view>>(values[i])[row];
    if (text.size() > ResultLimits::text_bytes_max)
      return refuse(fmt::format("a text of column '{}' has more than {} bytes; split it",
                                column.column.name, ResultLimits::text_bytes_max));
    column.text_bytes += text.size();
    auto done = column.values.append(group, std::as_bytes(std::span(text)));
    if (done) done = column.offsets->append(group, std::as_bytes(std::span(&column.text_bytes, 1)));
    if (!done) return fail_writing(fmt::format("column '{}'", column.column.name), done.error());
  }
  return {};
}

Outcome ResultFileWriter::State::write_rest() {
  for (auto& column : columns) {
    auto done = column.values.finish(group);
    if (done && column.offsets) done = column.offsets->finish(group);
    if (!done) return fail_writing(fmt::format("column '{}'", column.column.name), done.error());
  }
  return {};
}

Outcome ResultFileWriter::State::write_names() {
  std::vector<std::string> column_names;
  std::vector<std::string> column_types;
  for (const auto& column : columns) {
    column_names.push_back(column.column.name);
    column_types.emplace_back(column_type_name(column.column.type));
  }
  auto done = root.put_attribute("format", std::string(kFormat));
  if (done) done = root.put_attribute("format_version", kFormatVersion);
  for (const auto& [name, value] : attributes)
    if (done) done = root.put_attribute(name, value);
  if (done && !columns.empty()) done = group.put_attribute("columns", column_names);
  if (done && !columns.empty()) done = group.put_attribute("column_types", column_types);
  if (done && !scalars.empty()) done = group.put_attribute("scalars", names_of(scalars));
  for (const auto& [name, value] : scalars)
    if (done) done = group.put_attribute(name, value);
  if (!done) return fail_writing("the scalars", done.error());
  return {};
}

// On a full disk H5Fclose alone may return 0: so every step is checked.
Outcome ResultFileWriter::State::close_and_sync() {
  auto done = file.flush();
  if (done) done = group.close();
  if (done) done = root.close();
  if (done) done = file.close();
  return done ? done : fail_writing("the file to disk", done.error());
}

Outcome ResultFileWriter::State::verify_and_publish() {
  {
    const auto reader = ResultFileReader::open_file(temporary_path);
    if (!reader) return fail_writing("a file that reads back", reader.error());
    if (const auto read_back = reader->verify(); !read_back)
      return fail_writing("a file that reads back", read_back.error());
  }
  if (file_system.rename(temporary_path.c_str(), final_path.c_str()) != 0)
    return fail_writing("the file's name", errno_text(errno));
  published = true;
  if (auto done = sync_directory(file_system, directory); !done)
    return fail_writing("the directory", done.error());
  return {};
}

ResultFileWriter::ResultFileWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
ResultFileWriter::ResultFileWriter(ResultFileWriter&&) noexcept = default;
ResultFileWriter& ResultFileWriter::operator=(ResultFileWriter&&) noexcept = default;
ResultFileWriter::~ResultFileWriter() = default;

std::expected<ResultFileWriter, std::string> ResultFileWriter::create(
    const std::filesystem::path& directory, const ResultFileOptions& options,
    FileSystem& file_system) {
  REGROUP_CHECK(options.deflate_level >= 0 && options.deflate_level <= 9,
                "deflate has levels 0 to 9");
  auto state = std::make_unique<State>(file_system, directory, options);
  if (auto done = state->open(); !done) return std::unexpected(done.error());
  return ResultFileWriter(std::move(state));
}

Outcome ResultFileWriter::attribute(std::string name, ResultValue value) {
  if (state_->error) return std::unexpected(*state_->error);
  NamedValue added{std::move(name), std::move(value)};
  if (const auto problem = problem_with(added, state_->attributes, kReservedAttributes))
    return state_->refuse(*problem);
  state_->attributes.push_back(std::move(added));
  return {};
}

Outcome ResultFileWriter::scalar(std::string name, ResultValue value) {
  if (state_->error) return std::unexpected(*state_->error);
  NamedValue added{std::move(name), std::move(value)};
  if (const auto problem = problem_with(added, state_->scalars, kReservedScalars))
    return state_->refuse(*problem);
  state_->scalars.push_back(std::move(added));
  return {};
}

Outcome ResultFileWriter::columns(std::vector<ResultColumn> columns) {
  if (state_->error) return std::unexpected(*state_->error);
  REGROUP_CHECK(state_->columns.empty(), "a result has one table");
  if (const auto problem = problem_with(columns)) return state_->refuse(*problem);
  constexpr std::uint64_t first_offset = 0;
  for (const auto& column : columns) {
    auto writer = column_writer(column, state_->options.deflate_level);
    if (writer.offsets) {
      const auto done =
          writer.offsets->append(state_->group, std::as_bytes(std::span(&first_offset, 1)));
      REGROUP_CHECK(done.has_value(), "one offset fills no chunk");
    }
    state_->columns.push_back(std::move(writer));
  }
  return {};
}

Outcome ResultFileWriter::append_rows(std::span<const ColumnValues> values) {
  if (state_->error) return std::unexpected(*state_->error);
  REGROUP_CHECK(values.size() == state_->columns.size() && !values.empty(),
                "one span for each column");
  const std::size_t count = length_of(values[0]);
  for (std::size_t i = 0; i < values.size(); ++i) {
    REGROUP_CHECK(length_of(values[i]) == count, "columns grow by the same number of rows");
    REGROUP_CHECK(type_of(values[i]) == state_->columns[i].column.type,
                  "values of the column's type");
  }
  for (std::size_t first = 0; first < count;) {
    const std::uint64_t until_chunk_end = kNumberChunkRows - state_->rows % kNumberChunkRows;
    const std::size_t block = std::min<std::size_t>(count - first, until_chunk_end);
    if (auto done = state_->append_block(values, first, block); !done) return done;
    first += block;
  }
  return {};
}

Outcome ResultFileWriter::append_rows(std::initializer_list<ColumnValues> values) {
  return append_rows(std::span(values.begin(), values.size()));
}

Outcome ResultFileWriter::finish() {
  if (state_->error) return std::unexpected(*state_->error);
  REGROUP_CHECK(!state_->published, "a result is finished once");
  if (auto done = state_->write_rest(); !done) return done;
  if (auto done = state_->write_names(); !done) return done;
  if (auto done = state_->close_and_sync(); !done) return done;
  return state_->verify_and_publish();
}

// ---- Reading ----

namespace {

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

hdf5::Expected<void> verify_hash(const hdf5::Dataset& dataset) {
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
  if (*version_number != kFormatVersion)
    return std::unexpected(fmt::format(
        "{}: it has format version {}, this Regroup reads {}; use the Regroup that wrote it",
        path.string(), *version_number, kFormatVersion));

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
  return load_table();
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
    const auto type = column_type_of((*types)[i]);
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

Outcome ResultFileReader::verify() const {
  for (std::size_t i = 0; i < state_->readers.size(); ++i) {
    const auto& reader = state_->readers[i];
    auto done = verify_hash(reader.values);
    if (done && reader.offsets) done = verify_hash(*reader.offsets);
    if (done && reader.offsets) done = verify_offsets(reader);
    if (!done)
      return state_->damaged(fmt::format("column '{}': {}", state_->columns[i].name, done.error()));
  }
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
