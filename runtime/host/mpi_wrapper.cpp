#include "runtime/host/mpi_wrapper.hpp"

#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

namespace regroup::mpi {
namespace {

constexpr auto kFinalizeTimeout = std::chrono::seconds(10);
constexpr int kExitNotRecovered = 3;

}  // namespace

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  std::fprintf(stderr, "regroup: %s failed: %.*s\n", call, length, text);
  _exit(kExitNotRecovered);
}

Session::Session() {
  std::signal(SIGPIPE, SIG_IGN);  // a send to a dead peer must not end the sender
  int provided = 0;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
  if (provided < MPI_THREAD_SERIALIZED) {
    std::fprintf(stderr, "regroup: this MPI has no thread support (MPI_THREAD_SERIALIZED)\n");
    _exit(kExitNotRecovered);
  }
  check(MPI_Comm_dup(MPI_COMM_WORLD, &communicator_), "MPI_Comm_dup");
  check(MPI_Comm_set_errhandler(communicator_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  int number = 0;
  check(MPI_Comm_rank(communicator_, &number), "MPI_Comm_rank");
  rank_ = static_cast<std::uint32_t>(number);
  check(MPI_Comm_size(communicator_, &number), "MPI_Comm_size");
  ranks_ = static_cast<std::uint32_t>(number);

  MPI_Comm node = MPI_COMM_NULL;
  check(MPI_Comm_split_type(communicator_, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node),
        "MPI_Comm_split_type");
  check(MPI_Comm_rank(node, &number), "MPI_Comm_rank");
  local_rank_ = static_cast<std::uint32_t>(number);
  check(MPI_Comm_size(node, &number), "MPI_Comm_size");
  local_ranks_ = static_cast<std::uint32_t>(number);
  check(MPI_Comm_free(&node), "MPI_Comm_free");
}

void Session::finish(int exit_status) {
  if (finished_) return;
  finished_ = true;
  std::mutex mutex;
  std::condition_variable changed;
  bool finalized = false;
  std::thread watchdog([&] {
    std::unique_lock lock(mutex);
    if (changed.wait_for(lock, kFinalizeTimeout, [&] { return finalized; })) return;
    std::fprintf(stderr, "regroup: MPI_Finalize does not return; leaving without it\n");
    _exit(exit_status);
  });
  check(MPI_Comm_free(&communicator_), "MPI_Comm_free");
  check(MPI_Finalize(), "MPI_Finalize");
  {
    const std::lock_guard lock(mutex);
    finalized = true;
  }
  changed.notify_one();
  watchdog.join();
}

std::string description() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  check(MPI_Get_library_version(text, &length), "MPI_Get_library_version");
  std::string line(text, static_cast<std::size_t>(length));
  return line.substr(0, line.find_first_of("\n,"));
}

}  // namespace regroup::mpi
