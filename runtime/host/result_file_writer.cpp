#include "runtime/host/result_file_writer.hpp"

#include <algorithm>
#include <functional>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "runtime/host/content_hash.hpp"
#include "runtime/host/field_attributes.hpp"
#include "runtime/host/hdf5_wrapper.hpp"
#include "runtime/host/png_wrapper.hpp"
#include "runtime/host/result_file_format.hpp"
#include "runtime/host/result_file_reader.hpp"
#include "runtime/host/xdmf.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

using namespace result_format;
using hdf5::ElementType;
using Outcome = std::expected<void, std::string>;

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_name(std::string_view name) {
  if (name.empty() || name.size() > ResultLimits::name_bytes_max || !is_alphanumeric(name[0]))
    return false;
  return std::ranges::all_of(
      name, [](char c) { return is_alphanumeric(c) || c == '_' || c == '-' || c == '.'; });
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

  bool uses_dataset(std::string_view name) const {
    if (!offsets) return name == column.name;
    return name == bytes_name(column.name) || name == offset_name(column.name);
  }
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

// What is wrong with adding an array to those present, if anything.
std::optional<std::string> problem_with(const ResultArray& added,
                                        const std::vector<ResultArray>& present) {
  if (!is_name(added.name))
    return fmt::format(
        "'{}' is no name for an array; use up to {} letters, digits, '_', '-' and '.'", added.name,
        ResultLimits::name_bytes_max);
  if (std::ranges::find(present, added.name, &ResultArray::name) != present.end())
    return fmt::format("the name '{}' is taken; use another", added.name);
  if (present.size() == ResultLimits::arrays_max)
    return fmt::format("more than {} arrays; make larger ones", ResultLimits::arrays_max);
  if (added.shape.empty() || added.shape.size() > 3 || !elements_of(added.shape))
    return fmt::format("array '{}' has not 1 to 3 dimensions and 1 to {} elements", added.name,
                       ResultLimits::array_elements_max);
  return std::nullopt;
}

template <class Named>
std::vector<std::string> names_of(const std::vector<Named>& all) {
  std::vector<std::string> names;
  for (const auto& named : all) names.push_back(named.name);
  return names;
}

// As the HDF5 Image and Palette Specification, version 1.2, has them.
hdf5::Expected<void> put_image_attributes(hdf5::Array& array, PixelFormat format) {
  const bool grey = format == PixelFormat::kGrey;
  auto done = array.put_terminated_text(kClassAttribute, std::string(kImageClass));
  if (done) done = array.put_terminated_text("IMAGE_VERSION", "1.2");
  if (done)
    done =
        array.put_terminated_text("IMAGE_SUBCLASS", grey ? "IMAGE_GRAYSCALE" : "IMAGE_TRUECOLOR");
  if (done && !grey) done = array.put_terminated_text("INTERLACE_MODE", "INTERLACE_PIXEL");
  if (done) done = array.put_terminated_text("DISPLAY_ORIGIN", "UL");
  return done;
}

}  // namespace

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

  // Adds to `values`, which are the attributes or the scalars.
  Outcome add(std::vector<NamedValue>& values, std::span<const std::string_view> reserved,
              NamedValue added);
  Outcome open();
  Outcome append_block(std::span<const ColumnValues> values, std::size_t first, std::size_t count);
  Outcome append_text_row(std::span<const ColumnValues> values, std::size_t row);
  using PutAttributes = std::function<hdf5::Expected<void>(hdf5::Array&)>;
  Outcome write_array(const ResultArray& array, std::span<const std::byte> elements,
                      const PutAttributes& put_attributes);
  Outcome write_rest();
  Outcome write_names();
  Outcome close_and_sync();
  std::string describe_fields() const;
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
  std::vector<ResultArray> arrays;
  std::vector<GridField> fields;  // that some of them are
  double time = 0;
  struct BesideFile {
    std::string name;
    std::string bytes;
  };
  std::vector<BesideFile> beside;  // the files of pictures, and result.xdmf
  std::optional<std::string> error;
  FileDigest digest;
  bool published = false;
};

Outcome ResultFileWriter::State::add(std::vector<NamedValue>& values,
                                     std::span<const std::string_view> reserved, NamedValue added) {
  if (error) return std::unexpected(*error);
  if (const auto problem = problem_with(added, values, reserved)) return refuse(*problem);
  values.push_back(std::move(added));
  return {};
}

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
        [&](const auto& span) { return std::as_bytes(span.subspan(first, count)); }, values[i]);
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

// `put_attributes`: those that its kind has.
Outcome ResultFileWriter::State::write_array(const ResultArray& array,
                                             std::span<const std::byte> elements,
                                             const PutAttributes& put_attributes) {
  if (error) return std::unexpected(*error);
  if (const auto problem = problem_with(array, arrays)) return refuse(*problem);
  for (const auto& column : columns)
    if (column.uses_dataset(array.name))
      return refuse(fmt::format("the name '{}' is taken by a column; use another", array.name));
  const std::uint64_t bytes = *elements_of(array.shape) * hdf5::element_bytes(array.type);
  REGROUP_CHECK(elements.size() == bytes, "an array has the elements that its shape says");
  auto created = group.create_array(array.name, array.type, array.shape);
  hdf5::Expected<void> done;
  if (!created) done = std::unexpected(created.error());
  if (done) done = created->write(elements);
  if (done) done = put_attributes(*created);
  ContentHasher hasher;
  hasher.update(elements);
  if (done) done = created->put_attribute(kHashAttribute, hasher.hex());
  if (done) done = created->close();
  if (!done) return fail_writing(fmt::format("array '{}'", array.name), done.error());
  arrays.push_back(array);
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
    column_types.emplace_back(kColumnTypeNames[static_cast<std::size_t>(column.column.type)]);
  }
  auto done = root.put_attribute("format", std::string(kFormat));
  if (done)
    done = root.put_attribute("format_version",
                              arrays.empty() ? kFormatVersionWithoutArrays : kFormatVersion);
  for (const auto& [name, value] : attributes)
    if (done) done = root.put_attribute(name, value);
  if (done && !columns.empty()) done = group.put_attribute("columns", column_names);
  if (done && !columns.empty()) done = group.put_attribute("column_types", column_types);
  if (done && !scalars.empty()) done = group.put_attribute("scalars", names_of(scalars));
  for (const auto& [name, value] : scalars)
    if (done) done = group.put_attribute(name, value);
  if (done && !arrays.empty()) done = group.put_attribute("arrays", names_of(arrays));
  if (done && !fields.empty()) {
    std::string xdmf = describe_fields();
    done = group.put_attribute(kXdmfHashAttribute, content_hash(xdmf));
    beside.push_back({std::string(kResultXdmfName), std::move(xdmf)});
  }
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

std::string ResultFileWriter::State::describe_fields() const {
  std::vector<XdmfField> described;
  for (const GridField& field : fields)
    described.push_back({fmt::format("{}:/{}/{}", kResultFileName, kGroup, field.name),
                         ElementType::kFloat64, &field});
  return xdmf_text(described, fmt::format("{}", time));
}

Outcome ResultFileWriter::State::verify_and_publish() {
  {
    const auto reader = ResultFileReader::open_file(temporary_path);
    if (!reader) return fail_writing("a file that reads back", reader.error());
    if (const auto read_back = reader->verify(); !read_back)
      return fail_writing("a file that reads back", read_back.error());
  }
  auto read = digest_of_file(temporary_path, file_system);
  if (!read) return fail_writing("a file that reads back", read.error());
  digest = std::move(*read);
  // The others go first: with the result file, all is there.
  for (const auto& [name, bytes] : beside)
    if (auto done = replace_file(file_system, directory / name, bytes); !done)
      return fail(done.error() + "; make room or repair the directory, then resume the run");
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
  return state_->add(state_->attributes, kReservedAttributes, {std::move(name), std::move(value)});
}

Outcome ResultFileWriter::scalar(std::string name, ResultValue value) {
  return state_->add(state_->scalars, kReservedScalars, {std::move(name), std::move(value)});
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
    for (const auto& array : state_->arrays)
      if (writer.uses_dataset(array.name))
        return state_->refuse(fmt::format(
            "column '{}' needs a dataset name that an array has; rename one", column.name));
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

Outcome ResultFileWriter::array(const ResultArray& array, std::span<const std::byte> elements) {
  REGROUP_CHECK(!array.is_picture, "a picture has a call of its own");
  return state_->write_array(array, elements, [](auto&) { return hdf5::Expected<void>(); });
}

Outcome ResultFileWriter::field(const GridField& field, double time,
                                std::span<const double> numbers) {
  REGROUP_CHECK(has_mesh(field) && field.spacing.size() == field.shape.size() &&
                    field.origin.size() == field.shape.size(),
                "a field has 2 or 3 dimensions, and as many spacings and origins");
  auto done = state_->write_array({field.name, ElementType::kFloat64, field.shape},
                                  std::as_bytes(numbers), [&](hdf5::Array& array) {
                                    auto put = put_field(array, field);
                                    return put ? array.put_attribute("time", time) : put;
                                  });
  if (!done) return done;
  state_->fields.push_back(field);
  state_->time = time;
  return {};
}

Outcome ResultFileWriter::picture(const Picture& picture) {
  if (state_->error) return std::unexpected(*state_->error);
  if (picture.width == 0 || picture.height == 0 ||
      picture.row_bytes() > Picture::kBytesMax / picture.height)
    return state_->refuse(
        fmt::format("picture '{}' of {} by {} pixels is empty or has more than {} "
                    "MiB; make one of another size",
                    picture.name, picture.width, picture.height, Picture::kBytesMax >> 20));
  ResultArray array{.name = picture.name,
                    .type = ElementType::kUint8,
                    .shape = {picture.height, picture.width},
                    .is_picture = true};
  if (picture.format == PixelFormat::kRgb) array.shape.push_back(channels_of(picture.format));
  if (auto done = state_->write_array(
          array, std::as_bytes(std::span(picture.pixels)),
          [&](hdf5::Array& pixels) { return put_image_attributes(pixels, picture.format); });
      !done)
    return done;
  auto encoded = encode_png(picture);
  if (!encoded)
    return state_->refuse(
        fmt::format("picture '{}' has no PNG: {}", picture.name, encoded.error()));
  state_->beside.push_back({picture_file_name(picture.name), std::move(*encoded)});
  return {};
}

Outcome ResultFileWriter::finish() {
  if (state_->error) return std::unexpected(*state_->error);
  REGROUP_CHECK(!state_->published, "a result is finished once");
  if (auto done = state_->write_rest(); !done) return done;
  if (auto done = state_->write_names(); !done) return done;
  if (auto done = state_->close_and_sync(); !done) return done;
  return state_->verify_and_publish();
}

const FileDigest& ResultFileWriter::digest() const {
  REGROUP_CHECK(state_->published, "a finished file has a digest");
  return state_->digest;
}

}  // namespace regroup
