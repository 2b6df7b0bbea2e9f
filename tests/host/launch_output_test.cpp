// What mpirun printed is quoted from runs of Open MPI 4.1.4 and 5.0.7 whose ranks were killed.
#include "runtime/host/launch_output.hpp"

#include <gtest/gtest.h>

namespace regroup {
namespace {

using enum LaunchOutput::KnownNoise;

const std::string kRule = std::string(74, '-') + "\n";
const std::string kDeath41 = kRule +
                             "mpirun noticed that process rank 2 with PID 0 on node n1 exited on "
                             "signal 9 (Killed).\n" +
                             kRule;
const std::string kDeath5 = kRule +
                            "prterun noticed that process rank 0 with PID 19 on node vm exited on\n"
                            "signal 11 (Segmentation fault).\n" +
                            kRule;
const std::string kEvent =
    "[vm:25198] PMIX ERROR: BAD-PARAM in file ../../../src/event/pmix_event_notification.c at line "
    "1033\n";
const std::string kEpoll =
    "[warn] Epoll MOD(1) on fd 26 failed. Old events were 6; read change was 0 (none): Bad file "
    "descriptor\n";
const std::string kBrokenConnection =
    "[n1:00017] ../../../../../../ompi/mca/pml/ucx/pml_ucx.c:860  Error: ucx send failed: Endpoint "
    "timeout\n";
const std::string kLostDaemon5 = kRule +
                                 "PRTE has lost communication with a remote daemon.\n\n"
                                 "  HNP daemon   : [prterun-head-94@0,0] on node head\n"
                                 "  Remote daemon: [prterun-head-94@0,2] on node n2\n\n"
                                 "This is usually due to either a failure of the TCP network\n"
                                 "connection to the node, or possibly an internal failure of\n"
                                 "the daemon itself. We cannot recover from this failure, and\n"
                                 "therefore will terminate the job.\n" +
                                 kRule;
const std::string kOther = kRule + "There are not enough slots available in the system.\n" + kRule;

// Byte by byte is the worst way for text to arrive.
std::string passed(LaunchOutput& output, const std::string& text) {
  std::string shown;
  for (const char byte : text) shown += output.take({&byte, 1});
  return shown + output.release();
}

TEST(LaunchOutput, PassesEverythingWhereDeathsEndTheRun) {
  LaunchOutput output(kShow);
  const std::string text = "regroup: a line\n" + kEvent + kDeath41 + kOther + "[vm] end";
  EXPECT_EQ(passed(output, text), text);
}

TEST(LaunchOutput, LeavesOutWhatIsSaidOfADeathThatIsSurvived) {
  LaunchOutput output(kHide);
  EXPECT_EQ(passed(output, "before\n" + kEvent + kDeath41 + kDeath5 + kEpoll + kBrokenConnection +
                               "after\n"),
            "before\nafter\n");
}

TEST(LaunchOutput, NamesTheNodeWhoseDaemonIsLost) {
  LaunchOutput output(kHide);
  EXPECT_EQ(output.loss(), "");
  EXPECT_EQ(passed(output, kLostDaemon5), "");
  EXPECT_EQ(output.loss(), "node n2 was lost");
  EXPECT_EQ(output.take(std::string_view("\0", 1)), "");
  EXPECT_EQ(output.take("regroup: more\n"), "regroup: more\n");
}

TEST(LaunchOutput, SaysWhichRankWasLost) {
  LaunchOutput output(kHide);
  passed(output, kDeath41 + kLostDaemon5);
  EXPECT_EQ(output.loss(), "rank 2 on node n1 was killed by signal 9");
}

TEST(LaunchOutput, KeepsWhatItDoesNotKnow) {
  LaunchOutput output(kHide);
  const std::string text = kOther + "[vm:7] ORTE_ERROR_LOG: Out of resource\n- item\n--\n" + kOther;
  EXPECT_EQ(passed(output, text), text);
}

TEST(LaunchOutput, HoldsNothingOfAProgressLine) {
  LaunchOutput output(kHide);
  EXPECT_EQ(output.take("\r 12 % of"), "\r 12 % of");
  EXPECT_EQ(output.take(" [##  ]"), " [##  ]");
  EXPECT_EQ(output.take("\n["), "\n");
  EXPECT_EQ(output.take("###"), "");
  EXPECT_EQ(output.release(), "[###");
  EXPECT_EQ(output.take("-"), "-");
}

TEST(LaunchOutput, ShowsAMessageThatDoesNotEnd) {
  LaunchOutput output(kHide);
  EXPECT_EQ(output.take(kRule + "mpirun noticed"), "");
  EXPECT_EQ(output.release(), kRule + "mpirun noticed");
  const std::string line = "an endless message\n";
  std::string shown = output.take(kRule);
  std::size_t sent = kRule.size();
  while (shown.empty() && sent < 2 * LaunchOutput::kMessageBytesMax) {
    shown += output.take(line);
    sent += line.size();
  }
  EXPECT_EQ(shown.size(), sent);
  EXPECT_LE(sent, LaunchOutput::kMessageBytesMax + line.size());
}

TEST(LaunchOutput, HidesWhatAnMpirunSaysThatWasToldToEnd) {
  LaunchOutput output(kShow);
  output.hide_messages();
  EXPECT_EQ(passed(output, kOther + kEvent + "regroup: still heard\n"), "regroup: still heard\n");
}

TEST(LaunchOutput, FindsTheFirstRankThatWasLost) {
  for (const auto noise : {kShow, kHide}) {
    LaunchOutput output(noise);
    EXPECT_FALSE(output.lost());
    passed(output, kOther + kDeath5 + kDeath41);
    EXPECT_EQ(output.lost(), (LostRank{0, "vm", 11}));
  }
  LaunchOutput output(kShow);
  passed(output, kDeath41);
  ASSERT_EQ(output.lost(), (LostRank{2, "n1", 9}));
  EXPECT_EQ(lost_text(*output.lost()), "rank 2 on node n1 was killed by signal 9");
}

TEST(LaunchOutput, MakesNothingOfHalfAMessage) {
  LaunchOutput output(kShow);
  passed(output, kRule + "mpirun noticed that process rank x with PID 0 on node n1\n" + kRule);
  passed(output, "mpirun noticed that process rank 2 with PID 0 on node n1 exited on signal 9 \n");
  EXPECT_FALSE(output.lost());
}

}  // namespace
}  // namespace regroup
