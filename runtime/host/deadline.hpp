// Ends the process with a line on standard error if something takes too long that cannot be called
// back, such as a collective call of MPI's whose other ranks never come. It does so from a thread
// of its own, and lasts from its making to its destruction, both on the thread that waits. Time in
// which the process was stopped counts for a small part of the timeout at most.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace regroup {

class Deadline {
 public:
  // The timeout is waited for in so many parts, and a stop may shorten one.
  static constexpr int kParts = 20;

  // The line is "regroup: " and the message. Throws std::system_error if there is no thread to be
  // had.
  Deadline(std::chrono::milliseconds timeout, const std::string& message, int exit_status);
  ~Deadline();
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;

 private:
  void wait(std::chrono::nanoseconds part);

  std::string line_;
  int exit_status_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool met_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace regroup
