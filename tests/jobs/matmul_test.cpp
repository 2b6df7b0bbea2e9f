// matmul, held against a product in plain loops of the matrices that it says it multiplies.
#include <cmath>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "jobs/sample_jobs.hpp"
#include "kernels/random/philox.hpp"
#include "tests/jobs/error_of.hpp"
#include "tests/jobs/threaded_run.hpp"

namespace regroup {
namespace {

using testing::HasSubstr;
using Options = ProgramRun::Set;

ReportPicture run_matmul(const Options& options, std::uint32_t ranks = 1) {
  JobRegistry jobs;
  add_matmul(jobs);
  return run_threaded(jobs, "matmul", options, {}, ranks);
}

Options sized(std::size_t rows, std::size_t columns, std::size_t inner, const char* blocks,
              const char* panel) {
  return {{"rows", std::to_string(rows)},
          {"columns", std::to_string(columns)},
          {"inner", std::to_string(inner)},
          {"blocks", blocks},
          {"panel", panel}};
}

std::vector<double> product_of(const ReportPicture& picture) {
  const auto& elements = picture.arrays.at(0).elements;
  std::vector<double> numbers(elements.size() / sizeof(double));
  std::memcpy(numbers.data(), elements.data(), elements.size());
  return numbers;
}

// Row i of A is stream 2 i of the generator, row i of B stream 2 i + 1.
double element(std::uint64_t matrix, std::uint64_t row, std::uint64_t column) {
  kernels::Philox random(1, 2 * row + matrix);
  double number = 0;
  for (std::uint64_t i = 0; i <= column; ++i) number = 2 * random.uniform() - 1;
  return number;
}

TEST(MatmulJob, IsTheProduct) {
  struct Case {
    std::size_t rows, columns, inner;
    const char* blocks;
    const char* panel;
  };
  for (const Case& one :
       {Case{1, 1, 1, "1", "1"}, Case{7, 5, 11, "1", "3"}, Case{7, 5, 11, "6", "2"},
        Case{12, 9, 4, "12", "100"}, Case{3, 40, 2, "8", "1"}, Case{40, 3, 9, "15", "4"}}) {
    const auto found =
        product_of(run_matmul(sized(one.rows, one.columns, one.inner, one.blocks, one.panel), 2));
    ASSERT_EQ(found.size(), one.rows * one.columns);
    for (std::size_t i = 0; i < one.rows; ++i) {
      for (std::size_t j = 0; j < one.columns; ++j) {
        double sum = 0;
        for (std::size_t k = 0; k < one.inner; ++k) sum += element(0, i, k) * element(1, k, j);
        EXPECT_NEAR(found[i * one.columns + j], sum, 1e-14) << i << ", " << j;
      }
    }
  }
}

TEST(MatmulJob, HasTheSameBitsOnAnyRanks) {
  const Options options = sized(50, 60, 70, "12", "16");
  const ReportPicture alone = run_matmul(options);
  for (const std::uint32_t ranks : {2u, 3u}) EXPECT_EQ(run_matmul(options, ranks), alone);
}

TEST(MatmulJob, RefusesWhatCannotBe) {
  JobRegistry jobs;
  add_matmul(jobs);
  const auto refusal = [&](const Options& options) {
    const auto program = jobs.make("matmul");
    for (const auto& [name, value] : options) {
      if (auto error = error_of(program->options().find(name)->set(value)); !error.empty()) {
        return error;
      }
    }
    return error_of(program->prepare());
  };
  EXPECT_EQ(refusal({}), "");
  EXPECT_THAT(refusal({{"rows", "0"}}), HasSubstr("rows"));
  EXPECT_THAT(refusal({{"inner", "-3"}}), HasSubstr("inner"));
  EXPECT_THAT(refusal({{"columns", "nan"}}), HasSubstr("columns"));
  EXPECT_THAT(refusal({{"rows", "2"}, {"columns", "2"}, {"blocks", "5"}}), HasSubstr("--blocks"));
}

}  // namespace
}  // namespace regroup
