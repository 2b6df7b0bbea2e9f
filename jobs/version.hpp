// The version of this build, as in the top CMakeLists.txt.
#pragma once

namespace regroup {

extern const char* const kVersion;

}  // namespace regroup
