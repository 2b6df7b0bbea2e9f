#include "runtime/host/fencing_token.hpp"

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace regroup {
namespace {

constexpr std::string_view kRun = "run";

class FencingToken : public testing::TestWithParam<FencingTokens::Readers> {
 protected:
  FencingToken() {
    std::string name = testing::TempDir() + "fencing-XXXXXX";
    directory_ = mkdtemp(name.data());
  }
  ~FencingToken() override { std::filesystem::remove_all(directory_); }

  FencingTokens tokens(std::string_view run = kRun) const {
    return {directory_ / "views", std::string(run), GetParam()};
  }
  static FenceRequest request(std::uint64_t epoch, std::string_view content) {
    return {Epoch{epoch}, Buffer(std::as_bytes(std::span(content)))};
  }
  static std::string text(const FenceAnswer& answer) {
    const auto bytes = answer.content.value().view();
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  std::filesystem::path directory_;
};

TEST_P(FencingToken, TheFirstContentStands) {
  EXPECT_EQ(text(tokens().take(request(2, "mine"))), "mine");
  EXPECT_EQ(text(tokens().take(request(2, "theirs"))), "mine");
  EXPECT_EQ(text(tokens().take(request(3, "theirs"))), "theirs");
  EXPECT_EQ(text(tokens("another").take(request(2, "theirs"))), "theirs");
}

TEST_P(FencingToken, LeavesNothingElseBehind) {
  (void)tokens().take(request(2, "mine"));
  (void)tokens().take(request(2, "theirs"));

  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory_ / "views")) {
    names.push_back(entry.path().filename());
  }
  EXPECT_EQ(names, std::vector<std::string>{"run-2.view"});
}

TEST_P(FencingToken, OfADirectoryThatCannotBeMadeHasNoContent) {
  const FencingTokens nowhere("/dev/null/views", "run", GetParam());
  EXPECT_FALSE(nowhere.take(request(2, "mine")).content);
}

INSTANTIATE_TEST_SUITE_P(Readers, FencingToken,
                         testing::Values(FencingTokens::Readers::kThisNode,
                                         FencingTokens::Readers::kOtherNodes));

}  // namespace
}  // namespace regroup
