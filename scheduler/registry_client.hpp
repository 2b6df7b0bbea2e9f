// A rank's side of the registry: takes the calls of its user code to the coordinator, again to each
// new one, and brings every call exactly one reply: the answer, or that its time is over, or that
// the run is. Calls are sent in the order in which they came, so that of a rank's puts none
// overtakes an earlier one. Pure, not thread-safe.
#pragma once

#include <cstdint>
#include <deque>

#include "runtime/protocol/node.hpp"

namespace regroup {

class RegistryClient {
 public:
  // Whether the coordinator listens to this rank.
  enum class Line : std::uint8_t { kOpen, kClosed };

  void ask(Context& context, RegistryCall& call, Line line);
  bool on_answer(Context& context, Reader& reader);
  // The coordinator has heard nothing of this rank, in this view, and listens now.
  void send_all(Context& context);
  void on_tick(Context& context) {
    if (!asked_.empty()) end_late_calls(context);
  }
  // The run is over: nothing will be answered any more.
  void end(Context& context);
  // After all it goes on.
  void go_on() { ended_ = false; }

 private:
  struct Asked {
    RegistryCall call;
    std::uint64_t number = 0;
    std::uint64_t write = 0;  // 0: not a put
    Nanoseconds deadline = 0;
  };
  void send(Context& context, const Asked& asked) const;
  std::uint64_t answered_writes() const;
  void end_late_calls(Context& context);

  std::deque<Asked> asked_;  // by number
  std::uint64_t numbers_ = 0;
  std::uint64_t writes_ = 0;
  bool ended_ = false;
};

}  // namespace regroup
