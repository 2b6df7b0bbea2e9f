#include "runtime/host/launcher.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "runtime/host/mpi_session.hpp"
#include "runtime/host/recovery_backend.hpp"
#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

using test::ScratchDirectory;
using testing::HasSubstr;

// Variables as a launcher would set them, for the time of a test; empty values are unset.
class Environment {
 public:
  using Settings = std::vector<std::pair<std::string, std::string>>;

  explicit Environment(Settings settings) {
    for (const char* name : {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE",
                             "PMIX_RANK", "SLURM_NTASKS", "SLURM_PROCID"}) {
      keep(name);
      ::unsetenv(name);
    }
    for (const auto& [name, value] : settings) {
      keep(name.c_str());
      ::setenv(name.c_str(), value.c_str(), 1);
    }
  }
  ~Environment() {
    for (auto kept = before_.rbegin(); kept != before_.rend(); ++kept) {
      if (kept->second) {
        ::setenv(kept->first.c_str(), kept->second->c_str(), 1);
      } else {
        ::unsetenv(kept->first.c_str());
      }
    }
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  void keep(const char* name) {
    const char* const value = std::getenv(name);
    before_.emplace_back(name, value ? std::optional<std::string>(value) : std::nullopt);
  }
  std::vector<std::pair<std::string, std::optional<std::string>>> before_;
};

void expect_rank(const std::optional<LaunchedRank>& launched, std::uint32_t rank,
                 std::uint32_t ranks) {
  ASSERT_TRUE(launched);
  EXPECT_EQ(launched->rank, rank);
  EXPECT_EQ(launched->ranks, ranks);
}

TEST(LaunchedRank, NobodyLaunchedIt) {
  const Environment environment({});
  EXPECT_FALSE(launched_rank());
}

TEST(LaunchedRank, OpenMpiSaysRankAndSize) {
  const Environment environment({{"OMPI_COMM_WORLD_RANK", "3"}, {"OMPI_COMM_WORLD_SIZE", "8"}});
  expect_rank(launched_rank(), 3, 8);
}

TEST(LaunchedRank, PmiSaysRankAndSize) {
  const Environment environment({{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}});
  expect_rank(launched_rank(), 0, 2);
}

TEST(LaunchedRank, PmixTakesTheSizeFromSlurm) {
  const Environment environment({{"PMIX_RANK", "5"}, {"SLURM_NTASKS", "16"}});
  expect_rank(launched_rank(), 5, 16);
}

TEST(LaunchedRank, ABatchScriptOfSlurmIsNoRank) {
  const Environment environment({{"SLURM_NTASKS", "16"}, {"SLURM_PROCID", "0"}});
  EXPECT_FALSE(launched_rank());
}

TEST(LaunchedRank, HalfOrGarbledVariablesAreNone) {
  for (const auto& settings : std::vector<std::vector<std::pair<std::string, std::string>>>{
           {{"OMPI_COMM_WORLD_RANK", "3"}},
           {{"OMPI_COMM_WORLD_RANK", "x"}, {"OMPI_COMM_WORLD_SIZE", "8"}},
           {{"OMPI_COMM_WORLD_RANK", "3 "}, {"OMPI_COMM_WORLD_SIZE", "8"}},
           {{"OMPI_COMM_WORLD_RANK", "-1"}, {"OMPI_COMM_WORLD_SIZE", "8"}},
           {{"PMI_RANK", ""}, {"PMI_SIZE", "2"}},
           {{"PMIX_RANK", "99999999999"}}}) {
    const Environment environment(settings);
    EXPECT_FALSE(launched_rank()) << settings.front().first << "=" << settings.front().second;
  }
}

// A PATH with one mpirun, which does nothing.
class MpirunOnPath {
 public:
  MpirunOnPath() {
    test::write_file(file(), "#!/bin/sh\n");
    std::filesystem::permissions(file(), std::filesystem::perms::owner_all);
  }
  std::filesystem::path file() const { return directory_.path() / "mpirun"; }

 private:
  ScratchDirectory directory_;
  Environment environment_{{{"PATH", directory_.path().string()}}};
};

TEST(MpirunCommand, StartsTheRanksAndLeavesBindingToRegroup) {
  const MpirunOnPath mpirun;
  const auto command = mpirun_command({.ranks = 7}, {"/opt/program", "run", "job", "-n", "7"});
  ASSERT_TRUE(command) << command.error();
  EXPECT_EQ(command->front(), mpirun.file().string());
  EXPECT_THAT(*command, testing::IsSupersetOf({"-n", "7", "--bind-to", "none", "--oversubscribe"}));
  const std::vector<std::string> end(command->end() - 5, command->end());
  EXPECT_THAT(end, testing::ElementsAre("/opt/program", "run", "job", "-n", "7"));
}

TEST(MpirunCommand, LinesThatNeverEndPassAtOnce) {
  const MpirunOnPath mpirun;
  const auto command = mpirun_command({.ranks = 2}, {"program"});
  ASSERT_TRUE(command) << command.error();
  const auto flag = std::ranges::find(*command, "--output");
  ASSERT_EQ(flag != command->end(), open_mpi_major() >= 5);
  if (flag != command->end()) {
    EXPECT_EQ(*(flag + 1), ":raw");
  }
}

TEST(MpirunCommand, LetsSurvivorsLiveOnlyWhenTold) {
  const MpirunOnPath mpirun;
  const auto flags = survival_flags(backend_to_launch(RecoveryChoice::kAuto));
  const auto has_flags = [&](const std::vector<std::string>& command) {
    return !std::ranges::search(command, flags).empty();
  };
  EXPECT_TRUE(has_flags(*mpirun_command({.ranks = 2, .survive = true}, {"program"})));
  EXPECT_FALSE(has_flags(*mpirun_command({.ranks = 2, .survive = false}, {"program"})));
  EXPECT_EQ(has_flags(*mpirun_command({.ranks = 2}, {"program"})), kSurviveByDefault);
}

TEST(MpirunCommand, AsksForUlfmWhereItIsAndIsWanted) {
  const MpirunOnPath mpirun;
  const auto asks = [](RecoveryChoice choice) {
    const auto command = mpirun_command({.ranks = 2, .recovery = choice}, {"program"});
    const bool ulfm = std::ranges::find(*command, "--with-ft") != command->end();
    const bool stock = std::ranges::find(*command, "--enable-recovery") != command->end();
    EXPECT_NE(ulfm, stock);
    return ulfm;
  };
  EXPECT_EQ(asks(RecoveryChoice::kAuto), built_with_ulfm());
  EXPECT_FALSE(asks(RecoveryChoice::kStock));
}

// Whether these words stand in it, one after the other.
bool has(const std::vector<std::string>& command, const std::vector<std::string>& words) {
  return !std::ranges::search(command, words).empty();
}

TEST(MpirunCommand, LeavesNodesToMpirunUnlessToldOtherwise) {
  const MpirunOnPath mpirun;
  const auto command = mpirun_command({.ranks = 2, .remote_shell = {"program"}}, {"program"});
  EXPECT_FALSE(has(*command, {"-H"}));
  EXPECT_FALSE(has(*command, {"plm"}));
  EXPECT_FALSE(has(*command, {"pml", "ucx"})) << "shared memory is faster";
}

TEST(MpirunCommand, StartsRanksOnNodesByAShellThatHidesLosses) {
  const MpirunOnPath mpirun;
  const LaunchOptions options{.ranks = 3,
                              .nodes = {{"n1", 2}, {"n2", 1}},
                              .remote_shell = {"/opt/regroup", "remote-shell", "ssh"},
                              .network = "eth0",
                              .variables = {"REGROUP_SEED"}};
  const auto command = mpirun_command(options, {"program"});
  ASSERT_TRUE(command) << command.error();
  EXPECT_TRUE(has(*command, {"-H", "n1:2,n2:1"}));
  EXPECT_TRUE(has(*command, {"-x", "REGROUP_SEED"}));
  const bool five = open_mpi_major() >= 5;
  const std::string agent = five ? "plm_ssh_agent" : "plm_rsh_agent";
  EXPECT_TRUE(has(*command, {agent, "/opt/regroup remote-shell ssh"}));
  EXPECT_TRUE(has(*command, {five ? "prte_if_include" : "oob_tcp_if_include", "eth0"}));
  EXPECT_EQ(has(*command, {"pml", "ucx"}), !five) << "other transports wedge survivors in 4.1";
  EXPECT_TRUE(has(*command, {"ras", "^slurm"})) << "the nodes are those that were named";
  EXPECT_TRUE(has(*command, {five ? "plm_ssh_no_tree_spawn" : "plm_rsh_no_tree_spawn", "1"}));
  EXPECT_EQ(has(*command, {"routed", "direct"}), !five) << "a daemon's loss is its own alone";
}

TEST(MpirunCommand, DaemonsStayWithTheirShellsWhereThatIsWanted) {
  const MpirunOnPath mpirun;
  LaunchOptions options{.ranks = 200, .remote_shell = {"/opt/regroup", "remote-shell", "srun"}};
  for (int node = 0; node < 200; ++node) options.nodes.push_back({"n" + std::to_string(node), 1});
  const bool five = open_mpi_major() >= 5;
  const std::string stay = five ? "prte_leave_session_attached" : "orte_leave_session_attached";
  EXPECT_FALSE(has(*mpirun_command(options, {"program"}), {stay}));
  options.daemons_stay = true;
  const auto command = mpirun_command(options, {"program"});
  EXPECT_TRUE(has(*command, {stay, "1"}));
  EXPECT_TRUE(has(*command, {five ? "plm_ssh_num_concurrent" : "plm_rsh_num_concurrent", "200"}))
      << "or mpirun refuses";
}

TEST(MpirunCommand, TagsWhatRanksWriteIfThatIsWanted) {
  const MpirunOnPath mpirun;
  const bool five = open_mpi_major() >= 5;
  const std::vector<std::string> flags =
      five ? std::vector<std::string>{"--output", "tag"} : std::vector<std::string>{"--tag-output"};
  EXPECT_TRUE(has(*mpirun_command({.ranks = 2, .tag_output = true}, {"program"}), flags));
  EXPECT_FALSE(has(*mpirun_command({.ranks = 2}, {"program"}), flags));
}

TEST(MpirunCommand, RefusesAShellThatMpirunWouldTakeApart) {
  const MpirunOnPath mpirun;
  const LaunchOptions options{
      .ranks = 2, .nodes = {{"n1", 2}}, .remote_shell = {"/my programs/regroup"}};
  EXPECT_THAT(mpirun_command(options, {"program"}).error(), HasSubstr("a space or a colon"));
}

TEST(ShellText, IsWhatAShellTakesApartAgain) {
  EXPECT_EQ(shell_text({"mpirun", "-n", "2", "--dir", "/a/b"}), "mpirun -n 2 --dir /a/b");
  EXPECT_EQ(shell_text({"two words", "", "$HOME", "it's"}), R"('two words' '' '$HOME' 'it'\''s')");
}

TEST(MpirunCommand, SaysWhatToDoWithoutMpirun) {
  const ScratchDirectory empty;
  const Environment environment({{"PATH", empty.path().string()}});
  const auto command = mpirun_command({.ranks = 2}, {"program"});
  ASSERT_FALSE(command);
  EXPECT_THAT(command.error(), HasSubstr("mpirun is not on PATH"));
  EXPECT_THAT(command.error(), HasSubstr("install Open MPI"));
  EXPECT_THAT(command.error(), Not(HasSubstr("\n")));
}

std::expected<int, std::string> shell(const std::string& script,
                                      const std::vector<std::string>& settings = {},
                                      const Watch& watch = {}) {
  return run_in_foreground({"/bin/sh", "-c", script}, settings, watch);
}

TEST(RunInForeground, ReturnsTheExitStatus) {
  EXPECT_EQ(shell("exit 0"), 0);
  EXPECT_EQ(shell("exit 75"), 75);
}

TEST(RunInForeground, ReturnsTheSignalThatEndedTheChild) {
  EXPECT_EQ(shell("kill -KILL $$"), 128 + SIGKILL);
  EXPECT_EQ(shell("kill -SEGV $$"), 128 + SIGSEGV);
}

TEST(RunInForeground, SaysWhatCannotBeStarted) {
  const auto ended = run_in_foreground({"/nowhere/mpirun", "-n", "2"}, {});
  ASSERT_FALSE(ended);
  EXPECT_THAT(ended.error(), HasSubstr("/nowhere/mpirun cannot be started"));
  EXPECT_THAT(ended.error(), Not(HasSubstr("\n")));
}

TEST(RunInForeground, SettingsComeBeforeTheOwnEnvironment) {
  const Environment environment({{"REGROUP_TEST_KEPT", "kept"}, {"REGROUP_TEST_SET", "old"}});
  EXPECT_EQ(shell("[ \"$REGROUP_TEST_SET\" = new ] && [ \"$REGROUP_TEST_KEPT\" = kept ]",
                  {"REGROUP_TEST_SET=new"}),
            0);
}

TEST(RunInForeground, ArgumentsReachTheChildAsTheyAre) {
  const auto ended = run_in_foreground(
      {"/bin/sh", "-c", "[ \"$1\" = 'a b' ] && [ \"$2\" = '' ] && [ \"$3\" = '*' ]", "sh", "a b",
       "", "*"},
      {});
  EXPECT_EQ(ended, 0);
}

// The child says that its trap is set by making a file; only then is the signal sent to this
// process.
int forwarded(int signal, const std::string& name, const std::string& reaction = "exit 42",
              const Watch& watch = {}) {
  const ScratchDirectory scratch;
  const std::filesystem::path ready = scratch.path() / "ready";
  std::atomic<bool> child_ended = false;
  std::thread sender([&] {
    while (!std::filesystem::exists(ready) && !child_ended) std::this_thread::yield();
    if (!child_ended) ::kill(::getpid(), signal);
  });
  const auto ended = shell("trap '" + reaction + "' " + name + "; : > '" + ready.string() +
                               "'; i=0; while [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done",
                           {}, watch);
  child_ended = true;
  sender.join();
  return ended.value_or(-1);
}

TEST(RunInForeground, PassesSignalsOnToTheChild) {
  EXPECT_EQ(forwarded(SIGTERM, "TERM"), 42);
  EXPECT_EQ(forwarded(SIGINT, "INT"), 42);
  EXPECT_EQ(forwarded(SIGUSR1, "USR1"), 42);
  EXPECT_EQ(forwarded(SIGUSR2, "USR2"), 42);
}

// As mpirun does while it starts its ranks: the first one is lost.
TEST(RunInForeground, SaysAgainThatTheCommandIsToStop) {
  Watch watch;
  watch.stop_signal = SIGUSR1;
  watch.stop_within = std::chrono::seconds(30);
  EXPECT_EQ(forwarded(SIGTERM, "USR1", "[ -n \"$told\" ] && exit 42; told=1", watch), 42);
}

TEST(LauncherDirectory, IsThereForOpenMpi5UntilItIsOver) {
  const ScratchDirectory scratch;
  const Environment environment({{"TMPDIR", scratch.path().string()}});
  {
    const LauncherDirectory directory;
    const auto settings = directory.settings();
    ASSERT_EQ(settings.size(), open_mpi_major() >= 5 ? 1u : 0u);
    for (const std::string& setting : settings) {
      const std::filesystem::path path = setting.substr(setting.find('=') + 1);
      EXPECT_EQ(path.parent_path(), scratch.path());
      test::write_file(path / "left", "");
    }
  }
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path()));
}

TEST(LauncherDirectory, LeavesTheUsersOwnAlone) {
  const ScratchDirectory scratch;
  for (const char* name : {"PRTE_MCA_prte_local_tmpdir_base", "PRTE_MCA_prte_tmpdir_base"}) {
    const Environment environment(
        Environment::Settings{{"TMPDIR", scratch.path().string()}, {name, "/elsewhere"}});
    EXPECT_TRUE(LauncherDirectory().settings().empty()) << name;
    EXPECT_TRUE(std::filesystem::is_empty(scratch.path())) << name;
  }
}

TEST(StopSignalPassedOn, IsThatOfTheLastRun) {
  forwarded(SIGTERM, "TERM");
  EXPECT_EQ(stop_signal_passed_on(), SIGTERM);
  forwarded(SIGINT, "INT");
  EXPECT_EQ(stop_signal_passed_on(), SIGINT);
  forwarded(SIGUSR1, "USR1");
  EXPECT_EQ(stop_signal_passed_on(), SIGUSR1);
  forwarded(SIGUSR2, "USR2");
  EXPECT_EQ(stop_signal_passed_on(), 0);
}

std::atomic<int> handled = 0;

TEST(RunInForeground, GivesTheSignalsBackAfterwards) {
  const auto before = std::signal(SIGUSR1, [](int) { ++handled; });
  EXPECT_EQ(shell("exit 0"), 0);
  std::raise(SIGUSR1);
  std::signal(SIGUSR1, before);
  EXPECT_EQ(handled, 1);
}

TEST(RunInForeground, HandsOverWhatTheChildSaysOnStandardError) {
  std::string heard;
  bool quiet = false;
  Watch watch;
  watch.on_error_output = [&](std::string_view bytes) {
    heard += bytes;
    quiet |= bytes.empty();
  };
  const ScratchDirectory scratch;
  const std::string go = (scratch.path() / "go").string();
  watch.is_over = [&] {
    if (quiet) test::write_file(go, "");
    return false;
  };
  const auto ended = run_in_foreground({"/bin/sh", "-c",
                                        "printf one >&2; while [ ! -e " + go +
                                            " ]; do sleep 0.01; done; "
                                            "printf ' two' >&2; exit 5"},
                                       {}, watch);
  EXPECT_EQ(ended, 5);
  EXPECT_EQ(heard, "one two");
  EXPECT_TRUE(quiet);
}

// A grandchild that holds the stream open does not hold up the end.
TEST(RunInForeground, DoesNotWaitForWhoeverElseHoldsStandardErrorOpen) {
  Watch watch;
  std::string heard;
  watch.on_error_output = [&](std::string_view bytes) { heard += bytes; };
  const auto begin = std::chrono::steady_clock::now();
  const auto ended =
      run_in_foreground({"/bin/sh", "-c", "sleep 30 & echo $! >&2; exit 4"}, {}, watch);
  EXPECT_EQ(ended, 4);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
  const int holder = std::atoi(heard.c_str());
  ASSERT_GT(holder, 1) << heard;
  ::kill(holder, SIGKILL);
}

TEST(RunInForeground, EndsAChildThatIsOverAndStays) {
  int terminated = 0;
  Watch watch{.is_over = [] { return true; },
              .leave = std::chrono::milliseconds(1),
              .terminate = std::chrono::milliseconds(1),
              .on_terminate = [&] { ++terminated; }};
  const std::string stay = "i=0; while [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done";
  EXPECT_EQ(run_in_foreground({"/bin/sh", "-c", stay}, {}, watch), 128 + SIGTERM);
  EXPECT_EQ(terminated, 1);
  EXPECT_EQ(run_in_foreground({"/bin/sh", "-c", "trap '' TERM; " + stay}, {}, watch),
            128 + SIGKILL);
  EXPECT_EQ(terminated, 2);
}

TEST(RunInForeground, LetsAChildThatIsOverLeaveByItself) {
  Watch watch{.is_over = [] { return true; }};
  EXPECT_EQ(run_in_foreground({"/bin/sh", "-c", "sleep 0.3; exit 6"}, {}, watch), 6);
}

TEST(OwnProgram, IsThisTest) {
  EXPECT_TRUE(std::filesystem::equivalent(own_program(), "/proc/self/exe"));
}

}  // namespace
}  // namespace regroup
