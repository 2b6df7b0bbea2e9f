#include "runtime/host/recovery_backend.hpp"

#include <cstdlib>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace regroup {
namespace {

using testing::HasSubstr;

// What mpirun --with-ft ulfm sets, while this lives.
class LaunchedWithUlfm {
 public:
  explicit LaunchedWithUlfm(const char* value) { setenv(kName, value, 1); }
  ~LaunchedWithUlfm() { unsetenv(kName); }
  LaunchedWithUlfm(const LaunchedWithUlfm&) = delete;
  LaunchedWithUlfm& operator=(const LaunchedWithUlfm&) = delete;

 private:
  static constexpr const char* kName = "OMPI_MCA_mpi_ft_enable";
};

TEST(RecoveryBackend, ChoicesHaveNames) {
  EXPECT_EQ(parse_recovery_choice("auto"), RecoveryChoice::kAuto);
  EXPECT_EQ(parse_recovery_choice("stock"), RecoveryChoice::kStock);
  EXPECT_EQ(parse_recovery_choice("ulfm"), RecoveryChoice::kUlfm);
  EXPECT_EQ(parse_recovery_choice("both"), std::nullopt);
}

TEST(RecoveryBackend, WhatIsLeftToItNeverHasAProblem) {
  for (const bool launched : {false, true}) {
    EXPECT_EQ(problem_with(RecoveryChoice::kAuto, launched), std::nullopt);
    EXPECT_EQ(problem_with(RecoveryChoice::kStock, launched), std::nullopt);
  }
}

TEST(RecoveryBackend, UlfmNeedsTheLibrary) {
  const auto problem = problem_with(RecoveryChoice::kUlfm, false);

  ASSERT_EQ(problem.has_value(), !built_with_ulfm());
  if (problem) {
    EXPECT_THAT(*problem, HasSubstr("no ULFM"));
  }
}

TEST(RecoveryBackend, UlfmNeedsMpirunsFlagInALaunch) {
  const LaunchedWithUlfm off("0");
  EXPECT_TRUE(problem_with(RecoveryChoice::kUlfm, true));
  EXPECT_FALSE(launched_with_ulfm());

  for (const char* value : {"1", "true"}) {
    const LaunchedWithUlfm on(value);
    EXPECT_TRUE(launched_with_ulfm());
    EXPECT_EQ(problem_with(RecoveryChoice::kUlfm, true).has_value(), !built_with_ulfm());
  }
}

TEST(RecoveryBackend, ALaunchIsPreparedForUlfmUnlessToldOtherwise) {
  EXPECT_EQ(backend_to_launch(RecoveryChoice::kAuto) == RecoveryBackend::kUlfm, built_with_ulfm());
  EXPECT_EQ(backend_to_launch(RecoveryChoice::kStock), RecoveryBackend::kStock);
}

}  // namespace
}  // namespace regroup
