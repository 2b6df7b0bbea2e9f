// What a diffusion step costs on the least and the best instruction set, for blocks from the size
// of a cache to many times that, beside a plain copy of as many bytes as the step has to read and
// write (memcpy, in turns with it, so that both see the same machine) and beside the reference.
// Items are cells.
//   GB/s            16 bytes a cell: what has to be read once and written once
//   of_copy         the copy's time over the step's
//   over_reference  the reference's time over the step's
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "kernels/stencil/stencil.hpp"
#include "tests/bench/measure.hpp"

namespace regroup::kernels {
namespace {

using bench::seconds_of;

constexpr int kReferenceRounds = 3;

void diffusion_step(benchmark::State& state, const StencilShape& shape, InstructionSet set) {
  const DiffusionNumbers numbers{0.125, 0.125, shape.dimensions() == 3 ? 0.125 : 0};
  const StencilBox box = whole_box(shape);
  std::vector<double> in(block_cells(shape), 1);
  std::vector<double> out(in.size(), 1);
  const double cells = static_cast<double>(shape.nx * shape.ny * shape.planes());

  double reference_seconds = 1e9;
  for (int round = 0; round < kReferenceRounds; ++round) {
    reference_seconds = std::min(
        reference_seconds, seconds_of([&] { reference::diffuse(shape, numbers, box, in, out); }));
  }
  double step_seconds = 0;
  double copy_seconds = 0;
  for (auto _ : state) {
    const double step = seconds_of([&] { diffuse(shape, numbers, box, in, out, set); });
    copy_seconds += seconds_of([&] {
      std::memcpy(out.data(), in.data(), static_cast<std::size_t>(cells) * sizeof(double));
    });
    step_seconds += step;
    state.SetIterationTime(step);
  }
  const double rounds = static_cast<double>(state.iterations());
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(cells));
  state.counters["GB/s"] = 2 * sizeof(double) * cells * rounds / step_seconds / 1e9;
  state.counters["of_copy"] = copy_seconds / step_seconds;
  state.counters["over_reference"] = reference_seconds * rounds / step_seconds;
}

// So many steps at once. over_single: the time of as many steps one by one over theirs.
void diffusion_steps(benchmark::State& state, const StencilShape& shape, std::size_t steps) {
  const DiffusionNumbers numbers{0.125, 0.125, shape.dimensions() == 3 ? 0.125 : 0};
  const StencilBox box = whole_box(shape);
  std::vector<double> now(block_cells(shape), 1);
  std::vector<double> next(now.size(), 1);
  double at_once_seconds = 0;
  double single_seconds = 0;
  for (auto _ : state) {
    const double at_once =
        seconds_of([&] { diffuse_steps(shape, numbers, box, {}, steps, now, next); });
    single_seconds += seconds_of([&] {
      for (std::size_t step = 0; step < steps; ++step) {
        diffuse(shape, numbers, box, step % 2 == 0 ? now : next, step % 2 == 0 ? next : now);
      }
    });
    at_once_seconds += at_once;
    state.SetIterationTime(at_once);
  }
  const auto cells = static_cast<std::int64_t>(shape.nx * shape.ny * shape.planes() * steps);
  state.SetItemsProcessed(state.iterations() * cells);
  state.counters["over_single"] = single_seconds / at_once_seconds;
}

void register_benchmarks() {
  constexpr StencilShape kShapes[] = {{100, 100},       {1000, 1000},    {8000, 8000},
                                      {32, 32, 32},     {100, 100, 100}, {400, 400, 400},
                                      {1000, 1000, 100}};
  for (const StencilShape& shape : kShapes) {
    const std::string size = std::to_string(shape.nx) + "x" + std::to_string(shape.ny) +
                             (shape.nz == 0 ? "" : "x" + std::to_string(shape.nz));
    for (const std::size_t steps : {2, 4, 8, 16}) {
      benchmark::RegisterBenchmark(
          ("diffuse_steps/" + size + "/" + std::to_string(steps)).c_str(),
          [shape, steps](benchmark::State& state) { diffusion_steps(state, shape, steps); })
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond);
    }
    for (const InstructionSet set : {InstructionSet::kBaseline, best_instruction_set()}) {
      const std::string name = "diffuse/" + size + "/" + std::string(instruction_set_name(set));
      benchmark::RegisterBenchmark(
          name.c_str(),
          [shape, set](benchmark::State& state) { diffusion_step(state, shape, set); })
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond);
    }
  }
}

}  // namespace

}  // namespace regroup::kernels

int main(int argc, char** argv) {
  return regroup::bench::run(argc, argv, regroup::kernels::register_benchmarks);
}
