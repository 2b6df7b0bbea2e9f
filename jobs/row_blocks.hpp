// A square sparse matrix cut into blocks of consecutive rows, as cells of an iterative job: which
// rows each has, and of one block its rows with columns numbered anew, what it needs of its
// neighbours and what they need of it. Plain values: any number of threads may read them.
#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <vector>

#include "jobs/huge_pages.hpp"
#include "jobs/matrix_market.hpp"
#include "kernels/sparse/sparse.hpp"

namespace regroup {

// Where blocks of rows begin, and behind the last: for so many blocks, each of at least one row,
// with about as many entries each. There are at least as many rows as blocks, and at least one.
std::vector<std::uint64_t> cut_rows(std::span<const std::uint32_t> entries_of_rows,
                                    std::uint32_t blocks);

// The block that a row is in.
std::uint32_t block_of(std::span<const std::uint64_t> cuts, std::uint64_t row);

// One block's rows. Its columns are its own rows first, then its ghosts: the columns outside that
// it has entries in, ascending. In a row, entries keep the order of the matrix's columns, so that
// their sum does not depend on the cut. For a matrix whose pattern is symmetric, what one block
// shows another is what that has as ghosts from it.
class RowBlock {
 public:
  struct Neighbour {
    std::uint32_t block = 0;
    std::size_t ghosts_begin = 0;  // its rows among the ghosts
    std::size_t ghosts_end = 0;
    std::vector<std::uint32_t> shown = {};  // own rows that it has as ghosts, ascending
  };

  // From the entries of its rows, in any order. Those in one place are added up, the least first,
  // and zeros are left out.
  RowBlock(std::span<const std::uint64_t> cuts, std::uint32_t block,
           std::vector<MatrixEntry> entries);

  std::uint64_t first_row() const { return first_row_; }
  std::size_t rows() const { return row_starts_.size() - 1; }
  std::size_t ghosts() const { return ghosts_; }
  std::size_t entries() const { return values_.size(); }
  const std::vector<Neighbour>& neighbours() const { return neighbours_; }  // ascending
  kernels::SparseMatrix matrix() const {
    return {row_starts_, columns_, values_, rows() + ghosts_};
  }
  // 0 where there is none.
  const std::vector<double>& diagonal() const { return diagonal_; }

 private:
  void merge(std::vector<MatrixEntry>& entries);
  void number_columns(std::span<const std::uint64_t> cuts, std::span<const MatrixEntry> entries);

  std::uint64_t first_row_ = 0;
  std::size_t ghosts_ = 0;
  HugePageVector<std::uint64_t> row_starts_;
  HugePageVector<std::uint32_t> columns_;
  HugePageVector<double> values_;
  std::vector<double> diagonal_;
  std::vector<Neighbour> neighbours_;
};

}  // namespace regroup
