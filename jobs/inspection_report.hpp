// What `regroup inspect` prints: a run directory's contents for people, or for programs. Pure
// functions of what was found.
#pragma once

#include <string>

#include "runtime/host/run_inspection.hpp"

namespace regroup {

// Lines of a name and a text, in at most `columns` where words allow; `program` is what the user
// called. Ends in a newline.
std::string inspection_text(const RunInspection& inspection, const std::string& program,
                            int columns);
// One object over several lines. Bytes of texts that are not UTF-8 are replaced.
std::string inspection_json(const RunInspection& inspection, const std::string& program);

// The command that goes on from what is there: its results, or the run; "" if none does.
std::string next_command(const RunInspection& inspection, const std::string& program);

}  // namespace regroup
