// The events of a run directory, of all ranks and launches in one order: launches one after the
// other, in each the order of Lamport stamps, where equal ones are told apart by ranks. So causes
// come before effects. Reads segments as they are, also while ranks still write them: what is not
// whole at the end of one is not there yet, or was lost with its rank. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/host/event_segment.hpp"
#include "runtime/host/run_inspection.hpp"

namespace regroup {

struct JournalEvent {
  Event event;
  std::uint64_t launch = 0;
  std::int64_t utc = 0;  // nanoseconds since 1970, by the clock of the rank's node
};

class EventReader {
 public:
  // Segments of a directory, at most.
  static constexpr std::size_t kSegmentsMax = std::size_t{1} << 20;

  // A directory in which no events were recorded is bad input.
  static std::expected<EventReader, RunReadError> open(const std::filesystem::path& run);
  EventReader(EventReader&&) noexcept;
  EventReader& operator=(EventReader&&) noexcept;
  ~EventReader();

  // The next one; none at the end.
  std::optional<JournalEvent> next();

  // Of all segments, in the order of launches and ranks.
  const std::vector<SegmentHead>& heads() const { return heads_; }
  // Segments whose end is not whole, as far as they have been read.
  std::size_t cut_short() const;

 private:
  class Segment;
  EventReader();
  bool later(std::size_t left, std::size_t right) const;

  std::vector<SegmentHead> heads_;
  std::vector<std::unique_ptr<Segment>> segments_;
  std::vector<std::size_t> heap_;  // of segments with a next event, the first one in front
};

}  // namespace regroup
