#include "runtime/host/chunk_codec.hpp"

#include <random>

#include <gtest/gtest.h>

namespace regroup {
namespace {

std::vector<std::byte> counting(std::size_t bytes) {
  std::vector<std::byte> chunk(bytes);
  for (std::size_t i = 0; i < bytes; ++i) chunk[i] = static_cast<std::byte>(i % 8 == 0 ? i / 8 : 0);
  return chunk;
}

TEST(ChunkCodec, ExpandsWhatItCompressed) {
  for (const std::size_t element_bytes : {1, 8}) {
    const auto chunk = counting(8192);
    std::vector<std::byte> stored;
    ASSERT_TRUE(compress_chunk(chunk, element_bytes, 6, stored));
    EXPECT_LT(stored.size(), chunk.size());

    std::vector<std::byte> back(chunk.size());

    ASSERT_TRUE(expand_chunk(stored, element_bytes, back));
    EXPECT_EQ(back, chunk);
  }
}

TEST(ChunkCodec, SaysWhenItDoesNotPay) {
  std::mt19937_64 random(1);
  std::vector<std::byte> chunk(4096);
  for (auto& byte : chunk) byte = static_cast<std::byte>(random());
  std::vector<std::byte> stored;
  EXPECT_FALSE(compress_chunk(chunk, 8, 9, stored));
}

TEST(ChunkCodec, RefusesAllThatIsNotExactlyOneChunk) {
  const auto chunk = counting(8192);
  std::vector<std::byte> stored;
  ASSERT_TRUE(compress_chunk(chunk, 8, 6, stored));
  std::vector<std::byte> back(chunk.size());

  std::vector<std::byte> shorter(back.size() - 8);
  EXPECT_FALSE(expand_chunk(stored, 8, shorter));
  std::vector<std::byte> longer(back.size() + 8);
  EXPECT_FALSE(expand_chunk(stored, 8, longer));
  EXPECT_FALSE(expand_chunk(std::span(stored).first(stored.size() - 1), 8, back));
  EXPECT_FALSE(expand_chunk({}, 8, back));
  stored.push_back({});
  EXPECT_FALSE(expand_chunk(stored, 8, back));
}

}  // namespace
}  // namespace regroup
