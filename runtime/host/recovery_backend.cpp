#include "runtime/host/recovery_backend.hpp"

#include "runtime/host/mpi_wrapper.hpp"

namespace regroup {

RecoveryBackend recovery_backend() {
  return mpi::kHasUlfm ? RecoveryBackend::kUlfm : RecoveryBackend::kOwnProtocol;
}

std::vector<std::string> survival_flags(RecoveryBackend backend) {
  if (backend == RecoveryBackend::kUlfm) return {"--with-ft", "ulfm"};
  return {"--enable-recovery"};
}

}  // namespace regroup
