// The choice of instruction sets on the machine that runs the test, whatever it has.
#include "kernels/instruction_set.hpp"

#include <gtest/gtest.h>

namespace regroup::kernels {
namespace {

TEST(InstructionSetTest, TheBaselineIsAlwaysThereAndTheBestComesLast) {
  const auto sets = available_instruction_sets();

  ASSERT_FALSE(sets.empty());
  EXPECT_EQ(sets.front(), InstructionSet::kBaseline);
  EXPECT_EQ(sets.back(), best_instruction_set());
}

TEST(InstructionSetTest, WhatTheMachineLacksIsReplacedByItsBest) {
  for (const auto set : available_instruction_sets()) EXPECT_EQ(usable_instruction_set(set), set);
  EXPECT_EQ(usable_instruction_set(InstructionSet::kAvx512), best_instruction_set());
}

TEST(InstructionSetTest, HasAName) {
  EXPECT_EQ(instruction_set_name(InstructionSet::kBaseline), "baseline");
  EXPECT_EQ(instruction_set_name(InstructionSet::kAvx2), "avx2");
  EXPECT_EQ(instruction_set_name(InstructionSet::kAvx512), "avx512");
}

}  // namespace
}  // namespace regroup::kernels
