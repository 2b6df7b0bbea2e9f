// Merges sorted entry lists, one a partition, into one sequence in the same order, so that the
// coordinator writes a globally sorted result without ever holding it decoded. Memory is one cursor
// a list; the lists themselves stay where they are (received, or mapped from a file).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "jobs/entry_list.hpp"

namespace regroup {

namespace merge_detail {

// One list and its next entry. Checks the list's order as it goes.
template <EntryValue Value, class Before>
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, std::size_t list_index)
      : list_(bytes), list_index_(list_index) {}

  const Entry<Value>& entry() const { return list_.entry(); }

  // True: there is a next entry. False: the list has ended as it should.
  std::expected<bool, std::string> advance(const Before& before) {
    const Entry<Value> previous = list_.entry();
    if (list_.next()) {
      if (list_.taken() > 1 && !before(previous, list_.entry()))
        return fail("entry " + std::to_string(list_.taken() - 1) + " is out of order");
      return true;
    }
    if (auto whole = list_.finish(); !whole) return fail(whole.error());
    return false;
  }

 private:
  std::unexpected<std::string> fail(const std::string& what) const {
    return std::unexpected("list " + std::to_string(list_index_) + ": " + what);
  }

  EntryListReader<Value> list_;
  std::size_t list_index_;
};

}  // namespace merge_detail

// Calls on_entry(const Entry<Value>&) -> std::expected<void, std::string> for every entry of every
// list, in the order of `before`, which each list must be strictly in; entries that are equal in it
// come in the order of their lists. Returns how many there were, or the first error: of a damaged
// list, named by its index, or of on_entry. Entries before the error have then been handed out.
// O(n log k) comparisons with a heap of the k lists (Knuth, TAOCP 3, 5.4.1).
template <EntryValue Value, class Before, class OnEntry>
std::expected<std::uint64_t, std::string> merge_sorted(
    std::span<const std::span<const std::byte>> lists, Before before, OnEntry on_entry) {
  using Cursor = merge_detail::Cursor<Value, Before>;
  std::vector<Cursor> cursors;
  std::vector<std::size_t> heap;  // indices of the lists that have an entry, the first one on top
  cursors.reserve(lists.size());
  heap.reserve(lists.size());
  for (std::size_t i = 0; i < lists.size(); ++i) {
    cursors.emplace_back(lists[i], i);
    const auto more = cursors[i].advance(before);
    if (!more) return std::unexpected(more.error());
    if (*more) heap.push_back(i);
  }

  const auto comes_after = [&](std::size_t a, std::size_t b) {
    if (before(cursors[b].entry(), cursors[a].entry())) return true;
    return a > b && !before(cursors[a].entry(), cursors[b].entry());
  };
  std::make_heap(heap.begin(), heap.end(), comes_after);

  std::uint64_t entries = 0;
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), comes_after);
    Cursor& first = cursors[heap.back()];
    if (std::expected<void, std::string> taken = on_entry(first.entry()); !taken)
      return std::unexpected(std::move(taken.error()));
    ++entries;
    const auto more = first.advance(before);
    if (!more) return std::unexpected(more.error());
    if (*more)
      std::push_heap(heap.begin(), heap.end(), comes_after);
    else
      heap.pop_back();
  }
  return entries;
}

}  // namespace regroup
