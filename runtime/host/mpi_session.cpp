// MPI session: starting, numbering and ending.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include <unistd.h>

#include "runtime/host/deadline.hpp"
#include "runtime/host/mpi_wrapper.hpp"

namespace regroup {
namespace {

constexpr auto kFinalizeTimeout = std::chrono::seconds(10);
constexpr int kExitNotRecovered = 3;

// What each rank of a communicator passes in, by rank.
template <class Element>
std::vector<std::vector<Element>> gather_over(MPI_Comm communicator, std::uint32_t ranks,
                                              std::span<const Element> own, MPI_Datatype type) {
  const int count = static_cast<int>(own.size());
  std::vector<int> counts(ranks);
  mpi::check(MPI_Allgather(&count, 1, MPI_INT, counts.data(), 1, MPI_INT, communicator),
             "MPI_Allgather");
  std::vector<int> offsets(ranks, 0);
  for (std::size_t i = 1; i < offsets.size(); ++i) offsets[i] = offsets[i - 1] + counts[i - 1];
  std::vector<Element> all(static_cast<std::size_t>(offsets.back() + counts.back()));
  mpi::check(MPI_Allgatherv(own.data(), count, type, all.data(), counts.data(), offsets.data(),
                            type, communicator),
             "MPI_Allgatherv");
  std::vector<std::vector<Element>> gathered;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    gathered.emplace_back(all.begin() + offsets[i], all.begin() + offsets[i] + counts[i]);
  }
  return gathered;
}

// A setting of Open MPI's for this process, unless the user has made it.
void set_if_unset(const char* name, const char* value) {
  constexpr int kKeep = 0;
  setenv(name, value, kKeep);
}

bool all_ranks_on_this_node() {
  const char* const ranks = std::getenv("OMPI_COMM_WORLD_SIZE");
  const char* const here = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
  return ranks != nullptr && here != nullptr && std::strcmp(ranks, here) == 0;
}

// Errors for a peer's death are understood by the ULFM backend alone, even if mpirun asked for
// them.
void leave_ulfm_out() {
  setenv("OMPI_MCA_mpi_ft_enable", "0", 1);
}

// On one node shared memory is all that is needed. Looking for anything else takes most of the time
// that starting takes (measured with Open MPI 4.1.4 and 4 ranks: 0.16 s so, 0.33 s without, 1.4 s
// with no more than TCP left out, since a list replaces the one that the system had), and Open MPI
// 5 complains about interfaces that TCP cannot pair.
void use_shared_memory_alone() {
  set_if_unset("OMPI_MCA_pml", "ob1");
  set_if_unset("OMPI_MCA_btl", "^tcp,uct,openib,ofi,usnic");
  // Fragments of a large message that may be under way, 3 otherwise: each look moves more, which
  // counts where ranks that compute look seldom (bulk transfers beside orders of 5 ms: 2.0 GB/s
  // with 3, 2.5 with 8), and a bare ring of messages gains as well.
  set_if_unset("OMPI_MCA_pml_ob1_send_pipeline_depth", "8");
}

}  // namespace

void mpi::check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  std::fprintf(stderr, "regroup: %s failed: %.*s\n", call, length, text);
  _exit(kExitNotRecovered);
}

MpiSession::MpiSession(RecoveryChoice recovery) : handles_(std::make_unique<Handles>()) {
  using mpi::check;
  std::signal(SIGPIPE, SIG_IGN);  // a send to a dead peer must not end the sender
  // Open MPI yields the core at every look in vain when ranks outnumber cores. The host loop knows
  // better when it has nothing to do; a user's own choice holds.
  set_if_unset("OMPI_MCA_mpi_yield_when_idle", "0");
  if (all_ranks_on_this_node()) use_shared_memory_alone();
  const bool wants_ulfm =
      backend_to_launch(recovery) == RecoveryBackend::kUlfm && launched_with_ulfm();
  if (!wants_ulfm && launched_with_ulfm()) leave_ulfm_out();
  int provided = 0;
  const int wanted = wants_ulfm ? MPI_THREAD_MULTIPLE : MPI_THREAD_SERIALIZED;
  check(MPI_Init_thread(nullptr, nullptr, wanted, &provided), "MPI_Init_thread");
  if (provided < MPI_THREAD_SERIALIZED) {
    std::fprintf(stderr, "regroup: this MPI has no thread support (MPI_THREAD_SERIALIZED)\n");
    _exit(kExitNotRecovered);
  }
  any_thread_may_call_ = provided == MPI_THREAD_MULTIPLE;
  if (wants_ulfm && mpi::ulfm::is_enabled()) recovery_ = RecoveryBackend::kUlfm;
  if (recovery_ == RecoveryBackend::kUlfm) {
    check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  }
  check(MPI_Comm_dup(MPI_COMM_WORLD, &handles_->all), "MPI_Comm_dup");
  check(MPI_Comm_set_errhandler(handles_->all, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check(MPI_Comm_dup(handles_->all, &handles_->bulk), "MPI_Comm_dup");
  int number = 0;
  check(MPI_Comm_rank(handles_->all, &number), "MPI_Comm_rank");
  rank_ = static_cast<std::uint32_t>(number);
  check(MPI_Comm_size(handles_->all, &number), "MPI_Comm_size");
  ranks_ = static_cast<std::uint32_t>(number);

  check(MPI_Comm_split_type(handles_->all, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &handles_->node),
        "MPI_Comm_split_type");
  check(MPI_Comm_rank(handles_->node, &number), "MPI_Comm_rank");
  local_rank_ = static_cast<std::uint32_t>(number);
  check(MPI_Comm_size(handles_->node, &number), "MPI_Comm_size");
  local_ranks_ = static_cast<std::uint32_t>(number);
}

std::vector<std::vector<std::uint32_t>> MpiSession::gather_on_node(
    const std::vector<std::uint32_t>& numbers) {
  return gather_over<std::uint32_t>(handles_->node, local_ranks_, numbers, MPI_UINT32_T);
}

std::vector<std::vector<std::byte>> MpiSession::gather(std::span<const std::byte> bytes) {
  return gather_over<std::byte>(handles_->all, ranks_, bytes, MPI_BYTE);
}

void MpiSession::broadcast(std::span<std::byte> bytes) {
  mpi::check(MPI_Bcast(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, 0, handles_->all),
             "MPI_Bcast");
}

MpiSession::~MpiSession() {
  finish(0);
}

void MpiSession::finish(int exit_status) {
  using mpi::check;
  if (finished_) return;
  finished_ = true;
  const Deadline deadline(kFinalizeTimeout, "MPI_Finalize does not return; leaving without it",
                          exit_status);
  check(MPI_Comm_free(&handles_->node), "MPI_Comm_free");
  check(MPI_Comm_free(&handles_->bulk), "MPI_Comm_free");
  check(MPI_Comm_free(&handles_->all), "MPI_Comm_free");
  check(MPI_Finalize(), "MPI_Finalize");
}

std::string mpi_description() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  mpi::check(MPI_Get_library_version(text, &length), "MPI_Get_library_version");
  std::string line(text, static_cast<std::size_t>(length));
  return line.substr(0, line.find_first_of("\n,"));
}

int open_mpi_major() {
  constexpr std::string_view kName = "Open MPI v";
  const std::string description = mpi_description();
  return description.starts_with(kName) ? std::atoi(description.c_str() + kName.size()) : 0;
}

}  // namespace regroup
