#include "runtime/protocol/clocks.hpp"

#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {
constexpr std::size_t kEntryBytes = sizeof(std::uint32_t) + sizeof(std::uint64_t);
}

VectorClock::VectorClock(std::uint32_t ranks, RankId self)
    : self_(self), entries_(ranks, 0), changed_at_(ranks, 0), sent_up_to_(ranks, 0) {
  REGROUP_CHECK(self.value < ranks, "a rank outside its own clock");
}

void VectorClock::put_changes(RankId peer, Buffer& message) {
  Writer writer(message);
  std::uint32_t count = 0;
  const std::uint64_t sent = sent_up_to_[peer.value];
  for (std::uint32_t rank = 0; rank < entries_.size(); ++rank) {
    if (changed_at_[rank] <= sent) continue;
    writer.put(rank);
    writer.put(entries_[rank]);
    ++count;
  }
  writer.put(count);
  sent_up_to_[peer.value] = changes_;
}

std::span<const std::byte> VectorClock::trailer(std::span<const std::byte> message) {
  if (message.size() < sizeof(std::uint32_t)) return {};
  const auto count = Reader(message.last(sizeof(std::uint32_t))).get<std::uint32_t>();
  const std::size_t left = message.size() - sizeof(std::uint32_t);
  if (count > left / kEntryBytes) return {};
  return message.last(count * kEntryBytes + sizeof(std::uint32_t));
}

bool VectorClock::merge_changes(std::span<const std::byte> trailer_bytes) {
  if (trailer_bytes.empty() || trailer(trailer_bytes).size() != trailer_bytes.size()) return false;
  Reader check(trailer_bytes);
  while (check.rest().size() >= kEntryBytes) {
    if (check.get<std::uint32_t>() >= entries_.size()) return false;
    if (check.get<std::uint64_t>() > kStampMax) return false;
  }
  Reader reader(trailer_bytes);
  while (reader.rest().size() >= kEntryBytes) {
    const auto rank = reader.get<std::uint32_t>();
    const auto value = reader.get<std::uint64_t>();
    if (value > entries_[rank]) advance(rank, value);
  }
  tick();
  return true;
}

ClockOrder compare(std::span<const std::uint64_t> left, std::span<const std::uint64_t> right) {
  REGROUP_CHECK(left.size() == right.size(), "vector stamps of different runs");
  bool less = false;
  bool greater = false;
  for (std::size_t i = 0; i < left.size(); ++i) {
    less |= left[i] < right[i];
    greater |= left[i] > right[i];
  }
  if (less && greater) return ClockOrder::kConcurrent;
  if (less) return ClockOrder::kBefore;
  return greater ? ClockOrder::kAfter : ClockOrder::kEqual;
}

}  // namespace regroup
