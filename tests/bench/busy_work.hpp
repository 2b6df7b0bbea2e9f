// Work of a known cost in CPU cycles, for benchmarks that share cores: a chain of dependent
// arithmetic that takes as long on a core that it has half of the time as twice that. It never
// looks at a clock.
#pragma once

#include <cstdint>

namespace regroup::bench {

// Returns a number that depends on every iteration, so that none can be left out.
inline std::uint64_t busy_work(std::uint64_t iterations, std::uint64_t seed) {
  std::uint64_t value = seed;
  for (std::uint64_t i = 0; i < iterations; ++i) {
    value = value * 6364136223846793005u + 1442695040888963407u;
    asm volatile("" : "+r"(value));
  }
  return value;
}

}  // namespace regroup::bench
