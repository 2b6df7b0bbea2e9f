#include "runtime/protocol/link.hpp"

#include <utility>

#include "runtime/protocol/planted.hpp"

namespace regroup {

LinkReceiver::Verdict LinkReceiver::hold(std::uint64_t sequence, std::span<const std::byte> frame) {
  if (sequence < expected_ && planted(PlantedBug::kDeliverDuplicates)) return Verdict::kDeliver;
  if (sequence < expected_ || early_.contains(sequence)) return Verdict::kDuplicate;
  if (early_.size() >= kEarlyFramesMax) return Verdict::kOverflow;
  early_.emplace(sequence, Buffer(frame));
  return Verdict::kEarly;
}

bool LinkReceiver::take_early(Buffer& frame) {
  if (early_.empty() || early_.begin()->first != expected_) return false;
  frame = std::move(early_.begin()->second);
  early_.erase(early_.begin());
  ++expected_;
  return !planted(PlantedBug::kLoseEarlyFrame);
}

LinkReceiver::Assembly LinkReceiver::assemble(MessageKind kind, std::span<const std::byte> part,
                                              bool more_follows) {
  const bool other_kind = !parts_.empty() && kind != kind_;
  if (other_kind || part.size() > message_bytes_max_ - parts_.size()) spoil();
  if (!spoiled_) {
    kind_ = kind;
    parts_.append(part);
    return more_follows ? Assembly::kPartial : Assembly::kWhole;
  }
  if (more_follows) return Assembly::kPartial;
  spoiled_ = false;
  return Assembly::kSpoiled;
}

void LinkReceiver::spoil() {
  spoiled_ = true;
  parts_ = Buffer();
}

}  // namespace regroup
