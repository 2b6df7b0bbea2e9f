// A file of a random name that the doctor creates in a directory, to try there what runs rely on,
// and for other nodes to look for: present and locked while this lives, removed with it, and as
// well when ctrl-c, SIGTERM or SIGHUP end the process meanwhile. One at a time.
#pragma once

#include <array>
#include <csignal>
#include <filesystem>
#include <string>

#include "runtime/host/doctor_facts.hpp"
#include "runtime/host/file_system.hpp"

namespace regroup {

class DirectoryProbe {
 public:
  explicit DirectoryProbe(const std::filesystem::path& directory,
                          FileSystem& file_system = FileSystem::real());
  ~DirectoryProbe();
  DirectoryProbe(const DirectoryProbe&) = delete;
  DirectoryProbe& operator=(const DirectoryProbe&) = delete;

  const DoctorFacts::FileOperations& tried() const { return tried_; }
  // Its full path; empty if it could not be created.
  const std::string& file() const { return file_; }

 private:
  void try_creation(const std::string& path);
  void remove_when_ended();
  void try_link();
  void try_lock();

  FileSystem& file_system_;
  DoctorFacts::FileOperations tried_;
  std::string file_;
  FileDescriptor open_file_;
  static constexpr std::array kEndingSignals = {SIGINT, SIGTERM, SIGHUP};
  std::array<struct sigaction, kEndingSignals.size()> actions_before_{};
};

}  // namespace regroup
