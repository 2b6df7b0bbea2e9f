// PNG files made by hand, after the standard (ISO/IEC 15948), of kinds that Regroup reads and never
// writes. Rows are stored in deflate's uncompressed blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace regroup::test {

struct PngKind {
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  std::uint8_t bits = 8;
  std::uint8_t colour_type = 0;  // 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGB and alpha
  std::uint8_t interlace = 0;
};

inline std::string big_endian(std::uint32_t number) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(number >> shift);
  return bytes;
}

inline std::string png_chunk(std::string_view type, std::string_view data) {
  const std::string body = std::string(type) + std::string(data);
  std::uint32_t crc = ~0u;
  for (const char c : body) {
    crc ^= static_cast<std::uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
  }
  return big_endian(static_cast<std::uint32_t>(data.size())) + body + big_endian(~crc);
}

// `rows`: samples as the file has them, row after row. `before`: chunks before the pixels.
inline std::string png_file(const PngKind& kind, std::string_view rows,
                            const std::string& before = "") {
  std::string filtered;
  for (std::size_t y = 0; y < kind.height; ++y) {
    const std::size_t row_bytes = rows.size() / kind.height;
    filtered += '\0';  // no filter
    filtered += rows.substr(y * row_bytes, row_bytes);
  }
  std::uint32_t a = 1;
  std::uint32_t b = 0;
  for (const char c : filtered) {
    a = (a + static_cast<std::uint8_t>(c)) % 65'521;
    b = (b + a) % 65'521;
  }
  std::string zlib = "\x78\x01";
  for (std::size_t at = 0; at < filtered.size(); at += 65'535) {
    const std::string block = filtered.substr(at, 65'535);
    const auto length = static_cast<std::uint16_t>(block.size());
    zlib += at + block.size() == filtered.size() ? '\1' : '\0';
    for (const std::uint16_t number : {length, static_cast<std::uint16_t>(~length)}) {
      zlib += static_cast<char>(number & 0xff);
      zlib += static_cast<char>(number >> 8);
    }
    zlib += block;
  }
  zlib += big_endian(b << 16 | a);
  std::string header = big_endian(kind.width) + big_endian(kind.height);
  header += static_cast<char>(kind.bits);
  header += static_cast<char>(kind.colour_type);
  header += std::string(2, '\0');
  header += static_cast<char>(kind.interlace);
  return "\x89PNG\r\n\x1a\n" + png_chunk("IHDR", header) + before + png_chunk("IDAT", zlib) +
         png_chunk("IEND", "");
}

}  // namespace regroup::test
