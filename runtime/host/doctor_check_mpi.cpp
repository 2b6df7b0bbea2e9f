// The doctor on MPI: its version, what its recovery can do, and what carries messages between
// nodes.
#include <algorithm>
#include <cctype>
#include <charconv>
#include <string_view>

#include <fmt/format.h>

#include "runtime/host/doctor_checks.hpp"

namespace regroup::doctor {
namespace {

// The first "digits.digits..." of a text, such as 4.1.4 of "mpirun (Open MPI) 4.1.4".
std::string version_in(std::string_view text) {
  const auto is_digit = [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; };
  for (std::size_t start = 0; start < text.size(); ++start) {
    if (!is_digit(text[start])) continue;
    std::size_t end = start;
    while (end < text.size() && (is_digit(text[end]) || text[end] == '.')) ++end;
    const std::string_view version = text.substr(start, end - start);
    if (version.find('.') != std::string_view::npos && version.back() != '.') {
      return std::string(version);
    }
    start = end;
  }
  return {};
}

int major_of(std::string_view version) {
  int major = 0;
  std::from_chars(version.data(), version.data() + version.size(), major);
  return major;
}

// ompi_info says 'options:ft_support:"no (...)"' (4.1.4) or 'options:ft_support:yes' and
// 'options:ft_mpi_support:yes' (5.0.7). Empty where it says nothing of the kind.
std::optional<bool> ulfm_in(std::string_view info) {
  std::optional<bool> found;
  while (!info.empty()) {
    const std::size_t end = std::min(info.find('\n'), info.size());
    const std::string_view line = info.substr(0, end);
    info.remove_prefix(std::min(end + 1, info.size()));
    if (!line.starts_with("options:")) continue;
    const std::size_t key_start = line.find(':') + 1;
    const std::size_t key_end = line.find(':', key_start);
    if (key_start == 0 || key_end == std::string_view::npos) continue;
    if (line.substr(key_start, key_end - key_start).find("ft") == std::string_view::npos) continue;
    std::string_view value = line.substr(key_end + 1);
    if (value.starts_with('"')) value.remove_prefix(1);
    found = found.value_or(false) || value.starts_with("yes");
  }
  return found;
}

}  // namespace

std::optional<Finding> check_mpi_library(const DoctorFacts& facts) {
  const std::string& library = facts.libraries.mpi;
  if (library.empty()) return missing("none", "build with Open MPI 4.1 or 5");
  if (library.find("Open MPI") == std::string::npos)
    return warning(library, "only Open MPI 4.1 and 5 are known to keep going when a rank dies");
  return ok(library);
}

std::optional<Finding> check_mpirun(const DoctorFacts& facts) {
  if (!facts.mpirun)
    return missing("not on PATH",
                   "install openmpi-bin or load the cluster's Open MPI module; without it a run "
                   "has one rank");
  const DoctorFacts::Mpirun& mpirun = *facts.mpirun;
  const std::string version = version_in(mpirun.version_output);
  if (version.empty())
    return warning(mpirun.path + " ?", mpirun.troubles.empty()
                                           ? "'mpirun --version' names no version"
                                           : mpirun.troubles.front());
  const std::string found = mpirun.path + " " + version;
  const bool is_open_mpi = mpirun.version_output.find("Open MPI") != std::string::npos ||
                           mpirun.version_output.find("open-mpi") != std::string::npos;
  if (!is_open_mpi)
    return warning(found, "this is not Open MPI's mpirun: put Open MPI's first on PATH");
  const std::string library = version_in(facts.libraries.mpi);
  if (!library.empty() && library != version)
    return warning(
        found,
        fmt::format("the MPI library is {}: put the mpirun of that version on PATH", library));
  return ok(found);
}

// What append_transport() of the launcher asks of MPI, and what the loss of a node means with it.
std::optional<Finding> check_transport(const DoctorFacts& facts) {
  if (!facts.mpirun) return missing("none: no mpirun, so there is one rank", "see mpirun");
  const std::string& info = facts.mpirun->info_output;
  if (major_of(version_in(facts.mpirun->version_output)) >= 5)
    return ok(
        "between nodes MPI's choice; Open MPI 5 ends all ranks when a node is lost, and 'regroup "
        "resume' goes on from the last checkpoint");
  if (info.empty())
    return warning("whether MPI has UCX is not known: ompi_info does not answer",
                   "put ompi_info of this Open MPI on PATH; over several nodes runs need its UCX "
                   "(mca pml ucx)");
  if (info.find("mca:pml:ucx:") == std::string::npos)
    return missing("between nodes none: this Open MPI has no UCX (mca pml ucx)",
                   "use an Open MPI that is configured --with-ucx: over several nodes ranks talk "
                   "over UCX, with which the loss of a node is survived in place");
  return ok("between nodes UCX: the loss of a node is survived in place");
}

// Which backend a run has, and why (recovery_backend.hpp).
std::optional<Finding> check_recovery(const DoctorFacts& facts) {
  if (!facts.mpirun) return missing("none: no mpirun, so there is one rank", "see mpirun");
  const bool is_new = major_of(version_in(facts.mpirun->version_output)) >= 5;
  const auto said = ulfm_in(facts.mpirun->info_output);
  const bool has_ulfm = is_new && facts.libraries.mpi_has_ulfm && said.value_or(true);
  if (facts.recovery == RecoveryChoice::kStock)
    return ok("stock: own protocol, as chosen (--recovery stock)");
  if (!has_ulfm && facts.recovery == RecoveryChoice::kUlfm)
    return missing("ulfm is chosen, but this MPI has none: runs on several ranks are refused",
                   "leave --recovery and REGROUP_RECOVERY at auto");
  if (!is_new) return ok("stock: own protocol, since this MPI has no ULFM (Open MPI 5 has it)");
  if (!has_ulfm)
    return warning("stock: own protocol, since this Open MPI 5 was built without ULFM",
                   "an Open MPI that is configured --with-ft=ulfm reports a rank's death itself");
  const std::string found =
      "ulfm: native, that of Open MPI 5 (-n starts mpirun --with-ft ulfm; without that flag, "
      "stock)";
  return ok(said ? found : found + "; ompi_info does not say whether it was built in");
}

std::optional<Finding> check_user(const DoctorFacts& facts) {
  if (!facts.is_root) return ok("not root");
  const bool prrte = facts.mpirun && major_of(version_in(facts.mpirun->version_output)) >= 5;
  if (facts.may_run_as_root || (prrte && facts.may_run_as_root_prrte))
    return ok("root, and mpirun is allowed to run as root");
  return warning("root, which a bare mpirun refuses",
                 "'regroup run -n' allows it by itself; for mpirun set OMPI_ALLOW_RUN_AS_ROOT=1 "
                 "and OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1");
}

}  // namespace regroup::doctor
