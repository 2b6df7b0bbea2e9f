// Writer and Reader: what was put is what is got, byte for byte, and no input makes a Reader run
// past its end or allow for more elements than the bytes can hold.
#include "runtime/protocol/wire.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace regroup {
namespace {

std::string hex(std::span<const std::byte> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : bytes) {
    text += kDigits[std::to_integer<unsigned>(byte) >> 4];
    text += kDigits[std::to_integer<unsigned>(byte) & 15];
  }
  return text;
}

TEST(Wire, IsLittleEndianWithoutPadding) {
  Buffer buffer;
  Writer writer(buffer);

  writer.put(std::uint8_t{0xab});
  writer.put(std::uint32_t{0x01020304});
  writer.put(ShardId{0x1122334455667788});
  writer.put(ShardRange{ShardId{1}, 2});
  writer.put_string("hi");
  writer.put(1.0);

  EXPECT_EQ(hex(buffer.view()),
            "ab"
            "04030201"
            "8877665544332211"
            "0100000000000000"
            "0200000000000000"
            "020000006869"
            "000000000000f03f");
}

TEST(Wire, VarintsTakeSevenBitsAByte) {
  for (int bits = 0; bits <= 64; ++bits) {
    for (const std::uint64_t below : {0u, 1u}) {
      const std::uint64_t value = (bits == 64 ? 0 : std::uint64_t{1} << bits) - below;
      Buffer buffer;
      Writer(buffer).put_varint(value);

      Reader reader(buffer.view());
      EXPECT_EQ(reader.get_varint(), value);
      EXPECT_TRUE(reader.complete());
      const auto used = std::max(1, static_cast<int>(std::bit_width(value)));
      EXPECT_EQ(buffer.size(), static_cast<std::size_t>(used + 6) / 7) << value;
      for (std::size_t length = 0; length < buffer.size(); ++length) {
        Reader cut(buffer.view().first(length));
        EXPECT_EQ(cut.get_varint(), 0u);
        EXPECT_TRUE(cut.failed());
      }
    }
  }
}

TEST(Wire, VarintsOfMoreThan64BitsFail) {
  Buffer too_large(std::vector<std::byte>(9, std::byte{0x80}));
  Writer(too_large).put(std::uint8_t{2});
  Buffer endless(std::vector<std::byte>(20, std::byte{0x80}));

  for (const Buffer* bytes : {&too_large, &endless}) {
    Reader reader(bytes->view());
    EXPECT_EQ(reader.get_varint(), 0u);
    EXPECT_TRUE(reader.failed());
  }
}

TEST(Wire, ReadsBackWhatWasPut) {
  Buffer buffer;
  Writer writer(buffer);
  const std::vector<std::byte> raw(5, std::byte{0x5a});
  writer.put(std::int64_t{std::numeric_limits<std::int64_t>::min()});
  writer.put(Attempt{7});
  writer.put(ShardRange{ShardId{3}, std::numeric_limits<std::uint64_t>::max()});
  writer.put_string(std::string("zero \0 inside", 13));
  writer.put_bytes({});
  writer.put_raw(raw);

  Reader reader(buffer.view());
  EXPECT_EQ(reader.get<std::int64_t>(), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(reader.get<Attempt>(), Attempt{7});
  EXPECT_EQ(reader.get_range(),
            (ShardRange{ShardId{3}, std::numeric_limits<std::uint64_t>::max()}));
  EXPECT_EQ(reader.get_string(), std::string_view("zero \0 inside", 13));
  EXPECT_TRUE(reader.get_bytes().empty());
  EXPECT_FALSE(reader.complete()) << "five bytes are left";
  EXPECT_EQ(reader.rest().size(), 5u);
  EXPECT_EQ(hex(reader.get_raw(5)), hex(raw));
  EXPECT_TRUE(reader.complete());
}

// Every proper prefix of a message fails, and a failed reader gives zeros from then on.
TEST(Wire, EveryTruncationFails) {
  Buffer buffer;
  Writer writer(buffer);
  writer.put(std::uint16_t{0xffff});
  writer.put_string("four");
  writer.put(ShardRange{ShardId{~0ull}, ~0ull});
  for (std::size_t length = 0; length < buffer.size(); ++length) {
    Reader reader(buffer.view().first(length));
    reader.get<std::uint16_t>();
    reader.get_string();
    reader.get_range();
    EXPECT_TRUE(reader.failed()) << length;
    EXPECT_FALSE(reader.complete()) << length;
    EXPECT_EQ(reader.get<std::uint8_t>(), 0u) << length;
    EXPECT_TRUE(reader.rest().empty()) << length;
  }
}

TEST(Wire, AFailedReaderStaysFailedAndReadsZero) {
  const std::vector<std::byte> bytes(3, std::byte{0xff});
  Reader reader(bytes);

  EXPECT_EQ(reader.get<std::uint32_t>(), 0u);
  EXPECT_TRUE(reader.failed());
  EXPECT_EQ(reader.get<std::uint8_t>(), 0u) << "though one byte would have been there";
  EXPECT_TRUE(reader.get_raw(1).empty());
  EXPECT_TRUE(reader.get_string().empty());
  EXPECT_FALSE(reader.complete());
}

TEST(Wire, ALengthBeyondTheEndFails) {
  Buffer buffer;
  Writer(buffer).put(std::numeric_limits<std::uint32_t>::max());
  Reader reader(buffer.view());
  EXPECT_TRUE(reader.get_bytes().empty());
  EXPECT_TRUE(reader.failed());
}

TEST(Wire, ACountIsHeldAgainstTheBytesLeft) {
  Buffer buffer;
  Writer writer(buffer);
  writer.put(std::uint32_t{3});
  writer.put_raw(std::vector<std::byte>(12));

  EXPECT_EQ(Reader(buffer.view()).get_count(4), 3u);
  Reader too_many(buffer.view());
  EXPECT_EQ(too_many.get_count(5), 0u);
  EXPECT_TRUE(too_many.failed());

  Buffer huge;
  Writer(huge).put(std::numeric_limits<std::uint32_t>::max());
  Reader nothing_there(huge.view());
  EXPECT_EQ(nothing_there.get_count(1), 0u);
  EXPECT_TRUE(nothing_there.failed());
}

// Random bytes read in a random pattern: never a byte more than there are.
TEST(Wire, RandomReadsNeverRunPastTheEnd) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::byte> bytes(random() % 64);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() % 5);
    Reader reader(bytes);
    std::size_t read = 0;
    for (int i = 0; i < 20; ++i) {
      const std::size_t before = reader.rest().size();
      switch (random() % 5) {
        case 0:
          reader.get<std::uint8_t>();
          break;
        case 1:
          reader.get<ShardId>();
          break;
        case 2:
          EXPECT_LE(reader.get_bytes().size(), before);
          break;
        case 3:
          EXPECT_LE(reader.get_count(1 + random() % 9), before);
          break;
        case 4:
          reader.get_raw(random() % 16);
          break;
      }
      ASSERT_LE(reader.rest().size(), before);
      read += before - reader.rest().size();
    }
    ASSERT_LE(read, bytes.size());
    ASSERT_FALSE(reader.failed() && reader.complete());
  }
}

}  // namespace
}  // namespace regroup
