// The bytes in which keyed results travel and rest: a count of 32 bits, then for each entry the
// key's length (32 bits), the key's bytes and the value's bytes, little-endian, without padding.
// The order of the entries is the writer's. The reader never trusts its input: what is truncated,
// too long or absurd is an error, and nothing is allocated on the word of a length field. Neither
// is thread-safe.
#pragma once

#include <algorithm>
#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "runtime/protocol/buffer.hpp"
#include "runtime/protocol/check.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup {

// Longer keys are refused when read, and are a broken invariant when written.
inline constexpr std::size_t kKeyBytesMax = std::size_t{1} << 30;

// True when a type has no padding, so that equal values are equal bytes. Specialize it for a struct
// of float or double members that has none; never for a type in which some bit patterns are no
// value (bool, enumerations with gaps that the code relies on), because values are read from
// foreign bytes.
template <class Value>
inline constexpr bool kHasNoPadding = (std::has_unique_object_representations_v<Value> &&
                                       !std::same_as<Value, bool>) ||
                                      std::same_as<Value, float> || std::same_as<Value, double>;

template <class Value>
concept EntryValue = std::is_trivially_copyable_v<Value> && std::default_initializable<Value> &&
    std::copyable<Value> && kHasNoPadding<Value>;

// The key is a view: whoever hands out an entry says for how long it is valid.
template <EntryValue Value>
struct Entry {
  std::string_view key;
  Value value{};

  friend bool operator==(const Entry&, const Entry&) = default;
};

// Total orders for sorting and merging. Keys are compared as unsigned bytes.
struct ByKey {
  template <class Value>
  bool operator()(const Entry<Value>& a, const Entry<Value>& b) const {
    return a.key < b.key;
  }
};
struct ByValueDescendingThenKey {
  template <class Value>
  bool operator()(const Entry<Value>& a, const Entry<Value>& b) const {
    if (a.value != b.value) return b.value < a.value;
    return a.key < b.key;
  }
};

// Writes one list: the count first, then exactly that many entries.
class EntryListWriter {
 public:
  EntryListWriter(Buffer& out, std::size_t entries) : writer_(out) {
    REGROUP_CHECK(entries <= UINT32_MAX, "a list holds at most 2^32-1 entries");
    writer_.put(static_cast<std::uint32_t>(entries));
  }

  template <EntryValue Value>
  void put(std::string_view key, const Value& value) {
    REGROUP_CHECK(key.size() <= kKeyBytesMax, "a key is at most kKeyBytesMax bytes");
    writer_.put_string(key);
    writer_.put_raw(std::as_bytes(std::span(&value, 1)));
  }

 private:
  Writer writer_;
};

// Reads one list: while (next()) use entry(); then ask finish() whether that was a whole list.
template <EntryValue Value>
class EntryListReader {
 public:
  explicit EntryListReader(std::span<const std::byte> bytes)
      : reader_(bytes),
        count_(reader_.get_count(sizeof(std::uint32_t) + sizeof(Value))),
        left_(count_) {}

  bool next() {
    if (left_ == 0) return false;
    const std::string_view key = reader_.get_string();
    const auto value = reader_.get_raw(sizeof(Value));
    if (reader_.failed() || key.size() > kKeyBytesMax) {
      damaged_ = true;
      left_ = 0;
      return false;
    }
    --left_;
    ++taken_;
    entry_.key = key;
    std::memcpy(&entry_.value, value.data(), sizeof(Value));
    return true;
  }

  // The key is valid as long as the input is.
  const Entry<Value>& entry() const { return entry_; }
  // As the list claims; the input has room for that many.
  std::size_t count() const { return count_; }
  // How many entries next() has handed out.
  std::size_t taken() const { return taken_; }

  // Once next() has returned false: an error unless the input was one whole list and nothing more.
  std::expected<void, std::string> finish() const {
    if (damaged_)
      return std::unexpected("entry list is truncated or damaged at entry " +
                             std::to_string(taken_) + " of " + std::to_string(count_));
    if (reader_.failed()) return std::unexpected("entry list is shorter than its count needs");
    if (!reader_.complete())
      return std::unexpected("entry list has " + std::to_string(reader_.rest().size()) +
                             " bytes after its last entry");
    return {};
  }

 private:
  Reader reader_;
  std::size_t count_;
  std::size_t left_;
  std::size_t taken_ = 0;
  bool damaged_ = false;
  Entry<Value> entry_;
};

}  // namespace regroup
