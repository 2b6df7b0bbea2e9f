#include "runtime/protocol/view.hpp"

#include <functional>

#include <gtest/gtest.h>

namespace regroup {
namespace {

constexpr std::uint32_t kRanks = 5;

View a_view() {
  return {.epoch = Epoch{7},
          .members = {RankId{0}, RankId{1}, RankId{3}, RankId{4}},
          .coordinator = RankId{1},
          .joined = {RankId{4}},
          .ledger_holder = RankId{3},
          .ledger = std::uint64_t{1} << 40};
}

Buffer bytes_of(const View& view) {
  Buffer bytes;
  Writer writer(bytes);
  put_view(writer, view);
  return bytes;
}

bool is_read(const View& view, std::uint32_t ranks = kRanks) {
  const Buffer bytes = bytes_of(view);
  Reader reader(bytes.view());
  return get_view(reader, ranks).has_value();
}

TEST(View, CrossesTheWire) {
  View lone{.epoch = Epoch{1}, .members = {RankId{2}}, .coordinator = RankId{2}};
  lone.ledger_holder = RankId{2};
  for (const View& view : {a_view(), lone}) {
    const Buffer bytes = bytes_of(view);
    Reader reader(bytes.view());
    EXPECT_EQ(get_view(reader, kRanks), view);
    EXPECT_TRUE(reader.complete());
  }
}

TEST(View, LeavesWhatFollowsIt) {
  Buffer bytes = bytes_of(a_view());
  Writer(bytes).put(std::uint32_t{42});
  Reader reader(bytes.view());
  EXPECT_EQ(get_view(reader, kRanks), a_view());
  EXPECT_EQ(reader.get<std::uint32_t>(), 42u);
}

TEST(View, EveryCutIsRefused) {
  const Buffer bytes = bytes_of(a_view());
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    Reader reader(bytes.view().first(length));
    EXPECT_FALSE(get_view(reader, kRanks)) << "cut to " << length;
  }
}

TEST(View, WhatCannotBeAViewIsRefused) {
  const auto refuses = [](const std::function<void(View&)>& spoil) {
    View view = a_view();
    spoil(view);
    return !is_read(view);
  };
  EXPECT_TRUE(is_read(a_view()));
  EXPECT_TRUE(refuses([](View& view) { view.epoch = Epoch{0}; }));
  EXPECT_TRUE(refuses([](View& view) { view.members.clear(); }));
  EXPECT_TRUE(refuses([](View& view) { view.coordinator = RankId{2}; }));
  EXPECT_TRUE(refuses([](View& view) { view.ledger_holder = RankId{2}; }));
  EXPECT_TRUE(refuses([](View& view) { view.joined.insert(RankId{2}); }));
  EXPECT_TRUE(refuses([](View& view) { view.members.insert(RankId{5}); })) << "no rank of the run";
  EXPECT_FALSE(is_read(a_view(), 4)) << "no rank of the run";
}

}  // namespace
}  // namespace regroup
