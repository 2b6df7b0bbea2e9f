#include "jobs/grid_input.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <string_view>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "jobs/content_sample.hpp"
#include "jobs/input_io.hpp"
#include "runtime/host/hdf5_wrapper.hpp"
#include "runtime/host/png_wrapper.hpp"

namespace regroup {
namespace {

using Outcome = std::expected<void, std::string>;

// Cells along an axis of an input: a row of them is read at once.
constexpr std::uint64_t kExtentMax = std::uint64_t{1} << 24;

constexpr std::array<std::string_view, 2> kSignatures = {"\x89PNG\r\n\x1a\n", "\x89HDF\r\n\x1a\n"};

// The file and, behind the last ":/", the dataset in it; a file of the whole name goes first.
std::pair<std::string, std::string> file_and_dataset(const std::string& name) {
  std::error_code ignored;
  const auto colon = name.rfind(":/");
  if (colon == name.npos || colon == 0 || std::filesystem::exists(name, ignored)) return {name, ""};
  return {name.substr(0, colon), name.substr(colon + 1)};
}

// The file's first bytes; fewer where it is shorter.
std::string first_bytes(const std::string& path) {
  std::string bytes(kSignatures[0].size(), '\0');
  const int fd = open_input(path.c_str());
  if (fd < 0) return "";
  const ssize_t got = read_input(fd, bytes.data(), bytes.size(), 0);
  ::close(fd);
  bytes.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return bytes;
}

// As the datasets of the file's top are named, where there is but one.
std::expected<std::string, std::string> only_dataset(const hdf5::Group& root) {
  const auto names = root.dataset_names();
  if (!names) return std::unexpected(names.error());
  if (names->size() == 1) return names->front();
  return std::unexpected(
      fmt::format("it has {} datasets at its top: name one as FILE:/DATASET", names->size()));
}

struct OpenedArray {
  hdf5::File file;
  hdf5::Array array;
};

std::expected<OpenedArray, std::string> open_array(const std::string& path, std::string& dataset) {
  auto file = hdf5::File::open_read_only(path);
  if (!file)
    return std::unexpected(fmt::format("{}: {}; give a whole HDF5 file", path, file.error()));
  auto root = file->root();
  if (!root) return std::unexpected(fmt::format("{}: {}", path, root.error()));
  if (dataset.empty()) {
    const auto found = only_dataset(*root);
    if (!found) return std::unexpected(fmt::format("{}: {}", path, found.error()));
    dataset = "/" + *found;
  }
  auto array = root->open_array(dataset);
  if (!array)
    return std::unexpected(fmt::format("{}:{}: {}; give a dataset of floating-point numbers", path,
                                       dataset, array.error()));
  return OpenedArray{std::move(*file), std::move(*array)};
}

// A row of samples as numbers from 0 to 1.
void luminance(const PngHeader& header, std::span<const std::uint8_t> row,
               std::span<double> numbers) {
  const auto sample = [&](std::size_t i) -> double {
    if (header.bits == 8) return row[i];
    std::uint16_t wide = 0;
    std::memcpy(&wide, row.data() + 2 * i, sizeof wide);
    return wide;
  };
  const double white = header.bits == 8 ? 255 : 65'535;
  for (std::size_t x = 0; x < numbers.size(); ++x) {
    numbers[x] =
        header.channels == 1
            ? sample(x) / white
            : (0.2126 * sample(3 * x) + 0.7152 * sample(3 * x + 1) + 0.0722 * sample(3 * x + 2)) /
                  white;
  }
}

}  // namespace

std::expected<GridInput, std::string> GridInput::open(const std::string& name) {
  GridInput input;
  const auto [path, dataset] = file_and_dataset(name);
  auto measured = open_inputs({&path, 1});
  if (!measured) return std::unexpected(measured.error());
  input.file_ = std::move(measured->front());
  input.dataset_ = dataset;
  input.checked_ = true;
  if (const auto done = input.measure(); !done) return std::unexpected(done.error());
  if (const auto done = input.find_range(); !done) return std::unexpected(done.error());
  return input;
}

// How large it is, and that it is of a kind that can be read.
Outcome GridInput::measure() {
  const std::string start = first_bytes(file_.path);
  if (dataset_.empty() && start == kSignatures[0]) {
    const auto png = PngReader::open(file_.path);
    if (!png) return std::unexpected(png.error());
    extents_ = {png->header().width, png->header().height, 0};
    return {};
  }
  if (start != kSignatures[1])
    return std::unexpected(file_.path + ": is neither a PNG nor an HDF5 file; give one of these");
  const auto opened = open_array(file_.path, dataset_);
  if (!opened) return std::unexpected(opened.error());
  const auto& shape = opened->array.shape();
  const bool fits = std::ranges::all_of(shape, [](auto n) { return n >= 1 && n <= kExtentMax; });
  if (opened->array.type() != ElementType::kFloat64 || shape.size() < 2 || !fits)
    return std::unexpected(
        fmt::format("{}:{}: has not 2 or 3 dimensions of floating-point numbers, with 1 to {} "
                    "along each; give a "
                    "dataset that has",
                    file_.path, dataset_, kExtentMax));
  extents_ = {shape[shape.size() - 1], shape[shape.size() - 2], shape.size() == 3 ? shape[0] : 0};
  return {};
}

Outcome GridInput::find_range() {
  constexpr double kLargest = 1e300;  // so that no step overflows
  constexpr double infinity = std::numeric_limits<double>::infinity();
  range_ = {.least = infinity, .greatest = -infinity};
  const kernels::StencilShape all{extents_[0], extents_[1], extents_[2]};
  double sum = 0;
  bool fits = true;
  const auto visit = [&](std::size_t, std::size_t, std::span<const double> numbers) {
    for (const double number : numbers) {
      range_.least = std::min(range_.least, number);
      range_.greatest = std::max(range_.greatest, number);
      sum += number;
      fits = fits && std::abs(number) <= kLargest;
    }
  };
  if (const auto done = read({}, all, visit); !done) return done;
  if (!fits)
    return std::unexpected(fmt::format(
        "{}:{}: has a number that is not finite, or larger than {:g}; give a start that is a "
        "number everywhere",
        file_.path, dataset_, kLargest));
  range_.mean = sum / (static_cast<double>(extents_[0]) * static_cast<double>(extents_[1]) *
                       static_cast<double>(all.planes()));
  return {};
}

// Once a rank.
Outcome GridInput::check_content() const {
  const auto fail = [&](const std::string& problem) {
    return std::unexpected(file_.path + ": " + problem);
  };
  const int fd = open_input(file_.path.c_str());
  if (fd < 0)
    return fail(std::string("cannot be opened (") + std::strerror(errno) +
                "); every node must see the input file until the run ends");
  struct stat status {};
  const bool as_long =
      ::fstat(fd, &status) == 0 && static_cast<std::uint64_t>(status.st_size) == file_.bytes;
  const auto found = sample_content(fd, file_.bytes, file_.sample.blocks);
  ::close(fd);
  if (!as_long || !found || *found != file_.sample)
    return fail(
        "is not what it was where the run was started; give every node the same input file and "
        "leave it as it is while a run lasts");
  checked_ = true;
  return {};
}

Outcome GridInput::read(const GridBlocks::Extents& start, const kernels::StencilShape& shape,
                        const Visit& visit) const {
  if (!checked_)
    if (auto done = check_content(); !done) return done;
  return dataset_.empty() ? read_png(start, shape, visit) : read_hdf5(start, shape, visit);
}

// Rows come one after another: those above are passed over, those below are not read, but for the
// end of a file of which the last row is asked for.
Outcome GridInput::read_png(const GridBlocks::Extents& start, const kernels::StencilShape& shape,
                            const Visit& visit) const {
  auto png = PngReader::open(file_.path);
  if (!png) return std::unexpected(png.error());
  const PngHeader& header = png->header();
  if (header.width != extents_[0] || header.height != extents_[1])
    return std::unexpected(file_.path + ": has another size than it had");
  std::vector<std::uint8_t> row(header.row_bytes());
  std::vector<double> numbers(header.width);
  for (std::uint64_t y = 0; y < start[1] + shape.ny; ++y) {
    if (auto done = png->read_row(row); !done) return done;
    if (y < start[1]) continue;
    luminance(header, row, numbers);
    visit(static_cast<std::size_t>(y - start[1]), 0,
          std::span(numbers).subspan(static_cast<std::size_t>(start[0]), shape.nx));
  }
  if (start[1] + shape.ny != header.height) return {};
  return png->finish(PngReader::Ending::kTolerant);
}

Outcome GridInput::read_hdf5(const GridBlocks::Extents& start, const kernels::StencilShape& shape,
                             const Visit& visit) const {
  std::string dataset = dataset_;
  const auto opened = open_array(file_.path, dataset);
  if (!opened) return std::unexpected(opened.error());
  const bool solid = extents_[2] != 0;
  std::vector<std::uint64_t> expected = {extents_[1], extents_[0]};
  if (solid) expected.insert(expected.begin(), extents_[2]);
  if (opened->array.shape() != expected)
    return std::unexpected(file_.path + ": has another size than it had");
  std::vector<double> numbers(shape.nx);
  for (std::size_t z = 0; z < shape.planes(); ++z) {
    for (std::size_t y = 0; y < shape.ny; ++y) {
      std::vector<std::uint64_t> first = {start[1] + y, start[0]};
      std::vector<std::uint64_t> extent = {1, shape.nx};
      if (solid) first.insert(first.begin(), start[2] + z);
      if (solid) extent.insert(extent.begin(), 1);
      const auto done =
          opened->array.read(first, extent, std::as_writable_bytes(std::span(numbers)));
      if (!done)
        return std::unexpected(fmt::format("{}:{}: cannot be read: {}; give a whole HDF5 file",
                                           file_.path, dataset_, done.error()));
      visit(y, z, numbers);
    }
  }
  return {};
}

void GridInput::encode(Writer& writer) const {
  writer.put_string(file_.path);
  writer.put(file_.bytes);
  writer.put(file_.sample.blocks);
  writer.put(file_.sample.hash);
  writer.put_string(dataset_);
  for (const std::uint64_t extent : extents_) writer.put(extent);
  for (const double number : {range_.least, range_.greatest, range_.mean}) writer.put(number);
}

std::expected<GridInput, std::string> GridInput::decode(Reader& reader) {
  GridInput input;
  input.file_.path = reader.get_string();
  input.file_.bytes = reader.get<std::uint64_t>();
  input.file_.sample.blocks = reader.get<std::uint8_t>();
  input.file_.sample.hash = reader.get<std::uint64_t>();
  input.dataset_ = reader.get_string();
  for (std::uint64_t& extent : input.extents_) extent = reader.get<std::uint64_t>();
  for (double* number : {&input.range_.least, &input.range_.greatest, &input.range_.mean})
    *number = reader.get<double>();
  const auto& extents = input.extents_;
  const bool fits = extents[0] >= 1 && extents[1] >= 1 &&
                    std::ranges::max(extents) <= GridBlocks::kExtentMax &&
                    (extents[2] == 0 || !input.dataset_.empty());
  if (reader.failed() || !fits || input.file_.sample.blocks > SampleLimits::blocks_of_file_max)
    return std::unexpected("the input of a grid is damaged");
  return input;
}

}  // namespace regroup
