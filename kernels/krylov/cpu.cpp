// The public entry points: they pick the instruction set, share out rows to threads and cut them
// into blocks, whose dot products are added up while they are in a core's first cache. Where the
// levels of a block's sum do not fit, they are sought, and the block's terms read again.
#include <algorithm>
#include <cstddef>
#include <vector>

#include "kernels/krylov/contract.hpp"
#include "kernels/krylov/cpu_kernel.hpp"
#include "kernels/krylov/krylov.hpp"
#include "kernels/reduction/levels.hpp"

namespace regroup::kernels {
namespace {

// A thread has so many rows at least: less costs more than it gains.
constexpr std::size_t kThreadRowsMin = 4096;

KrylovKernel kernel_for(InstructionSet set) {
#ifdef __x86_64__
  switch (usable_instruction_set(set)) {
    case InstructionSet::kAvx512:
      return kKrylovAvx512;
    case InstructionSet::kAvx2:
      return kKrylovAvx2;
    case InstructionSet::kBaseline:
      return kKrylovBaseline;
  }
#endif
  static_cast<void>(set);
  return kKrylovBaseline;
}

std::size_t team_of(std::size_t rows, std::size_t threads) {
  return std::clamp<std::size_t>(rows / kThreadRowsMin, 1, std::max<std::size_t>(threads, 1));
}

// Rows [cuts[i], cuts[i + 1]) are thread i's. Calls share(begin, end, sums) of each with sums of
// its own, and adds these up.
template <class Sums, class Share, class Merge>
void run_shares(const std::vector<std::size_t>& cuts, Share share, Merge merge) {
  const std::size_t count = cuts.size() - 1;
  std::vector<Sums> sums(count);
#pragma omp parallel for num_threads(static_cast <int>(count)) schedule(static, 1) if (count > 1)
  for (std::size_t i = 0; i < count; ++i) share(cuts[i], cuts[i + 1], sums[i]);
  for (const Sums& of_share : sums) merge(of_share);
}

// A share of the rows of the pass over the vectors.
class Advance {
 public:
  Advance(const KrylovVectors& vectors, double alpha, double beta, InstructionSet set)
      : vectors_(vectors), alpha_(alpha), beta_(beta), set_(set) {}

  void run(std::size_t begin, std::size_t end, ResidualSums& sums) const {
    SplitLevel r_r;
    SplitLevel r_u;
    std::size_t row = begin;
    while (end - row >= kReductionGroup) {
      const std::size_t left = end - row;
      const std::size_t count = std::min(left - left % kReductionGroup, kKrylovBlockRows);
      run_block(row, count, r_r, r_u, sums);
      row += count;
    }
    for (; row < end; ++row) run_row(row, sums);
  }

 private:
  void run_block(std::size_t row, std::size_t count, SplitLevel& r_r, SplitLevel& r_u,
                 ResidualSums& sums) const {
    KrylovBlock block{.x = vectors_.x.data() + row,
                      .r = vectors_.r.data() + row,
                      .p = vectors_.p.data() + row,
                      .s = vectors_.s.data() + row,
                      .u = vectors_.u.data() + row,
                      .w = vectors_.w.data() + row,
                      .inverse = vectors_.inverse.data() + row,
                      .count = count,
                      .alpha = alpha_,
                      .beta = beta_};
    // Without a level: any, and the sum is not used.
    begin_levels(r_r.value_or(0), block.begins_r_r);
    begin_levels(r_u.value_or(0), block.begins_r_u);
    const KrylovBlockSums added = kernel_for(set_)(block);
    const std::span<const double> r = vectors_.r.subspan(row, count);
    const std::span<const double> u = vectors_.u.subspan(row, count);
    if (!r_r || !add_levels(sums.r_r, added.r_r, *r_r)) add_dot(sums.r_r, r, r, r_r, set_);
    if (!r_u || !add_levels(sums.r_u, added.r_u, *r_u)) add_dot(sums.r_u, r, u, r_u, set_);
  }

  void run_row(std::size_t i, ResidualSums& sums) const {
    const double p = vectors_.r[i] * vectors_.inverse[i] + beta_ * vectors_.p[i];
    const double s = vectors_.w[i] + beta_ * vectors_.s[i];
    const double r = vectors_.r[i] - alpha_ * s;
    const double u = r * vectors_.inverse[i];
    vectors_.p[i] = p;
    vectors_.s[i] = s;
    vectors_.x[i] += alpha_ * p;
    vectors_.r[i] = r;
    vectors_.u[i] = u;
    sums.r_r.add(r * r);
    sums.r_u.add(r * u);
  }

  const KrylovVectors& vectors_;
  double alpha_;
  double beta_;
  InstructionSet set_;
};

}  // namespace

void advance(const KrylovVectors& vectors, double alpha, double beta, ResidualSums& sums,
             std::size_t threads, InstructionSet set) {
  require_equal_sizes(vectors);
  const std::size_t rows = vectors.x.size();
  const std::size_t team = team_of(rows, threads);
  std::vector<std::size_t> cuts;
  for (std::size_t i = 0; i <= team; ++i) cuts.push_back(rows * i / team);
  const Advance pass(vectors, alpha, beta, set);
  run_shares<ResidualSums>(
      cuts,
      [&](std::size_t begin, std::size_t end, ResidualSums& own) { pass.run(begin, end, own); },
      [&](const ResidualSums& own) {
        sums.r_r.merge(own.r_r);
        sums.r_u.merge(own.r_u);
      });
}

// Threads have about as many entries each.
void multiply_and_dot(const SparseMatrix& matrix, std::span<const double> u, std::span<double> w,
                      ExactSum& w_u, std::size_t threads, InstructionSet set) {
  require_columns_for_rows(matrix);
  const std::size_t rows = matrix.rows();
  const std::size_t team = team_of(rows, threads);
  std::vector<std::size_t> cuts = {0};
  for (std::size_t i = 1; i < team; ++i) {
    const std::uint64_t entries = matrix.values.size() * i / team;
    cuts.push_back(static_cast<std::size_t>(std::ranges::lower_bound(matrix.row_starts, entries) -
                                            matrix.row_starts.begin()));
  }
  cuts.push_back(rows);
  run_shares<ExactSum>(
      cuts,
      [&](std::size_t begin, std::size_t end, ExactSum& own) {
        SplitLevel level;
        for (std::size_t row = begin; row < end; row += kReductionBlockTerms) {
          const std::size_t count = std::min(end - row, kReductionBlockTerms);
          multiply(matrix, row, row + count, u, w, set);
          add_dot(own, w.subspan(row, count), u.subspan(row, count), level, set);
        }
      },
      [&](const ExactSum& own) { w_u.merge(own); });
}

}  // namespace regroup::kernels
