// Where a broken invariant ends: one line on standard error, then abort, so that a core file shows
// the stack that broke it.
#include "runtime/protocol/check.hpp"

#include <cstdio>
#include <cstdlib>

namespace regroup {

void check_failed(const char* file, int line, const char* expression, std::string_view text) {
  std::fprintf(stderr, "%s:%d: broken invariant: %.*s (%s)\n", file, line,
               static_cast<int>(text.size()), text.data(), expression);
  std::abort();
}

}  // namespace regroup
