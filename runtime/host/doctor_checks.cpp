// The table that names the checks and puts them in order, and what they share.
#include "runtime/host/doctor_checks.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

namespace regroup {
namespace doctor {
namespace {

enum class Need { kOptional, kAlways, kOnNodes };

struct NamedCheck {
  const char* name;
  Need need;
  Check* examine;
};

// In the order of the report.
constexpr std::array kChecks = {
    NamedCheck{"MPI library", Need::kAlways, check_mpi_library},
    NamedCheck{"mpirun", Need::kAlways, check_mpirun},
    NamedCheck{"recovery", Need::kOptional, check_recovery},
    NamedCheck{"transport", Need::kOnNodes, check_transport},
    NamedCheck{"user", Need::kOptional, check_user},
    NamedCheck{"hwloc", Need::kAlways, check_topology},
    NamedCheck{"cpus", Need::kOptional, check_cpus},
    NamedCheck{"memory", Need::kOptional, check_memory},
    NamedCheck{"HDF5", Need::kAlways, check_hdf5},
    NamedCheck{"CUDA", Need::kOptional, check_cuda},
    NamedCheck{"nodes", Need::kOnNodes, check_reach},
    NamedCheck{"shared directory", Need::kOnNodes, check_shared_directory},
    NamedCheck{"program on nodes", Need::kOnNodes, check_program},
    NamedCheck{"clocks", Need::kOptional, check_clocks},
    NamedCheck{"network", Need::kOnNodes, check_network},
    NamedCheck{"Slurm", Need::kOptional, check_slurm},
    NamedCheck{"Slurm job", Need::kOptional, check_slurm_job},
    NamedCheck{"KillWait", Need::kOptional, check_kill_wait},
    NamedCheck{"JobRequeue", Need::kOptional, check_job_requeue},
    NamedCheck{"RequeueExit", Need::kOptional, check_requeue_exit},
    NamedCheck{"KillOnBadExit", Need::kOptional, check_kill_on_bad_exit},
    NamedCheck{"SlurmdTimeout", Need::kOptional, check_slurmd_timeout},
    NamedCheck{"PreemptMode", Need::kOptional, check_preempt_mode},
    NamedCheck{"MpiDefault", Need::kOptional, check_mpi_default},
    NamedCheck{"directory", Need::kAlways, check_directory},
    NamedCheck{"file operations", Need::kAlways, check_file_operations},
    NamedCheck{"shared memory", Need::kAlways, check_shared_memory},
    NamedCheck{"death notices", Need::kOptional, check_death_notices},
    NamedCheck{"open files", Need::kOptional, check_open_files},
    NamedCheck{"processes", Need::kOptional, check_processes},
    NamedCheck{"locked memory", Need::kOptional, check_locked_memory},
};

constexpr std::size_t kNamesShown = 5;
constexpr std::uint64_t kMib = 1024ULL * 1024ULL;
constexpr std::uint64_t kGib = 1024ULL * kMib;

}  // namespace

Finding ok(std::string found, std::string advice) {
  return {CheckStatus::kOk, std::move(found), std::move(advice)};
}
Finding warning(std::string found, std::string advice) {
  return {CheckStatus::kWarning, std::move(found), std::move(advice)};
}
Finding missing(std::string found, std::string advice) {
  return {CheckStatus::kMissing, std::move(found), std::move(advice)};
}

std::string size_text(std::uint64_t bytes) {
  if (bytes >= kGib) return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / kGib);
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / kMib);
}

std::string name_text(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kNamesShown); ++i) {
    text += (i == 0 ? "" : ", ") + names[i];
  }
  if (names.size() > kNamesShown) text += fmt::format(" and {} more", names.size() - kNamesShown);
  return text;
}

}  // namespace doctor

DoctorReport judge(const DoctorFacts& facts) {
  using doctor::Need;
  DoctorReport report;
  for (const doctor::NamedCheck& check : doctor::kChecks) {
    auto finding = check.examine(facts);
    if (!finding) continue;
    const bool required =
        check.need == Need::kAlways || (check.need == Need::kOnNodes && !facts.nodes.empty());
    report.checks.push_back({.name = check.name,
                             .status = finding->status,
                             .found = std::move(finding->found),
                             .advice = std::move(finding->advice),
                             .required = required});
  }
  return report;
}

}  // namespace regroup
