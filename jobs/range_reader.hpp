// Reads one piece of a file in bounded blocks that hold whole records only (words, or lines). A
// record belongs to the piece in which its first byte lies, so that the pieces of a file, wherever
// it is cut, together hand out each of its bytes exactly once. Records never cross files. A reader
// belongs to one thread, owns its file descriptor and its memory, and keeps the memory from piece
// to piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <unordered_set>

#include "jobs/byte_ranges.hpp"
#include "jobs/content_sample.hpp"
#include "jobs/delimiters.hpp"
#include "runtime/protocol/buffer.hpp"

namespace regroup {

struct RangeReaderLimits {
  std::size_t block_bytes = 256 << 10;       // read at a time; at least 1
  std::size_t record_bytes_max = 256 << 20;  // a longer word or line is an error; at least 1
};

// Delimiter is one of delimiters.hpp.
//
//   open(file, begin, end), then next() until it returns an empty view; then open the next piece.
template <class Delimiter>
class RangeReader {
 public:
  explicit RangeReader(RangeReaderLimits limits = {});
  ~RangeReader();
  RangeReader(const RangeReader&) = delete;
  RangeReader& operator=(const RangeReader&) = delete;

  // Turns to bytes [begin, end) of a file, within the size it was measured with. Where the file
  // was sampled, its content is held against the sample once. Errors name the file: it cannot be
  // opened, is shorter than it was, or holds something else.
  std::expected<void, std::string> open(const InputFile& file, std::uint64_t begin,
                                        std::uint64_t end);

  // The next whole records with the delimiters between and behind them, valid until the next call;
  // empty when the piece is done. A record of the piece that runs past its end is read to its own
  // end. Errors name the file: it cannot be read, has become shorter, or has a record above the
  // limit. After an error only open may be called.
  std::expected<std::string_view, std::string> next();

 private:
  std::expected<void, std::string> check_content(const ContentSample& measured);
  std::size_t whole_records();
  std::expected<void, std::string> skip_begun_record();
  std::expected<void, std::string> read_more();
  std::size_t bytes_to_read() const;
  void drop_front(std::size_t bytes);
  void close();

  std::size_t find_first(std::size_t from) const;
  std::size_t behind_last(std::size_t from) const;
  std::unexpected<std::string> fail(const std::string& what);
  std::unexpected<std::string> fail_read(const std::string& where, int error);
  std::unexpected<std::string> fail_shorter();

  RangeReaderLimits limits_;
  Buffer held_;  // bytes [base_, base_ + held_.size()) of the file
  int fd_ = -1;
  std::string path_;
  std::uint64_t file_bytes_ = 0;
  std::uint64_t base_ = 0;
  std::uint64_t end_ = 0;       // no record that begins here or later is ours
  std::size_t handed_out_ = 0;  // at the front of held_, in the caller's hands
  std::size_t searched_ = 0;    // at the front of held_, holds no delimiter to end a block at
  bool within_record_ = false;  // the piece may begin inside a record of the piece before
  bool done_ = true;
  std::unordered_set<std::string> known_;  // paths that fit their sample: blocks_max at most
};

using WordRangeReader = RangeReader<WhiteSpace>;
using LineRangeReader = RangeReader<LineFeed>;

extern template class RangeReader<WhiteSpace>;
extern template class RangeReader<LineFeed>;

}  // namespace regroup
