// The CPUs that a thread may run on, remembered and given to another thread. A rank's computing
// thread is pinned, and threads inherit that from whoever starts them; those that keep the rank in
// touch with the others must not: beside other programs the kernel may leave everything that is
// pinned to one CPU waiting for seconds, and a rank whose threads all wait looks dead.
#pragma once

#include <vector>

namespace regroup {

class ThreadAffinity {
 public:
  static ThreadAffinity of_this_thread();
  // To the calling thread. Nothing happens where the system refuses: the thread runs all the same.
  void apply() const;

 private:
  std::vector<unsigned long> mask_;  // as the kernel lays it out; empty: not known
};

}  // namespace regroup
