#include "runtime/host/event_reader.hpp"

#include <algorithm>
#include <cerrno>
#include <tuple>
#include <utility>

#include "runtime/protocol/bulk.hpp"

namespace regroup {
namespace {

RunReadError bad_input(std::string message) {
  return {RunReadError::Kind::kBadInput, std::move(message)};
}

}  // namespace

// One rank's events of one launch, a block at a time.
class EventReader::Segment {
 public:
  Segment(OpenedFile opened, const SegmentHead& head)
      : file_(std::move(opened.file)), bytes_(opened.bytes), head_(head), reader_(block_.view()) {}

  const SegmentHead& head() const { return head_; }
  bool cut_short() const { return cut_short_; }
  // What next() returns next.
  const JournalEvent& front() const { return front_; }

  // False at the end.
  bool advance() {
    while (reader_.rest().empty()) {
      if (!read_block()) return false;
    }
    auto timed = get_event(reader_, head_.rank);
    if (!timed) {
      cut_short_ = true;
      return false;
    }
    front_ = {std::move(timed->event), head_.launch,
              head_.utc + (timed->monotonic - head_.monotonic)};
    return true;
  }

 private:
  bool read_block() {
    if (offset_ == bytes_) return false;
    cut_short_ = true;
    if (bytes_ - offset_ < kBlockHeadBytes) return false;
    Buffer head;
    head.resize(kBlockHeadBytes);
    if (!read(head, offset_)) return false;
    Reader fields(head.view());
    const bool is_block = fields.get<std::uint32_t>() == kBlockMagic;
    const auto bytes = fields.get<std::uint32_t>();
    const auto hash = fields.get<std::uint64_t>();
    offset_ += kBlockHeadBytes;
    if (!is_block || bytes == 0 || bytes > kBlockBytesMax || bytes > bytes_ - offset_) return false;
    block_.resize(bytes);
    if (!read(block_, offset_) || hash_of_bulk(block_.view()).low != hash) return false;
    cut_short_ = false;
    offset_ += bytes;
    reader_ = Reader(block_.view());
    return true;
  }

  bool read(Buffer& to, std::uint64_t begin) {
    return read_at(FileSystem::real(), file_.get(), to.writable(), begin) == 0;
  }

  FileDescriptor file_;
  std::uint64_t bytes_;  // when it was opened: more may follow
  SegmentHead head_;
  std::uint64_t offset_ = kSegmentHeadBytes;  // of what was not read yet
  Buffer block_;
  Reader reader_;
  JournalEvent front_;
  bool cut_short_ = false;
};

EventReader::EventReader() = default;
EventReader::EventReader(EventReader&&) noexcept = default;
EventReader& EventReader::operator=(EventReader&&) noexcept = default;
EventReader::~EventReader() = default;

std::expected<EventReader, RunReadError> EventReader::open(const std::filesystem::path& run) {
  if (const auto status = read_status_file(run); !status) return std::unexpected(status.error());
  const std::filesystem::path directory = run / kEventsDirectory;
  const auto names = names_in_directory(FileSystem::real(), directory, kSegmentsMax);
  if (!names && names.error() != ENOENT) {
    return std::unexpected(RunReadError{RunReadError::Kind::kIo,
                                        path_error("read", directory, names.error()).error()});
  }
  EventReader reader;
  for (const std::string& name : names.value_or(std::vector<std::string>{})) {
    if (!is_segment_name(name)) continue;
    auto opened = open_regular_file(directory / name);
    if (!opened) return std::unexpected(RunReadError{RunReadError::Kind::kIo, opened.error()});
    Buffer bytes;
    bytes.resize(kSegmentHeadBytes);
    if (read_at(FileSystem::real(), opened->file.get(), bytes.writable(), 0) != 0) continue;
    Reader fields(bytes.view());
    const auto head = get_head(fields);
    if (!head) {
      return std::unexpected(
          bad_input((directory / name).string() + ": is not a segment of events"));
    }
    reader.segments_.push_back(std::make_unique<Segment>(std::move(*opened), *head));
  }
  if (reader.segments_.empty()) {
    return std::unexpected(bad_input(
        directory.string() +
        ": no events were recorded; a run with --events run, shards or messages records them"));
  }
  std::ranges::sort(reader.segments_, {}, [](const auto& segment) {
    return std::pair(segment->head().launch, segment->head().rank);
  });
  for (std::size_t i = 0; i < reader.segments_.size(); ++i) {
    reader.heads_.push_back(reader.segments_[i]->head());
    if (reader.segments_[i]->advance()) reader.heap_.push_back(i);
  }
  std::ranges::make_heap(
      reader.heap_, [&](std::size_t left, std::size_t right) { return reader.later(left, right); });
  return reader;
}

// Whether the next event of one segment comes after that of another.
bool EventReader::later(std::size_t left, std::size_t right) const {
  const auto place = [this](std::size_t i) {
    const JournalEvent& event = segments_[i]->front();
    return std::tuple(event.launch, event.event.lamport, event.event.rank, i);
  };
  return place(left) > place(right);
}

std::optional<JournalEvent> EventReader::next() {
  if (heap_.empty()) return std::nullopt;
  const auto later = [this](std::size_t left, std::size_t right) {
    return this->later(left, right);
  };
  std::ranges::pop_heap(heap_, later);
  Segment& first = *segments_[heap_.back()];
  JournalEvent event = first.front();
  if (first.advance()) {
    std::ranges::push_heap(heap_, later);
  } else {
    heap_.pop_back();
  }
  return event;
}

std::size_t EventReader::cut_short() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(segments_, [](const auto& segment) { return segment->cut_short(); }));
}

}  // namespace regroup
