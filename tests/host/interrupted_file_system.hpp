// File systems that stop at a call of one's choice: a process that is killed there, a call or all
// calls from there on that fail, and a machine that loses power, with everything that was not
// synced. Each counts the calls, so that a test can go through all of them.
#pragma once

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <sys/stat.h>
#include <unistd.h>

#include "runtime/host/file_system.hpp"

namespace regroup::test {

// Asks before each call; what is closed is closed even so.
class InterruptedFileSystem : public FileSystem {
 public:
  // What becomes of the call of this number, counted from 0: an errno, or 0 to let it through.
  using Decide = std::function<int(std::uint64_t call)>;
  explicit InterruptedFileSystem(Decide decide) : decide_(std::move(decide)) {}

  static InterruptedFileSystem failing_at(std::uint64_t at, int error_number) {
    return InterruptedFileSystem([=](std::uint64_t call) { return call == at ? error_number : 0; });
  }
  static InterruptedFileSystem failing_from(std::uint64_t at, int error_number) {
    return InterruptedFileSystem([=](std::uint64_t call) { return call >= at ? error_number : 0; });
  }
  static InterruptedFileSystem killing_at(std::uint64_t at) {
    return InterruptedFileSystem([=](std::uint64_t call) {
      if (call == at) std::raise(SIGKILL);
      return 0;
    });
  }

  std::uint64_t calls() const { return calls_; }

  int open(const char* path, int flags, mode_t mode) override {
    return fails() ? -1 : FileSystem::open(path, flags, mode);
  }
  ssize_t write(int fd, const void* bytes, std::size_t count) override {
    return fails() ? -1 : FileSystem::write(fd, bytes, count);
  }
  ssize_t pread(int fd, void* bytes, std::size_t count, off_t offset) override {
    return fails() ? -1 : FileSystem::pread(fd, bytes, count, offset);
  }
  ssize_t pwrite(int fd, const void* bytes, std::size_t count, off_t offset) override {
    return fails() ? -1 : FileSystem::pwrite(fd, bytes, count, offset);
  }
  int ftruncate(int fd, off_t length) override {
    return fails() ? -1 : FileSystem::ftruncate(fd, length);
  }
  int fsync(int fd) override { return fails() ? -1 : FileSystem::fsync(fd); }
  int close(int fd) override {
    const bool failing = fails();
    const int error_number = errno;
    const int result = FileSystem::close(fd);
    if (failing) errno = error_number;
    return failing ? -1 : result;
  }
  int rename(const char* from, const char* to) override {
    return fails() ? -1 : FileSystem::rename(from, to);
  }
  int link(const char* from, const char* to) override {
    return fails() ? -1 : FileSystem::link(from, to);
  }
  int unlink(const char* path) override { return fails() ? -1 : FileSystem::unlink(path); }
  int mkdir(const char* path, mode_t mode) override {
    return fails() ? -1 : FileSystem::mkdir(path, mode);
  }
  int rmdir(const char* path) override { return fails() ? -1 : FileSystem::rmdir(path); }
  int fstat(int fd, struct stat* status) override {
    return fails() ? -1 : FileSystem::fstat(fd, status);
  }
  int lstat(const char* path, struct stat* status) override {
    return fails() ? -1 : FileSystem::lstat(path, status);
  }
  DIR* opendir(const char* path) override { return fails() ? nullptr : FileSystem::opendir(path); }
  dirent* readdir(DIR* directory) override {
    return fails() ? nullptr : FileSystem::readdir(directory);
  }
  int closedir(DIR* directory) override {
    const bool failing = fails();
    const int result = FileSystem::closedir(directory);
    return failing ? -1 : result;
  }

 private:
  bool fails() {
    const int error_number = decide_(calls_++);
    if (error_number != 0) errno = error_number;
    return error_number != 0;
  }

  Decide decide_;
  std::uint64_t calls_ = 0;
};

// Remembers what is not synced yet: contents of files, and names in directories. lose_power() then
// takes it away, as a machine may that stops at once: each name that was not synced may be undone,
// each file may have lost its contents. Nothing reaches the disk from call number `at` on.
class PowerLossFileSystem : public InterruptedFileSystem {
 public:
  // What is lost of that which was not synced. Nothing says that names reach the disk in the order
  // in which they were made.
  enum class Loss { kAll, kAllButTheNewestName, kSome };

  // Unlinked files are kept in `attic`, on the same file system, so that they can come back.
  PowerLossFileSystem(std::uint64_t at, std::filesystem::path attic)
      : InterruptedFileSystem([=](std::uint64_t call) { return call >= at ? EIO : 0; }),
        attic_(std::move(attic)) {
    std::filesystem::create_directories(attic_);
  }

  int open(const char* path, int flags, mode_t mode) override {
    const bool there = std::filesystem::exists(path);
    const int fd = InterruptedFileSystem::open(path, flags, mode);
    if (fd >= 0 && !there) pending_.push_back({Change::kCreated, path, {}});
    return fd;
  }
  ssize_t write(int fd, const void* bytes, std::size_t count) override {
    return changed(fd, InterruptedFileSystem::write(fd, bytes, count));
  }
  ssize_t pwrite(int fd, const void* bytes, std::size_t count, off_t offset) override {
    return changed(fd, InterruptedFileSystem::pwrite(fd, bytes, count, offset));
  }
  int ftruncate(int fd, off_t length) override {
    const int result = InterruptedFileSystem::ftruncate(fd, length);
    changed(fd, result == 0 ? 1 : 0);
    return result;
  }
  int fsync(int fd) override {
    const int result = InterruptedFileSystem::fsync(fd);
    if (result != 0) return result;
    const auto path = path_of(fd);
    unsynced_.erase(inode_of(fd));
    std::erase_if(pending_, [&](const Pending& change) {
      return std::filesystem::path(change.path).parent_path() == path;
    });
    return 0;
  }
  int link(const char* from, const char* to) override {
    const int result = InterruptedFileSystem::link(from, to);
    if (result == 0) pending_.push_back({Change::kCreated, to, {}});
    return result;
  }
  int unlink(const char* path) override {
    const auto kept = attic_ / std::to_string(kept_++);
    const bool saved = ::link(path, kept.c_str()) == 0;
    const int result = InterruptedFileSystem::unlink(path);
    if (result == 0 && saved) pending_.push_back({Change::kRemoved, path, kept});
    return result;
  }
  int mkdir(const char* path, mode_t mode) override {
    const int result = InterruptedFileSystem::mkdir(path, mode);
    if (result == 0) pending_.push_back({Change::kMadeDirectory, path, {}});
    return result;
  }
  int rmdir(const char* path) override {
    const int result = InterruptedFileSystem::rmdir(path);
    if (result == 0) pending_.push_back({Change::kRemovedDirectory, path, {}});
    return result;
  }

  // kSome depends on the seed.
  void lose_power(Loss loss, std::uint64_t seed = 0) {
    std::mt19937_64 random(seed);
    const auto lost = [&] { return loss != Loss::kSome || random() % 2 == 0; };
    for (const auto& [inode, path] : unsynced_)
      if (lost()) spoil(inode);
    if (loss == Loss::kAllButTheNewestName && !pending_.empty()) pending_.pop_back();
    for (auto change = pending_.rbegin(); change != pending_.rend(); ++change)
      if (lost()) undo(*change);
  }

 private:
  enum class Change { kCreated, kRemoved, kMadeDirectory, kRemovedDirectory };
  struct Pending {
    Change change;
    std::string path;
    std::filesystem::path kept;
  };

  static ino_t inode_of(int fd) {
    struct stat status {};
    ::fstat(fd, &status);
    return status.st_ino;
  }
  static std::filesystem::path path_of(int fd) {
    return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd));
  }
  ssize_t changed(int fd, ssize_t count) {
    if (count > 0) unsynced_[inode_of(fd)] = path_of(fd).parent_path();
    return count;
  }

  // Whatever name the file has by now.
  void spoil(ino_t inode) const {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(attic_.parent_path())) {
      struct stat status {};
      if (::lstat(entry.path().c_str(), &status) != 0 || status.st_ino != inode) continue;
      std::filesystem::resize_file(entry.path(), static_cast<std::uintmax_t>(status.st_size) / 2);
      return;
    }
  }

  static void undo(const Pending& change) {
    std::error_code ignored;
    switch (change.change) {
      case Change::kCreated:
        std::filesystem::remove(change.path, ignored);
        return;
      case Change::kRemoved:
        std::filesystem::create_hard_link(change.kept, change.path, ignored);
        return;
      case Change::kMadeDirectory:
        std::filesystem::remove_all(change.path, ignored);
        return;
      case Change::kRemovedDirectory:
        std::filesystem::create_directory(change.path, ignored);
        return;
    }
  }

  std::filesystem::path attic_;
  std::map<ino_t, std::filesystem::path> unsynced_;
  std::vector<Pending> pending_;
  std::uint64_t kept_ = 0;
};

}  // namespace regroup::test
