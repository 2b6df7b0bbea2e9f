#include "jobs/merge_sorted.hpp"

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "jobs/combine_table.hpp"
#include "tests/jobs/error_of.hpp"

namespace regroup {
namespace {

using testing::HasSubstr;
using Count = std::uint64_t;
using Counts = CombineTable<Count, Sum>;
using Merged = std::vector<std::pair<std::string, Count>>;

Buffer list_of(const std::vector<Entry<Count>>& entries) {
  Buffer bytes;
  EntryListWriter list(bytes, entries.size());
  for (const auto& entry : entries) list.put(entry.key, entry.value);
  return bytes;
}

template <class Before>
std::expected<Merged, std::string> merge(const std::vector<Buffer>& lists, Before before) {
  std::vector<std::span<const std::byte>> views;
  for (const Buffer& list : lists) views.push_back(list.view());
  Merged merged;
  const auto entries = merge_sorted<Count>(
      views, before, [&](const Entry<Count>& entry) -> std::expected<void, std::string> {
        merged.emplace_back(entry.key, entry.value);
        return {};
      });
  if (!entries) return std::unexpected(entries.error());
  EXPECT_EQ(*entries, merged.size());
  return merged;
}

std::vector<Buffer> lists_of(std::initializer_list<std::vector<Entry<Count>>> lists) {
  std::vector<Buffer> buffers;
  for (const auto& list : lists) buffers.push_back(list_of(list));
  return buffers;
}

TEST(MergeSorted, MergesByKey) {
  const auto merged =
      merge(lists_of({{{"b", 2}, {"e", 5}}, {}, {{"a", 1}, {"f", 6}}, {{"c", 3}}}), ByKey{});
  ASSERT_TRUE(merged) << merged.error();
  EXPECT_EQ(*merged, (Merged{{"a", 1}, {"b", 2}, {"c", 3}, {"e", 5}, {"f", 6}}));
}

TEST(MergeSorted, NoListsAndEmptyListsMergeToNothing) {
  EXPECT_EQ(merge({}, ByKey{}), Merged{});
  EXPECT_EQ(merge(lists_of({{}, {}}), ByKey{}), Merged{});
}

TEST(MergeSorted, EqualEntriesComeInTheOrderOfTheirLists) {
  const auto merged =
      merge(lists_of({{{"a", 1}, {"b", 2}}, {{"a", 3}}, {{"a", 4}, {"b", 5}}}), ByKey{});
  ASSERT_TRUE(merged) << merged.error();
  EXPECT_EQ(*merged, (Merged{{"a", 1}, {"a", 3}, {"a", 4}, {"b", 2}, {"b", 5}}));
}

TEST(MergeSorted, ResultIsTheSameForEveryNumberOfPartitions) {
  std::mt19937_64 random(7);
  Counts all;
  for (int i = 0; i < 20'000; ++i) all.add("word" + std::to_string(random() % 3000), random() % 9);
  Merged expected;
  for (const auto& entry : all.sorted(ByValueDescendingThenKey{}))
    expected.emplace_back(entry.key, entry.value);

  for (const std::uint32_t partitions : {1u, 2u, 7u, 64u}) {
    std::vector<Counts> tables(partitions);
    all.for_each([&](std::string_view key, Count value) {
      tables[partition_of(key, partitions)].add(key, value);
    });
    std::vector<Buffer> lists(partitions);
    for (std::uint32_t p = 0; p < partitions; ++p)
      tables[p].encode_sorted(ByValueDescendingThenKey{}, lists[p]);

    const auto merged = merge(lists, ByValueDescendingThenKey{});

    ASSERT_TRUE(merged) << merged.error();
    EXPECT_EQ(*merged, expected) << partitions;
  }
}

TEST(MergeSorted, NamesTheListThatIsOutOfOrderOrHasAKeyTwice) {
  EXPECT_THAT(error_of(merge(lists_of({{{"a", 1}}, {{"b", 1}, {"a", 1}}}), ByKey{})),
              HasSubstr("list 1: entry 1 is out of order"));
  EXPECT_THAT(error_of(merge(lists_of({{{"a", 1}, {"a", 1}}}), ByKey{})),
              HasSubstr("list 0: entry 1 is out of order"));
}

TEST(MergeSorted, EveryTruncationIsAnError) {
  const Buffer whole = list_of({{"a", 1}, {"b", 2}, {"c", 3}});
  for (std::size_t size = 0; size < whole.size(); ++size) {
    std::vector<Buffer> lists = lists_of({{{"aa", 1}, {"bb", 1}}});
    lists.emplace_back(whole.view().first(size));
    const auto merged = merge(lists, ByKey{});
    ASSERT_FALSE(merged) << size;
    EXPECT_THAT(merged.error(), HasSubstr("list 1: "));
  }
}

TEST(MergeSorted, StopsAtTheFirstErrorOfTheCallback) {
  const Buffer list = list_of({{"a", 1}, {"b", 2}, {"c", 3}});
  const std::vector<std::span<const std::byte>> views{list.view()};
  int calls = 0;
  const auto entries = merge_sorted<Count>(
      views, ByKey{}, [&](const Entry<Count>&) -> std::expected<void, std::string> {
        if (++calls == 2) return std::unexpected("disk full");
        return {};
      });
  EXPECT_EQ(error_of(entries), "disk full");
  EXPECT_EQ(calls, 2);
}

}  // namespace
}  // namespace regroup
