// The two system calls on input files, made again where a signal interrupted them. Thread-safe.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include <fcntl.h>
#include <unistd.h>

namespace regroup {

// O_NONBLOCK: should a pipe take the file's place, this must not wait for its writer.
inline int open_input(const char* path) {
  int fd = -1;
  do fd = ::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  while (fd < 0 && errno == EINTR);
  return fd;
}

// As pread: may read less than asked for; 0 at the file's end.
inline ssize_t read_input(int fd, void* into, std::size_t bytes, std::uint64_t at) {
  ssize_t got = -1;
  do got = ::pread(fd, into, bytes, static_cast<off_t>(at));
  while (got < 0 && errno == EINTR);
  return got;
}

}  // namespace regroup
