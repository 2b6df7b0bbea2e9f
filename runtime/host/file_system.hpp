// The system calls that make files durable, behind one seam: tests replace FileSystem to
// make any of them fail as a full or broken disk would. A call behaves as the system call of its
// name does, -1 and errno included. On top of it: atomic replacement of a file, so that a reader,
// or a run that comes back after a crash, sees the whole old contents or the whole new ones and
// nothing between.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <dirent.h>
#include <sys/stat.h>
#include <sys/types.h>

namespace regroup {

class FileSystem {
 public:
  virtual ~FileSystem() = default;

  virtual int open(const char* path, int flags, mode_t mode);
  virtual ssize_t write(int fd, const void* bytes, std::size_t count);
  virtual ssize_t pread(int fd, void* bytes, std::size_t count, off_t offset);
  virtual ssize_t pwrite(int fd, const void* bytes, std::size_t count, off_t offset);
  virtual int ftruncate(int fd, off_t length);
  virtual int fsync(int fd);
  virtual int close(int fd);
  virtual int rename(const char* from, const char* to);
  virtual int link(const char* from, const char* to);
  virtual int unlink(const char* path);
  virtual int mkdir(const char* path, mode_t mode);
  virtual int rmdir(const char* path);
  virtual int fstat(int fd, struct stat* status);
  virtual int lstat(const char* path, struct stat* status);
  virtual DIR* opendir(const char* path);
  virtual dirent* readdir(DIR* directory);
  virtual int closedir(DIR* directory);

  // The machine's own. Stateless, so any thread may use it.
  static FileSystem& real();
};

// A file descriptor that is closed with its owner. For files that were written, close() tells
// whether the closing itself failed, as it can on a network file system.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  FileDescriptor(FileSystem& file_system, int fd) : file_system_(&file_system), fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept;
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor();

  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  // 0, or -1 and errno. Closed afterwards in both cases.
  int close();

 private:
  FileSystem* file_system_ = nullptr;
  int fd_ = -1;
};

// The system's text for an error number: "No space left on device". Any thread may call it.
std::string errno_text(int error_number);

// "cannot WHAT PATH: " and the system's text.
std::unexpected<std::string> path_error(std::string_view what, const std::filesystem::path& path,
                                        int error_number);

// What becomes of a file that is there already.
enum class Existing : std::uint8_t { kReplaced, kRefused };

// Creates the file and syncs it; its name in the directory is the caller's to sync. On an error
// there is no file, but one that was refused to be replaced, which is as it was.
std::expected<void, std::string> write_durably(FileSystem& file_system,
                                               const std::filesystem::path& path,
                                               std::string_view contents, Existing existing);

// Writes `contents` to PATH.tmp, fsyncs it, renames it to PATH and fsyncs the directory. One writer
// of a path at a time. On an error PATH is as it was (or, when only the last fsync failed, already
// new), PATH.tmp is gone, and the error is one line that names the path and the system's text.
std::expected<void, std::string> replace_file(FileSystem& file_system,
                                              const std::filesystem::path& path,
                                              std::string_view contents);

// Makes renames and creations in a directory durable. File systems that cannot sync a directory
// (EINVAL, ENOTSUP) count as done: there is nothing more to be had from them.
std::expected<void, std::string> sync_directory(FileSystem& file_system,
                                                const std::filesystem::path& directory);

struct OpenedFile {
  FileDescriptor file;
  std::uint64_t bytes = 0;  // when it was opened
};
// For reading; an error if it is not there, not a file, or unreadable.
std::expected<OpenedFile, std::string> open_regular_file(
    const std::filesystem::path& path, FileSystem& file_system = FileSystem::real());

// The whole file; an error if it is not there, not a file, unreadable or larger than `bytes_max`.
std::expected<std::string, std::string> read_small_file(
    const std::filesystem::path& path, std::size_t bytes_max,
    FileSystem& file_system = FileSystem::real());

// Fills `bytes` from `offset` on. 0, or the errno of what failed; EIO when the file ends before.
int read_at(FileSystem& file_system, int fd, std::span<std::byte> bytes, std::uint64_t offset);

// The names in a directory but . and .., sorted. The error is an errno; EOVERFLOW when there are
// more than `names_max`.
std::expected<std::vector<std::string>, int> names_in_directory(
    FileSystem& file_system, const std::filesystem::path& directory, std::size_t names_max);

}  // namespace regroup
