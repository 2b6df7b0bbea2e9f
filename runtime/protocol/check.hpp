// Checks of invariants that stay on in production. A broken invariant ends the rank: its peers see
// a death, which the protocol survives, while a rank that goes on with wrong state is not
// survivable. For expected failures (a corrupt frame, a full disk) use std::expected or a protocol
// event instead.
#pragma once

#include <string_view>

namespace regroup {

// Prints "file:line: broken invariant: text (expression)" on standard error and aborts.
[[noreturn]] void check_failed(const char* file, int line, const char* expression,
                               std::string_view text);

}  // namespace regroup

#define REGROUP_CHECK(expression, text) \
  (static_cast<bool>(expression)        \
       ? static_cast<void>(0)           \
       : ::regroup::check_failed(__FILE__, __LINE__, #expression, (text)))
