// The passes of conjugate gradients on each instruction set and number of threads against the plain
// reference, to the bit, and the reference against whole numbers.
#include "kernels/krylov/krylov.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/random/philox.hpp"

namespace regroup::kernels {
namespace {

using Vector = std::vector<double>;

Vector random_vector(std::size_t size, std::uint64_t stream, double scale = 1) {
  Philox random(0xabcdef, stream);
  Vector vector(size);
  for (double& element : vector) element = scale * (2 * random.uniform() - 1);
  return vector;
}

// What a pass changes, with a guard behind each vector.
struct State {
  std::size_t rows;
  Vector x, r, p, s, u, w, inverse;
  ResidualSums sums;

  explicit State(std::size_t size)
      : rows(size),
        x(random_vector(size + 1, 1)),
        r(random_vector(size + 1, 2)),
        p(random_vector(size + 1, 3)),
        s(random_vector(size + 1, 4)),
        u(random_vector(size + 1, 5)),
        w(random_vector(size + 1, 6)),
        inverse(random_vector(size + 1, 7)) {}

  KrylovVectors vectors() {
    const auto rows_of = [&](Vector& vector) { return std::span(vector).first(rows); };
    return {.x = rows_of(x),
            .r = rows_of(r),
            .p = rows_of(p),
            .s = rows_of(s),
            .u = rows_of(u),
            .w = rows_of(w),
            .inverse = rows_of(inverse)};
  }
};

bool same_bits(std::span<const double> a, std::span<const double> b) {
  return std::ranges::equal(a, b, {}, std::bit_cast<std::uint64_t, double>,
                            std::bit_cast<std::uint64_t, double>);
}

void expect_same(const State& a, const State& b) {
  EXPECT_TRUE(same_bits(a.x, b.x));
  EXPECT_TRUE(same_bits(a.r, b.r));
  EXPECT_TRUE(same_bits(a.p, b.p));
  EXPECT_TRUE(same_bits(a.s, b.s));
  EXPECT_TRUE(same_bits(a.u, b.u));
  EXPECT_EQ(a.sums.r_r, b.sums.r_r);
  EXPECT_EQ(a.sums.r_u, b.sums.r_u);
}

struct Matrix {
  std::vector<std::uint64_t> row_starts = {0};
  std::vector<std::uint32_t> columns;
  Vector values;
  std::size_t column_count = 0;

  operator SparseMatrix() const { return {row_starts, columns, values, column_count}; }
};

// Rows of 0 to 8 entries, and of many where there are few.
Matrix random_matrix(std::size_t rows, std::size_t columns) {
  Philox random(0xabcdef, 8);
  Matrix matrix;
  matrix.column_count = columns;
  for (std::size_t row = 0; row < rows; ++row) {
    for (auto left = static_cast<int>(9 * random.uniform()); left > 0; --left) {
      matrix.columns.push_back(
          static_cast<std::uint32_t>(random.uniform() * static_cast<double>(columns)));
      matrix.values.push_back(2 * random.uniform() - 1);
    }
    matrix.row_starts.push_back(matrix.values.size());
  }
  return matrix;
}

class KrylovOnEverySet : public testing::TestWithParam<InstructionSet> {};

INSTANTIATE_TEST_SUITE_P(KrylovTest, KrylovOnEverySet,
                         testing::ValuesIn(available_instruction_sets().begin(),
                                           available_instruction_sets().end()),
                         [](const auto& test) {
                           return std::string(instruction_set_name(test.param));
                         });

// Whole blocks, parts of one, and rows that fill no group; shares of threads that begin anywhere.
TEST_P(KrylovOnEverySet, AnyRowsAndThreadsEqualTheReferenceToTheBit) {
  for (const std::size_t rows : {0u, 1u, 15u, 16u, 17u, 1024u, 1040u, 5000u, 20'011u}) {
    State expected(rows);
    reference::advance(expected.vectors(), 0.625, -1.3, expected.sums);
    const Matrix matrix = random_matrix(rows, rows + 40);
    const Vector u = random_vector(rows + 40, 9);
    Vector expected_w(rows);
    ExactSum expected_w_u;
    reference::multiply_and_dot(matrix, u, expected_w, expected_w_u);
    for (const std::size_t threads : {1, 2, 3}) {
      SCOPED_TRACE(testing::Message() << rows << " rows, " << threads << " threads");
      State state(rows);
      advance(state.vectors(), 0.625, -1.3, state.sums, threads, GetParam());
      expect_same(state, expected);

      Vector w(rows);
      ExactSum w_u;
      multiply_and_dot(matrix, u, w, w_u, threads, GetParam());
      EXPECT_TRUE(same_bits(w, expected_w));
      EXPECT_EQ(w_u, expected_w_u);
    }
  }
}

// Terms of a block that no choice of levels fits, and terms that leave the levels of those before.
TEST_P(KrylovOnEverySet, SumsAreExactWhateverTheTerms) {
  State expected(6000);
  for (std::size_t i = 0; i < 6000; ++i) {
    const int exponent = i < 2000 ? -static_cast<int>(i % 400) : i < 4000 ? 200 : -300;
    expected.r[i] = std::ldexp(expected.r[i], exponent);
    expected.w[i] = expected.s[i] = 0;
  }
  State state = expected;
  reference::advance(expected.vectors(), 0.5, 0.25, expected.sums);

  advance(state.vectors(), 0.5, 0.25, state.sums, 1, GetParam());

  expect_same(state, expected);
}

TEST_P(KrylovOnEverySet, WhatIsNotFiniteShowsInTheSums) {
  State state(3000);
  state.r[2500] = std::numeric_limits<double>::infinity();
  advance(state.vectors(), 0.5, 0.25, state.sums, 1, GetParam());
  EXPECT_TRUE(std::isinf(state.sums.r_r.value()));
}

TEST_P(KrylovOnEverySet, SumsAreAddedToWhatIsThere) {
  State once(100);
  State again = once;
  advance(once.vectors(), 0, 0, once.sums, 1, GetParam());
  again.sums.r_r.add(0.5);
  advance(again.vectors(), 0, 0, again.sums, 1, GetParam());
  once.sums.r_r.add(0.5);
  EXPECT_EQ(again.sums.r_r, once.sums.r_r);
}

TEST(KrylovTest, TheReferenceDoesWhatItSays) {
  Vector x = {1}, r = {2}, p = {3}, s = {4}, u = {5};
  const Vector w = {6}, inverse = {0.5};
  ResidualSums sums;
  reference::advance({.x = x, .r = r, .p = p, .s = s, .u = u, .w = w, .inverse = inverse}, 2, 3,
                     sums);
  EXPECT_EQ(p[0], 2 * 0.5 + 3 * 3);
  EXPECT_EQ(s[0], 6 + 3 * 4);
  EXPECT_EQ(x[0], 1 + 2 * 10);
  EXPECT_EQ(r[0], 2 - 2 * 18);
  EXPECT_EQ(u[0], -34 * 0.5);
  EXPECT_EQ(sums.r_r.value(), 34 * 34);
  EXPECT_EQ(sums.r_u.value(), 34 * 17);
  Matrix matrix;
  matrix.row_starts = {0, 2};
  matrix.columns = {0, 1};
  matrix.values = {3, 5};
  matrix.column_count = 2;
  Vector product(1);
  ExactSum w_u;
  reference::multiply_and_dot(matrix, Vector{7, 11}, product, w_u);
  EXPECT_EQ(product[0], 3 * 7 + 5 * 11);
  EXPECT_EQ(w_u.value(), 76 * 7);
}

TEST(KrylovDeathTest, BrokenContractsEndTheProcess) {
  State state(10);
  KrylovVectors vectors = state.vectors();
  vectors.w = vectors.w.first(9);
  EXPECT_DEATH(advance(vectors, 1, 1, state.sums), "different sizes");
  EXPECT_DEATH(reference::advance(vectors, 1, 1, state.sums), "different sizes");
  const Matrix matrix = random_matrix(10, 9);
  Vector w(10);
  ExactSum w_u;
  EXPECT_DEATH(multiply_and_dot(matrix, Vector(9), w, w_u), "more rows than columns");
}

}  // namespace
}  // namespace regroup::kernels
