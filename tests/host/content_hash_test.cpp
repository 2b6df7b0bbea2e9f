#include "runtime/host/content_hash.hpp"

#include <string_view>

#include <gtest/gtest.h>

namespace regroup {
namespace {

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

TEST(ContentHash, IsWhatXxh128sumPrints) {
  ContentHasher hasher;
  EXPECT_EQ(hasher.hex(), "99aa06d3014798d86001c324468d497f");

  hasher.update(bytes("regroup"));

  EXPECT_EQ(hasher.hex(), "c1059ed68e29d2a7b6183a5f3277c794");
}

TEST(ContentHash, OfWhatIsAllThereIsTheSame) {
  EXPECT_EQ(content_hash("regroup"), "c1059ed68e29d2a7b6183a5f3277c794");
  EXPECT_EQ(content_hash(bytes("regroup")), "c1059ed68e29d2a7b6183a5f3277c794");
}

TEST(ContentHash, DoesNotDependOnThePieces) {
  ContentHasher whole;
  whole.update(bytes("one two three"));
  ContentHasher pieces;
  pieces.update(bytes("one"));
  pieces.update({});
  pieces.update(bytes(" two three"));

  EXPECT_EQ(whole.hex(), pieces.hex());
}

}  // namespace
}  // namespace regroup
