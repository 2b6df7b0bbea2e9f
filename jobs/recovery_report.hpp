// How a recovery is told to people and programs. Pure functions.
#pragma once

#include <ctime>
#include <string>

#include "runtime/host/recovery.hpp"
#include "runtime/host/run_directory.hpp"

namespace regroup {

// As status.json and the summary have it. `started` and `now` are CLOCK_MONOTONIC's: when the run
// began, and when it was `now_utc`.
RecoveryStatus recovery_status(const Recovery& recovery, Nanoseconds started, Nanoseconds now,
                               std::time_t now_utc);

// "view 2 without rank 2, known dead: 1.2 ms to agree, goes on here after 1.5 ms", counted from
// the first evidence; for --progress plain.
std::string recovery_text(const RecoveryStatus& recovery);

// "recovery: rank 1 epoch 2 evidence dead detected 5 revoked 6 entered 7 resumed 8": nanoseconds of
// CLOCK_MONOTONIC, "-" for what was not, for measurements.
std::string recovery_stamps(const Recovery& recovery, RankId self);

// Where lost partitions came back from, on one line; empty: none did.
std::string restored_text(const RestoredFrom& restored);

}  // namespace regroup
