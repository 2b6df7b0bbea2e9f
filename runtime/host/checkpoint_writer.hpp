// Writes parts of checkpoints on a thread of its own, so that a rank computes on while the disk
// works. The caller hands over buffers that nobody else changes, and has them back, for the next
// part, with what became of it. One part is written at a time, and one may wait: whoever is faster
// than the disk learns so at once and takes no checkpoint. The destructor writes what was handed
// over, then ends the thread.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "runtime/host/checkpoint_store.hpp"

namespace regroup {

// A part whose pieces lie in its own buffers.
struct OwnedPart {
  PartRequest request;
  std::vector<std::vector<std::byte>> buffers;
};

struct WrittenPart {
  std::expected<CheckpointPart, std::string> part;
  std::vector<std::vector<std::byte>> buffers;
  double seconds = 0;  // that it took to write, without waiting
};

class CheckpointWriter {
 public:
  // Called on the writer's thread. It may hand over the next part.
  using Done = std::function<void(WrittenPart)>;
  // Whether a part that was handed over will be written.
  enum class Taken : std::uint8_t { kYes, kBusy };

  // `on_thread` is called first thing on the thread: to give it CPUs other than its maker's. Throws
  // std::system_error if there is no thread to be had.
  explicit CheckpointWriter(CheckpointStore store, std::function<void()> on_thread = {});
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  // Never waits for the disk. kBusy: one part waits already, and this one is left as it was. From
  // any thread.
  Taken hand_over(OwnedPart&& part, Done done);
  // Nothing is being written, nor waits.
  bool idle() const;

 private:
  struct Waiting {
    OwnedPart part;
    Done done;
  };

  void run(const std::function<void()>& on_thread);
  void write(Waiting taken) const;

  CheckpointStore store_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Waiting> waiting_;
  bool writing_ = false;
  bool ending_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace regroup
