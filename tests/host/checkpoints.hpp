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

// A field on a grid of this shape.
inline GridField heat_on(const std::vector<std::uint64_t>& shape) {
  GridField field{.name = "heat", .units = "J m\u207b\u00b3", .shape = shape};
  for (std::size_t i = 0; i < shape.size(); ++i) {
    field.spacing.push_back(0.25 * static_cast<double>(i + 1));
    field.origin.push_back(-1.5 + static_cast<double>(i));
  }
  return field;
}

// Cuts the longest dimension of the largest block at a third until there are so many.
inline std::vector<FieldBlock> uneven_blocks(const GridField& field, std::size_t count) {
  const auto elements = [](const FieldBlock& block) {
    std::uint64_t product = 1;
    for (const auto extent : block.extent) product *= extent;
    return product;
  };
  std::vector<FieldBlock> blocks = {
      {field, std::vector<std::uint64_t>(field.shape.size()), field.shape}};
  while (blocks.size() < count) {
    FieldBlock& low = *std::ranges::max_element(blocks, {}, elements);
    FieldBlock high = low;
    const auto longest = std::ranges::max_element(low.extent) - low.extent.begin();
    const auto at = static_cast<std::size_t>(longest);
    low.extent[at] = low.extent[at] / 3 + 1;
    high.start[at] += low.extent[at];
    high.extent[at] -= low.extent[at];
    blocks.push_back(high);
  }
  return blocks;
}

// The elements of a block, each told by its number in the whole field.
inline std::vector<double> heat_in(const std::vector<std::uint64_t>& shape,
                                   const std::vector<std::uint64_t>& start,
                                   const std::vector<std::uint64_t>& extent,
                                   std::uint64_t version) {
  std::vector<double> values;
  const auto visit = [&](const auto& self, std::size_t dimension, std::uint64_t number) -> void {
    if (dimension == shape.size()) {
      values.push_back(static_cast<double>(number) * 0.5 + static_cast<double>(version));
      return;
    }
    for (std::uint64_t i = 0; i < extent[dimension]; ++i)
      self(self, dimension + 1, number * shape[dimension] + start[dimension] + i);
  };
  visit(visit, 0, 0);
  return values;
}

struct Taking {
  CheckpointNumber checkpoint{1};
  Epoch epoch{3};
  std::uint32_t ranks = 2;
  std::uint64_t rows = 1000;  // over all ranks
  std::uint64_t version = 7;
  int deflate_level = 0;
  CheckpointNumber linked{0};            // rank 0 links its rows to this one; 0: it writes them
  std::vector<std::uint64_t> grid = {};  // of a field "grid/heat", a block a rank; none without
};

// The rows of one rank, as an even split has them.
inline std::uint64_t first_row_of(const Taking& taking, std::uint32_t rank) {
  return taking.rows * rank / taking.ranks;
}

// A rank's block of the field, the first row of its piece, and what is in it.
struct HeatPiece {
  HeatPiece(const Taking& taking, std::uint32_t rank) {
    const auto blocks = uneven_blocks(heat_on(taking.grid), taking.ranks);
    for (std::uint32_t before = 0; before <= rank; ++before) {
      first_row += elements.size();
      block = blocks[before];
      elements = heat_in(taking.grid, block.start, block.extent, taking.version);
    }
  }
  FieldBlock block;
  std::uint64_t first_row = 0;
  std::vector<double> elements;
};

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
  if (taking.grid.empty()) return store.write_part(request);
  request.attributes.push_back({"step", taking.version});
  const HeatPiece heat(taking, rank);
  if (rank == 0 && taking.linked.value != 0)
    request.links.push_back({taking.linked, "grid/heat", heat.first_row});
  else
    request.pieces.push_back({"grid/heat", hdf5::ElementType::kFloat64, heat.first_row,
                              std::as_bytes(std::span(heat.elements)), heat.block});
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
