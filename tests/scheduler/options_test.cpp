// Names of the schedules: each reads back as itself, and a wrong one is answered with the choices.
#include "scheduler/options.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace regroup {
namespace {

using testing::HasSubstr;

TEST(Options, EveryPolicyReadsBackByItsName) {
  for (const auto& [policy, name] : {std::pair{Policy::kDynamic, "dynamic"},
                                     {Policy::kAffinity, "affinity"},
                                     {Policy::kStatic, "static"},
                                     {Policy::kPeer, "peer"}}) {
    EXPECT_EQ(name_of(policy), name);
    const auto parsed = parse_policy(name);
    ASSERT_TRUE(parsed.has_value()) << name;
    EXPECT_EQ(*parsed, policy);
  }
}

TEST(Options, AnUnknownNameIsAnsweredWithTheChoices) {
  for (const std::string_view name : {"", "Dynamic", "dynamic ", "guided"}) {
    const auto parsed = parse_policy(name);
    ASSERT_FALSE(parsed.has_value()) << name;
    EXPECT_THAT(parsed.error(), HasSubstr("'" + std::string(name) + "'"));
    for (const std::string_view choice : {"dynamic", "affinity", "static", "peer"}) {
      EXPECT_THAT(parsed.error(), HasSubstr(std::string(choice)));
    }
  }
}

TEST(Options, DefaultsAreThoseOfTheDesign) {
  const ScheduleOptions options;
  EXPECT_EQ(options.policy, Policy::kDynamic);
  EXPECT_EQ(options.batch, 0u) << "adapts";
  EXPECT_EQ(options.prefetch, 0u) << "adapts";
  EXPECT_TRUE(options.coordinator_computes);
}

}  // namespace
}  // namespace regroup
