// What the tests of whole run directories share: a run that is done, with its status, its result
// and checkpoints, as a real one would leave them.
#pragma once

#include <cstdint>
#include <filesystem>

#include <gtest/gtest.h>

#include "runtime/host/result_file_writer.hpp"
#include "runtime/host/run_directory.hpp"
#include "tests/host/checkpoints.hpp"
#include "tests/host/word_table.hpp"

namespace regroup::test {

inline RunStatus finished_status() {
  const CheckpointFacts facts = some_facts();
  RunStatus status;
  status.job = facts.job;
  status.run = kRun;
  status.seed = facts.seed;
  status.state = RunState::kDone;
  status.exit = 0;
  status.epoch = 3;
  status.members = {0, 1};
  status.shards_done = 10;
  status.shards_total = 10;
  status.regroup_version = "0.1.0";
  status.host = "node-7";
  status.started_utc = utc_text(0);
  status.updated_utc = utc_text(7);
  return status;
}

// Its directory is free. `status` is what its status.json says: whoever changes it writes it again.
struct FinishedRun {
  ScratchDirectory scratch;
  RunStatus status = finished_status();
  CheckpointStore store{scratch.path(), kRun};

  FinishedRun() {
    write_result(status.job, *status.seed);
    write_status();
  }

  const std::filesystem::path& path() const { return scratch.path(); }
  std::filesystem::path result() const { return path() / "result.h5"; }

  void write_status() const {
    auto text = to_json(status);
    const auto done =
        replace_file(FileSystem::real(), scratch.path() / kStatusFileName, std::move(text));
    ASSERT_TRUE(done) << done.error();
  }

  // Some rows, and what the status keeps of the file.
  void write_result(const std::string& job, std::uint64_t seed) {
    auto writer = ResultFileWriter::create(path()).value();
    ASSERT_TRUE(writer.attribute("job", job));
    ASSERT_TRUE(writer.attribute("seed", seed));
    ASSERT_TRUE(writer.scalar("total", std::uint64_t{1000}));
    ASSERT_TRUE(writer.columns(kWordTable));
    ASSERT_TRUE(WordRows(1000).append_to(writer, 0, 1000));
    ASSERT_TRUE(writer.finish());
    status.result = writer.digest();
  }

  // Checkpoint 1, checkpoint 2 that links a part of it, and 3 that was never sealed.
  void take_checkpoints() const {
    ASSERT_TRUE(take(store, {.checkpoint = number(1)}));
    ASSERT_TRUE(take(store, {.checkpoint = number(2), .linked = number(1)}));
    ASSERT_TRUE(write_part_of(store, {.checkpoint = number(3)}, 1));
  }
};

}  // namespace regroup::test
