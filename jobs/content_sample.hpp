// A sample of a file's content: enough to tell, when another rank opens a file of the same name and
// size, whether it is the same file. The coordinator takes it and sends it along; every rank takes
// it again. It hashes some blocks of a file, so it notices another file, most old copies and holes
// left by an unfinished copy, but not a change between the blocks. What sampling reads in all is
// bounded, however many and however large the files are. Any thread may call these functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>

namespace regroup {

struct SampleLimits {
  static constexpr std::size_t block_bytes = 16 << 10;
  static constexpr std::uint32_t blocks_of_file_max = 8;
  static constexpr std::uint64_t blocks_max = 16'384;  // of all files together: 256 MiB
};

struct ContentSample {
  std::uint8_t blocks = 0;  // 0: not sampled, fits any content
  std::uint64_t hash = 0;

  friend bool operator==(const ContentSample&, const ContentSample&) = default;
};

// How many blocks of the file at that place among so many are sampled. Beyond blocks_max files it
// is one block of some of them, spread evenly over the list.
std::uint8_t blocks_to_sample(std::uint64_t file, std::uint64_t files);

// Samples the first `bytes` bytes of an open file: all of it where the blocks suffice, else the
// first block, the last, and those evenly between. The error is an errno, or 0 where the file ends
// before `bytes`.
std::expected<ContentSample, int> sample_content(int fd, std::uint64_t bytes, std::uint8_t blocks);

}  // namespace regroup
