// Memory of copies that were given up, for the next ones: fresh pages cost many times as much. Some
// may still be read by whoever else holds it, and is used again only when nobody does. Pure, not
// thread-safe.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>

#include "runtime/protocol/buffer.hpp"

namespace regroup {

class SpareBuffers {
 public:
  // An empty buffer, with memory that was used before if there is some that nobody reads any more.
  std::shared_ptr<Buffer> take() {
    const auto unused = std::ranges::find_if(
        spares_, [&](const auto& spare) { return lent_ == 0 && spare.use_count() == 1; });
    if (unused == spares_.end()) return std::make_shared<Buffer>();
    std::shared_ptr<Buffer> bytes = std::move(*unused);
    spares_.erase(unused);
    memory_ -= bytes->capacity();
    bytes->clear();
    return bytes;
  }

  // So many are held at most, and so much memory; the oldest go first.
  void give(std::shared_ptr<Buffer> bytes, std::size_t count_max, std::uint64_t memory_max) {
    if (bytes == nullptr || bytes->capacity() == 0) return;
    memory_ += bytes->capacity();
    spares_.push_back(std::move(bytes));
    while (!spares_.empty() && (spares_.size() > count_max || memory_ > memory_max)) {
      memory_ -= spares_.front()->capacity();
      spares_.pop_front();
    }
  }
  void clear() {
    spares_.clear();
    memory_ = 0;
  }

  // While the disk reads copies, on a thread of its own, no memory is used again.
  void lent_to_disk() { ++lent_; }
  void back_from_disk() { lent_ -= lent_ != 0 ? 1 : 0; }

 private:
  std::deque<std::shared_ptr<Buffer>> spares_;
  std::uint64_t memory_ = 0;
  std::uint64_t lent_ = 0;
};

}  // namespace regroup
