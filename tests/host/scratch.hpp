// What the tests of the host layer share: scratch directories, whole files as strings, and file
// systems that are full or fail on demand.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include "runtime/host/file_system.hpp"
#include "tests/scratch_directory.hpp"

namespace regroup::test {

inline std::string contents_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_file(const std::filesystem::path& path, const std::string& contents) {
  std::ofstream(path, std::ios::binary) << contents;
}

// The names in a directory, sorted.
inline std::vector<std::string> names_in(const std::filesystem::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

// A real file system until told to fail a call of one kind.
class FailingFileSystem : public FileSystem {
 public:
  int fail_open = 0;  // an errno; 0 works
  int fail_write = 0;
  int fail_fsync = 0;
  int fail_close = 0;
  int fail_rename = 0;
  std::size_t write_bytes_max = SIZE_MAX;  // of one call: short writes
  std::size_t disk_bytes = SIZE_MAX;       // full after so many bytes of pwrite

  int open(const char* path, int flags, mode_t mode) override {
    return fails(fail_open) ? -1 : FileSystem::open(path, flags, mode);
  }
  ssize_t write(int fd, const void* bytes, std::size_t count) override {
    return fails(fail_write) ? -1 : FileSystem::write(fd, bytes, std::min(count, write_bytes_max));
  }
  ssize_t pwrite(int fd, const void* bytes, std::size_t count, off_t offset) override {
    if (fails(fail_write)) return -1;
    if (written_bytes_ + count > disk_bytes) return fails(ENOSPC) ? -1 : 0;
    count = std::min(count, write_bytes_max);
    written_bytes_ += count;
    return FileSystem::pwrite(fd, bytes, count, offset);
  }
  int fsync(int fd) override { return fails(fail_fsync) ? -1 : FileSystem::fsync(fd); }
  int close(int fd) override {
    const int result = FileSystem::close(fd);
    return fails(fail_close) ? -1 : result;
  }
  int rename(const char* from, const char* to) override {
    return fails(fail_rename) ? -1 : FileSystem::rename(from, to);
  }

 private:
  static bool fails(int error_number) {
    if (error_number != 0) errno = error_number;
    return error_number != 0;
  }
  std::size_t written_bytes_ = 0;
};

// A file system of a given size over a directory, in a mount namespace of this process alone: even
// a test that crashes leaves no mount behind. Needs root; mounted() tells.
class TinyFileSystem {
 public:
  TinyFileSystem(const std::filesystem::path& path, const std::string& options) : path_(path) {
    mounted_ = ::unshare(CLONE_NEWNS) == 0 &&
               ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
               ::mount("tmpfs", path.c_str(), "tmpfs", 0, options.c_str()) == 0;
  }
  ~TinyFileSystem() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  TinyFileSystem(const TinyFileSystem&) = delete;
  TinyFileSystem& operator=(const TinyFileSystem&) = delete;

  bool mounted() const { return mounted_; }

 private:
  std::filesystem::path path_;
  bool mounted_ = false;
};

}  // namespace regroup::test
