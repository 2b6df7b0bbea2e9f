// All that a job of your own needs. A program with one job is its struct and
//
//   int main(int argc, char** argv) { return regroup::main_with_job<MyJob>(argc, argv); }
//
// and has the verbs and options of regroup itself.
#pragma once

#include "jobs/bag.hpp"
#include "jobs/iterative.hpp"
#include "jobs/map_reduce.hpp"
#include "jobs/registry.hpp"

namespace regroup {

template <class... Jobs>
int main_with_job(int argc, char** argv) {
  JobRegistry registry;
  (registry.add<Jobs>(), ...);
  return regroup_main(argc, argv, registry);
}

}  // namespace regroup
