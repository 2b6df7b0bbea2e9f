// Where a broken invariant ends in the programs with planted bugs: it is thrown to the simulator,
// which reports it as what broke the run. Takes the place of runtime/protocol/check.cpp.
#include <string>

#include "runtime/protocol/check.hpp"
#include "tests/sim/broken_check.hpp"

namespace regroup {

void check_failed(const char* file, int line, const char* expression, std::string_view text) {
  throw sim::BrokenCheck{std::string(file) + ":" + std::to_string(line) + ": " + std::string(text) +
                         " (" + expression + ")"};
}

}  // namespace regroup
