// A rank's events on disk, as they come: appended to a file of its own, a segment, so that what was
// written before the rank died, or its node, is there for whoever asks afterwards. The loop hands
// events over and never waits: a thread of the journal's writes them, and where a disk does not
// keep up they are dropped and counted. docs/events.md has the format.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <thread>

#include "runtime/host/file_system.hpp"
#include "runtime/protocol/buffer.hpp"
#include "runtime/protocol/event.hpp"

namespace regroup {

inline constexpr std::string_view kEventsDirectory = "events";

// What is said of a segment as a whole, at its begin.
struct SegmentHead {
  std::uint64_t launch = 0;  // later ones have larger numbers
  RankId rank;
  std::uint32_t ranks = 1;
  EventLevel level = EventLevel::kOff;
  std::int64_t utc = 0;       // nanoseconds since 1970
  Nanoseconds monotonic = 0;  // at the same moment
};

class EventJournal {
 public:
  // Blocks are written so long after their first event, and once they have so many bytes.
  static constexpr std::chrono::milliseconds kPeriod{20};
  static constexpr std::size_t kBlockBytes = std::size_t{64} << 10;
  // That wait to be written: events beyond are dropped.
  static constexpr std::size_t kWaitingBytesMax = std::size_t{4} << 20;

  // Creates the segment in `directory`/events, on its thread. `on_thread`: called there first of
  // all; `say`: one line if events cannot be kept any more, at most once. Throws std::system_error
  // if there is no thread to be had.
  EventJournal(const std::filesystem::path& directory, const SegmentHead& head,
               std::function<void()> on_thread, std::function<void(const std::string&)> say,
               FileSystem& file_system = FileSystem::real());
  // Waits until what was added is written.
  ~EventJournal();
  EventJournal(const EventJournal&) = delete;
  EventJournal& operator=(const EventJournal&) = delete;

  // `now`: on the clock of SegmentHead::monotonic. Any thread.
  void add(std::span<const Event> events, Nanoseconds now);
  // Waits until all is written, but no longer; false if it is not.
  bool flush(std::chrono::milliseconds most);

  std::uint64_t dropped() const;

 private:
  void run();
  bool open();
  bool write_block(std::span<const std::byte> payload);
  bool write_all(std::span<const std::byte> bytes);
  void give_up(const std::string& why);

  std::filesystem::path directory_;
  SegmentHead head_;
  std::function<void()> on_thread_;
  std::function<void(const std::string&)> say_;
  FileSystem& file_system_;
  FileDescriptor file_;  // the thread's own

  mutable std::mutex mutex_;
  std::condition_variable changed_;  // there are events, or a block, or the end has come
  std::condition_variable written_;
  Buffer waiting_;
  bool writing_ = false;
  bool urgent_ = false;
  bool ending_ = false;
  bool broken_ = false;
  std::uint64_t dropped_ = 0;
  std::thread thread_;  // last: it uses the others
};

}  // namespace regroup
