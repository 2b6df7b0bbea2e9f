// Plain values to bytes and back: little-endian, bounded, no padding. A Reader never trusts what it
// reads: a value that runs past the end sets failed() and reads as zero, and every count is held
// against the bytes that are left before anything is allocated. Read all, then ask failed() once.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "runtime/protocol/buffer.hpp"
#include "runtime/protocol/ids.hpp"

namespace regroup {

static_assert(std::endian::native == std::endian::little, "the wire format is little-endian");

class Writer {
 public:
  explicit Writer(Buffer& out) : out_(&out) {}

  template <class T>
  requires(std::is_arithmetic_v<T> || std::is_enum_v<T>) void put(T value) {
    std::memcpy(out_->extend(sizeof value), &value, sizeof value);
  }
  template <class Tag, class Rep>
  void put(Id<Tag, Rep> id) {
    put(id.value);
  }
  void put(const ShardRange& range) {
    put(range.first);
    put(range.count);
  }
  // Length as 32 bits, then the bytes.
  void put_bytes(std::span<const std::byte> bytes) {
    put(static_cast<std::uint32_t>(bytes.size()));
    out_->append(bytes);
  }
  void put_string(std::string_view text) { put_bytes(std::as_bytes(std::span(text))); }
  // Seven bits a byte, the lowest first; the high bit says that more follow. 1 to 10 bytes.
  void put_varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) put(static_cast<std::uint8_t>(value | 0x80));
    put(static_cast<std::uint8_t>(value));
  }
  // The bytes as they are, with no length before them.
  void put_raw(std::span<const std::byte> bytes) { out_->append(bytes); }

  Buffer& buffer() { return *out_; }

 private:
  Buffer* out_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : left_(bytes) {}

  template <class T>
  requires(std::is_arithmetic_v<T> || std::is_enum_v<T>) T get() {
    T value{};
    if (left_.size() < sizeof value) {
      fail();
      return value;
    }
    std::memcpy(&value, left_.data(), sizeof value);
    left_ = left_.subspan(sizeof value);
    return value;
  }
  template <class I>
  requires requires { typename I::rep; }
  I get() { return I{get<typename I::rep>()}; }
  ShardRange get_range() {
    const auto first = get<ShardId>();
    return {first, get<std::uint64_t>()};
  }
  // A view into the input, valid as long as the input is.
  std::span<const std::byte> get_bytes() { return get_raw(get<std::uint32_t>()); }
  std::string_view get_string() {
    const auto bytes = get_bytes();
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  // Fails on more than 64 bits.
  std::uint64_t get_varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = get<std::uint8_t>();
      const std::uint64_t bits = byte & 0x7fu;
      if (bits << shift >> shift != bits) break;
      value |= bits << shift;
      if (byte < 0x80) return failed_ ? 0 : value;
    }
    fail();
    return 0;
  }
  std::span<const std::byte> get_raw(std::size_t count) {
    if (count > left_.size()) {
      fail();
      return {};
    }
    const auto bytes = left_.first(count);
    left_ = left_.subspan(count);
    return bytes;
  }
  // A count of elements that take at least `bytes_each` bytes each: 0 and failed() if they cannot
  // be there.
  std::size_t get_count(std::size_t bytes_each) {
    const std::size_t count = get<std::uint32_t>();
    if (bytes_each != 0 && count > left_.size() / bytes_each) {
      fail();
      return 0;
    }
    return count;
  }

  std::span<const std::byte> rest() const { return left_; }
  bool failed() const { return failed_; }
  // True when everything was read and nothing ran past the end.
  bool complete() const { return !failed_ && left_.empty(); }

 private:
  void fail() {
    failed_ = true;
    left_ = {};
  }

  std::span<const std::byte> left_;
  bool failed_ = false;
};

}  // namespace regroup
