// What partner_copies.py measures copies with: cells of a stated size that change a little in each
// step and have nothing to do but wait, so that ranks are free to give copies to each other.
#include <chrono>
#include <thread>

#include "jobs/regroup.hpp"

namespace regroup::bench {
namespace {

struct Still {
  using Cell = std::vector<double>;
  using Halo = double;
  using Result = double;
  static constexpr std::string_view kName = "still";
  static constexpr std::string_view kSummary = "cells that wait";

  void options(OptionSet& set) {
    set.add("cells", count, "number of cells").at_least(1).at_most(65'536);
    set.add("mib", mib, "size of a cell in MiB").at_least(1).at_most(512);
    set.add("steps", steps, "steps");
    set.add("milliseconds", milliseconds, "how long a cell waits in a step");
  }
  std::uint32_t cells() const { return count; }
  std::vector<std::uint32_t> neighbours(std::uint32_t) const { return {}; }
  Cell begin(const CellContext& cell) const {
    return Cell((std::size_t{mib} << 20) / sizeof(double), 1.0 + cell.cell());
  }
  Halo show(const Cell&, const CellContext&, std::uint32_t) const { return 0; }
  bool at_end(std::uint64_t step, const void*) const { return step >= steps; }
  std::uint64_t steps_max() const { return steps; }
  void step(Cell& cell, const CellContext&, std::span<const Halo>, const void*) const {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    cell.front() += 1;
  }
  Result result(const Cell& cell, const CellContext&) const { return cell.front(); }
  void report(std::span<const Result> cells, Report& report) const {
    double sum = 0;
    for (const double cell : cells) sum += cell;
    report.value("sum", sum);
  }

  std::uint32_t count = 32;
  std::uint32_t mib = 32;
  std::uint64_t steps = 200;
  std::uint64_t milliseconds = 10;
};

}  // namespace
}  // namespace regroup::bench

int main(int argc, char** argv) {
  return regroup::main_with_job<regroup::bench::Still>(argc, argv);
}
