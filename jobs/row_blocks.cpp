#include "jobs/row_blocks.hpp"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "runtime/protocol/check.hpp"

namespace regroup {

std::vector<std::uint64_t> cut_rows(std::span<const std::uint32_t> entries_of_rows,
                                    std::uint32_t blocks) {
  REGROUP_CHECK(blocks > 0 && blocks <= entries_of_rows.size(), "each block has a row");
  const std::uint64_t all =
      std::accumulate(entries_of_rows.begin(), entries_of_rows.end(), std::uint64_t{0});
  std::vector<std::uint64_t> cuts = {0};
  std::uint64_t entries = 0;
  for (std::uint64_t row = 0; row < entries_of_rows.size() && cuts.size() < blocks; ++row) {
    // The block ends before this row once it has its share, or where the rest needs a row each.
    const bool has_share =
        entries >= all / blocks * cuts.size() + all % blocks * cuts.size() / blocks;
    const bool must_end = entries_of_rows.size() - row == blocks - cuts.size();
    if (row > cuts.back() && (has_share || must_end)) cuts.push_back(row);
    entries += entries_of_rows[row];
  }
  cuts.push_back(entries_of_rows.size());
  return cuts;
}

std::uint32_t block_of(std::span<const std::uint64_t> cuts, std::uint64_t row) {
  return static_cast<std::uint32_t>(std::ranges::upper_bound(cuts, row) - cuts.begin() - 1);
}

RowBlock::RowBlock(std::span<const std::uint64_t> cuts, std::uint32_t block,
                   std::vector<MatrixEntry> entries)
    : first_row_(cuts[block]) {
  const std::size_t rows = static_cast<std::size_t>(cuts[block + 1] - first_row_);
  row_starts_.resize(rows + 1);
  diagonal_.resize(rows);
  merge(entries);
  for (const MatrixEntry& entry : entries) ++row_starts_[entry.row - first_row_ + 1];
  std::partial_sum(row_starts_.begin(), row_starts_.end(), row_starts_.begin());
  values_.reserve(entries.size());
  for (const MatrixEntry& entry : entries) {
    values_.push_back(entry.value);
    if (entry.row == entry.column) diagonal_[entry.row - first_row_] = entry.value;
  }
  number_columns(cuts, entries);
}

void RowBlock::merge(std::vector<MatrixEntry>& entries) {
  std::erase_if(entries, [](const MatrixEntry& entry) { return entry.value == 0; });
  std::ranges::sort(entries, {}, [](const MatrixEntry& entry) {
    return std::tuple(entry.row, entry.column, entry.value);
  });
  std::size_t kept = 0;
  for (const MatrixEntry& entry : entries) {
    MatrixEntry* const last = kept == 0 ? nullptr : &entries[kept - 1];
    if (last != nullptr && last->row == entry.row && last->column == entry.column) {
      last->value += entry.value;
    } else {
      entries[kept++] = entry;
    }
  }
  entries.resize(kept);
}

void RowBlock::number_columns(std::span<const std::uint64_t> cuts,
                              std::span<const MatrixEntry> entries) {
  const std::uint64_t end = first_row_ + rows();
  const auto is_own = [&](std::uint64_t column) { return column >= first_row_ && column < end; };
  std::vector<std::uint32_t> ghosts;
  for (const MatrixEntry& entry : entries) {
    if (!is_own(entry.column)) ghosts.push_back(entry.column);
  }
  std::ranges::sort(ghosts);
  ghosts.erase(std::unique(ghosts.begin(), ghosts.end()), ghosts.end());
  ghosts_ = ghosts.size();
  for (std::size_t i = 0; i < ghosts_; ++i) {
    if (neighbours_.empty() || ghosts[i] >= cuts[neighbours_.back().block + 1]) {
      neighbours_.push_back({.block = block_of(cuts, ghosts[i]), .ghosts_begin = i});
    }
    neighbours_.back().ghosts_end = i + 1;
  }
  columns_.reserve(entries.size());
  for (const MatrixEntry& entry : entries) {
    if (is_own(entry.column)) {
      columns_.push_back(static_cast<std::uint32_t>(entry.column - first_row_));
      continue;
    }
    const auto ghost = std::ranges::lower_bound(ghosts, entry.column) - ghosts.begin();
    columns_.push_back(static_cast<std::uint32_t>(rows() + static_cast<std::size_t>(ghost)));
    const auto to =
        std::ranges::lower_bound(neighbours_, block_of(cuts, entry.column), {}, &Neighbour::block);
    const auto row = static_cast<std::uint32_t>(entry.row - first_row_);
    if (to->shown.empty() || to->shown.back() != row) to->shown.push_back(row);
  }
}

}  // namespace regroup
