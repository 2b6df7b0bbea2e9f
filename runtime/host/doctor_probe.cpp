#include "runtime/host/doctor_probe.hpp"

#include <cerrno>
#include <random>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

namespace regroup {
namespace {

constexpr int kCreate = O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC;
constexpr mode_t kMode = 0644;

std::string random_name() {
  std::random_device random;
  return fmt::format(".regroup-doctor-{:08x}{:08x}", random(), random());
}

// The probe's, as a signal handler may use it.
std::string* file_to_remove = nullptr;

void remove_and_end(int signal) {
  ::unlink(file_to_remove->c_str());
  ::signal(signal, SIG_DFL);
  ::raise(signal);  // comes when this handler returns
}

}  // namespace

DirectoryProbe::DirectoryProbe(const std::filesystem::path& directory, FileSystem& file_system)
    : file_system_(file_system) {
  try_creation((directory / random_name()).string());
  if (file_.empty()) return;
  try_link();
  try_lock();
}

DirectoryProbe::~DirectoryProbe() {
  if (file_.empty()) return;
  file_system_.unlink(file_.c_str());
  for (std::size_t i = 0; i < kEndingSignals.size(); ++i) {
    ::sigaction(kEndingSignals[i], &actions_before_[i], nullptr);
  }
}

void DirectoryProbe::remove_when_ended() {
  file_to_remove = &file_;
  for (std::size_t i = 0; i < kEndingSignals.size(); ++i) {
    struct sigaction action {};
    ::sigaction(kEndingSignals[i], nullptr, &actions_before_[i]);
    if (actions_before_[i].sa_handler == SIG_IGN) continue;
    action.sa_handler = remove_and_end;
    ::sigaction(kEndingSignals[i], &action, nullptr);
  }
}

void DirectoryProbe::try_creation(const std::string& path) {
  const int fd = file_system_.open(path.c_str(), kCreate, kMode);
  if (fd < 0) {
    tried_.create_problem = errno_text(errno);
    return;
  }
  open_file_ = FileDescriptor(file_system_, fd);
  file_ = path;
  remove_when_ended();
  const FileDescriptor again(file_system_, file_system_.open(path.c_str(), kCreate, kMode));
  if (again.is_open()) tried_.create_problem = "a file that is there can be created again";
}

void DirectoryProbe::try_link() {
  const std::string name = file_ + "-link";
  if (file_system_.link(file_.c_str(), name.c_str()) != 0) {
    tried_.link_problem = errno_text(errno);
    return;
  }
  if (file_system_.link(file_.c_str(), name.c_str()) == 0) {
    tried_.link_problem = "a name that is there can be taken again";
  }
  file_system_.unlink(name.c_str());
}

void DirectoryProbe::try_lock() {
  if (::flock(open_file_.get(), LOCK_EX | LOCK_NB) != 0) {
    tried_.lock_problem = errno_text(errno);
    return;
  }
  const FileDescriptor other(file_system_, file_system_.open(file_.c_str(), O_RDWR | O_CLOEXEC, 0));
  if (other.is_open() && ::flock(other.get(), LOCK_EX | LOCK_NB) == 0) {
    tried_.lock_problem = "two can have one lock at a time";
  }
}

}  // namespace regroup
