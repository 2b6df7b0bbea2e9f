// A hash table from byte-string keys to values that combine, made for counting words: one probe of
// a flat array an add, no allocation for a key that is already there. It owns copies of its keys.
// What it encodes depends on its contents alone, never on the order of insertion, as long as
// Combine is commutative and associative (integer sums, minima, maxima; not floating-point sums).
// It never shrinks, and is not thread-safe: each worker has its own.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jobs/entry_list.hpp"
#include "jobs/key_hash.hpp"
#include "runtime/protocol/buffer.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup {

// Combine is a stateless callable void(Value& into, const Value& next).
//
// Open addressing with linear probing (Knuth, TAOCP 3, 6.4, algorithm L). A slot holds the low half
// of the key's hash, the key's length, and the key itself when it is short, else its place in one
// arena: most probes are decided within the slot.
template <EntryValue Value, class Combine>
class CombineTable {
 public:
  static constexpr std::size_t kInlineBytes = 8;  // keys up to this length live in their slot
  static constexpr std::size_t kSlotsMin = 1024;
  static constexpr std::size_t kSlotsMax = std::size_t{1} << 32;  // a slot keeps 32 bits of hash

  CombineTable() : slots_(kSlotsMin) {}

  // Combines `value` into what the key has, or inserts it. At most kKeyBytesMax bytes a key.
  void add(std::string_view key, const Value& value) {
    const std::uint64_t hash = key_hash(key);
    const std::uint64_t meta = meta_of(hash, key.size());
    const bool in_slot = key.size() <= kInlineBytes;
    const std::uint64_t word = in_slot ? short_word(key) : 0;
    for (std::size_t at = hash & mask_;; at = (at + 1) & mask_) {
      Slot& slot = slots_[at];
      if (slot.meta == meta && (in_slot ? slot.word == word : same_long_key(slot, key))) {
        Combine{}(slot.value, value);
        return;
      }
      if (slot.meta == kFree) {
        insert(slot, key, meta, word, value);
        return;
      }
    }
  }

  // Null when there is no such key; valid until the next add, absorb or clear.
  const Value* find(std::string_view key) const {
    const std::uint64_t hash = key_hash(key);
    const std::uint64_t meta = meta_of(hash, key.size());
    for (std::size_t at = hash & mask_; slots_[at].meta != kFree; at = (at + 1) & mask_) {
      const Slot& slot = slots_[at];
      if (slot.meta == meta && key_of(slot) == key) return &slot.value;
    }
    return nullptr;
  }

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  // What the table holds of the heap, used or not.
  std::size_t memory_bytes() const { return slots_.capacity() * sizeof(Slot) + arena_.capacity(); }

  // Forgets all entries and keeps the memory.
  void clear() {
    std::fill(slots_.begin(), slots_.end(), Slot{});
    arena_.clear();
    size_ = 0;
  }

  // Calls visit(std::string_view key, const Value&) for each entry, in an order that depends on the
  // table's history: it must not reach a result.
  template <class Visit>
  void for_each(Visit visit) const {
    for (const Slot& slot : slots_)
      if (slot.meta != kFree) visit(key_of(slot), slot.value);
  }

  // All entries in the order of before(const Entry<Value>&, const Entry<Value>&), which is to be
  // total (ByKey, ByValueDescendingThenKey). Keys are valid until the next add, absorb or clear.
  template <class Before>
  std::vector<Entry<Value>> sorted(Before before) const {
    std::vector<Entry<Value>> entries;
    entries.reserve(size_);
    for_each([&](std::string_view key, const Value& value) { entries.push_back({key, value}); });
    std::sort(entries.begin(), entries.end(), before);
    return entries;
  }

  // Appends one entry list (entry_list.hpp) of everything, in that order; see merge_sorted.hpp.
  template <class Before>
  void encode_sorted(Before before, Buffer& out) const {
    const auto entries = sorted(before);
    EntryListWriter list(out, entries.size());
    for (const Entry<Value>& entry : entries) list.put(entry.key, entry.value);
  }

  // Appends to each buffer the entry list of its partition, in byte order of the keys. The
  // partition of a key among partitions.size() is partition_of (key_hash.hpp).
  void encode(std::span<Buffer> partitions) const {
    REGROUP_CHECK(!partitions.empty() && partitions.size() <= UINT32_MAX,
                  "keys are dealt to between 1 and 2^32-1 partitions");
    const auto count = static_cast<std::uint32_t>(partitions.size());
    std::vector<std::vector<KeyOrder>> dealt(count);
    for (auto& keys : dealt) keys.reserve(size_ / count + size_ / (8 * count) + 16);
    for (const Slot& slot : slots_) {
      if (slot.meta == kFree) continue;
      const std::string_view key = key_of(slot);
      dealt[partition_of(key, count)].push_back({big_endian_prefix(key), &slot});
    }
    for (std::uint32_t p = 0; p < count; ++p) encode_keys(dealt[p], partitions[p]);
  }

  // Whether absorb would take the list.
  static std::expected<void, std::string> check_list(std::span<const std::byte> bytes) {
    EntryListReader<Value> list(bytes);
    std::string_view previous;
    while (list.next()) {
      if (list.taken() > 1 && !(previous < list.entry().key))
        return std::unexpected("entry list is not in the order of its keys at entry " +
                               std::to_string(list.taken() - 1));
      previous = list.entry().key;
    }
    return list.finish();
  }

  // Combines one entry list in byte order of its keys, as encode makes them, into the table. The
  // list is checked as a whole first: on an error the table is as it was.
  std::expected<void, std::string> absorb(std::span<const std::byte> bytes) {
    if (auto checked = check_list(bytes); !checked) return checked;
    EntryListReader<Value> list(bytes);
    while (list.next()) add(list.entry().key, list.entry().value);
    return {};
  }

 private:
  static constexpr std::uint64_t kFree = 0;

  struct Slot {
    std::uint64_t meta = kFree;  // low half of the hash, then the key's length plus one
    std::uint64_t word = 0;      // the key, zero-padded, or where it begins in the arena
    Value value{};
  };

  // A key to be sorted: most comparisons end at the prefix.
  struct KeyOrder {
    std::uint64_t prefix;
    const Slot* slot;
  };

  static std::uint64_t meta_of(std::uint64_t hash, std::size_t key_bytes) {
    return (hash << 32) | (key_bytes + 1);
  }
  static std::size_t key_bytes_of(const Slot& slot) {
    return static_cast<std::uint32_t>(slot.meta) - 1;
  }
  std::string_view key_of(const Slot& slot) const {
    const std::size_t bytes = key_bytes_of(slot);
    if (bytes <= kInlineBytes) return {reinterpret_cast<const char*>(&slot.word), bytes};
    return {reinterpret_cast<const char*>(arena_.data()) + slot.word, bytes};
  }

  // A key of at most 8 bytes as a zero-padded number, without reading past its end.
  static std::uint64_t short_word(std::string_view key) {
    const std::size_t n = key.size();
    if (n >= 4) {
      const std::uint64_t high = load<std::uint32_t>(key.data() + n - 4);
      return load<std::uint32_t>(key.data()) | high << (8 * (n - 4));
    }
    if (n == 0) return 0;
    const auto byte_at = [&](std::size_t i) {
      return std::uint64_t{static_cast<unsigned char>(key[i])} << (8 * i);
    };
    return byte_at(0) | byte_at(n / 2) | byte_at(n - 1);
  }

  // Lengths are equal already, and more than 8 bytes. The last word may overlap the one before.
  bool same_long_key(const Slot& slot, std::string_view key) const {
    const char* a = reinterpret_cast<const char*>(arena_.data()) + slot.word;
    const char* b = key.data();
    const std::size_t last = key.size() - 8;
    for (std::size_t i = 0; i < last; i += 8)
      if (load<std::uint64_t>(a + i) != load<std::uint64_t>(b + i)) return false;
    return load<std::uint64_t>(a + last) == load<std::uint64_t>(b + last);
  }

  template <class Word>
  static Word load(const char* from) {
    Word word;
    std::memcpy(&word, from, sizeof word);
    return word;
  }

  static std::uint64_t big_endian_prefix(std::string_view key) {
    return __builtin_bswap64(key.size() <= 8 ? short_word(key) : load<std::uint64_t>(key.data()));
  }

  [[gnu::noinline]] void insert(Slot& slot, std::string_view key, std::uint64_t meta,
                                std::uint64_t word, const Value& value) {
    REGROUP_CHECK(key.size() <= kKeyBytesMax, "a key is at most kKeyBytesMax bytes");
    if (key.size() > kInlineBytes) {
      word = arena_.size();
      arena_.append(std::as_bytes(std::span(key)));
    }
    slot = {meta, word, value};
    ++size_;
    if (size_ > slots_.size() / 4 * 3) grow();
  }

  void grow() {
    REGROUP_CHECK(slots_.size() < kSlotsMax, "a combine table has at most 3 * 2^30 keys");
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    mask_ = slots_.size() - 1;
    for (const Slot& slot : old) {
      if (slot.meta == kFree) continue;
      std::size_t at = (slot.meta >> 32) & mask_;
      while (slots_[at].meta != kFree) at = (at + 1) & mask_;
      slots_[at] = slot;
    }
  }

  void encode_keys(std::span<KeyOrder> keys, Buffer& out) const {
    std::sort(keys.begin(), keys.end(), [this](const KeyOrder& a, const KeyOrder& b) {
      if (a.prefix != b.prefix) return a.prefix < b.prefix;
      return key_of(*a.slot) < key_of(*b.slot);
    });
    EntryListWriter list(out, keys.size());
    for (const KeyOrder& key : keys) list.put(key_of(*key.slot), key.slot->value);
  }

  std::vector<Slot> slots_;  // a power of two, at most three quarters of them taken
  std::size_t mask_ = kSlotsMin - 1;
  std::size_t size_ = 0;
  Buffer arena_;
};

// The Combine of counts and other integer sums.
struct Sum {
  template <class Value>
  void operator()(Value& into, const Value& next) const {
    into += next;
  }
};

}  // namespace regroup
