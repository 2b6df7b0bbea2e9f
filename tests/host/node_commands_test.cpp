#include "runtime/host/node_commands.hpp"

#include <chrono>
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

// A program that is called as ssh is, and runs commands here: on n1; not on others.
class NodeCommands : public testing::Test {
 protected:
  NodeCommands() {
    test::write_file(program(),
                     "#!/bin/sh\nhost=$1; shift\n[ $host = slow ] && sleep 60\n"
                     "[ $host = n1 ] || { echo no route to $host >&2; exit 255; }\n"
                     "exec sh -c \"$*\"\n");
    std::filesystem::permissions(program(), std::filesystem::perms::owner_all);
  }
  std::string program() const { return (scratch_.path() / "shell").string(); }

 private:
  test::ScratchDirectory scratch_;
};

TEST_F(NodeCommands, AnswerInTheOrderOfTheNodes) {
  const auto answers = run_on_nodes({{"n2", 1}, {"n1", 1}}, program(), "echo here; exit 7", 10s);
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[0].value().exit_code, 255);
  EXPECT_THAT(answers[0].value().standard_error, HasSubstr("no route to n2"));
  EXPECT_EQ(answers[1].value().exit_code, 7);
  EXPECT_EQ(answers[1].value().standard_output, "here\n");
}

TEST_F(NodeCommands, NoNodeHoldsUpTheOthers) {
  std::vector<LaunchNode> nodes(2 * kNodesAtOnce, {"n1", 1});
  nodes.front().name = "slow";
  const auto begin = std::chrono::steady_clock::now();
  const auto answers = run_on_nodes(nodes, program(), "true", 2s);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 30s);
  EXPECT_FALSE(answers.front());
  for (std::size_t i = 1; i < answers.size(); ++i) EXPECT_TRUE(answers[i].value().ok()) << i;
}

TEST_F(NodeCommands, TheNodeThatThisIsNeedsNoRemoteShell) {
  char own[256] = "";
  ASSERT_EQ(gethostname(own, sizeof own - 1), 0);
  const auto answers = run_on_nodes({{own, 1}}, "/nowhere/ssh", "echo here", 10s);
  EXPECT_EQ(answers.front().value().standard_output, "here\n");
}

}  // namespace
}  // namespace regroup
