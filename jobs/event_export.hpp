// What `regroup events` prints: events one by one, as text for people and as files for tools that
// people have. Pure functions of the events, in the order in which EventReader gives them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/host/event_reader.hpp"

namespace regroup {

enum class EventFormat : std::uint8_t { kText, kJsonl, kShiviz, kPerfetto };

// Nothing for a name other than "text", "jsonl", "shiviz" and "perfetto".
std::optional<EventFormat> event_format_named(std::string_view name);

// In words, without its time and rank: "commits shards 12 to 15 of stage 0".
std::string event_text(const Event& event);

class EventExport {
 public:
  virtual ~EventExport() = default;
  // What comes before all events, for each of them, and behind them.
  virtual std::string begin() { return ""; }
  virtual std::string add(const JournalEvent& event) = 0;
  virtual std::string end() { return ""; }
};

// `heads`: of the segments that the events come from.
std::unique_ptr<EventExport> make_event_export(EventFormat format,
                                               const std::vector<SegmentHead>& heads);

}  // namespace regroup
