#include "runtime/host/png_wrapper.hpp"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/host/scratch.hpp"
#include "tests/png_file.hpp"

namespace regroup {
namespace {

using namespace std::string_view_literals;
using test::png_chunk;
using test::png_file;
using test::ScratchDirectory;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

using Ending = PngReader::Ending;

Picture noise(std::uint32_t width, std::uint32_t height, PixelFormat format) {
  Picture picture{.name = "noise", .width = width, .height = height, .format = format};
  std::mt19937 random(width);
  picture.pixels.resize(height * picture.row_bytes());
  for (auto& sample : picture.pixels) sample = static_cast<std::uint8_t>(random());
  return picture;
}

struct Decoded {
  PngHeader header;
  std::vector<std::uint8_t> samples;
  std::string error;
};

Decoded decode(const std::filesystem::path& path, Ending ending) {
  auto reader = PngReader::open(path);
  if (!reader) return {{}, {}, reader.error()};
  Decoded decoded{reader->header(), {}, ""};
  std::vector<std::uint8_t> row(decoded.header.row_bytes());
  for (std::uint32_t y = 0; y < decoded.header.height; ++y) {
    if (const auto read = reader->read_row(row); !read) return {{}, {}, read.error()};
    decoded.samples.insert(decoded.samples.end(), row.begin(), row.end());
  }
  if (const auto finished = reader->finish(ending); !finished) decoded.error = finished.error();
  return decoded;
}

Decoded decode_bytes(const std::string& bytes, Ending ending = Ending::kTolerant) {
  const ScratchDirectory scratch;
  test::write_file(scratch.path() / "file.png", bytes);
  return decode(scratch.path() / "file.png", ending);
}

TEST(Png, PicturesComeBack) {
  for (const auto format : {PixelFormat::kGrey, PixelFormat::kRgb}) {
    for (const auto& [width, height] : {std::pair{1u, 1u}, {3u, 2u}, {257u, 130u}}) {
      const Picture picture = noise(width, height, format);

      const Decoded decoded = decode_bytes(encode_png(picture).value(), Ending::kStrict);

      EXPECT_EQ(decoded.error, "");
      const auto channels = static_cast<std::uint32_t>(channels_of(format));
      EXPECT_EQ(decoded.header, (PngHeader{width, height, channels, 8}));
      EXPECT_EQ(decoded.samples, picture.pixels);
    }
  }
}

TEST(Png, BytesDependOnThePixelsAlone) {
  const Picture picture = noise(100, 50, PixelFormat::kRgb);
  Picture other = picture;
  other.pixels[77] ^= 1;

  EXPECT_EQ(encode_png(picture), encode_png(picture));
  EXPECT_NE(encode_png(picture), encode_png(other));
  EXPECT_THAT(encode_png(picture).value(), Not(HasSubstr("tIME")));
}

TEST(Png, SamplesOf16BitsComeInTheMachinesOrder) {
  const Decoded decoded =
      decode_bytes(png_file({.width = 2, .height = 1, .bits = 16}, "\x12\x34\xff\xfe"));

  EXPECT_EQ(decoded.header, (PngHeader{2, 1, 1, 16}));
  EXPECT_THAT(decoded.samples, ElementsAre(0x34, 0x12, 0xfe, 0xff));
}

TEST(Png, OtherKindsAreReadAsGreyOrRgbOf8Bits) {
  const Decoded bits = decode_bytes(png_file({.width = 4, .height = 1, .bits = 1}, "\xa0"));
  EXPECT_EQ(bits.header, (PngHeader{4, 1, 1, 8}));
  EXPECT_THAT(bits.samples, ElementsAre(255, 0, 255, 0));

  const Decoded palette = decode_bytes(
      png_file({.width = 2, .height = 1, .colour_type = 3}, "\1\0"sv, png_chunk("PLTE", "abcdef")));
  EXPECT_EQ(palette.header, (PngHeader{2, 1, 3, 8}));
  EXPECT_THAT(palette.samples, ElementsAre('d', 'e', 'f', 'a', 'b', 'c'));

  const Decoded alpha =
      decode_bytes(png_file({.width = 1, .height = 2, .colour_type = 6}, "abc\1def\2"));
  EXPECT_EQ(alpha.header, (PngHeader{1, 2, 3, 8}));
  EXPECT_THAT(alpha.samples, ElementsAre('a', 'b', 'c', 'd', 'e', 'f'));
}

TEST(Png, WhatIsNoneIsRefusedInOneLine) {
  const auto refused = [](const std::string& bytes, const char* why) {
    EXPECT_THAT(decode_bytes(bytes).error,
                AllOf(HasSubstr("file.png: "), HasSubstr(why), Not(HasSubstr("\n"))));
  };
  refused("", "truncated");
  refused("this is a text, and no picture", "Not a PNG file");
  refused(png_file({.width = 8, .height = 8, .interlace = 1}, std::string(64, 'x')), "interlaced");
  refused(png_file({.width = 0, .height = 1}, "x"), "Invalid");
  refused(png_file({.width = 2, .height = 2}, "ab"), "Not enough image data");
  EXPECT_THAT(decode("none/file.png", Ending::kTolerant).error, HasSubstr("none/file.png"));
}

TEST(Png, NoTruncatedFilePasses) {
  const std::string bytes = encode_png(noise(9, 7, PixelFormat::kRgb)).value();
  for (std::size_t length = 0; length < bytes.size(); ++length)
    EXPECT_NE(decode_bytes(bytes.substr(0, length)).error, "") << length << " bytes";
}

TEST(Png, NoFlippedBitGoesUnnoticed) {
  const std::string bytes = encode_png(noise(5, 4, PixelFormat::kRgb)).value();
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string damaged = bytes;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ 1 << bit % 8);
    EXPECT_NE(decode_bytes(damaged, Ending::kStrict).error, "") << "bit " << bit;
  }
  EXPECT_THAT(decode_bytes(bytes + "x", Ending::kStrict).error, HasSubstr("more bytes follow"));
  EXPECT_EQ(decode_bytes(bytes + "x", Ending::kTolerant).error, "");
}

TEST(PngDeathTest, APictureHasThePixelsOfItsSize) {
  Picture picture = noise(4, 4, PixelFormat::kGrey);
  picture.height = 5;
  EXPECT_DEATH(static_cast<void>(encode_png(picture)), "the pixels that its size says");
}

}  // namespace
}  // namespace regroup
