#include "runtime/host/event_journal.hpp"

#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>

#include "runtime/host/event_segment.hpp"
#include "runtime/protocol/bulk.hpp"

namespace regroup {

EventJournal::EventJournal(const std::filesystem::path& directory, const SegmentHead& head,
                           std::function<void()> on_thread,
                           std::function<void(const std::string&)> say, FileSystem& file_system)
    : directory_(directory / kEventsDirectory),
      head_(head),
      on_thread_(std::move(on_thread)),
      say_(std::move(say)),
      file_system_(file_system),
      thread_([this] { run(); }) {}

EventJournal::~EventJournal() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void EventJournal::add(std::span<const Event> events, Nanoseconds now) {
  if (events.empty()) return;
  const std::lock_guard lock(mutex_);
  const std::size_t before = waiting_.size();
  Writer writer(waiting_);
  for (const Event& event : events) {
    if (broken_ || waiting_.size() >= kWaitingBytesMax) {
      ++dropped_;
    } else {
      put_event(writer, event, now);
    }
  }
  const bool full = before < kBlockBytes && waiting_.size() >= kBlockBytes;
  if (before == 0 || full) changed_.notify_one();
}

bool EventJournal::flush(std::chrono::milliseconds most) {
  std::unique_lock lock(mutex_);
  urgent_ = true;
  changed_.notify_one();
  return written_.wait_for(lock, most,
                           [this] { return broken_ || (waiting_.empty() && !writing_); });
}

std::uint64_t EventJournal::dropped() const {
  const std::lock_guard lock(mutex_);
  return dropped_;
}

void EventJournal::run() {
  if (on_thread_) on_thread_();
  bool usable = open();
  Buffer block;
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return ending_ || urgent_ || !waiting_.empty(); });
    changed_.wait_for(lock, kPeriod,
                      [this] { return ending_ || urgent_ || waiting_.size() >= kBlockBytes; });
    urgent_ = false;
    if (!waiting_.empty()) {
      std::swap(block, waiting_);
      writing_ = true;
      lock.unlock();
      usable = usable && write_block(block.view());
      block.clear();
      lock.lock();
      writing_ = false;
    }
    if (!usable) {
      broken_ = true;
      waiting_.clear();
    }
    if (waiting_.empty()) written_.notify_all();
    if (ending_ && waiting_.empty()) return;
  }
}

bool EventJournal::open() {
  if (file_system_.mkdir(directory_.c_str(), 0755) != 0 && errno != EEXIST) {
    give_up(path_error("create", directory_, errno).error());
    return false;
  }
  const std::filesystem::path path = directory_ / segment_name(head_);
  file_ = FileDescriptor(
      file_system_,
      file_system_.open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file_.is_open()) {
    give_up(path_error("create", path, errno).error());
    return false;
  }
  Buffer head;
  Writer writer(head);
  put_head(writer, head_);
  return write_all(head.view());
}

bool EventJournal::write_block(std::span<const std::byte> payload) {
  Buffer block;
  Writer writer(block);
  writer.put(kBlockMagic);
  writer.put(static_cast<std::uint32_t>(payload.size()));
  writer.put(hash_of_bulk(payload).low);
  writer.put_raw(payload);
  return write_all(block.view());
}

bool EventJournal::write_all(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = file_system_.write(file_.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      give_up(path_error("write", directory_ / segment_name(head_), written < 0 ? errno : ENOSPC)
                  .error());
      return false;
    }
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return true;
}

void EventJournal::give_up(const std::string& why) {
  if (say_) say_(fmt::format("events are not recorded any more: {}", why));
}

}  // namespace regroup
