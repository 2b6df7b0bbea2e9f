#include "runtime/host/file_system.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace regroup {
namespace {

// 0, or the errno of the write that failed.
int write_all(FileSystem& file_system, int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = file_system.write(fd, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    if (written == 0) return EIO;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

std::expected<void, std::string> fill_durably(FileSystem& file_system, FileDescriptor file,
                                              const std::filesystem::path& path,
                                              std::string_view contents) {
  if (const int error_number = write_all(file_system, file.get(), contents); error_number != 0)
    return path_error("write", path, error_number);
  if (file_system.fsync(file.get()) != 0) return path_error("sync", path, errno);
  if (file.close() != 0) return path_error("close", path, errno);
  return {};
}

}  // namespace

int FileSystem::open(const char* path, int flags, mode_t mode) {
  return ::open(path, flags, mode);
}
ssize_t FileSystem::write(int fd, const void* bytes, std::size_t count) {
  return ::write(fd, bytes, count);
}
ssize_t FileSystem::pread(int fd, void* bytes, std::size_t count, off_t offset) {
  return ::pread(fd, bytes, count, offset);
}
ssize_t FileSystem::pwrite(int fd, const void* bytes, std::size_t count, off_t offset) {
  return ::pwrite(fd, bytes, count, offset);
}
int FileSystem::ftruncate(int fd, off_t length) {
  return ::ftruncate(fd, length);
}
int FileSystem::fsync(int fd) {
  return ::fsync(fd);
}
int FileSystem::close(int fd) {
  return ::close(fd);
}
int FileSystem::rename(const char* from, const char* to) {
  return std::rename(from, to);
}
int FileSystem::link(const char* from, const char* to) {
  return ::link(from, to);
}
int FileSystem::unlink(const char* path) {
  return ::unlink(path);
}
int FileSystem::mkdir(const char* path, mode_t mode) {
  return ::mkdir(path, mode);
}
int FileSystem::rmdir(const char* path) {
  return ::rmdir(path);
}
int FileSystem::fstat(int fd, struct stat* status) {
  return ::fstat(fd, status);
}
int FileSystem::lstat(const char* path, struct stat* status) {
  return ::lstat(path, status);
}
DIR* FileSystem::opendir(const char* path) {
  return ::opendir(path);
}
dirent* FileSystem::readdir(DIR* directory) {
  return ::readdir(directory);
}
int FileSystem::closedir(DIR* directory) {
  return ::closedir(directory);
}

FileSystem& FileSystem::real() {
  static FileSystem file_system;
  return file_system;
}

FileDescriptor::FileDescriptor(FileDescriptor&& other) noexcept
    : file_system_(other.file_system_), fd_(std::exchange(other.fd_, -1)) {}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    close();
    file_system_ = other.file_system_;
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

FileDescriptor::~FileDescriptor() {
  close();
}

int FileDescriptor::close() {
  if (fd_ < 0) return 0;
  return file_system_->close(std::exchange(fd_, -1));
}

std::string errno_text(int error_number) {
  return std::error_code(error_number, std::generic_category()).message();
}

std::unexpected<std::string> path_error(std::string_view what, const std::filesystem::path& path,
                                        int error_number) {
  return std::unexpected(
      fmt::format("cannot {} {}: {}", what, path.string(), errno_text(error_number)));
}

std::expected<void, std::string> write_durably(FileSystem& file_system,
                                               const std::filesystem::path& path,
                                               std::string_view contents, Existing existing) {
  const int flags = existing == Existing::kReplaced ? O_TRUNC : O_EXCL;
  FileDescriptor file(file_system,
                      file_system.open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0666));
  if (!file.is_open()) return path_error("create", path, errno);
  auto done = fill_durably(file_system, std::move(file), path, contents);
  if (!done) file_system.unlink(path.c_str());
  return done;
}

std::expected<void, std::string> replace_file(FileSystem& file_system,
                                              const std::filesystem::path& path,
                                              std::string_view contents) {
  std::filesystem::path temporary = path;
  temporary += ".tmp";
  auto done = write_durably(file_system, temporary, contents, Existing::kReplaced);
  if (!done) return done;
  if (file_system.rename(temporary.c_str(), path.c_str()) != 0) {
    done = path_error("replace", path, errno);
    file_system.unlink(temporary.c_str());
    return done;
  }
  return sync_directory(file_system, path.parent_path());
}

std::expected<void, std::string> sync_directory(FileSystem& file_system,
                                                const std::filesystem::path& directory) {
  const std::filesystem::path path = directory.empty() ? std::filesystem::path(".") : directory;
  FileDescriptor fd(file_system,
                    file_system.open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
  if (!fd.is_open()) return path_error("open", path, errno);
  if (file_system.fsync(fd.get()) != 0 && errno != EINVAL && errno != ENOTSUP)
    return path_error("sync", path, errno);
  return {};
}

std::expected<OpenedFile, std::string> open_regular_file(const std::filesystem::path& path,
                                                         FileSystem& file_system) {
  // O_NONBLOCK: opening a named pipe by mistake must not wait for its writer.
  FileDescriptor file(file_system,
                      file_system.open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0));
  if (!file.is_open()) return path_error("open", path, errno);
  struct stat status {};
  if (file_system.fstat(file.get(), &status) != 0) return path_error("read", path, errno);
  if (!S_ISREG(status.st_mode))
    return std::unexpected(fmt::format("cannot read {}: not a regular file", path.string()));
  return OpenedFile{std::move(file), static_cast<std::uint64_t>(status.st_size)};
}

std::expected<std::string, std::string> read_small_file(const std::filesystem::path& path,
                                                        std::size_t bytes_max,
                                                        FileSystem& file_system) {
  const auto opened = open_regular_file(path, file_system);
  if (!opened) return std::unexpected(opened.error());
  const FileDescriptor& file = opened->file;

  std::string contents;
  char block[16384];
  for (;;) {
    const ssize_t count =
        file_system.pread(file.get(), block, sizeof block, static_cast<off_t>(contents.size()));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return path_error("read", path, errno);
    if (count == 0) return contents;
    contents.append(block, static_cast<std::size_t>(count));
    if (contents.size() > bytes_max)
      return std::unexpected(
          fmt::format("cannot read {}: larger than {} bytes", path.string(), bytes_max));
  }
}

int read_at(FileSystem& file_system, int fd, std::span<std::byte> bytes, std::uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t count =
        file_system.pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    if (count == 0) return EIO;
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
  return 0;
}

std::expected<std::vector<std::string>, int> names_in_directory(
    FileSystem& file_system, const std::filesystem::path& directory, std::size_t names_max) {
  DIR* const entries = file_system.opendir(directory.c_str());
  if (entries == nullptr) return std::unexpected(errno);
  std::vector<std::string> names;
  int error_number = 0;
  for (;;) {
    errno = 0;
    const dirent* const entry = file_system.readdir(entries);
    if (entry == nullptr) {
      error_number = errno;
      break;
    }
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (names.size() == names_max) {
      error_number = EOVERFLOW;
      break;
    }
    names.emplace_back(name);
  }
  file_system.closedir(entries);
  if (error_number != 0) return std::unexpected(error_number);
  std::ranges::sort(names);
  return names;
}

}  // namespace regroup
