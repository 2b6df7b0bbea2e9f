// What the doctor asks nodes, with programs that stand in for ssh, what it reads from their
// answers, and what it says of them.
#include "runtime/host/doctor_nodes.hpp"

#include <chrono>
#include <cstdlib>
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include "runtime/host/doctor_probe.hpp"
#include "runtime/host/host_identity.hpp"
#include "tests/host/doctor_facts.hpp"
#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

using test::check_of;
using test::healthy;
using test::healthy_with_nodes;
using test::row_of;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// ---- answers ----

constexpr const char* kAnswer =
    "Welcome to the cluster!\n"
    "regroup-node:host\nn7\n"
    "regroup-node:clock\n1700000003.250000000\n"
    "regroup-node:file\nseen\n"
    "regroup-node:lock\n"
    "regroup-node:program\nregroup 1.2.3\n"
    "regroup-node:networks\n"
    "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever\n"
    "2: eth0    inet 10.77.0.7/24 brd 10.77.0.255 scope global eth0\\  valid_lft forever\n"
    "regroup-node:end\n";

TEST(DoctorNodes, AnAnswerIsRead) {
  const NodeFacts facts = parse_node_answer("n7", kAnswer, 1700000000.0, 1700000000.5);

  EXPECT_EQ(facts.problem, "");
  EXPECT_EQ(facts.hostname, "n7");
  ASSERT_TRUE(facts.clock);
  EXPECT_NEAR(facts.clock->ahead_seconds, 3.0, 1e-5);
  EXPECT_NEAR(facts.clock->uncertainty_seconds, 0.25, 1e-5);
  EXPECT_TRUE(facts.sees_file);
  EXPECT_FALSE(facts.ignores_lock);
  EXPECT_EQ(facts.version, "1.2.3");
  const std::vector<LocalNetwork> networks = {
      {.interface = "lo", .ip = 0x7F000001, .mask = 0xFF000000, .loopback = true},
      {.interface = "eth0", .ip = 0x0A4D0007, .mask = 0xFFFFFF00}};
  EXPECT_EQ(facts.networks, networks);
}

TEST(DoctorNodes, WhatAnAnswerLacksIsNotThere) {
  const std::string bare =
      "regroup-node:host\nn7\nregroup-node:clock\nregroup-node:file\nregroup-node:lock\nfree\n"
      "regroup-node:program\nregroup: cannot open shared object\nregroup-node:networks\n"
      "garbage\n9: x inet 10.0.0.1/99\nregroup-node:end";

  const NodeFacts facts = parse_node_answer("n7", bare, 0, 0);

  EXPECT_EQ(facts.problem, "");
  EXPECT_FALSE(facts.clock);
  EXPECT_FALSE(facts.sees_file);
  EXPECT_TRUE(facts.ignores_lock);
  EXPECT_EQ(facts.version, "");
  EXPECT_TRUE(facts.networks.empty());
  EXPECT_NE(parse_node_answer("n7", "", 0, 0).problem, "");
  EXPECT_NE(parse_node_answer("n7", "regroup-node:host\nn7\n", 0, 0).problem, "");
}

TEST(DoctorNodes, AClockOfWholeSecondsIsLessCertain) {
  const NodeFacts facts = parse_node_answer(
      "n7", "regroup-node:clock\n1700000003.%N\nregroup-node:end\n", 1700000000.0, 1700000000.5);

  ASSERT_TRUE(facts.clock);
  EXPECT_NEAR(facts.clock->ahead_seconds, 3.25, 1e-5);
  EXPECT_NEAR(facts.clock->uncertainty_seconds, 0.75, 1e-5);
}

TEST(DoctorNodes, TheFirstComplaintIsTold) {
  EXPECT_EQ(first_complaint("\nssh: connect to host n1 port 22: Connection refused\r\nmore\n"),
            "ssh: connect to host n1 port 22: Connection refused");
  EXPECT_EQ(first_complaint("@@@@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!  @\n"),
            "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!");
  EXPECT_EQ(first_complaint("a\x1b[2Jb"), "a [2Jb") << "a terminal is not to obey it";
  EXPECT_LE(first_complaint(std::string(10'000, 'x')).size(), 200U);
  EXPECT_EQ(first_complaint(""), "");
}

// ---- asking ----

class AskNodes : public ::testing::Test {
 protected:
  AskNodes() { is_to("shift; exec sh -c \"$*\""); }

  // What the remote shell does with a host and a command.
  void is_to(const std::string& script) {
    test::write_file(shell(), "#!/bin/sh\n" + script + "\n");
    std::filesystem::permissions(shell(), std::filesystem::perms::owner_all);
  }
  std::string shell() const { return scratch_.path() / "shell"; }
  std::string program() {
    const std::filesystem::path path = scratch_.path() / "it's regroup";
    test::write_file(path, "#!/bin/sh\necho regroup 7.7\n");
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    return path;
  }
  std::vector<NodeFacts> ask(const std::vector<LaunchNode>& nodes, const std::string& file,
                             const AskLimits& limits = {}) {
    return ask_nodes(nodes, shell(), {.file = file, .program = program()}, limits);
  }

  test::ScratchDirectory scratch_;
};

TEST_F(AskNodes, ANodeThatIsAsThisOne) {
  const DirectoryProbe probe(scratch_.path());

  const auto answers = ask({{.name = "n1"}, {.name = "n2"}}, probe.file());

  ASSERT_EQ(answers.size(), 2U);
  for (const NodeFacts& answer : answers) {
    EXPECT_EQ(answer.problem, "");
    EXPECT_EQ(answer.hostname, own_host().hostname);
    EXPECT_TRUE(answer.sees_file);
    EXPECT_FALSE(answer.ignores_lock);
    EXPECT_EQ(answer.version, "7.7");
    ASSERT_TRUE(answer.clock);
    EXPECT_LE(std::abs(answer.clock->ahead_seconds), answer.clock->uncertainty_seconds + 0.01);
  }
  EXPECT_EQ(answers[1].name, "n2");
}

TEST_F(AskNodes, AFileThatIsNotThereIsNotSeenNorCreated) {
  const std::string file = scratch_.path() / "none";

  const auto answers = ask({{.name = "n1"}}, file);

  EXPECT_FALSE(answers[0].sees_file);
  EXPECT_FALSE(answers[0].ignores_lock);
  EXPECT_FALSE(std::filesystem::exists(file));
}

TEST_F(AskNodes, ALockThatDoesNotReachANodeIsNoticed) {
  const std::string file = scratch_.path() / "unlocked";
  test::write_file(file, "");

  EXPECT_TRUE(ask({{.name = "n1"}}, file)[0].ignores_lock);
}

TEST_F(AskNodes, EachHasTheReasonOfItsOwn) {
  is_to(
      "case $1 in\n"
      "n1) echo \"ssh: connect to host $1: Connection refused\" >&2; exit 255 ;;\n"
      "n2) exec sleep 60 ;;\n"
      "n3) exit 3 ;;\n"
      "n4) echo nologin ;;\n"
      "n5) shift; exec sh -c \"$*\" ;;\n"
      "esac");
  const auto begin = std::chrono::steady_clock::now();

  const auto answers =
      ask({{.name = "n1"}, {.name = "n2"}, {.name = "n3"}, {.name = "n4"}, {.name = "n5"}},
          scratch_.path(), {.each = std::chrono::milliseconds(2000)});

  EXPECT_EQ(answers[0].problem, "ssh: connect to host n1: Connection refused");
  EXPECT_THAT(answers[1].problem, HasSubstr("no answer within 2000 ms"));
  EXPECT_THAT(answers[2].problem, HasSubstr("status 3"));
  EXPECT_THAT(answers[3].problem, HasSubstr("did not run"));
  EXPECT_EQ(answers[4].problem, "");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

TEST_F(AskNodes, AllOfThemTogetherHaveATimeThatEnds) {
  is_to("exec sleep 60");
  const std::vector<LaunchNode> nodes = {{.name = "n1"}, {.name = "n2"}, {.name = "n3"}};

  const auto answers = ask(nodes, scratch_.path(),
                           {.nodes_at_once = 1,
                            .each = std::chrono::milliseconds(300),
                            .all = std::chrono::milliseconds(400)});

  EXPECT_THAT(answers[0].problem, HasSubstr("no answer"));
  EXPECT_THAT(answers[2].problem, HasSubstr("not asked"));
}

TEST_F(AskNodes, ThisNodeIsAskedWithoutAShell) {
  is_to("exit 255");

  EXPECT_EQ(ask({{.name = own_host().hostname}}, scratch_.path())[0].problem, "");
  EXPECT_EQ(ask({{.name = "localhost"}}, scratch_.path())[0].problem, "");
}

TEST_F(AskNodes, SshAsksForNothing) {
  const std::filesystem::path ssh = scratch_.path() / "ssh";
  std::filesystem::rename(shell(), ssh);
  test::write_file(ssh, "#!/bin/sh\necho \"$@\" >&2; exit 255\n");

  const auto answers = ask_nodes({{.name = "n1"}}, ssh, {.file = "/f", .program = "/p"});

  EXPECT_THAT(answers[0].problem, AllOf(HasSubstr("BatchMode=yes"),
                                        HasSubstr("-o ConnectTimeout=8 "), HasSubstr(" n1 echo ")));
}

// ---- findings ----

TEST(DoctorNodes, WithoutNodesThatIsSaid) {
  EXPECT_EQ(check_of(healthy(), "nodes").status, CheckStatus::kOk);
  EXPECT_THAT(check_of(healthy(), "nodes").found, HasSubstr("none were named"));
  for (const char* name : {"shared directory", "program on nodes", "clocks", "network"}) {
    EXPECT_FALSE(row_of(healthy(), name)) << name;
  }
}

TEST(DoctorNodes, HealthyNodesNeedNothing) {
  const DoctorReport report = judge(healthy_with_nodes(3));

  EXPECT_TRUE(report.ready());
  for (const DoctorCheck& check : report.checks) {
    EXPECT_EQ(check.status, CheckStatus::kOk) << check.name << ": " << check.found;
  }
  EXPECT_THAT(check_of(healthy_with_nodes(3), "network").found,
              HasSubstr("all have 10.77.0.0/24 (ib0)"));
}

TEST(DoctorNodes, NodesThatDoNotAnswerAreNamedWithTheirReasons) {
  DoctorFacts facts = healthy_with_nodes(3);
  facts.nodes[1].problem = "ada@n2: Permission denied (publickey).";
  facts.nodes[2].problem = "Host key verification failed.";

  const DoctorCheck row = check_of(facts, "nodes");

  EXPECT_EQ(row.status, CheckStatus::kMissing);
  EXPECT_FALSE(judge(facts).ready());
  EXPECT_THAT(row.found, AllOf(HasSubstr("2 of 3"), HasSubstr("n2: ada@n2: Permission denied"),
                               HasSubstr("n3: Host key")));
  EXPECT_THAT(row.found, Not(HasSubstr("n1")));
  EXPECT_THAT(row.advice, AllOf(HasSubstr("ssh-copy-id"), HasSubstr("ssh-keyscan")));
}

TEST(DoctorNodes, NodesOfAnAllocationAreSlurmsToTellOf) {
  DoctorFacts facts = healthy_with_nodes(2);
  facts.remote_shell = "/usr/bin/srun";
  facts.nodes[0].problem = "srun: error: Unable to create step for job 1";

  EXPECT_THAT(check_of(facts, "nodes").advice, HasSubstr("scontrol show node"));
}

TEST(DoctorNodes, ManyThatDoNotAnswerAreCounted) {
  DoctorFacts facts = healthy_with_nodes(100);
  for (NodeFacts& node : facts.nodes) node.problem = "Connection refused";

  const DoctorCheck row = check_of(facts, "nodes");

  EXPECT_THAT(row.found, AllOf(HasSubstr("100 of 100"), HasSubstr("and 95 more")));
  EXPECT_LT(row.found.size() + row.advice.size(), 500U);
  EXPECT_FALSE(row_of(facts, "clocks")) << "nobody told the time";
}

TEST(DoctorNodes, OneMachineUnderTwoNamesIsWarnedOf) {
  DoctorFacts facts = healthy_with_nodes(3);
  facts.nodes[2].hostname = "n1";

  EXPECT_EQ(check_of(facts, "nodes").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(facts, "nodes").found, HasSubstr("n3"));
}

TEST(DoctorNodes, ADirectoryThatNodesDoNotSeeIsNoPlaceForARun) {
  DoctorFacts facts = healthy_with_nodes(3);
  facts.nodes[1].sees_file = false;

  EXPECT_EQ(check_of(facts, "shared directory").status, CheckStatus::kMissing);
  EXPECT_THAT(check_of(facts, "shared directory").found,
              AllOf(StartsWith("n2 "), HasSubstr("/scratch/ada")));
  EXPECT_FALSE(judge(facts).ready());
}

TEST(DoctorNodes, ALocalDirectoryIsWarnedOfUnlessNodesSeeIt) {
  DoctorFacts facts = healthy_with_nodes(2);
  facts.directory->type = 0xEF53;
  EXPECT_EQ(check_of(facts, "directory").status, CheckStatus::kOk) << "they see it";
  EXPECT_EQ(check_of(facts, "directory").advice, "");

  facts.nodes[0].sees_file = false;
  EXPECT_EQ(check_of(facts, "directory").status, CheckStatus::kWarning);
  for (NodeFacts& node : facts.nodes) node.problem = "Connection refused";
  EXPECT_EQ(check_of(facts, "directory").status, CheckStatus::kWarning) << "nobody knows";
}

TEST(DoctorNodes, LocksThatDoNotReachNodesAreWarnedOf) {
  DoctorFacts facts = healthy_with_nodes(2);
  facts.nodes[1].ignores_lock = true;

  EXPECT_EQ(check_of(facts, "shared directory").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(facts, "shared directory").advice, HasSubstr("localflock"));
}

TEST(DoctorNodes, TheProgramIsToBeThereInTheSameVersion) {
  DoctorFacts other = healthy_with_nodes(3);
  other.nodes[0].version = "1.0.0";
  DoctorFacts without = other;
  without.nodes[2].version.clear();

  EXPECT_EQ(check_of(other, "program on nodes").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(other, "program on nodes").found, HasSubstr("on n1"));
  EXPECT_EQ(check_of(without, "program on nodes").status, CheckStatus::kMissing);
  EXPECT_THAT(check_of(without, "program on nodes").found,
              HasSubstr("/opt/regroup does not run on n3"));
}

TEST(DoctorNodes, ClockSkewIsToldBeyondWhatIsUncertain) {
  const auto row = [](double ahead, double uncertainty) {
    DoctorFacts facts = healthy_with_nodes(3);
    facts.nodes[1].clock = ClockReading{ahead, uncertainty};
    return check_of(facts, "clocks");
  };

  EXPECT_EQ(row(0.9, 0.05).status, CheckStatus::kOk);
  EXPECT_THAT(row(0.9, 0.05).found, HasSubstr("n2 +0.90 s (give or take 0.05 s)"));
  EXPECT_EQ(row(1.2, 0.05).status, CheckStatus::kWarning);
  EXPECT_EQ(row(-30, 0.05).status, CheckStatus::kWarning);
  EXPECT_THAT(row(-30, 0.05).found, HasSubstr("n2 -30.00 s"));
  EXPECT_EQ(row(3, 2.5).status, CheckStatus::kOk) << "a slow shell is no skew";
}

TEST(DoctorNodes, TheNetworkIsToBeOnAllNodes) {
  DoctorFacts facts = healthy_with_nodes(3);
  facts.network = "10.77.0.0/16";
  EXPECT_EQ(check_of(facts, "network").status, CheckStatus::kOk);

  facts.nodes[1].networks.pop_back();
  EXPECT_EQ(check_of(facts, "network").status, CheckStatus::kMissing);
  EXPECT_THAT(check_of(facts, "network").found, StartsWith("n2 has no address"));
  facts.nodes[1].networks.clear();
  EXPECT_EQ(check_of(facts, "network").status, CheckStatus::kOk) << "it did not tell";
  facts.network = "eth7";
  EXPECT_THAT(check_of(facts, "network").found, StartsWith("this node, n1, n3 has no address"));
}

TEST(DoctorNodes, ABridgeThatEveryNodeHasForItselfIsWarnedOf) {
  DoctorFacts facts = healthy_with_nodes(2);
  for (NodeFacts& node : facts.nodes) {
    node.networks.insert(node.networks.begin(),
                         {.interface = "docker0", .ip = 0xAC110001, .mask = 0xFFFF0000});
  }

  EXPECT_EQ(check_of(facts, "network").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(facts, "network").found, HasSubstr("docker0"));
  EXPECT_THAT(check_of(facts, "network").advice, HasSubstr("--network 10.77.0.0/24"));
  facts.network = "ib0";
  EXPECT_EQ(check_of(facts, "network").status, CheckStatus::kOk);
}

}  // namespace
}  // namespace regroup
