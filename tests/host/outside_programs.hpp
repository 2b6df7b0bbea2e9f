// Other people's programs that read what is written here. Tests that need one skip without it.
#pragma once

#include <cstdlib>
#include <string>

namespace regroup::test {

inline bool runs(const std::string& command) {
  return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
}

// The Python that has h5py; empty if none has.
inline const std::string& python_with_h5py() {
  static const std::string found = [] {
    for (const std::string candidate : {"python3", "/usr/bin/python3"})
      if (runs(candidate + " -c 'import h5py'")) return candidate;
    return std::string();
  }();
  return found;
}

}  // namespace regroup::test
