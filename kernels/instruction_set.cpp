// Asks the processor and the operating system (which must save the wider registers) once.
#include "kernels/instruction_set.hpp"

#include <algorithm>
#include <cstddef>

namespace regroup::kernels {
namespace {

constexpr InstructionSet kAll[] = {InstructionSet::kBaseline, InstructionSet::kAvx2,
                                   InstructionSet::kAvx512};

bool has_avx2() {
#ifdef __x86_64__
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

bool has_avx512() {
#ifdef __x86_64__
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

}  // namespace

std::string_view instruction_set_name(InstructionSet set) {
  switch (set) {
    case InstructionSet::kBaseline:
      return "baseline";
    case InstructionSet::kAvx2:
      return "avx2";
    case InstructionSet::kAvx512:
      return "avx512";
  }
  return "unknown";
}

std::span<const InstructionSet> available_instruction_sets() {
  static const std::size_t count = has_avx512() ? 3 : has_avx2() ? 2 : 1;
  return std::span(kAll).first(count);
}

InstructionSet best_instruction_set() {
  return available_instruction_sets().back();
}

InstructionSet usable_instruction_set(InstructionSet wanted) {
  return std::min(wanted, best_instruction_set());
}

}  // namespace regroup::kernels
