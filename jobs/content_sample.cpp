#include "jobs/content_sample.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>

#include <xxhash.h>

#include "jobs/input_io.hpp"

namespace regroup {
namespace {

constexpr std::uint64_t kBlockBytes = SampleLimits::block_bytes;

// Nothing when all of it was read; the error as of sample_content.
std::expected<void, int> read_whole(int fd, std::span<char> into, std::uint64_t at) {
  while (!into.empty()) {
    const ssize_t got = read_input(fd, into.data(), into.size(), at);
    if (got <= 0) return std::unexpected(got < 0 ? errno : 0);
    into = into.subspan(static_cast<std::size_t>(got));
    at += static_cast<std::uint64_t>(got);
  }
  return {};
}

// Where block i of `blocks` begins: the first at 0, the last so that it ends with the file.
std::uint64_t block_start(std::uint64_t i, std::uint64_t blocks, std::uint64_t bytes) {
  if (bytes <= blocks * kBlockBytes) return i * kBlockBytes;
  if (blocks == 1) return 0;
  const std::uint64_t last = bytes - kBlockBytes;
  const std::uint64_t gaps = blocks - 1;
  return last / gaps * i + last % gaps * i / gaps;  // last * i / gaps, without its overflow
}

}  // namespace

std::uint8_t blocks_to_sample(std::uint64_t file, std::uint64_t files) {
  constexpr std::uint64_t all = SampleLimits::blocks_max;
  if (files <= all)
    return static_cast<std::uint8_t>(
        std::min<std::uint64_t>(all / files, SampleLimits::blocks_of_file_max));
  return (file + 1) * all / files > file * all / files ? 1 : 0;
}

std::expected<ContentSample, int> sample_content(int fd, std::uint64_t bytes, std::uint8_t blocks) {
  ContentSample sample{.blocks = blocks};
  std::array<char, kBlockBytes> block;
  for (std::uint64_t i = 0; i < blocks; ++i) {
    const std::uint64_t at = block_start(i, blocks, bytes);
    if (at >= bytes) break;
    const std::span<char> part = std::span(block).first(std::min(kBlockBytes, bytes - at));
    if (const auto read = read_whole(fd, part, at); !read) return std::unexpected(read.error());
    sample.hash = XXH3_64bits_withSeed(part.data(), part.size(), sample.hash);
  }
  return sample;
}

}  // namespace regroup
