#include "jobs/run_options.hpp"

#include <gtest/gtest.h>

#include "jobs/command_parser.hpp"
#include "tests/jobs/error_of.hpp"

namespace regroup {
namespace {

std::expected<RunOptions, std::string> parse(const std::vector<std::string>& arguments) {
  RunOptions options;
  OptionSet set;
  options.declare(set);
  CommandParser parser("regroup run job", "A job.");
  parser.add("Options of the run", set);
  if (auto parsed = parser.parse(arguments); !parsed) return std::unexpected(parsed.error());
  return options;
}

TEST(RunOptions, DefaultsAreThoseOfTheScheduler) {
  const auto options = parse({});
  ASSERT_TRUE(options) << options.error();
  const auto schedule = options->schedule_options();
  ASSERT_TRUE(schedule) << schedule.error();
  const ScheduleOptions defaults;
  EXPECT_EQ(schedule->policy, defaults.policy);
  EXPECT_EQ(schedule->batch, defaults.batch);
  EXPECT_EQ(schedule->prefetch, defaults.prefetch);
  EXPECT_EQ(schedule->coordinator_computes, defaults.coordinator_computes);
  EXPECT_EQ(schedule->attempts_max, defaults.attempts_max);
  const auto binding = options->binding_options();
  ASSERT_TRUE(binding) << binding.error();
  EXPECT_EQ(binding->mode, BindMode::kAutomatic);
  EXPECT_EQ(binding->gpus, GpuMode::kAutomatic);
  EXPECT_FALSE(options->json());
}

TEST(RunOptions, ReachTheSchedulerAndTheBinding) {
  const auto options = parse({"--schedule", "peer", "--batch", "7", "--prefetch", "2",
                              "--coordinator", "dedicated", "--max-attempts", "9", "--bind", "numa",
                              "--threads", "3", "--gpus", "2", "--format", "json"});
  ASSERT_TRUE(options) << options.error();
  const auto schedule = options->schedule_options();
  ASSERT_TRUE(schedule) << schedule.error();
  EXPECT_EQ(schedule->policy, Policy::kPeer);
  EXPECT_EQ(schedule->batch, 7u);
  EXPECT_EQ(schedule->prefetch, 2u);
  EXPECT_FALSE(schedule->coordinator_computes);
  EXPECT_EQ(schedule->attempts_max, 9u);
  const auto binding = options->binding_options();
  ASSERT_TRUE(binding) << binding.error();
  EXPECT_EQ(binding->mode, BindMode::kNuma);
  EXPECT_EQ(binding->threads, 3u);
  EXPECT_EQ(binding->gpus, GpuMode::kAtMost);
  EXPECT_EQ(binding->gpus_max, 2u);
  EXPECT_TRUE(options->json());
}

TEST(RunOptions, TheWedgeTimeoutIsInWholeSecondsAndMayBeNever) {
  EXPECT_EQ(parse({})->wedge_timeout_seconds, 10u);
  EXPECT_EQ(parse({"--wedge-timeout", "0"})->wedge_timeout_seconds, 0u);
  EXPECT_EQ(parse({"--wedge-timeout", "86400"})->wedge_timeout_seconds, 86400u);
  for (const char* text : {"-1", "0.5", "10s", "86401", ""}) {
    const auto options = parse({"--wedge-timeout", text});
    ASSERT_FALSE(options) << text;
    EXPECT_NE(options.error().find("--wedge-timeout takes a whole number from 0 to 86400"),
              std::string::npos)
        << options.error();
  }
}

TEST(RunOptions, EveryPolicyAndBindingThatIsOfferedIsTaken) {
  for (const char* policy : {"dynamic", "affinity", "static", "peer"}) {
    EXPECT_TRUE(parse({"--schedule", policy})->schedule_options()) << policy;
  }
  EXPECT_EQ(parse({"--bind", "core"})->binding_options()->mode, BindMode::kCore);
  EXPECT_EQ(parse({"--bind", "none"})->binding_options()->mode, BindMode::kNone);
  EXPECT_EQ(parse({"--gpus", "none"})->binding_options()->gpus, GpuMode::kNone);
}

TEST(RunOptions, WhatIsOutOfBoundsIsRefused) {
  EXPECT_EQ(error_of(parse({"--ranks", "0"})),
            "--ranks takes a whole number from 1 to 1048576, not '0'");
  EXPECT_EQ(error_of(parse({"--max-attempts", "0"})),
            "--max-attempts takes a whole number from 1 to 1000000, not '0'");
  EXPECT_EQ(error_of(parse({"--schedule", "random"})),
            "--schedule takes dynamic, affinity, static or peer, not 'random'");
  for (const char* gpus : {"some", "-1", "2x", ""}) {
    EXPECT_EQ(error_of(parse({"--gpus", gpus})->binding_options()),
              std::string("--gpus takes auto, none or a number, not '") + gpus + "'");
  }
}

}  // namespace
}  // namespace regroup
