#include "jobs/byte_ranges.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include <sys/stat.h>
#include <unistd.h>

#include "jobs/input_io.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

std::string_view kind_of(mode_t mode) {
  if (S_ISFIFO(mode)) return "a named pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

std::string explain(const std::string& path, int error) {
  if (error == ENOENT || error == ENOTDIR)
    return path + ": no such file; check the name, and that this node sees its file system";
  if (error == EACCES || error == EPERM)
    return path + ": may not be read by this user; see ls -l of it and of the folders above";
  return path + ": cannot be opened (" + std::strerror(error) + "); name a file that can be read";
}

// Opening is the only true test of whether a file can be read, so it is done where no block is
// sampled, too.
std::expected<ContentSample, std::string> sample(const std::string& path, std::uint64_t bytes,
                                                 std::uint8_t blocks) {
  const int fd = open_input(path.c_str());
  if (fd < 0) return std::unexpected(explain(path, errno));
  const auto sampled = sample_content(fd, bytes, blocks);
  ::close(fd);
  if (sampled) return *sampled;
  if (sampled.error() == 0)
    return std::unexpected(path + ": became shorter while it was measured; let its writer finish");
  return std::unexpected(path + ": cannot be read (" + std::strerror(sampled.error()) +
                         "); check its disk, or leave it out");
}

std::expected<InputFile, std::string> measure(const std::string& path, std::uint8_t blocks) {
  if (path.empty()) return std::unexpected("an input has an empty name; name a file");
  if (path.find('\0') != std::string::npos)
    return std::unexpected(std::string(path.c_str()) +
                           ": a zero byte follows in this name; "
                           "name a file");
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return std::unexpected(explain(path, errno));
  if (S_ISDIR(status.st_mode))
    return std::unexpected(path + ": is a directory; name files, e.g. with find " + path +
                           " -type f");
  if (!S_ISREG(status.st_mode))
    return std::unexpected(path + ": is " + std::string(kind_of(status.st_mode)) +
                           "; copy what it holds into a file and name that");
  const auto bytes = static_cast<std::uint64_t>(status.st_size);
  const auto sampled = sample(path, bytes, blocks);
  if (!sampled) return std::unexpected(sampled.error());
  return InputFile{path, bytes, *sampled};
}

std::uint64_t divide_up(std::uint64_t value, std::uint64_t by) {
  return (value + by - 1) / by;
}

}  // namespace

std::expected<std::vector<InputFile>, std::string> open_inputs(std::span<const std::string> paths) {
  std::vector<InputFile> files;
  files.reserve(paths.size());
  for (const std::string& path : paths) {
    auto file = measure(path, blocks_to_sample(files.size(), paths.size()));
    if (!file) return std::unexpected(std::move(file.error()));
    files.push_back(std::move(*file));
  }
  return files;
}

std::uint64_t ByteRanges::default_shard_bytes(std::span<const InputFile> files) {
  std::uint64_t weight = 0;
  for (const InputFile& file : files)
    if (file.bytes != 0) weight += std::min(file.bytes, kTotalBytesMax) + kFileOpenBytes;
  const std::uint64_t usual =
      std::clamp(weight / kShardsSmallInput, kShardBytesMin, kShardBytesUsual);
  const std::uint64_t fewest = divide_up(weight, kShardsUsualMax);
  const std::uint64_t page = kFileOpenBytes;
  return divide_up(std::max(usual, fewest), page) * page;
}

std::expected<ByteRanges, std::string> ByteRanges::cut(std::vector<InputFile> files) {
  const std::uint64_t shard_bytes = default_shard_bytes(files);
  return cut(std::move(files), shard_bytes);
}

std::expected<ByteRanges, std::string> ByteRanges::cut(std::vector<InputFile> files,
                                                       std::uint64_t shard_bytes) {
  if (shard_bytes == 0) return std::unexpected("shards of 0 bytes; choose at least 1");
  if (files.size() > UINT32_MAX) return std::unexpected("more than 2^32-1 input files; join some");
  ByteRanges ranges;
  ranges.files_ = std::move(files);
  ranges.shard_bytes_ = shard_bytes;
  if (auto placed = ranges.place_starts(); !placed)
    return std::unexpected(std::move(placed.error()));
  return ranges;
}

// First fit in the order of the files. The first file of a shard costs its bytes alone, so that one
// large file is cut at exact multiples of shard_bytes.
std::expected<void, std::string> ByteRanges::place_starts() {
  std::uint64_t used = shard_bytes_;  // as if a shard before the first one were full
  for (std::uint32_t f = 0; f < files_.size(); ++f) {
    const std::uint64_t bytes = files_[f].bytes;
    if (bytes > kTotalBytesMax - total_bytes_)
      return std::unexpected(files_[f].path + ": " + std::to_string(bytes) +
                             " bytes bring the input above 2^60; name fewer files");
    total_bytes_ += bytes;
    if (bytes != 0) used = std::min(shard_bytes_, used + kFileOpenBytes);
    for (std::uint64_t offset = 0; offset < bytes;) {
      if (used == shard_bytes_) {
        if (starts_.size() == kShardsMax)
          return std::unexpected("shards of " + std::to_string(shard_bytes_) +
                                 " bytes make more than " + std::to_string(kShardsMax) +
                                 " shards; choose larger ones");
        starts_.push_back({f, offset});
        used = 0;
      }
      const std::uint64_t taken = std::min(bytes - offset, shard_bytes_ - used);
      offset += taken;
      used += taken;
    }
  }
  return {};
}

std::vector<FilePiece> ByteRanges::pieces(ShardId shard) const {
  REGROUP_CHECK(shard.value < starts_.size(), "the shard is one of this cut");
  const Start begin = starts_[shard.value];
  const bool is_last = shard.value + 1 == starts_.size();
  const Start end =
      is_last ? Start{static_cast<std::uint32_t>(files_.size()), 0} : starts_[shard.value + 1];
  std::vector<FilePiece> pieces;
  for (std::uint32_t f = begin.file; f < files_.size() && f <= end.file; ++f) {
    const std::uint64_t from = f == begin.file ? begin.offset : 0;
    const std::uint64_t to = f == end.file ? end.offset : files_[f].bytes;
    if (from < to) pieces.push_back({f, from, to});
  }
  return pieces;
}

void ByteRanges::encode(Writer& out) const {
  out.put(shard_bytes_);
  out.put(static_cast<std::uint32_t>(files_.size()));
  for (const InputFile& file : files_) {
    out.put_string(file.path);
    out.put(file.bytes);
    out.put(file.sample.blocks);
    out.put(file.sample.hash);
  }
}

std::expected<ByteRanges, std::string> ByteRanges::decode(Reader& in) {
  const auto shard_bytes = in.get<std::uint64_t>();
  constexpr std::size_t file_bytes_min = 4 + 8 + 1 + 8;  // with an empty name
  std::vector<InputFile> files(in.get_count(file_bytes_min));
  for (InputFile& file : files) {
    file.path = in.get_string();
    file.bytes = in.get<std::uint64_t>();
    file.sample.blocks = in.get<std::uint8_t>();
    file.sample.hash = in.get<std::uint64_t>();
    if (file.sample.blocks > SampleLimits::blocks_of_file_max)
      return std::unexpected("the list of input files is damaged");
  }
  if (in.failed()) return std::unexpected("the list of input files is truncated");
  return cut(std::move(files), shard_bytes);
}

}  // namespace regroup
