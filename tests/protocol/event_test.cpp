#include "runtime/protocol/event.hpp"

#include <set>

#include <gtest/gtest.h>

#include "runtime/protocol/frame.hpp"

namespace regroup {
namespace {

TEST(Event, KindsHaveNamesThatTellThemApart) {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < kEventKinds; ++i) {
    const EventKind kind{static_cast<std::uint8_t>(i)};
    EXPECT_EQ(event_kind_named(name_of(kind)), kind);
    names.insert(name_of(kind));
  }
  EXPECT_EQ(names.size(), kEventKinds);
  EXPECT_EQ(event_kind_named("nothing"), std::nullopt);
}

TEST(Event, EachLevelHasWhatTheOneBeforeHas) {
  EXPECT_EQ(level_of(EventKind::kSend), EventLevel::kMessages);
  EXPECT_EQ(level_of(EventKind::kCommit), EventLevel::kShards);
  EXPECT_EQ(level_of(EventKind::kWork), EventLevel::kShards);
  EXPECT_EQ(level_of(EventKind::kView), EventLevel::kRun);
  EXPECT_EQ(level_of(EventKind::kQuarantine), EventLevel::kRun);
  for (std::size_t i = 0; i < kEventKinds; ++i) {
    EXPECT_GT(level_of(EventKind{static_cast<std::uint8_t>(i)}), EventLevel::kOff);
  }
}

TEST(Event, MessagesHaveNames) {
  EXPECT_EQ(name_of(MessageKind::kLinkStatus), "link-status");
  EXPECT_EQ(name_of(MessageKind::kHalos), "halos");
  EXPECT_EQ(name_of(MessageKind{200}), "?");
}

}  // namespace
}  // namespace regroup
