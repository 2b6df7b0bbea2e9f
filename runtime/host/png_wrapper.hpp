// The one door to libpng: no other file includes its header. Pictures are written as PNG (ISO/IEC
// 15948) of three chunks, without a time or a text in it, so that the same pixels give the same
// bytes wherever libpng and zlib are the same. Files are read row by row, and never trusted. Not
// thread-safe; different objects may be used by different threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "runtime/host/file_system.hpp"
#include "runtime/host/picture.hpp"

namespace regroup {

// A PNG file of the picture; its pixels must be as many as its size says, and at least one.
std::expected<std::string, std::string> encode_png(const Picture& picture);

// What a file holds. Samples of fewer than 8 bits and palettes are read as 8 bits, and what a file
// says of transparency is left out.
struct PngHeader {
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  std::uint32_t channels = 0;  // 1: grey, 3: red, green, blue
  std::uint32_t bits = 0;      // a sample: 8 or 16

  std::size_t row_bytes() const { return std::size_t{width} * channels * (bits / 8); }
  friend bool operator==(const PngHeader&, const PngHeader&) = default;
};

// Errors are one line that begins with the path.
class PngReader {
 public:
  // Refuses what is no PNG, and interlaced ones, of which no row is whole before the last pass.
  static std::expected<PngReader, std::string> open(const std::filesystem::path& path,
                                                    FileSystem& file_system = FileSystem::real());
  PngReader(PngReader&&) noexcept;
  PngReader& operator=(PngReader&&) noexcept;
  ~PngReader();

  const PngHeader& header() const;
  std::uint64_t file_bytes() const;
  // The next row from the top, `height` times at most: row_bytes(), samples of 16 bits in the
  // machine's byte order.
  std::expected<void, std::string> read_row(std::span<std::uint8_t> row);
  // After the last row: that the file ends as it should. `kStrict` also refuses bytes behind its
  // end and all that libpng only warns of, which no file of encode_png() has.
  enum class Ending : std::uint8_t { kTolerant, kStrict };
  std::expected<void, std::string> finish(Ending ending);

 private:
  struct State;
  explicit PngReader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace regroup
