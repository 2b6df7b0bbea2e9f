// A scratch directory that writes files and gives their paths as jobs take them: as text.
#pragma once

#include <fstream>
#include <string>
#include <string_view>

#include "runtime/protocol/check.hpp"
#include "tests/scratch_directory.hpp"

namespace regroup {

class TemporaryFolder {
 public:
  std::string path(std::string_view name) const { return (directory_.path() / name).string(); }

  // Writes a file and returns its path.
  std::string write(std::string_view name, std::string_view content) const {
    std::ofstream out(path(name), std::ios::binary);
    out.write(content.data(), static_cast<std::streamsize>(content.size()));
    REGROUP_CHECK(out.flush().good(), "the test's file was written");
    return path(name);
  }

 private:
  test::ScratchDirectory directory_;
};

}  // namespace regroup
