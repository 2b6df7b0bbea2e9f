// Says what this machine, the nodes that are named and Slurm can do for a run, and what is to be
// changed before one: MPI and its recovery, transports, hwloc, HDF5, CUDA, storage, limits, clocks.
// Gathering (look_around, doctor_facts.hpp) touches the machine and asks the nodes; judging (judge)
// is a pure function of what was gathered. Nothing that is missing is an error here: it is a line
// of the report.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "runtime/host/doctor_facts.hpp"

namespace regroup {

enum class CheckStatus { kOk, kWarning, kMissing };

struct DoctorCheck {
  std::string name;
  CheckStatus status = CheckStatus::kOk;
  std::string found;
  std::string advice;     // what to do; empty where nothing is to be done
  bool required = false;  // without it no run on several ranks, or on the nodes that are named

  friend bool operator==(const DoctorCheck&, const DoctorCheck&) = default;
};

struct DoctorReport {
  std::vector<DoctorCheck> checks;

  // Nothing that such a run needs is missing.
  bool ready() const;
};

// (doctor_checks.cpp)
DoctorReport judge(const DoctorFacts& facts);

// judge(look_around(request))
DoctorReport examine(const DoctorRequest& request);

// One row a check, advice on lines of its own. Ends in a newline.
std::string doctor_text(const DoctorReport& report, int columns);
// {"ready": ..., "checks": [{"name", "status", "required", "found", "advice"}]}
nlohmann::ordered_json doctor_json(const DoctorReport& report);

const char* to_text(CheckStatus status);

}  // namespace regroup
