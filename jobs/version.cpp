// The build system says which version this is.
#include "jobs/version.hpp"

namespace regroup {

const char* const kVersion = REGROUP_VERSION;

}  // namespace regroup
