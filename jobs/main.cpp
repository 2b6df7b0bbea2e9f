// The program `regroup`: the command line over the sample jobs.
#include "jobs/registry.hpp"
#include "jobs/sample_jobs.hpp"

int main(int argc, char** argv) {
  regroup::JobRegistry registry;
  regroup::add_cg(registry);
  regroup::add_heat(registry);
  regroup::add_mandelbrot(registry);
  regroup::add_matmul(registry);
  regroup::add_montecarlo(registry);
  regroup::add_nbody(registry);
  regroup::add_wordcount(registry);
  return regroup::regroup_main(argc, argv, registry);
}
