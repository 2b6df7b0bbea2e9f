#include "jobs/entry_list.hpp"

#include <cstdint>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace regroup {
namespace {

using testing::HasSubstr;
using Count = std::uint64_t;

Buffer list_of(const std::vector<Entry<Count>>& entries) {
  Buffer bytes;
  EntryListWriter list(bytes, entries.size());
  for (const auto& entry : entries) list.put(entry.key, entry.value);
  return bytes;
}

// The error of reading all of it, or an empty text.
std::string read_error(std::span<const std::byte> bytes) {
  EntryListReader<Count> list(bytes);
  while (list.next()) {
  }
  const auto whole = list.finish();
  return whole ? std::string() : whole.error();
}

TEST(EntryList, ReadsBackWhatWasWritten) {
  const std::vector<Entry<Count>> entries{{"b", 2}, {"", 0}, {std::string_view("a\0c", 3), ~0ULL}};
  const Buffer bytes = list_of(entries);

  EntryListReader<Count> list(bytes.view());
  std::vector<Entry<Count>> read;
  while (list.next()) read.push_back(list.entry());

  EXPECT_EQ(read, entries);
  EXPECT_TRUE(list.finish());
}

TEST(EntryList, BytesAreCountThenKeyLengthKeyValue) {
  const Buffer bytes = list_of({{"ab", 0x0102}});
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  EXPECT_EQ(text, std::string("\1\0\0\0"
                              "\2\0\0\0"
                              "ab"
                              "\2\1\0\0\0\0\0\0",
                              18));
}

TEST(EntryList, EveryTruncationIsAnError) {
  const Buffer bytes = list_of({{"one", 1}, {"", 2}, {"three", 3}});
  for (std::size_t size = 0; size < bytes.size(); ++size)
    EXPECT_NE(read_error(bytes.view().first(size)), "") << size;
  EXPECT_EQ(read_error(bytes.view()), "");
}

TEST(EntryList, TrailingBytesAreAnError) {
  Buffer bytes = list_of({{"one", 1}});
  *bytes.extend(1) = std::byte{0};
  EXPECT_THAT(read_error(bytes.view()), HasSubstr("1 bytes after its last entry"));
}

TEST(EntryList, AbsurdCountAndLengthAreErrors) {
  Buffer count;
  Writer(count).put(std::uint32_t{0xffff'ffff});
  EXPECT_THAT(read_error(count.view()), HasSubstr("shorter than its count"));

  Buffer length = list_of({{"a", 1}});
  length.data()[7] = std::byte{0xff};
  EXPECT_THAT(read_error(length.view()), HasSubstr("damaged at entry 0 of 1"));
}

TEST(EntryList, OrdersCompareKeysAsUnsignedBytes) {
  using E = Entry<Count>;
  EXPECT_TRUE(ByKey{}(E{"a", 9}, E{"\xff", 1}));
  EXPECT_TRUE(ByKey{}(E{"a", 9}, E{"aa", 1}));
  EXPECT_TRUE(ByValueDescendingThenKey{}(E{"z", 9}, E{"a", 1}));
  EXPECT_TRUE(ByValueDescendingThenKey{}(E{"a", 1}, E{"z", 1}));
  EXPECT_FALSE(ByValueDescendingThenKey{}(E{"z", 1}, E{"z", 1}));
}

}  // namespace
}  // namespace regroup
