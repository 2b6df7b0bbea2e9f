// The doctor's checks, one function each, from the facts to a finding: pure, so that the same facts
// give the same report. For the doctor's own files; others ask judge() (doctor.hpp).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/host/doctor.hpp"

namespace regroup::doctor {

// What a check says; the advice may be empty. Without one it does not apply, and has no row.
struct Finding {
  CheckStatus status;
  std::string found;
  std::string advice;
};
using Check = std::optional<Finding>(const DoctorFacts& facts);

Finding ok(std::string found, std::string advice = {});
Finding warning(std::string found, std::string advice);
Finding missing(std::string found, std::string advice);

std::string size_text(std::uint64_t bytes);
// "n1, n2, n3", or of many the first ones and how many more there are.
std::string name_text(const std::vector<std::string>& names);

// doctor_check_mpi.cpp
Check check_mpi_library;
Check check_mpirun;
Check check_recovery;
Check check_transport;
Check check_user;

// doctor_check_machine.cpp
Check check_topology;
Check check_cpus;
Check check_memory;
Check check_hdf5;
Check check_cuda;
Check check_shared_memory;
Check check_death_notices;
Check check_open_files;
Check check_processes;
Check check_locked_memory;

// doctor_check_slurm.cpp
Check check_slurm;
Check check_slurm_job;
Check check_kill_on_bad_exit;
Check check_kill_wait;
Check check_job_requeue;
Check check_requeue_exit;
Check check_slurmd_timeout;
Check check_preempt_mode;
Check check_mpi_default;

// doctor_check_storage.cpp
Check check_directory;
Check check_file_operations;

// doctor_check_nodes.cpp
Check check_reach;
Check check_shared_directory;
Check check_program;
Check check_clocks;
Check check_network;

}  // namespace regroup::doctor
