// Sees a run to its end from outside: starts its ranks with mpirun and watches what they leave in
// the run directory, which alone says how a run ended. When the ranks cannot go on by themselves,
// it clears away what is left of them and starts others from the newest checkpoint that is right,
// on the nodes that still answer.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "jobs/run_options.hpp"
#include "runtime/host/launch_output.hpp"
#include "runtime/host/launcher.hpp"
#include "runtime/host/run_directory.hpp"
#include "runtime/protocol/ids.hpp"

namespace regroup {

// What ranks are told by their supervisor's variables.
bool is_supervised();
// How often ranks were started before these.
std::uint64_t relaunches_before();
// Whether any of those had begun the run.
bool has_begun_before();
// How long ranks are given to begin; 0: without a supervisor.
std::chrono::seconds supervisor_patience();
// How wide the supervisor's terminal is, 0: it has none; empty: without a supervisor.
std::optional<int> supervisor_columns();

struct SupervisedRun {
  std::string called;                  // as a user calls the program: "regroup"
  std::string job;                     // its name
  std::string verb;                    // "run" or "resume"
  std::vector<std::string> arguments;  // behind it, without --from
  std::optional<std::uint64_t> from;   // of `resume`: the checkpoint
  // Behind `resume` and the directory, for ranks that go on: without --from.
  std::vector<std::string> resume_arguments;
  RunOptions options;  // with the number of ranks
  std::vector<LaunchNode> nodes;
  std::string remote_shell;
  // What looking at the job's inputs took, which the first rank does again before it begins.
  std::chrono::nanoseconds prepared_within{0};
};

class Supervisor {
 public:
  explicit Supervisor(SupervisedRun run);
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // Prints the command that would start the ranks. Returns the exit status.
  int show_command() const;
  // Returns the run's exit status, and says on standard error why it is not simply done.
  int run();

 private:
  // How ranks are to be started.
  struct Launch {
    std::string verb;
    std::vector<std::string> arguments;
    std::vector<LaunchNode> nodes;
    std::uint32_t ranks = 1;
    std::optional<std::uint64_t> from;  // a checkpoint
  };
  // How they ended.
  struct Ending {
    std::optional<RunStatus> status;  // of this launch; empty: it has left none
    std::string message;
    int exit_status = 0;
    bool may_go_on = false;    // others in their place might
    bool never_began = false;  // and was given up, for that took too long
    bool by_itself = true;     // nothing of it is left
  };

  struct Progress {
    std::uint64_t shards = 0;
    std::uint64_t step = 0;
  };

  std::vector<std::string> program_of(const Launch& launch) const;
  LaunchOptions launch_options(const Launch& launch,
                               const std::vector<std::string>& settings) const;
  std::vector<std::string> settings() const;
  std::chrono::seconds silence_max() const;
  std::chrono::seconds start_silence_max() const;
  Ending start(const Launch& launch);
  Ending judge(int mpirun_status, const std::optional<RunStatus>& before,
               const std::string& loss) const;
  std::string how_nothing_is_known(int signal, const std::string& cause) const;

  std::vector<LaunchNode> end_leftovers(std::chrono::seconds node_answers) const;
  std::expected<Launch, Ending> next_launch(const Ending& before);
  std::optional<std::string> problem_with(const std::vector<LaunchNode>& answering,
                                          const Ending& before) const;
  std::string goes_on_from(const std::optional<CheckpointNumber>& newest) const;
  std::optional<Ending> ending_if_done() const;
  std::optional<std::string> problem_with_directory(const Ending& before) const;
  bool directory_is_free() const;
  bool wait_before_launch() const;
  void say_going_on(const Ending& before, const Launch& next) const;
  int conclude(Ending ending) const;
  void clear_bar() const;

  SupervisedRun run_;
  std::string mark_;  // of the launch under way
  bool directory_seen_ = false;
  std::optional<Ending> known_;  // of the latest launch that left a status
  std::uint64_t relaunches_ = 0;
  bool has_begun_ = false;             // in any launch
  std::uint64_t starts_given_up_ = 0;  // in a row
  std::uint64_t in_vain_ = 0;          // of those, in a row, without progress between
  Progress furthest_;                  // that any launch has come to
};

}  // namespace regroup
