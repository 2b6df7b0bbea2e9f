// Vector-clock trailers from anyone: a trailer is found inside its message or not at all; a refused
// one changes nothing; one that is merged moves no entry back. And frames: what opens seals to
// itself.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/protocol/check.hpp"
#include "runtime/protocol/clocks.hpp"
#include "runtime/protocol/frame.hpp"

namespace regroup::fuzzing {
namespace {

using Stamp = std::vector<std::uint64_t>;

Stamp stamp_of(const VectorClock& clock) {
  return {clock.entries().begin(), clock.entries().end()};
}

void check_merge(VectorClock& clock, RankId self, std::span<const std::byte> bytes) {
  const Stamp before = stamp_of(clock);
  const bool merged = clock.merge_changes(bytes);
  const Stamp after = stamp_of(clock);
  REGROUP_CHECK(merged || after == before, "a refused trailer changed a clock");
  if (!merged) return;
  REGROUP_CHECK(compare(before, after) == ClockOrder::kBefore, "a clock did not go on");
  REGROUP_CHECK(after[self.value] > before[self.value], "a receive is an event of its rank");
}

void check_trailer(VectorClock& clock, RankId self, std::span<const std::byte> message) {
  const auto trailer = VectorClock::trailer(message);
  REGROUP_CHECK(trailer.size() <= message.size(), "a trailer longer than its message");
  REGROUP_CHECK(
      trailer.empty() || trailer.data() + trailer.size() == message.data() + message.size(),
      "a trailer that is not at the end");
  check_merge(clock, self, trailer);
  check_merge(clock, self, message);

  Buffer changes;
  clock.put_changes(self, changes);
  REGROUP_CHECK(VectorClock::trailer(changes.view()).size() == changes.size(),
                "changes that are no trailer");
}

void check_frame(std::span<const std::byte> bytes) {
  const auto frame = open_frame(bytes);
  if (!frame) return;
  Buffer again(bytes);
  seal_frame(again, frame->header);
  REGROUP_CHECK(std::ranges::equal(again.view(), bytes), "a frame that seals to another");
}

}  // namespace
}  // namespace regroup::fuzzing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace regroup;           // NOLINT
  using namespace regroup::fuzzing;  // NOLINT
  if (size < 2) return 0;
  const std::uint32_t ranks = 1 + data[0] % 64;
  const RankId self{data[1] % ranks};
  const auto bytes = std::as_bytes(std::span(data + 2, size - 2));
  VectorClock clock(ranks, self);
  for (int i = 0; i < 2; ++i) check_trailer(clock, self, bytes);
  check_frame(bytes);
  return 0;
}
