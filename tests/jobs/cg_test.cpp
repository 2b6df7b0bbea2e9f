// cg, held against dense elimination and known solutions; the same bits for any cut; and what it
// refuses.
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "jobs/sample_jobs.hpp"
#include "kernels/random/philox.hpp"
#include "tests/jobs/error_of.hpp"
#include "tests/jobs/temporary_folder.hpp"
#include "tests/jobs/threaded_run.hpp"

namespace regroup {
namespace {

using testing::HasSubstr;
using Options = ProgramRun::Set;
using Inputs = std::vector<std::string>;

JobRegistry cg_alone() {
  JobRegistry jobs;
  add_cg(jobs);
  return jobs;
}

ReportPicture run_cg(const Options& options, const Inputs& inputs = {}, std::uint32_t ranks = 1) {
  return run_threaded(cg_alone(), "cg", options, inputs, ranks);
}

// The first rows, as many as a picture has.
std::vector<double> solution(const ReportPicture& picture) {
  std::vector<double> x;
  for (const auto& row : picture.rows) x.push_back(std::get<double>(row[1]));
  return x;
}

// A dense symmetric positive definite matrix by rows, some of whose elements are 0.
std::vector<std::vector<double>> definite_matrix(std::size_t rows) {
  kernels::Philox random(11, 3);
  std::vector<std::vector<double>> a(rows, std::vector<double>(rows));
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (random.uniform() < 0.3) a[i][j] = a[j][i] = 2 * random.uniform() - 1;
    }
    a[i][i] = static_cast<double>(rows) * (0.2 + random.uniform());
  }
  return a;
}

// By Cholesky's factorization A = L L'.
std::vector<double> solved(std::vector<std::vector<double>> a, std::vector<double> b) {
  const std::size_t rows = b.size();
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      double sum = a[i][j];
      for (std::size_t k = 0; k < j; ++k) sum -= a[i][k] * a[j][k];
      a[i][j] = i == j ? std::sqrt(sum) : sum / a[j][j];
    }
    for (std::size_t k = 0; k < i; ++k) b[i] -= a[i][k] * b[k];
    b[i] /= a[i][i];
  }
  for (std::size_t i = rows; i-- > 0;) {
    for (std::size_t k = i + 1; k < rows; ++k) b[i] -= a[k][i] * b[k];
    b[i] /= a[i][i];
  }
  return b;
}

std::string file_of(const std::vector<std::vector<double>>& a, bool symmetric) {
  std::string lines;
  std::size_t entries = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t j = 0; j < (symmetric ? i + 1 : a.size()); ++j) {
      if (a[i][j] == 0) continue;
      lines += fmt::format("{} {} {}\n", i + 1, j + 1, a[i][j]);
      ++entries;
    }
  }
  return fmt::format("%%MatrixMarket matrix coordinate real {}\n{} {} {}\n",
                     symmetric ? "symmetric" : "general", a.size(), a.size(), entries) +
         lines;
}

std::string file_of(const std::vector<double>& b) {
  std::string text = fmt::format("%%MatrixMarket matrix array real general\n{} 1\n", b.size());
  for (const double element : b) text += fmt::format("{}\n", element);
  return text;
}

TEST(CgJob, AgreesWithDenseElimination) {
  const TemporaryFolder folder;
  const auto a = definite_matrix(20);
  kernels::Philox random(12, 4);
  std::vector<double> b(20);
  for (double& element : b) element = 2 * random.uniform() - 1;
  const std::vector<double> expected = solved(a, b);
  const std::string rhs = folder.write("b.mtx", file_of(b));
  std::optional<std::vector<double>> before;
  for (const bool symmetric : {true, false}) {
    const std::string path = folder.write("a.mtx", file_of(a, symmetric));
    for (const char* blocks : {"1", "7", "20"}) {
      const ReportPicture picture =
          run_cg({{"rhs", rhs}, {"tolerance", "1e-14"}, {"blocks", blocks}}, {path});
      const std::vector<double> x = solution(picture);
      ASSERT_EQ(x.size(), 20u);
      for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], expected[i], 1e-14);
      EXPECT_EQ(x, before.value_or(x));
      before = x;
      EXPECT_EQ(value_of<std::string>(picture, "ended"), "converged");
      EXPECT_LE(value_of<double>(picture, "residual"), 1e-14);
    }
  }
}

TEST(CgJob, HasTheSameBitsForAnyCutAndAnyRanks) {
  for (const char* grid : {"30x20", "9x8x7", "200"}) {
    Options options{{"laplacian", grid}, {"rhs", "row-sums"}, {"blocks", "1"}};
    const ReportPicture whole = run_cg(options);
    EXPECT_EQ(value_of<std::string>(whole, "ended"), "converged");
    for (const char* blocks : {"2", "5", "16", "113"}) {
      options[2].second = blocks;
      EXPECT_EQ(run_cg(options), whole) << grid << " in " << blocks;
    }
    for (const std::uint32_t ranks : {2u, 3u}) EXPECT_EQ(run_cg(options, {}, ranks), whole) << grid;
  }
}

TEST(CgJob, FindsAKnownSolution) {
  const ReportPicture picture =
      run_cg({{"laplacian", "40x30"}, {"rhs", "row-sums"}, {"tolerance", "1e-12"}});
  EXPECT_LE(value_of<double>(picture, "residual"), 1e-12);
  EXPECT_LT(value_of<double>(picture, "error_max"), 1e-10);
  EXPECT_EQ(value_of<std::uint64_t>(picture, "rows"), 1200u);
  EXPECT_EQ(value_of<std::uint64_t>(picture, "nonzeros"), 5860u);
  EXPECT_EQ(picture.row_count, 1200u);
  // Of -u'' = 1 in one dimension, whose finite differences are exact: i (n + 1 - i) / 2.
  const ReportPicture line = run_cg({{"laplacian", "99"}, {"tolerance", "1e-13"}});
  const std::vector<double> x = solution(line);
  for (std::size_t i = 1; i <= x.size(); ++i) {
    EXPECT_NEAR(x[i - 1], static_cast<double>(i * (100 - i)) / 2, 1e-8);
  }
}

// In exact arithmetic as many iterations as there are eigenvalues.
TEST(CgJob, TakesAsManyIterationsAsTheMatrixHasEigenvalues) {
  const TemporaryFolder folder;
  const std::string scaled = folder.write(
      "scaled.mtx",
      "%%MatrixMarket matrix coordinate real symmetric\n3 3 3\n1 1 1\n2 2 100\n3 3 7\n");
  const ReportPicture one = run_cg({{"blocks", "2"}}, {scaled});
  EXPECT_EQ(value_of<std::uint64_t>(one, "iterations"), 1u);
  const std::string pairs = folder.write(
      "pairs.mtx",
      "%%MatrixMarket matrix coordinate real symmetric\n4 4 6\n1 1 2\n2 2 2\n2 1 1\n3 3 2\n4 4 2\n"
      "4 3 1\n");
  const std::string rhs = folder.write("b.mtx", file_of(std::vector<double>{1, 2, -1, 5}));
  const ReportPicture two = run_cg({{"rhs", rhs}, {"blocks", "4"}}, {pairs});
  EXPECT_EQ(value_of<std::uint64_t>(two, "iterations"), 2u);
}

TEST(CgJob, EndsWithoutToleranceWhereRoundingAllowsNoLess) {
  const ReportPicture picture = run_cg({{"laplacian", "60x50"}, {"tolerance", "0"}});
  EXPECT_EQ(value_of<std::string>(picture, "ended"), "stagnated");
  EXPECT_LT(value_of<double>(picture, "residual"), 1e-12);
}

TEST(CgJob, EndsAfterItsIterations) {
  const ReportPicture picture = run_cg({{"laplacian", "60x50"}, {"iterations", "5"}});
  EXPECT_EQ(value_of<std::string>(picture, "ended"), "at --iterations");
  EXPECT_EQ(value_of<std::uint64_t>(picture, "iterations"), 5u);
  EXPECT_GT(value_of<double>(picture, "residual"), 1e-3);
  const ReportPicture none = run_cg({{"laplacian", "6x5"}, {"iterations", "0"}});
  EXPECT_EQ(value_of<double>(none, "residual"), 1);
}

TEST(CgJob, ARightHandSideOfZerosHasTheSolutionZero) {
  const TemporaryFolder folder;
  const std::string rhs = folder.write("b.mtx", file_of(std::vector<double>(6, 0)));
  const ReportPicture picture = run_cg({{"laplacian", "3x2"}, {"rhs", rhs}, {"blocks", "2"}});
  EXPECT_EQ(value_of<std::string>(picture, "ended"), "converged");
  EXPECT_EQ(value_of<double>(picture, "residual"), 0);
  EXPECT_EQ(solution(picture), std::vector<double>(6, 0));
}

class CgRefusals : public testing::Test {
 protected:
  std::string refusal(const Options& options, const Inputs& inputs = {}) {
    const auto program = cg_alone().make("cg");
    for (const auto& [name, value] : options) {
      EXPECT_EQ(error_of(program->options().find(name)->set(value)), "");
    }
    for (const std::string& input : inputs) {
      EXPECT_EQ(error_of(program->options().input_list()->set(input)), "");
    }
    return error_of(program->prepare());
  }
  std::string matrix(const std::string& kind, const std::string& lines) {
    return folder_.write("a.mtx", "%%MatrixMarket matrix coordinate " + kind + "\n" + lines);
  }

  TemporaryFolder folder_;
};

TEST_F(CgRefusals, Matrices) {
  const Options two{{"blocks", "2"}};
  const auto of = [&](const std::string& kind, const std::string& lines) {
    return refusal(two, {matrix(kind, lines)});
  };
  EXPECT_EQ(of("real general", "2 2 4\n1 1 2\n2 2 2\n1 2 -1\n2 1 -1\n"), "");
  EXPECT_EQ(of("real general", "2 2 4\n1 1 2\n2 2 2\n1 1 -1\n2 1 0\n"), "");
  EXPECT_THAT(of("real general", "2 3 0\n"), HasSubstr("has 2 rows and 3 columns; give a square"));
  EXPECT_THAT(of("real general", "3 3 5\n1 1 2\n2 2 2\n3 3 2\n2 3 -1\n3 2 -1.5\n"),
              HasSubstr("row 2 and column 2 have not the same entries"));
  EXPECT_THAT(of("real general", "2 2 3\n1 1 2\n2 2 2\n1 2 -1\n"),
              HasSubstr("row 1 and column 1 have not the same entries"));
  EXPECT_THAT(of("real symmetric", "2 2 2\n1 1 2\n2 1 1\n"),
              HasSubstr("the diagonal of row 2 is 0;"));
  EXPECT_THAT(of("real symmetric", "2 2 3\n1 1 2\n2 2 3\n2 2 -4\n"),
              HasSubstr("the diagonal of row 2 is -1;"));
  EXPECT_THAT(of("real skew-symmetric", "2 2 1\n2 1 1\n"), HasSubstr("is skew-symmetric"));
  EXPECT_THAT(of("real symmetric", "2 2 2\n1 1 nan\n2 2 1\n"),
              HasSubstr("line 3: a value is not fin"));
  EXPECT_THAT(refusal(two, {folder_.write("dense.mtx", file_of(std::vector<double>{1}))}),
              HasSubstr("is an array"));
  EXPECT_THAT(refusal(two, {"/no/such/matrix"}), HasSubstr("/no/such/matrix: no such file"));
}

TEST_F(CgRefusals, Options) {
  EXPECT_THAT(refusal({{"laplacian", "4x"}}), HasSubstr("--laplacian: "));
  EXPECT_THAT(refusal({{"laplacian", "100000x100000"}}), HasSubstr("more than 2^31 points"));
  EXPECT_THAT(refusal({{"laplacian", "2x2"}, {"blocks", "5"}}),
              HasSubstr("--blocks 5: the matrix has 4 rows"));
  EXPECT_THAT(refusal({{"rhs", "twos"}}), HasSubstr("--rhs: twos: no such file"));
  const std::string short_rhs = folder_.write("b.mtx", file_of(std::vector<double>(3)));
  EXPECT_THAT(refusal({{"laplacian", "2x2"}, {"blocks", "1"}, {"rhs", short_rhs}}),
              HasSubstr("is 3 x 1; give one of 4 x 1"));
}

TEST(CgJob, ASavedBlockThatIsCutShortIsRefused) {
  const auto program = cg_alone().make("cg");
  ASSERT_EQ(error_of(program->options().find("laplacian")->set("4x4")), "");
  ASSERT_EQ(error_of(program->options().find("blocks")->set("4")), "");
  ASSERT_EQ(error_of(program->prepare()), "");
  const Buffer description = describe_job(*program, 1);
  ASSERT_EQ(error_of(open_job(*program, description.view())), "");
  WorkResult result;
  WorkOrder order{.kind = WorkKind::kBegin, .shards = {ShardId{1}, 1}};
  const RankResources resources{};
  ASSERT_EQ(error_of(program->compute_cell(order, 1, resources, result)), "");
  Buffer saved;
  ASSERT_EQ(error_of(program->save_partition(StageId{0}, 1, saved)), "");
  order.kind = WorkKind::kRestore;
  order.input = Buffer(saved.view());
  EXPECT_EQ(error_of(program->compute_cell(order, 1, resources, result)), "");
  for (const std::size_t bytes :
       {std::size_t{0}, std::size_t{47}, std::size_t{50}, saved.size() - 8}) {
    order.input = Buffer(saved.view().first(bytes));
    EXPECT_THROW((void)program->compute_cell(order, 1, resources, result), std::runtime_error);
  }
}

}  // namespace
}  // namespace regroup
