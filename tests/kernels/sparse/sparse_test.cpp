// The product on each instruction set against the plain reference, to the bit, and both against
// exact arithmetic.
#include "kernels/sparse/sparse.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/random/philox.hpp"

namespace regroup::kernels {
namespace {

constexpr double kUntouched = -77;

struct Matrix {
  std::vector<std::uint64_t> row_starts = {0};
  std::vector<std::uint32_t> columns;
  std::vector<double> values;
  std::size_t column_count = 0;

  void end_row() { row_starts.push_back(columns.size()); }
  operator SparseMatrix() const { return {row_starts, columns, values, column_count}; }
};

// With so many entries in each row, in any columns.
Matrix random_matrix(const std::vector<std::size_t>& lengths, std::size_t columns) {
  Philox random(0xabcdef, 3);
  Matrix matrix;
  matrix.column_count = columns;
  for (const std::size_t length : lengths) {
    for (std::size_t i = 0; i < length; ++i) {
      matrix.columns.push_back(
          static_cast<std::uint32_t>(random.uniform() * static_cast<double>(columns)));
      matrix.values.push_back(2 * random.uniform() - 1);
    }
    matrix.end_row();
  }
  return matrix;
}

std::vector<double> random_vector(std::size_t size) {
  Philox random(0xabcdef, 4);
  std::vector<double> vector(size);
  for (double& element : vector) element = 2 * random.uniform() - 1;
  return vector;
}

bool same_bits(std::span<const double> a, std::span<const double> b) {
  return std::ranges::equal(a, b, {}, std::bit_cast<std::uint64_t, double>,
                            std::bit_cast<std::uint64_t, double>);
}

class SparseOnEverySet : public testing::TestWithParam<InstructionSet> {};

INSTANTIATE_TEST_SUITE_P(SparseTest, SparseOnEverySet,
                         testing::ValuesIn(available_instruction_sets().begin(),
                                           available_instruction_sets().end()),
                         [](const auto& test) {
                           return std::string(instruction_set_name(test.param));
                         });

// Rows of every length up to some registers, and matrices that end with rows of any length, since
// what lies behind the last entry must not be read.
TEST_P(SparseOnEverySet, RowsOfAnyLengthEqualTheReferenceToTheBit) {
  for (std::size_t last = 0; last <= 40; ++last) {
    std::vector<std::size_t> lengths;
    for (std::size_t length = 0; length <= last; ++length) lengths.push_back(length);
    lengths.insert(lengths.end(), {1, 0, last, 0});
    const Matrix matrix = random_matrix(lengths, 97);
    const std::vector<double> x = random_vector(97);
    std::vector<double> expected(lengths.size(), kUntouched);
    reference::multiply(matrix, 0, lengths.size(), x, expected);
    std::vector<double> y(lengths.size(), kUntouched);

    multiply(matrix, 0, lengths.size(), x, y, GetParam());

    ASSERT_TRUE(same_bits(y, expected)) << last;
  }
}

TEST_P(SparseOnEverySet, ARangeOfRowsLeavesTheOthers) {
  const std::vector<std::size_t> lengths = {3, 0, 9, 5, 7, 1, 12, 4};
  const Matrix matrix = random_matrix(lengths, 20);
  const std::vector<double> x = random_vector(20);
  std::vector<double> whole(lengths.size());
  multiply(matrix, 0, lengths.size(), x, whole, GetParam());
  for (std::size_t begin = 0; begin <= lengths.size(); ++begin) {
    for (std::size_t end = begin; end <= lengths.size(); ++end) {
      std::vector<double> y(lengths.size(), kUntouched);
      multiply(matrix, begin, end, x, y, GetParam());
      for (std::size_t row = 0; row < y.size(); ++row) {
        EXPECT_EQ(y[row], row >= begin && row < end ? whole[row] : kUntouched);
      }
    }
  }
}

// Small whole numbers, whose sums and products are exact.
TEST_P(SparseOnEverySet, WholeNumbersComeOutRight) {
  const std::vector<std::size_t> lengths(50, 23);
  Matrix matrix = random_matrix(lengths, 31);
  for (double& value : matrix.values) value = std::round(100 * value);
  std::vector<double> x = random_vector(31);
  for (double& element : x) element = std::round(1000 * element);
  std::vector<double> y(lengths.size());

  multiply(matrix, 0, lengths.size(), x, y, GetParam());

  for (std::size_t row = 0; row < y.size(); ++row) {
    std::int64_t sum = 0;
    for (std::uint64_t k = matrix.row_starts[row]; k < matrix.row_starts[row + 1]; ++k) {
      sum += static_cast<std::int64_t>(matrix.values[k] * x[matrix.columns[k]]);
    }
    EXPECT_EQ(y[row], static_cast<double>(sum));
  }
}

// An infinity in x, or in a row, is heard in the rows that have it and nowhere else, though their
// registers reach into each other's entries.
TEST_P(SparseOnEverySet, WhatIsNotFiniteStaysInItsRows) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (std::size_t length = 1; length <= 17; ++length) {
    Matrix matrix;
    matrix.column_count = 3;
    for (const std::uint32_t column : {0, 1, 2, 0, 1, 2, 2}) {
      for (std::size_t i = 0; i < length; ++i) {
        matrix.columns.push_back(column);
        matrix.values.push_back(column == 2 ? -0.0 : column == 1 ? kInfinity : 0);
      }
      matrix.end_row();
    }
    for (const double element : {kInfinity, 0.0}) {
      const std::vector<double> x = {element, 1, 1};
      std::vector<double> y(7, kUntouched);
      multiply(matrix, 0, 7, x, y, GetParam());
      for (const std::size_t row : {0, 3}) EXPECT_EQ(std::isnan(y[row]), element != 0) << length;
      for (const std::size_t row : {1, 4}) EXPECT_EQ(y[row], kInfinity) << length;
      for (const std::size_t row : {2, 5, 6}) {
        EXPECT_TRUE(y[row] == 0 && !std::signbit(y[row])) << length;
      }
    }
  }
}

// Numbers that any other order of additions would round otherwise.
TEST_P(SparseOnEverySet, ARowHasFourSums) {
  Matrix matrix;
  matrix.column_count = 1;
  matrix.values = {1, 0x1p60, 1, -0x1p60, 3, 0, 0};  // 4, 2^60, 1, -2^60
  matrix.columns.resize(7);
  matrix.end_row();
  matrix.values.insert(matrix.values.end(), {0x1p60, 1, -0x1p60, 1});
  matrix.columns.resize(11);
  matrix.end_row();
  const std::vector<double> x = {1};
  std::vector<double> y(2);
  multiply(matrix, 0, 2, x, y, GetParam());
  EXPECT_EQ(y[0], 5);
  EXPECT_EQ(y[1], 2);
}

TEST(SparseTest, BadMatricesAreNamed) {
  const auto reason = [](const Matrix& matrix) {
    const char* const why = why_invalid(matrix);
    return std::string(why == nullptr ? "" : why);
  };
  const Matrix good = random_matrix({3, 0, 2}, 7);
  EXPECT_EQ(reason(good), "");
  Matrix bad = good;
  bad.row_starts.clear();
  EXPECT_EQ(reason(bad), "row starts: must begin with 0");
  bad.row_starts = {1, 3, 3, 5};
  EXPECT_EQ(reason(bad), "row starts: must begin with 0");
  bad.row_starts = {0, 4, 3, 5};
  EXPECT_EQ(reason(bad), "row starts: must not descend");
  bad.row_starts = {0, 3, 3, 6};
  EXPECT_TRUE(reason(bad).starts_with("row starts: must end"));
  bad = good;
  bad.columns.pop_back();
  EXPECT_TRUE(reason(bad).starts_with("row starts: must end"));
  bad = good;
  bad.columns[4] = 7;
  EXPECT_EQ(reason(bad), "columns: one is outside the matrix");
  bad.column_count = kSparseColumnsMax + 1;
  EXPECT_EQ(reason(bad), "columns: must be at most 2^31");
}

TEST(SparseDeathTest, BrokenContractsEndTheProcess) {
  const Matrix matrix = random_matrix({3, 0, 2}, 7);
  std::vector<double> x(7);
  std::vector<double> y(3);
  const std::span most_y = std::span(y).first(2);
  EXPECT_DEATH(multiply(matrix, 0, 3, std::span(x).first(6), y), "each column");
  EXPECT_DEATH(multiply(matrix, 0, 2, x, most_y), "each row");
  EXPECT_DEATH(multiply(matrix, 2, 4, x, y), "rows that the matrix has not");
  EXPECT_DEATH(multiply(matrix, 2, 1, x, y), "rows that the matrix has not");
  EXPECT_DEATH(multiply(matrix, 0, 3, x, std::span(x).first(3)), "overlap");
  EXPECT_DEATH(reference::multiply(matrix, 0, 4, x, y), "rows that the matrix has not");
}

}  // namespace
}  // namespace regroup::kernels
