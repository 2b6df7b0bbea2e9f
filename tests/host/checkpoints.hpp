// What the tests of the checkpoint store share: checkpoints whose every value can be told from its
// row and version, taken as ranks and a coordinator would take them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <expected>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/host/checkpoint_store.hpp"
#include "tests/scratch_directory.hpp"

namespace regroup::test {

inline constexpr const char* kRun = "run-4f2c";

inline CheckpointNumber number(std::uint64_t value) {
  return CheckpointNumber{value};
}

// A run directory and its checkpoints.
struct TestRun {
  ScratchDirectory scratch;
  CheckpointStore store{scratch.path(), kRun};

  std::filesystem::path directory(const std::string& name) const {
    return scratch.path() / "checkpoints" / name;
  }
  std::vector<CheckpointState> states() const {
    std::vector<CheckpointState> states;
    const auto entries = store.list();
    for (const auto& entry : entries.value()) states.push_back(entry.state);
    return states;
  }
};

// Rows of "shards/state", 8 bytes each. The first half compresses, the second does not.
inline std::vector<std::byte> state_rows(std::uint64_t first_row, std::uint64_t rows,
                                         std::uint64_t version) {
  std::vector<std::uint64_t> values(rows);
  for (std::uint64_t i = 0; i < rows; ++i) {
    const std::uint64_t row = first_row + i;
    values[i] = i < rows / 2 ? row + version : (row + version) * 0x9E3779B97F4A7C15u;
  }
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

struct Taking {
  CheckpointNumber checkpoint{1};
  Epoch epoch{3};
  std::uint32_t ranks = 2;
  std::uint64_t rows = 1000;  // over all ranks
  std::uint64_t version = 7;
  int deflate_level = 0;
  CheckpointNumber linked{0};  // rank 0 links its rows to this one; 0: it writes them
};

// The rows of one rank, as an even split has them.
inline std::uint64_t first_row_of(const Taking& taking, std::uint32_t rank) {
  return taking.rows * rank / taking.ranks;
}

inline std::expected<CheckpointPart, std::string> write_part_of(const CheckpointStore& store,
                                                                const Taking& taking,
                                                                std::uint32_t rank) {
  const std::uint64_t first = first_row_of(taking, rank);
  const auto state = state_rows(first, first_row_of(taking, rank + 1) - first, taking.version);
  const std::vector<std::byte> sink(100 + rank, std::byte{static_cast<unsigned char>(rank)});
  PartRequest request{.checkpoint = taking.checkpoint, .epoch = taking.epoch, .rank = RankId{rank}};
  request.deflate_level = taking.deflate_level;
  request.attributes = {{"stage", std::uint64_t{rank}}, {"note", "a text"}, {"ratio", 0.1}};
  if (rank == 0 && taking.linked.value != 0)
    request.links.push_back({taking.linked, "shards/state", first});
  else
    request.pieces.push_back({"shards/state", hdf5::ElementType::kUint64, first, state});
  if (rank == 0) request.pieces.push_back({"sink/state", hdf5::ElementType::kUint8, 0, sink});
  return store.write_part(request);
}

inline CheckpointFacts some_facts() {
  return {.job = "montecarlo",
          .parameters = {{"shards", "1000"}, {"file", "a\xff name"}, {"empty", ""}},
          .seed = UINT64_MAX,
          .software = {{"regroup", "0.1.0"}},
          .ranks = 2,
          .lamport = 12345,
          .utc = "2026-01-31T23:59:59Z",
          .cost_seconds = 0.25};
}

inline bool always(Epoch) {
  return true;
}

inline std::expected<CheckpointManifest, std::string> take(const CheckpointStore& store,
                                                           const Taking& taking,
                                                           const MaySeal& may_seal = always) {
  SealRequest request{taking.checkpoint, taking.epoch, some_facts(), {}};
  for (std::uint32_t rank = 0; rank < taking.ranks; ++rank) {
    auto part = write_part_of(store, taking, rank);
    if (!part) return std::unexpected(part.error());
    request.parts.push_back(std::move(*part));
  }
  return store.seal(request, may_seal);
}

// Whether all rows of "shards/state" read back, in pieces of other sizes than they were written in.
inline void expect_state(const Checkpoint& checkpoint, std::uint64_t rows, std::uint64_t version,
                         std::uint64_t readers = 3) {
  Taking split{.ranks = static_cast<std::uint32_t>(readers), .rows = rows};
  for (std::uint32_t reader = 0; reader < readers; ++reader) {
    const std::uint64_t first = first_row_of(split, reader);
    std::vector<std::byte> bytes(8 * (first_row_of(split, reader + 1) - first));
    const auto done = checkpoint.read("shards/state", first, bytes);
    ASSERT_TRUE(done) << done.error();
    for (std::size_t at = 0; at < bytes.size(); at += 8) {
      std::uint64_t value = 0;
      std::memcpy(&value, bytes.data() + at, sizeof value);
      const std::uint64_t row = first + at / 8;
      const std::uint64_t plain = row + version;
      ASSERT_TRUE(value == plain || value == plain * 0x9E3779B97F4A7C15u) << "row " << row;
    }
  }
}

inline void expect_valid(const CheckpointStore& store, CheckpointNumber checkpoint) {
  const auto verification = store.verify(checkpoint);
  for (const auto& problem : verification.problems)
    ADD_FAILURE() << "checkpoint " << checkpoint.value << ": " << problem.file << ": "
                  << problem.reason;
  EXPECT_GT(verification.bytes, 0u);
}

inline void flip_bit(const std::filesystem::path& path, std::uint64_t bit) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekg(static_cast<std::streamoff>(bit / 8));
  const auto byte = static_cast<char>(file.get() ^ (1 << bit % 8));
  file.seekp(static_cast<std::streamoff>(bit / 8));
  file.put(byte);
}

}  // namespace regroup::test
