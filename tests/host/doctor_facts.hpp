// Facts made by hand for tests of the doctor: those of a machine that needs nothing, and what is
// said of one thing.
#pragma once

#include <algorithm>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "runtime/host/doctor.hpp"
#include "runtime/host/hwloc_wrapper.hpp"

namespace regroup::test {

// A healthy cluster node: every check is ok.
inline DoctorFacts healthy() {
  DoctorFacts facts;
  facts.libraries = {.mpi = "Open MPI v4.1.4, package: Example", .hdf5 = "1.10.8, serial"};
  facts.mpirun =
      DoctorFacts::Mpirun{.path = "/usr/bin/mpirun",
                          .version_output = "mpirun (Open MPI) 4.1.4\n\nReport bugs to ...\n",
                          .info_output =
                              "package:Example\nmca:pml:ob1:version:\"mca:2.1.0\"\n"
                              "mca:pml:ucx:version:\"mca:2.1.0\"\n"
                              "options:ft_support:\"no (checkpoint thread: no)\"\n",
                          .troubles = {}};
  facts.hwloc_version = "2.8.0";
  facts.node = Machine::from_synthetic("pack:2 core:8 pu:2")->allowed();
  facts.memory_bytes = 64ULL << 30;
  facts.slurm.sbatch_path = "/usr/bin/sbatch";
  facts.slurm.scontrol_path = "/usr/bin/scontrol";
  facts.slurm.version = "slurm-wlm 22.05.8";
  facts.slurm.config_output =
      "Configuration data as of 2026-01-01T00:00:00\n"
      "JobRequeue              = 1\n"
      "KillOnBadExit           = 0\n"
      "KillWait                = 30 sec\n"
      "MpiDefault              = none\n"
      "PreemptMode             = OFF\n"
      "RequeueExit             = 75\n"
      "RequeueExitHold         = (null)\n"
      "SlurmdTimeout           = 300 sec\n"
      "\n"
      "Slurmctld(primary) at head is UP\n";
  facts.directory = DoctorFacts::FileSystem{.path = "/scratch/ada",
                                            .type = 0x0BD00BD0,
                                            .bytes_total = 100ULL << 40,
                                            .bytes_free = 50ULL << 40,
                                            .writable = true};
  facts.remote_shell = "ssh";
  facts.program = "/opt/regroup";
  facts.version = "1.2.3";
  facts.shared_memory = DoctorFacts::FileSystem{.path = "/dev/shm",
                                                .type = 0x01021994,
                                                .bytes_total = 32ULL << 30,
                                                .bytes_free = 32ULL << 30,
                                                .writable = true};
  facts.open_files = {.soft = 65536, .hard = 65536};
  return facts;
}

// Nodes n1, n2, ... that are as this one.
inline DoctorFacts healthy_with_nodes(int count) {
  DoctorFacts facts = healthy();
  for (int number = 1; number <= count; ++number) {
    const std::string name = "n" + std::to_string(number);
    const std::uint32_t ip = 0x0A4D0000U + static_cast<std::uint32_t>(number);  // 10.77.0.NUMBER
    facts.nodes.push_back(
        {.name = name,
         .problem = {},
         .hostname = name,
         .clock = ClockReading{.ahead_seconds = 0.01, .uncertainty_seconds = 0.1},
         .sees_file = true,
         .version = "1.2.3",
         .networks = {{.interface = "lo", .ip = 0x7F000001, .mask = 0xFF000000, .loopback = true},
                      {.interface = "ib0", .ip = ip, .mask = 0xFFFFFF00}}});
  }
  facts.own_networks = {{.interface = "ib0", .ip = 0x0A4D0064, .mask = 0xFFFFFF00}};
  return facts;
}

inline std::optional<DoctorCheck> row_of(const DoctorFacts& facts, const std::string& name) {
  const DoctorReport report = judge(facts);
  const auto found = std::ranges::find(report.checks, name, &DoctorCheck::name);
  if (found == report.checks.end()) return std::nullopt;
  return *found;
}

inline DoctorCheck check_of(const DoctorFacts& facts, const std::string& name) {
  const auto row = row_of(facts, name);
  EXPECT_TRUE(row) << name;
  return row.value_or(DoctorCheck{});
}

}  // namespace regroup::test
