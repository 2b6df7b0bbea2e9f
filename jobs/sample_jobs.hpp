// The jobs that come with Regroup, one file each; main() registers them all.
#pragma once

#include "jobs/registry.hpp"

namespace regroup {

void add_cg(JobRegistry& registry);
void add_heat(JobRegistry& registry);
void add_mandelbrot(JobRegistry& registry);
void add_matmul(JobRegistry& registry);
void add_montecarlo(JobRegistry& registry);
void add_nbody(JobRegistry& registry);
void add_wordcount(JobRegistry& registry);

}  // namespace regroup
