#include "runtime/host/recovery_backend.hpp"

#include <cstdlib>

namespace regroup {
namespace {

// What mpirun --with-ft ulfm sets for its ranks (5.0.7).
constexpr const char* kEnabledVariable = "OMPI_MCA_mpi_ft_enable";

}  // namespace

std::optional<RecoveryChoice> parse_recovery_choice(std::string_view text) {
  if (text == "auto") return RecoveryChoice::kAuto;
  if (text == "stock") return RecoveryChoice::kStock;
  if (text == "ulfm") return RecoveryChoice::kUlfm;
  return std::nullopt;
}

bool built_with_ulfm() {
#ifdef REGROUP_ULFM
  return true;
#else
  return false;
#endif
}

bool launched_with_ulfm() {
  const char* const enabled = std::getenv(kEnabledVariable);
  return enabled != nullptr && (std::string_view(enabled) == "1" || *enabled == 't');
}

std::optional<std::string> problem_with(RecoveryChoice choice, bool launched) {
  if (choice != RecoveryChoice::kUlfm) return std::nullopt;
  if (!built_with_ulfm()) {
    return "--recovery ulfm: this build's MPI has no ULFM (Open MPI 5 has it): leave it at auto";
  }
  if (launched && !launched_with_ulfm()) {
    return "--recovery ulfm: mpirun was started without --with-ft ulfm: add that, or leave the "
           "recovery at auto";
  }
  return std::nullopt;
}

RecoveryBackend backend_to_launch(RecoveryChoice choice) {
  const bool ulfm = choice != RecoveryChoice::kStock && built_with_ulfm();
  return ulfm ? RecoveryBackend::kUlfm : RecoveryBackend::kStock;
}

std::vector<std::string> survival_flags(RecoveryBackend backend) {
  if (backend == RecoveryBackend::kUlfm) return {"--with-ft", "ulfm"};
  return {"--enable-recovery"};
}

}  // namespace regroup
