// A growable byte buffer that moves without copying and never clears the memory it grows into, and
// a pool that lends such buffers again, so that a steady state sends and receives without
// allocating. Neither is thread-safe; a pool belongs to one rank's host loop or simulator.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace regroup {

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t capacity) { reserve(capacity); }
  explicit Buffer(std::span<const std::byte> bytes) { append(bytes); }
  Buffer(Buffer&& other) noexcept
      : bytes_(std::move(other.bytes_)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    bytes_ = std::move(other.bytes_);
    size_ = std::exchange(other.size_, 0);
    capacity_ = std::exchange(other.capacity_, 0);
    return *this;
  }

  std::byte* data() { return bytes_.get(); }
  const std::byte* data() const { return bytes_.get(); }
  std::size_t size() const { return size_; }
  std::size_t capacity() const { return capacity_; }
  bool empty() const { return size_ == 0; }
  void clear() { size_ = 0; }

  void reserve(std::size_t capacity) {
    if (capacity <= capacity_) return;
    auto grown = std::make_unique_for_overwrite<std::byte[]>(capacity);
    if (size_ != 0) std::memcpy(grown.get(), bytes_.get(), size_);
    bytes_ = std::move(grown);
    capacity_ = capacity;
  }

  // New bytes, when it grows, hold whatever was in memory.
  void resize(std::size_t size) {
    if (size > capacity_) reserve(std::max(size, 2 * capacity_));
    size_ = size;
  }

  // Returns where `count` new bytes at the end are to be written.
  std::byte* extend(std::size_t count) {
    const std::size_t old_size = size_;
    resize(size_ + count);
    return bytes_.get() + old_size;
  }

  void append(std::span<const std::byte> bytes) {
    if (!bytes.empty()) std::memcpy(extend(bytes.size()), bytes.data(), bytes.size());
  }

  std::span<const std::byte> view() const { return {bytes_.get(), size_}; }
  std::span<std::byte> writable() { return {bytes_.get(), size_}; }

 private:
  std::unique_ptr<std::byte[]> bytes_;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

class BufferPool {
 public:
  static constexpr std::size_t kBuffersMax = 1024;         // kept for reuse; more are freed
  static constexpr std::size_t kBufferBytesMax = 1 << 16;  // larger buffers are large ones
  // Of the large ones, those given last are kept: so many, and so many bytes.
  static constexpr std::size_t kLargeBuffersMax = 8;
  static constexpr std::size_t kLargeBytesMax = std::size_t{1} << 30;

  Buffer take() {
    if (free_.empty()) return Buffer(4096);
    Buffer buffer = std::move(free_.back());
    free_.pop_back();
    buffer.clear();
    return buffer;
  }

  void give(Buffer buffer) {
    if (buffer.capacity() == 0 || buffer.capacity() > kBufferBytesMax) return;
    if (free_.size() < kBuffersMax) free_.push_back(std::move(buffer));
  }

  // Of so many bytes, which hold whatever was in memory: the smallest of those kept that has room,
  // unless most of it would lie idle, for a first touch of memory costs several times a copy.
  Buffer take_large(std::size_t bytes) {
    auto best = large_.end();
    for (auto kept = large_.begin(); kept != large_.end(); ++kept) {
      const bool fits = kept->capacity() >= bytes && kept->capacity() / 4 <= bytes;
      if (fits && (best == large_.end() || kept->capacity() < best->capacity())) best = kept;
    }
    Buffer buffer;
    if (best != large_.end()) {
      buffer = std::move(*best);
      large_.erase(best);
      large_bytes_ -= buffer.capacity();
    }
    buffer.resize(bytes);
    return buffer;
  }

  void give_large(Buffer buffer) {
    if (buffer.capacity() <= kBufferBytesMax || buffer.capacity() > kLargeBytesMax) return;
    large_bytes_ += buffer.capacity();
    large_.push_back(std::move(buffer));
    while (large_.size() > kLargeBuffersMax || large_bytes_ > kLargeBytesMax) {
      large_bytes_ -= large_.front().capacity();
      large_.erase(large_.begin());
    }
  }

 private:
  std::vector<Buffer> free_;
  std::vector<Buffer> large_;  // the one given last at the end
  std::size_t large_bytes_ = 0;
};

}  // namespace regroup
