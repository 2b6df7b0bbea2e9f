// How long a thread may run before others on its CPU get their turn, and so how soon after waking
// it gets its own. Under EEVDF (Stoica and Abdel-Wahab, "Earliest eligible virtual deadline first",
// 1995; Linux since 6.6) a thread that wakes beside one that computes waits for the end of that
// one's slice, some 3 ms, unless its own slice is shorter (Linux since 6.12). It costs no share of
// the CPU and takes no privilege. Threads that keep a rank in touch with the others ask for that.
#pragma once

#include "runtime/protocol/ids.hpp"

namespace regroup {

// The shortest that the kernel gives.
inline constexpr Nanoseconds kShortSlice = 100 * kMicrosecond;

// Of the calling thread. Nothing happens where the system knows no such thing.
void ask_for_short_slices();

// As the kernel tells it; 0 where threads have none of their own.
Nanoseconds slice_of_this_thread();

}  // namespace regroup
