// The options that every run has, whatever its job.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <vector>

#include "jobs/option_set.hpp"
#include "runtime/host/binding.hpp"
#include "runtime/host/fault_plan.hpp"
#include "runtime/host/node_list.hpp"
#include "runtime/host/recovery_backend.hpp"
#include "scheduler/options.hpp"

namespace regroup {

struct RunOptions {
  static constexpr std::uint32_t kRanksMax = 1 << 20;
  static constexpr Nanoseconds kParkTime = 60 * kSecond;
  // Long enough for any agreement that succeeds.
  static constexpr Nanoseconds kHaltTime = 10 * kSecond;

  std::string dir;
  std::uint32_t ranks = 0;  // 0: not said
  std::uint64_t seed = 1;
  std::uint32_t threads = 0;
  std::string bind = "auto";
  std::string gpus = "auto";
  std::uint32_t gpu_timeout_seconds = 60;
  std::string schedule = "dynamic";
  std::uint32_t batch = 0;
  std::uint32_t prefetch = 0;
  std::string coordinator = "computes";
  std::uint32_t attempts_max = 3;
  std::uint32_t standbys = 2;
  std::string checkpoint_every = "auto";
  std::string partner_copies = "auto";
  std::uint32_t partner_memory_mib = 1024;
  std::uint32_t keep = 2;
  std::uint32_t grace_seconds = 20;
  std::uint32_t mtbf_seconds = 86'400;
  std::string vector_clocks = "auto";
  std::string events = "off";
  std::string progress = "auto";
  std::string format = "text";
  std::uint32_t heartbeat_ms = 100;
  std::uint32_t suspect_after_ms = 5000;
  std::uint32_t wedge_timeout_seconds = 10;
  std::string on_partition = "park";
  std::string recovery = "auto";
  std::string hosts;
  std::string hostfile;
  std::string network;
  std::string remote_shell = "auto";
  bool dry_run = false;
  bool tag_output = false;
  bool go_on = false;
  std::uint32_t relaunches = 3;
  std::uint32_t start_timeout_seconds = 120;
  std::uint32_t min_nodes = 1;
  std::vector<std::string> inject;
  std::string config;

  void declare(OptionSet& set);
  // Some alone, for who says what they would mean.
  void declare_nodes(OptionSet& set);
  void declare_grace(OptionSet& set);
  void declare_recovery(OptionSet& set);

  // The error is one line for the user.
  std::expected<ScheduleOptions, std::string> schedule_options() const;
  std::expected<BindingOptions, std::string> binding_options() const;
  // How long ranks that see no majority of the others wait to be let in again.
  Nanoseconds park_time() const { return on_partition == "halt" ? kHaltTime : kParkTime; }
  // That ranks can be watched with these times.
  std::expected<void, std::string> check_heartbeats() const;
  RecoveryChoice recovery_choice() const;
  // Where ranks are to be started: what the user names, else this process's Slurm allocation.
  struct Nodes {
    std::vector<LaunchNode> list;  // empty: on this machine alone
    std::uint32_t own_slots = 1;   // then: that Slurm gives it
    std::string remote_shell;
  };
  std::expected<Nodes, std::string> find_nodes() const;
  // For a run of so many ranks.
  std::expected<FaultPlan, std::string> fault_plan(std::uint32_t rank_count) const;
  bool json() const { return format == "json"; }

 private:
  std::expected<std::vector<LaunchNode>, std::string> named_nodes() const;
};

}  // namespace regroup
