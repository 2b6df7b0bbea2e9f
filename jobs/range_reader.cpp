#include "jobs/range_reader.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <sys/stat.h>
#include <unistd.h>

#include "jobs/input_io.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

// Read at first behind the end of a piece, where its last record usually ends soon.
constexpr std::size_t kTailBytes = 512;

}  // namespace

template <class Delimiter>
RangeReader<Delimiter>::RangeReader(RangeReaderLimits limits) : limits_(limits) {
  REGROUP_CHECK(limits.block_bytes > 0 && limits.record_bytes_max > 0, "limits are above zero");
}

template <class Delimiter>
RangeReader<Delimiter>::~RangeReader() {
  close();
}

template <class Delimiter>
std::expected<void, std::string> RangeReader<Delimiter>::open(const InputFile& file,
                                                              std::uint64_t begin,
                                                              std::uint64_t end) {
  REGROUP_CHECK(begin <= end && end <= file.bytes, "a piece lies within its file");
  close();
  path_ = file.path;
  file_bytes_ = file.bytes;
  end_ = end;
  // The byte before tells whether the piece begins inside a record.
  within_record_ = begin > 0;
  base_ = within_record_ ? begin - 1 : begin;
  // One long record must not cost its memory for the rest of the run.
  if (held_.capacity() > 4 * limits_.block_bytes) held_ = Buffer();
  held_.clear();
  handed_out_ = 0;
  searched_ = 0;
  done_ = begin == end;
  if (done_) return {};

  fd_ = open_input(path_.c_str());
  if (fd_ < 0)
    return fail(std::string("cannot be opened (") + std::strerror(errno) +
                "); every node must see the input files until the run ends");
  struct stat status {};
  if (::fstat(fd_, &status) != 0)
    return fail(std::string("cannot be examined (") + std::strerror(errno) + ")");
  if (static_cast<std::uint64_t>(status.st_size) < file_bytes_) return fail_shorter();
  return check_content(file.sample);
}

// Once a file: what was found the same then may be read in any number of pieces.
template <class Delimiter>
std::expected<void, std::string> RangeReader<Delimiter>::check_content(
    const ContentSample& measured) {
  if (measured.blocks == 0 || known_.contains(path_)) return {};
  const auto found = sample_content(fd_, file_bytes_, measured.blocks);
  if (!found && found.error() == 0) return fail_shorter();
  if (!found) return fail_read("", found.error());
  if (*found != measured)
    return fail(
        "is as long as where it was measured, but holds something else; give every node the same "
        "input files and leave them as they are while a run lasts");
  known_.insert(path_);
  return {};
}

template <class Delimiter>
std::expected<std::string_view, std::string> RangeReader<Delimiter>::next() {
  drop_front(handed_out_);
  handed_out_ = 0;
  while (!done_) {
    if (within_record_) {
      if (const auto skipped = skip_begun_record(); !skipped)
        return std::unexpected(skipped.error());
      continue;
    }
    handed_out_ = whole_records();
    if (handed_out_ != 0)
      return std::string_view(reinterpret_cast<const char*>(held_.data()), handed_out_);
    if (const auto more = read_more(); !more) return std::unexpected(more.error());
  }
  close();
  return std::string_view();
}

// A block ends behind the last record that is whole; the last block, behind the first delimiter at
// or after the last byte of the piece. So when this returns 0, what is held is one unfinished
// record.
template <class Delimiter>
std::size_t RangeReader<Delimiter>::whole_records() {
  const std::size_t held = held_.size();
  const std::uint64_t held_end = base_ + held;
  if (held_end >= end_) {
    const std::size_t last_byte = static_cast<std::size_t>(end_ - 1 - base_);
    const std::size_t delimiter = find_first(std::max(last_byte, searched_));
    done_ = delimiter < held || (held_end == file_bytes_ && held <= limits_.record_bytes_max);
    if (done_) return std::min(delimiter + 1, held);
  }
  const std::size_t whole = behind_last(searched_);
  if (whole == 0) searched_ = held;
  return whole;
}

// Drops what belongs to the piece before: everything up to the first delimiter from the byte before
// ours on. If there is none in the piece, no record begins in it.
template <class Delimiter>
std::expected<void, std::string> RangeReader<Delimiter>::skip_begun_record() {
  if (const auto more = read_more(); !more) return more;
  const std::size_t delimiter = find_first(0);
  within_record_ = delimiter == held_.size();
  drop_front(std::min(delimiter + 1, held_.size()));
  done_ = base_ == end_;
  return {};
}

template <class Delimiter>
std::expected<void, std::string> RangeReader<Delimiter>::read_more() {
  const std::size_t held = held_.size();
  if (held > limits_.record_bytes_max)
    return fail(std::string(Delimiter::kRecord) + " longer than " +
                std::to_string(limits_.record_bytes_max) + " bytes at byte " +
                std::to_string(base_) + "; leave this file out, or break it up");
  const std::size_t wanted = bytes_to_read();
  const ssize_t got = read_input(fd_, held_.extend(wanted), wanted, base_ + held);
  if (got < 0) return fail_read(" at byte " + std::to_string(base_ + held), errno);
  if (got == 0) return fail_shorter();
  held_.resize(held + static_cast<std::size_t>(got));
  return {};
}

// Never 0: while more is needed, the file has more. Of an unfinished record one byte above the
// limit is read and no more, so whether it is too long does not depend on where the file was cut.
template <class Delimiter>
std::size_t RangeReader<Delimiter>::bytes_to_read() const {
  const std::size_t held = held_.size();
  const std::uint64_t at = base_ + held;
  const std::uint64_t useful =
      at < end_ ? end_ - at : std::min<std::uint64_t>(file_bytes_ - at, std::max(kTailBytes, held));
  const std::uint64_t allowed = std::min(limits_.block_bytes, limits_.record_bytes_max + 1 - held);
  return static_cast<std::size_t>(std::min(useful, allowed));
}

template <class Delimiter>
void RangeReader<Delimiter>::drop_front(std::size_t bytes) {
  if (bytes == 0) return;
  const std::size_t left = held_.size() - bytes;
  std::memmove(held_.data(), held_.data() + bytes, left);
  held_.resize(left);
  base_ += bytes;
  searched_ = 0;
}

template <class Delimiter>
void RangeReader<Delimiter>::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

// The first delimiter from that place on, or the number of held bytes.
template <class Delimiter>
std::size_t RangeReader<Delimiter>::find_first(std::size_t from) const {
  const char* bytes = reinterpret_cast<const char*>(held_.data());
  while (from < held_.size() && !Delimiter::matches(bytes[from])) ++from;
  return from;
}

// The place behind the last delimiter from that place on, or 0.
template <class Delimiter>
std::size_t RangeReader<Delimiter>::behind_last(std::size_t from) const {
  const char* bytes = reinterpret_cast<const char*>(held_.data());
  for (std::size_t i = held_.size(); i > from; --i)
    if (Delimiter::matches(bytes[i - 1])) return i;
  return 0;
}

template <class Delimiter>
std::unexpected<std::string> RangeReader<Delimiter>::fail(const std::string& what) {
  close();
  return std::unexpected(path_ + ": " + what);
}

template <class Delimiter>
std::unexpected<std::string> RangeReader<Delimiter>::fail_read(const std::string& where,
                                                               int error) {
  return fail("cannot be read" + where + " (" + std::strerror(error) +
              "); check its disk, then resume the run");
}

template <class Delimiter>
std::unexpected<std::string> RangeReader<Delimiter>::fail_shorter() {
  return fail("is shorter than the " + std::to_string(file_bytes_) +
              " bytes it was measured with; leave input files as they are while a run lasts");
}

template class RangeReader<WhiteSpace>;
template class RangeReader<LineFeed>;

}  // namespace regroup
