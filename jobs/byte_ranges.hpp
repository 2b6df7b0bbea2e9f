// Files as the input of a job: checks that they can be read, measures them, and cuts them into
// shards of bytes. The cut depends on the files' sizes and the shard size alone, never on how many
// ranks there are, so that shard numbers and results are the same on any number of them (I8). The
// coordinator cuts once and sends the cut to all ranks; range_reader.hpp reads the pieces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <vector>

#include "jobs/content_sample.hpp"
#include "runtime/protocol/ids.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup {

// A file as it was measured: whatever is appended later is not read.
struct InputFile {
  std::string path;
  std::uint64_t bytes = 0;
  ContentSample sample = {};

  friend bool operator==(const InputFile&, const InputFile&) = default;
};

// Measures and samples each path, in the order given. The error is one line for the user: which
// path, what is wrong with it, and what to do instead. An empty file is fine, and so is a path
// given twice.
std::expected<std::vector<InputFile>, std::string> open_inputs(std::span<const std::string> paths);

// Bytes [begin, end) of one file, by its place in ByteRanges::files(). Never empty.
struct FilePiece {
  std::uint32_t file = 0;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;

  friend bool operator==(const FilePiece&, const FilePiece&) = default;
};

// A list of files cut into shards. Every byte of every file is in exactly one piece of one shard,
// in order. Immutable once made, so any number of threads may read it.
class ByteRanges {
 public:
  static constexpr std::uint64_t kShardBytesMin = 256 << 10;  // of the default, not of a choice
  static constexpr std::uint64_t kShardBytesUsual = 4 << 20;  // of large inputs
  static constexpr std::uint64_t kShardsSmallInput = 256;     // what small inputs aim at
  static constexpr std::uint64_t kShardsUsualMax = 1 << 16;   // above it shards become larger
  static constexpr std::uint64_t kShardsMax = 1 << 20;        // a chosen size may not pass it
  static constexpr std::uint64_t kTotalBytesMax = std::uint64_t{1} << 60;
  // Opening one more file within a shard weighs as much as reading this many bytes, so that a shard
  // of many small files is no slower than one of a large file.
  static constexpr std::uint64_t kFileOpenBytes = 4096;

  // The shard size for these files, in bytes.
  static std::uint64_t default_shard_bytes(std::span<const InputFile> files);

  // Cuts into shards of at most `shard_bytes` (at least 1) each. An error when that would be more
  // than kShardsMax shards, or the sizes cannot be true.
  static std::expected<ByteRanges, std::string> cut(std::vector<InputFile> files,
                                                    std::uint64_t shard_bytes);
  static std::expected<ByteRanges, std::string> cut(std::vector<InputFile> files);

  const std::vector<InputFile>& files() const { return files_; }
  std::uint64_t shard_bytes() const { return shard_bytes_; }
  std::uint64_t total_bytes() const { return total_bytes_; }
  // 0 when all files are empty.
  std::uint64_t shards() const { return starts_.size(); }
  // The pieces of one shard below shards(), in the order of the files: one to a file, at least one.
  std::vector<FilePiece> pieces(ShardId shard) const;

  void encode(Writer& out) const;
  // Bytes that encode never makes are an error; the Reader is left behind what was read.
  static std::expected<ByteRanges, std::string> decode(Reader& in);

 private:
  struct Start {
    std::uint32_t file;
    std::uint64_t offset;
  };

  ByteRanges() = default;
  std::expected<void, std::string> place_starts();

  std::vector<InputFile> files_;
  std::uint64_t shard_bytes_ = 0;
  std::uint64_t total_bytes_ = 0;
  std::vector<Start> starts_;  // the first byte of each shard
};

}  // namespace regroup
