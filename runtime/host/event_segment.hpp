// The bytes of event segments (docs/events.md): what EventJournal writes and EventReader reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "runtime/host/event_journal.hpp"
#include "runtime/protocol/event.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup {

inline constexpr std::uint64_t kSegmentMagic = 0x3154'4e45'5647'5200;  // "\0RGVENT1"
inline constexpr std::uint32_t kBlockMagic = 0x4b4c'4245;              // "EBLK"
// Magic, length and hash of a block's payload.
inline constexpr std::size_t kBlockHeadBytes = 16;
inline constexpr std::size_t kSegmentHeadBytes = 8 + 8 + 4 + 4 + 1 + 8 + 8;
inline constexpr std::size_t kBlockBytesMax = 2 * EventJournal::kWaitingBytesMax;

// An event, when it was on the clock of its segment's head.
struct TimedEvent {
  Event event;
  Nanoseconds monotonic = 0;
};

void put_head(Writer& writer, const SegmentHead& head);
// Nothing if it is not the head of a segment.
std::optional<SegmentHead> get_head(Reader& reader);

void put_event(Writer& writer, const Event& event, Nanoseconds monotonic);
// Nothing if it makes no sense. `rank`: whose segment it is.
std::optional<TimedEvent> get_event(Reader& reader, RankId rank);

// "LAUNCH-rank-N.events"
std::string segment_name(const SegmentHead& head);
bool is_segment_name(std::string_view name);

}  // namespace regroup
