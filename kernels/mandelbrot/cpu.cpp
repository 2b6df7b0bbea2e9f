// The escape time's public entry point: picks the instruction set.
#include "kernels/mandelbrot/cpu_kernel.hpp"
#include "kernels/mandelbrot/mandelbrot.hpp"

namespace regroup::kernels {
namespace {

const MandelbrotKernels& kernels_for(InstructionSet set) {
#ifdef __x86_64__
  switch (usable_instruction_set(set)) {
    case InstructionSet::kAvx512:
      return kMandelbrotAvx512;
    case InstructionSet::kAvx2:
      return kMandelbrotAvx2;
    case InstructionSet::kBaseline:
      return kMandelbrotBaseline;
  }
#endif
  static_cast<void>(set);
  return kMandelbrotBaseline;
}

}  // namespace

void escape_counts(const PlaneRow& row, std::uint64_t first, std::uint32_t iterations,
                   std::span<std::uint32_t> counts, InstructionSet set) {
  kernels_for(set).escape_counts({.left = row.left,
                                  .imaginary = row.imaginary,
                                  .spacing = row.spacing,
                                  .first = first,
                                  .iterations = iterations,
                                  .counts = counts.data(),
                                  .columns = counts.size()});
}

}  // namespace regroup::kernels
