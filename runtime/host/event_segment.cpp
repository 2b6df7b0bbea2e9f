#include "runtime/host/event_segment.hpp"

#include <fmt/format.h>

namespace regroup {
namespace {

constexpr std::string_view kSegmentSuffix = ".events";
constexpr std::uint32_t kVectorEntriesMax = 1 << 20;

}  // namespace

void put_head(Writer& writer, const SegmentHead& head) {
  writer.put(kSegmentMagic);
  writer.put(head.launch);
  writer.put(head.rank);
  writer.put(head.ranks);
  writer.put(head.level);
  writer.put(head.utc);
  writer.put(head.monotonic);
}

std::optional<SegmentHead> get_head(Reader& reader) {
  const bool is_segment = reader.get<std::uint64_t>() == kSegmentMagic;
  SegmentHead head;
  head.launch = reader.get<std::uint64_t>();
  head.rank = reader.get<RankId>();
  head.ranks = reader.get<std::uint32_t>();
  head.level = reader.get<EventLevel>();
  head.utc = reader.get<std::int64_t>();
  head.monotonic = reader.get<Nanoseconds>();
  const bool makes_sense = is_segment && !reader.failed() && head.rank.value < head.ranks &&
                           head.level <= EventLevel::kMessages;
  if (!makes_sense) return std::nullopt;
  return head;
}

void put_event(Writer& writer, const Event& event, Nanoseconds monotonic) {
  writer.put(event.kind);
  writer.put(monotonic);
  writer.put_varint(event.peer.value);
  writer.put_varint(event.stage.value);
  writer.put_varint(event.epoch.value);
  writer.put_varint(event.lamport);
  writer.put_varint(event.a);
  writer.put_varint(event.b);
  writer.put_varint(static_cast<std::uint64_t>(event.took));
  writer.put_varint(event.vector.size());
  for (const std::uint64_t entry : event.vector) writer.put_varint(entry);
}

std::optional<TimedEvent> get_event(Reader& reader, RankId rank) {
  TimedEvent timed;
  Event& event = timed.event;
  event.rank = rank;
  event.kind = reader.get<EventKind>();
  timed.monotonic = reader.get<Nanoseconds>();
  event.peer = RankId{static_cast<RankId::rep>(reader.get_varint())};
  event.stage = StageId{static_cast<StageId::rep>(reader.get_varint())};
  event.epoch = Epoch{static_cast<Epoch::rep>(reader.get_varint())};
  event.lamport = reader.get_varint();
  event.a = reader.get_varint();
  event.b = reader.get_varint();
  event.took = static_cast<Nanoseconds>(reader.get_varint());
  const std::uint64_t entries = reader.get_varint();
  const bool makes_sense = !reader.failed() && event.kind <= EventKind::kWork &&
                           entries <= kVectorEntriesMax && entries <= reader.rest().size();
  if (!makes_sense) return std::nullopt;
  event.vector.resize(entries);
  for (std::uint64_t& entry : event.vector) entry = reader.get_varint();
  if (reader.failed()) return std::nullopt;
  return timed;
}

// Launches in hexadecimal, so that names sort as their numbers do.
std::string segment_name(const SegmentHead& head) {
  return fmt::format("{:016x}-rank-{}{}", head.launch, head.rank.value, kSegmentSuffix);
}

bool is_segment_name(std::string_view name) {
  return name.ends_with(kSegmentSuffix);
}

}  // namespace regroup
