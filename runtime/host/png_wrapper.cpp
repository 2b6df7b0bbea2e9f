// libpng reports an error by a longjmp() out of the call that met it. So every call that may fail
// is made in a function of its own that sets the jump, holds nothing that has a destructor, and
// returns whether it came to its end.
#include "runtime/host/png_wrapper.hpp"

#include <array>
#include <cerrno>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <png.h>

#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

// What libpng had to say, first error and first warning.
struct Said {
  std::array<char, 160> error{};
  std::array<char, 160> warning{};
};

void keep(std::array<char, 160>& into, const char* text) {
  if (into[0] == '\0') std::snprintf(into.data(), into.size(), "%s", text);
}

extern "C" [[noreturn]] void keep_error(png_structp png, png_const_charp text) {
  keep(static_cast<Said*>(png_get_error_ptr(png))->error, text);
  png_longjmp(png, 1);
}
extern "C" void keep_warning(png_structp png, png_const_charp text) {
  keep(static_cast<Said*>(png_get_error_ptr(png))->warning, text);
}

// ---- Writing ----

struct Written {
  Said said;
  std::string bytes;
  png_structp png = nullptr;
  png_infop info = nullptr;

  ~Written() { png_destroy_write_struct(&png, &info); }
};

extern "C" void append_bytes(png_structp png, png_bytep bytes, png_size_t count) {
  static_cast<Written*>(png_get_io_ptr(png))->bytes.append(reinterpret_cast<char*>(bytes), count);
}
extern "C" void flush_nothing(png_structp) {}

bool write_all(Written& written, const Picture& picture) {
  if (setjmp(png_jmpbuf(written.png)) != 0) return false;
  png_set_IHDR(written.png, written.info, picture.width, picture.height, 8,
               picture.format == PixelFormat::kGrey ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB,
               PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(written.png, written.info);
  for (std::uint32_t y = 0; y < picture.height; ++y)
    png_write_row(written.png, picture.pixels.data() + y * picture.row_bytes());
  png_write_end(written.png, nullptr);
  return true;
}

}  // namespace

std::expected<std::string, std::string> encode_png(const Picture& picture) {
  REGROUP_CHECK(
      picture.pixels.size() == picture.height * picture.row_bytes() && !picture.pixels.empty(),
      "a picture has the pixels that its size says");
  Written written;
  written.png =
      png_create_write_struct(PNG_LIBPNG_VER_STRING, &written.said, keep_error, keep_warning);
  if (written.png != nullptr) written.info = png_create_info_struct(written.png);
  if (written.info == nullptr) return std::unexpected("libpng does not start");
  png_set_write_fn(written.png, &written, append_bytes, flush_nothing);
  if (!write_all(written, picture))
    return std::unexpected(fmt::format("{} (libpng)", written.said.error.data()));
  return std::move(written.bytes);
}

// ---- Reading ----

namespace {

struct Source {
  FileSystem& file_system;
  OpenedFile file;
  std::uint64_t at = 0;
};

extern "C" void read_bytes(png_structp png, png_bytep bytes, png_size_t count) {
  auto& source = *static_cast<Source*>(png_get_io_ptr(png));
  if (source.file.bytes - source.at < count) png_error(png, "it is truncated");
  const int problem = read_at(source.file_system, source.file.file.get(),
                              std::as_writable_bytes(std::span(bytes, count)), source.at);
  if (problem != 0) png_error(png, std::strerror(problem));
  source.at += count;
}

}  // namespace

struct PngReader::State {
  State(std::filesystem::path the_path, FileSystem& file_system)
      : path(std::move(the_path)), source{file_system, {}} {}
  ~State() { png_destroy_read_struct(&png, &info, nullptr); }

  std::unexpected<std::string> damaged() const {
    return std::unexpected(
        fmt::format("{}: {}; give a whole PNG file", path.string(),
                    said.error[0] != '\0' ? said.error.data() : "it is damaged"));
  }
  bool create();
  bool read_header();
  bool read_row(std::uint8_t* row);
  bool read_end();

  std::filesystem::path path;
  Source source;
  Said said;
  png_structp png = nullptr;
  png_infop info = nullptr;
  bool interlaced = false;
  PngHeader header;
  std::uint32_t rows_read = 0;
};

bool PngReader::State::create() {
  png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &said, keep_error, keep_warning);
  if (png != nullptr) info = png_create_info_struct(png);
  if (info == nullptr) return false;
  png_set_read_fn(png, &source, read_bytes);
  return true;
}

bool PngReader::State::read_header() {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_read_info(png, info);
  interlaced = png_get_interlace_type(png, info) != PNG_INTERLACE_NONE;
  png_set_expand(png);  // palettes and samples of fewer than 8 bits
  png_set_strip_alpha(png);
  png_set_swap(png);  // samples of 16 bits are stored with the high byte first
  png_read_update_info(png, info);
  header = {png_get_image_width(png, info), png_get_image_height(png, info),
            png_get_channels(png, info), png_get_bit_depth(png, info)};
  return true;
}

bool PngReader::State::read_row(std::uint8_t* row) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_read_row(png, row, nullptr);
  return true;
}

bool PngReader::State::read_end() {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_read_end(png, nullptr);
  return true;
}

PngReader::PngReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
PngReader::PngReader(PngReader&&) noexcept = default;
PngReader& PngReader::operator=(PngReader&&) noexcept = default;
PngReader::~PngReader() = default;

std::expected<PngReader, std::string> PngReader::open(const std::filesystem::path& path,
                                                      FileSystem& file_system) {
  auto state = std::make_unique<State>(path, file_system);
  auto file = open_regular_file(path, file_system);
  if (!file) return std::unexpected(file.error());
  state->source.file = std::move(*file);
  if (!state->create())
    return std::unexpected(fmt::format("{}: libpng does not start", path.string()));
  if (!state->read_header()) return state->damaged();
  if (state->interlaced)
    return std::unexpected(
        fmt::format("{}: it is interlaced; save it without interlacing", path.string()));
  return PngReader(std::move(state));
}

const PngHeader& PngReader::header() const {
  return state_->header;
}
std::uint64_t PngReader::file_bytes() const {
  return state_->source.file.bytes;
}

std::expected<void, std::string> PngReader::read_row(std::span<std::uint8_t> row) {
  REGROUP_CHECK(row.size() == state_->header.row_bytes(), "room for one row");
  REGROUP_CHECK(state_->rows_read < state_->header.height, "as many rows as there are");
  ++state_->rows_read;
  if (!state_->read_row(row.data())) return state_->damaged();
  return {};
}

std::expected<void, std::string> PngReader::finish(Ending ending) {
  REGROUP_CHECK(state_->rows_read == state_->header.height, "all rows were read");
  if (!state_->read_end()) return state_->damaged();
  if (ending == Ending::kTolerant) return {};
  if (state_->said.warning[0] != '\0') state_->said.error = state_->said.warning;
  if (state_->source.at != state_->source.file.bytes)
    keep(state_->said.error, "more bytes follow its end");
  if (state_->said.error[0] != '\0') return state_->damaged();
  return {};
}

}  // namespace regroup
