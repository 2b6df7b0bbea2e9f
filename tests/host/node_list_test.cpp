#include "runtime/host/node_list.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

using testing::HasSubstr;
using Nodes = std::vector<LaunchNode>;

TEST(NodeList, NamesNodesAndHowManyRanksTheyHold) {
  EXPECT_EQ(parse_nodes("n1:2,n2").value(), (Nodes{{"n1", 2}, {"n2", 1}}));
  EXPECT_EQ(parse_nodes(" n1:2 , n2.cluster.org ").value(),
            (Nodes{{"n1", 2}, {"n2.cluster.org", 1}}));
  EXPECT_EQ(parse_nodes("10.0.0.1:65536").value(), (Nodes{{"10.0.0.1", 65'536}}));
}

TEST(NodeList, OfANodeNamedTwiceHoldsBoth) {
  EXPECT_EQ(parse_nodes("n1,n2:3,n1:2").value(), (Nodes{{"n1", 3}, {"n2", 3}}));
}

TEST(NodeList, SaysWhatIsWrong) {
  EXPECT_THAT(parse_nodes("").error(), HasSubstr("no name"));
  EXPECT_THAT(parse_nodes("n1,,n2").error(), HasSubstr("no name"));
  EXPECT_THAT(parse_nodes("n1;rm").error(), HasSubstr("'n1;rm'"));
  EXPECT_THAT(parse_nodes("-oProxyCommand=x").error(), HasSubstr("no name"));
  EXPECT_THAT(parse_nodes("n1:0").error(), HasSubstr("'0' slots"));
  EXPECT_THAT(parse_nodes("n1:two").error(), HasSubstr("'two' slots"));
  EXPECT_THAT(parse_nodes("n1:65537").error(), HasSubstr("to 65536"));
  EXPECT_THAT(parse_nodes("n1:65536,n1").error(), HasSubstr("more than 65536"));
}

TEST(NodeList, ReadsAHostfile) {
  EXPECT_EQ(parse_hostfile("# of the cluster\nn1 slots=2 max_slots=4\n\n  n2:3 # the other\nn3\r\n")
                .value(),
            (Nodes{{"n1", 2}, {"n2", 3}, {"n3", 1}}));
  EXPECT_EQ(parse_hostfile("n1 \t slots=2").value(), (Nodes{{"n1", 2}}));
}

TEST(NodeList, NamesTheLineOfAHostfileThatIsWrong) {
  EXPECT_THAT(parse_hostfile("n1\nn2 slots=x\n").error(), HasSubstr("line 2: node n2"));
  EXPECT_THAT(parse_hostfile("n1\n\nn2 cpus=3\n").error(), HasSubstr("line 3: 'cpus'"));
  EXPECT_THAT(parse_hostfile("# nothing\n").error(), HasSubstr("no node"));
  EXPECT_THAT(read_hostfile("/nowhere/hosts").error(), HasSubstr("/nowhere/hosts: No such file"));
  const test::ScratchDirectory scratch;
  test::write_file(scratch.path() / "hosts", "n1 slots=0\n");
  EXPECT_THAT(read_hostfile(scratch.path() / "hosts").error(), HasSubstr("hosts: line 1"));
}

TEST(NodeList, IsWrittenAsItIsRead) {
  const Nodes nodes{{"n1", 2}, {"n2", 1}};
  EXPECT_EQ(node_words(nodes), "n1:2,n2:1");
  EXPECT_EQ(parse_nodes(node_words(nodes)).value(), nodes);
  EXPECT_EQ(slots_of(nodes), 3u);
}

}  // namespace
}  // namespace regroup
