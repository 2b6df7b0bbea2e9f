// What `regroup verify` prints: what was checked, a line for each problem, and what that comes to.
// Pure functions of what was found.
#pragma once

#include <string>

#include "runtime/host/run_verification.hpp"

namespace regroup {

// Fits `columns`, but for problems, each of which is a line of its own: "problem: FILE: REASON".
// Ends in a newline.
std::string verification_text(const RunVerification& verification, int columns);
// One object over several lines. Bytes of texts that are not UTF-8 are replaced.
std::string verification_json(const RunVerification& verification);

}  // namespace regroup
