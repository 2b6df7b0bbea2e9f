#include "runtime/protocol/link.hpp"

#include <utility>

#include "runtime/protocol/check.hpp"

namespace regroup {

LinkReceiver::Verdict LinkReceiver::hold(std::uint64_t sequence, std::span<const std::byte> frame) {
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
  return true;
}

bool LinkReceiver::assemble(std::span<const std::byte> part, bool more_follows) {
  REGROUP_CHECK(!complete_, "a message was put together but not taken");
  if (part.size() > kMessageBytesMax - parts_.size()) oversized_ = true;
  if (!oversized_) parts_.append(part);
  complete_ = !more_follows && !oversized_;
  return complete_;
}

}  // namespace regroup
