// Frames: what was sealed opens again, and no damage gets through: every flipped bit, every
// truncation, every surplus byte, every other version is refused with its reason.
#include "runtime/protocol/frame.hpp"

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/protocol/wire.hpp"

namespace regroup {
namespace {

constexpr std::size_t kMagicOffset = 8;
constexpr std::size_t kVersionOffset = 12;

FrameHeader sample_header() {
  return {.kind = MessageKind::kResults,
          .flags = kFlagMoreFollows | kFlagVectorClock,
          .from = RankId{0x01020304},
          .epoch = Epoch{0x1112131415161718},
          .sequence = 0x2122232425262728,
          .lamport = 0x3132333435363738};
}

std::vector<std::byte> sealed(const FrameHeader& header, std::span<const std::byte> body) {
  Buffer frame;
  frame.resize(kFrameHeaderBytes);
  frame.append(body);
  seal_frame(frame, header);
  return {frame.view().begin(), frame.view().end()};
}

std::vector<std::byte> sealed_sample(std::size_t body_bytes) {
  std::vector<std::byte> body(body_bytes);
  for (std::size_t i = 0; i < body.size(); ++i) body[i] = static_cast<std::byte>(i * 7 + 1);
  return sealed(sample_header(), body);
}

FrameError error_of(std::span<const std::byte> bytes) {
  const auto frame = open_frame(bytes);
  EXPECT_FALSE(frame.has_value());
  return frame ? FrameError{} : frame.error();
}

TEST(Frame, OpensWhatWasSealed) {
  for (const std::size_t body_bytes :
       {std::size_t{0}, std::size_t{1}, std::size_t{1000}, kFrameBytesMax - kFrameHeaderBytes}) {
    const auto bytes = sealed_sample(body_bytes);
    const auto frame = open_frame(bytes);
    ASSERT_TRUE(frame.has_value()) << body_bytes;
    EXPECT_EQ(frame->header.kind, MessageKind::kResults);
    EXPECT_EQ(frame->header.flags, kFlagMoreFollows | kFlagVectorClock);
    EXPECT_EQ(frame->header.from, RankId{0x01020304});
    EXPECT_EQ(frame->header.epoch, Epoch{0x1112131415161718});
    EXPECT_EQ(frame->header.sequence, 0x2122232425262728u);
    EXPECT_EQ(frame->header.lamport, 0x3132333435363738u);
    ASSERT_EQ(frame->body.size(), body_bytes);
    EXPECT_EQ(frame->body.data(), bytes.data() + kFrameHeaderBytes) << "a view, not a copy";
  }
}

// The bytes of docs/wire-format.md, so that ranks of different builds understand each other.
TEST(Frame, HasTheDocumentedLayout) {
  const auto bytes = sealed_sample(2);
  Reader reader(bytes);
  reader.get<std::uint64_t>();  // the checksum
  EXPECT_EQ(std::memcmp(reader.get_raw(4).data(), "RGRP", 4), 0);
  EXPECT_EQ(reader.get<std::uint8_t>(), kFrameVersion);
  EXPECT_EQ(reader.get<std::uint8_t>(), static_cast<std::uint8_t>(MessageKind::kResults));
  EXPECT_EQ(reader.get<std::uint8_t>(), 3u);
  EXPECT_EQ(reader.get<std::uint8_t>(), 0u);
  EXPECT_EQ(reader.get<std::uint32_t>(), bytes.size());
  EXPECT_EQ(reader.get<std::uint32_t>(), 0x01020304u);
  EXPECT_EQ(reader.get<std::uint64_t>(), 0x1112131415161718u);
  EXPECT_EQ(reader.get<std::uint64_t>(), 0x2122232425262728u);
  EXPECT_EQ(reader.get<std::uint64_t>(), 0x3132333435363738u);
  EXPECT_EQ(reader.rest().size(), 2u);
}

// A pinned sample: if this changes, kFrameVersion must change as well.
TEST(Frame, TheChecksumIsPinned) {
  const auto bytes = sealed_sample(2);
  EXPECT_EQ(Reader(bytes).get<std::uint64_t>(), 0x17ccc6b0a90ba929u);
}

TEST(Frame, EveryFlippedBitIsRefused) {
  for (const std::size_t body_bytes : {0u, 1u, 17u, 300u}) {
    auto bytes = sealed_sample(body_bytes);
    for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
      ASSERT_FALSE(open_frame(bytes).has_value()) << "bit " << bit << " of " << body_bytes;
      bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    }
    EXPECT_TRUE(open_frame(bytes).has_value());
  }
}

TEST(Frame, EveryTruncationIsRefusedAsOne) {
  const auto bytes = sealed_sample(100);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    ASSERT_EQ(error_of(std::span(bytes).first(length)), FrameError::kTruncated) << length;
  }
}

TEST(Frame, SurplusBytesAreRefused) {
  auto bytes = sealed_sample(10);
  bytes.push_back({});
  EXPECT_EQ(error_of(bytes), FrameError::kOversized);
  EXPECT_EQ(error_of(std::vector<std::byte>(kFrameBytesMax + 1)), FrameError::kOversized);
}

TEST(Frame, ForeignBytesAreRefused) {
  auto bytes = sealed_sample(10);
  bytes[kMagicOffset] = std::byte{'X'};
  EXPECT_EQ(error_of(bytes), FrameError::kForeign);
  EXPECT_EQ(error_of(std::vector<std::byte>(kFrameHeaderBytes)), FrameError::kForeign);
}

TEST(Frame, AnotherVersionIsRefusedAsSuch) {
  auto bytes = sealed_sample(10);
  for (const int version : {0, kFrameVersion + 1, 255}) {
    bytes[kVersionOffset] = static_cast<std::byte>(version);
    EXPECT_EQ(error_of(bytes), FrameError::kVersion) << version;
  }
}

TEST(Frame, DamageIsRefusedAsSuch) {
  auto bytes = sealed_sample(10);
  bytes.back() ^= std::byte{1};
  EXPECT_EQ(error_of(bytes), FrameError::kChecksum);
  bytes.back() ^= std::byte{1};
  bytes.front() ^= std::byte{1};
  EXPECT_EQ(error_of(bytes), FrameError::kChecksum) << "the checksum itself is damaged";
}

TEST(Frame, RandomBytesNeverOpen) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::byte> bytes(random() % 200);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
    ASSERT_FALSE(open_frame(bytes).has_value());
  }
}

TEST(Frame, FramesBackToBackArePartedByTheirHeaders) {
  Buffer first;
  first.resize(kFrameHeaderBytes + 5);
  seal_frame(first, sample_header());
  Buffer second;
  second.resize(kFrameHeaderBytes);
  seal_frame(second, sample_header());
  Buffer both(first.view());
  both.append(second.view());

  ASSERT_EQ(leading_frame_bytes(both.view()), first.size());
  EXPECT_EQ(leading_frame_bytes(both.view().subspan(first.size())), second.size());
}

TEST(Frame, WhatCannotBePartedIsOneFrameThatDoesNotOpen) {
  Buffer frame;
  frame.resize(kFrameHeaderBytes + 5);
  seal_frame(frame, sample_header());

  const auto cut = frame.view().first(frame.size() - 1);
  EXPECT_EQ(leading_frame_bytes(cut), cut.size());
  EXPECT_FALSE(open_frame(cut).has_value());
  const auto stump = frame.view().first(kFrameHeaderBytes - 1);
  EXPECT_EQ(leading_frame_bytes(stump), stump.size());
  constexpr std::size_t kLengthOffset = 16;
  std::memset(frame.data() + kLengthOffset, 0, sizeof(std::uint32_t));
  EXPECT_EQ(leading_frame_bytes(frame.view()), frame.size());
}

TEST(Frame, EveryErrorHasAName) {
  for (std::size_t i = 0; i < kFrameErrors; ++i) {
    EXPECT_STRNE(describe(static_cast<FrameError>(i)), "unknown") << i;
  }
}

TEST(FrameDeathTest, SealingOutsideTheBoundsIsABrokenInvariant) {
  Buffer small;
  small.resize(kFrameHeaderBytes - 1);
  Buffer large;
  large.resize(kFrameBytesMax + 1);
  EXPECT_DEATH(seal_frame(small, sample_header()), "a frame outside its bounds");
  EXPECT_DEATH(seal_frame(large, sample_header()), "a frame outside its bounds");
}

}  // namespace
}  // namespace regroup
