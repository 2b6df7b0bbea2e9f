// A picture of a result: rows of pixels from the top down, 8 bits a channel, none of it compressed.
// Values only; png_wrapper.hpp has their PNG form, result_file_writer.hpp puts them into a result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace regroup {

enum class PixelFormat : std::uint8_t { kGrey, kRgb };

constexpr std::size_t channels_of(PixelFormat format) {
  return format == PixelFormat::kGrey ? 1 : 3;
}

struct Picture {
  static constexpr std::size_t kBytesMax = std::size_t{64} << 20;

  std::string name;  // as that of a column; its file is NAME.png
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  PixelFormat format = PixelFormat::kRgb;
  std::vector<std::uint8_t> pixels;  // height rows of width pixels; red, green, blue

  std::size_t row_bytes() const { return std::size_t{width} * channels_of(format); }
};

}  // namespace regroup
