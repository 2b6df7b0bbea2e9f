// Which vector instruction sets the kernels were compiled for and this machine can run. Every
// kernel gives the same bits on each of them, so the choice changes the speed and nothing else;
// tests force each in turn, everyone else takes the default. Thread-safe: the processor is asked
// once.
#pragma once

#include <span>
#include <string_view>

namespace regroup::kernels {

// In order of preference: a later one is faster and implies the earlier ones.
enum class InstructionSet {
  kBaseline,  // what every processor of the architecture has: SSE2 on x86-64
  kAvx2,      // and FMA, which each kernel uses in all of its code or nowhere
  kAvx512,    // F, BW, DQ and VL
};

// "baseline", "avx2" or "avx512".
std::string_view instruction_set_name(InstructionSet set);

// Those this machine can run, the baseline first. Never empty; valid for ever.
std::span<const InstructionSet> available_instruction_sets();

// The last of the available ones.
InstructionSet best_instruction_set();

// `wanted` where this machine has it, else the best that it has.
InstructionSet usable_instruction_set(InstructionSet wanted);

}  // namespace regroup::kernels
