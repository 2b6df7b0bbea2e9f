// The registry as user code has it: what it asks of the protocol, and what it makes of the reply.
#include "runtime/host/registry.hpp"

#include <gtest/gtest.h>

namespace regroup {
namespace {

// A registry that notes what it is asked, and gives this reply.
struct Told {
  RegistryCall asked;
  RegistryReply reply{1, RegistryStatus::kDone, 5, "value"};
  Registry registry{[this](RegistryCall call) {
    asked = std::move(call);
    return reply;
  }};
};

TEST(Registry, GetsAnEntry) {
  Told told;
  const auto entry = told.registry.get("key");
  ASSERT_TRUE(entry.has_value());
  EXPECT_EQ(entry->version, 5u);
  EXPECT_EQ(entry->value, "value");
  EXPECT_TRUE(entry->exists());
  EXPECT_EQ(told.asked.operation, RegistryOperation::kGet);
  EXPECT_EQ(told.asked.key, "key");
  EXPECT_EQ(told.asked.timeout, 30 * kSecond);
  told.reply = {1, RegistryStatus::kDone, 0, ""};
  EXPECT_FALSE(told.registry.get("key")->exists());
}

TEST(Registry, PutsWhatItIsTold) {
  Told told;
  EXPECT_EQ(told.registry.put("key", "new", 4).value(), 5u);
  EXPECT_EQ(told.asked.operation, RegistryOperation::kPut);
  EXPECT_EQ(told.asked.value, "new");
  EXPECT_EQ(told.asked.version, 4u);
  EXPECT_TRUE(told.registry.put("key", "new").has_value());
  EXPECT_EQ(told.asked.version, kAnyVersion);
  told.reply = {1, RegistryStatus::kConflict, 9, ""};
  const auto refused = told.registry.put("key", "new", 4, kSecond);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().status, RegistryStatus::kConflict);
  EXPECT_EQ(refused.error().version, 9u);
  EXPECT_EQ(refused.error().text(), "registry: the key has another version");
  EXPECT_EQ(told.asked.timeout, kSecond);
}

TEST(Registry, WatchesForAVersion) {
  Told told;
  EXPECT_EQ(told.registry.watch("key", 4)->version, 5u);
  EXPECT_EQ(told.asked.operation, RegistryOperation::kWatch);
  EXPECT_EQ(told.asked.version, 4u);
  told.reply = {1, RegistryStatus::kTimedOut, 0, ""};
  EXPECT_EQ(told.registry.watch("key", 4).error().status, RegistryStatus::kTimedOut);
}

TEST(Registry, OfNoRunAnswersThatItIsOver) {
  Registry registry;
  EXPECT_EQ(registry.get("key").error().status, RegistryStatus::kEnding);
}

}  // namespace
}  // namespace regroup
