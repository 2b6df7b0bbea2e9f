// The job `cg`: solves A x = b for a symmetric positive definite sparse matrix by conjugate
// gradients, preconditioned with the diagonal. Blocks of rows are cells that show each other the
// elements that their rows need.
//
// The method is that of Chronopoulos and Gear, "s-step iterative methods for symmetric linear
// systems", J. Comput. Appl. Math. 25(2), 1989, section 2, whose two dot products of an iteration
// are known at once, so that an iteration is one step with one total. A block keeps r and s of its
// ghosts, and takes them on as their owners do, with w = A u as what is shown: so u is known there
// when A is to be applied to it.
//
// Totals are exact sums (kernels/reduction), and all else is computed element by element in an
// order that does not depend on the cut: so x has the same bits for any number of blocks and ranks.
//
// The residual that the recurrence has drifts from b - A x. So when it is small enough that one is
// computed, and where it is not, the iteration begins anew from it.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "jobs/grid_blocks.hpp"
#include "jobs/huge_pages.hpp"
#include "jobs/iterative.hpp"
#include "jobs/matrix_market.hpp"
#include "jobs/on_device.hpp"
#include "jobs/registry.hpp"
#include "jobs/row_blocks.hpp"
#include "jobs/sample_jobs.hpp"
#include "kernels/krylov/krylov.hpp"
#include "kernels/reduction/reduction.hpp"
#include "kernels/sparse/cuda.hpp"
#include "kernels/sparse/sparse.hpp"

namespace regroup {
namespace {

using Vector = HugePageVector<double>;

// What a cell's r is, and what it shows of itself for the next step.
enum class Phase : std::uint64_t {
  kResidual,   // r is b - A x; shows r and the inverse of the diagonal
  kIterating,  // r is that of the recurrence; shows w
  kSolution,   // as before, but b - A x is wanted; shows x
};

// The same in all cells.
struct CgScalars {
  Phase phase = Phase::kResidual;
  std::uint64_t iterations = 0;
  double b_norm2 = 0;       // ||b||^2; 0 before the first step
  double looked_norm2 = 0;  // ||b - A x||^2 when that was last computed; 0 before
  double gamma_before = 0;  // r.u and the step's length of the iteration before; 0: there is none,
  double alpha_before = 0;  // and the direction is u
};

// Of a cell or of all. Of those that are in no iteration, r.r alone is set.
struct CgSums {
  kernels::ResidualSums of_r;
  kernels::ExactSum w_u;
};

struct CgTotal {
  CgScalars scalars;
  CgSums sums;
};

struct CgCell {
  CgTotal own;  // what it adds to the totals: added up where r and w are computed
  Vector x;
  Vector r;
  Vector p;
  Vector s;
  Vector w;
  Vector ghost_inverse;  // of the diagonal
  Vector ghost_r;
  Vector ghost_s;

  void encode(Writer& writer) const {
    writer.put_raw(std::as_bytes(std::span(&own, 1)));
    for (const Vector* vector : {&x, &r, &p, &s, &w, &ghost_inverse, &ghost_r, &ghost_s}) {
      writer.put(static_cast<std::uint64_t>(vector->size()));
      writer.put_raw(std::as_bytes(std::span(*vector)));
    }
  }
  static CgCell decode(Reader& reader) {
    CgCell cell;
    const auto take = [&](void* to, std::size_t bytes) {
      const auto from = reader.get_raw(bytes);
      if (reader.failed()) throw std::runtime_error("a saved block of rows is cut short");
      if (bytes != 0) std::memcpy(to, from.data(), bytes);
    };
    take(&cell.own, sizeof cell.own);
    for (Vector* vector : {&cell.x, &cell.r, &cell.p, &cell.s, &cell.w, &cell.ghost_inverse,
                           &cell.ghost_r, &cell.ghost_s}) {
      const auto size = reader.get<std::uint64_t>();
      if (size > reader.rest().size() / sizeof(double)) {
        throw std::runtime_error("a saved block of rows is cut short");
      }
      vector->resize(size);
      take(vector->data(), size * sizeof(double));
    }
    const bool sound = cell.own.scalars.phase <= Phase::kSolution &&
                       cell.r.size() == cell.x.size() && cell.p.size() == cell.x.size() &&
                       cell.s.size() == cell.x.size() && cell.w.size() == cell.x.size() &&
                       cell.ghost_r.size() == cell.ghost_inverse.size() &&
                       cell.ghost_s.size() == cell.ghost_inverse.size();
    if (!sound) throw std::runtime_error("a saved block of rows has vectors that do not fit");
    return cell;
  }
};

struct CgResult {
  CgTotal total;
  std::uint64_t first_row = 0;
  std::uint64_t entries = 0;
  Vector x;

  void encode(Writer& writer) const {
    writer.put_raw(std::as_bytes(std::span(&total, 1)));
    writer.put(first_row);
    writer.put(entries);
    writer.put_raw(std::as_bytes(std::span(x)));
  }
  static CgResult decode(Reader& reader) {
    CgResult result;
    const auto total = reader.get_raw(sizeof result.total);
    result.first_row = reader.get<std::uint64_t>();
    result.entries = reader.get<std::uint64_t>();
    const auto x = reader.get_raw(reader.rest().size());
    if (reader.failed()) throw std::runtime_error("a saved solution is cut short");
    std::memcpy(&result.total, total.data(), total.size());
    result.x.resize(x.size() / sizeof(double));
    if (!x.empty()) std::memcpy(result.x.data(), x.data(), x.size());
    return result;
  }
};

// A block's part of the system, which a rank reads or makes when it first needs it.
struct CgRows {
  RowBlock block;
  Vector inverse;  // of the diagonal
  Vector b;
  // The matrix on the rank's device, once it has multiplied.
  mutable std::optional<kernels::cuda::DeviceSparseMatrix> on_device = {};
};

// From bits to bits that look random (the finalizer of SplitMix64; Steele, Lea and Flood, "Fast
// Splittable Pseudorandom Number Generators", OOPSLA 2014, section 5).
std::uint64_t mixed(std::uint64_t bits) {
  bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9;
  bits = (bits ^ bits >> 27) * 0x94d049bb133111eb;
  return bits ^ bits >> 31;
}

std::uint64_t fingerprint(std::uint64_t row, std::uint64_t column, double value) {
  constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15;
  return mixed(mixed(mixed(row + kStep) + column + kStep) + std::bit_cast<std::uint64_t>(value));
}

struct Cg {
  using Cell = CgCell;
  using Halo = std::span<const double>;
  using Total = CgTotal;
  using Result = CgResult;
  static constexpr std::string_view kName = "cg";
  static constexpr std::string_view kSummary =
      "solves a sparse symmetric system by conjugate gradients";
  static constexpr std::string_view kDescription =
      "The matrix is a Matrix Market file, symmetric and positive definite; entries in one place "
      "are "
      "added up, of a general file if both places of a pair list them alike. Without one, the "
      "Laplacian of a grid of --laplacian points is taken, whose "
      "boundary "
      "is 0. The preconditioner is the diagonal. It ends when ||b - A x|| is at most the "
      "tolerance times ||b||, after --iterations, or when rounding allows no less. x has the same "
      "bits for any ranks and blocks. Every node must see the same files.";

  void options(OptionSet& set) {
    set.inputs("MATRIX.mtx", inputs, "the matrix").at_most(1);
    set.add("laplacian", laplacian, "points along x, y and z, without a matrix")
        .value_name("NX[xNY[xNZ]]");
    set.add("rhs", rhs,
            "right-hand side: 'ones', 'row-sums' (of which x = 1 is the solution), or a "
            "Matrix Market file of one column")
        .value_name("WORD|FILE");
    set.add("tolerance", tolerance, "of the residual's norm, over that of the right-hand side")
        .at_least(0)
        .at_most(1);
    set.add("iterations", iterations_max, "at most").at_most(0x1p53);
    set.add("blocks", block_count, "blocks of rows, to be shared by ranks")
        .at_least(1)
        .at_most(GridBlocks::kBlocksMax);
  }

  // Coordinator. Two readings of the file: one that checks it and weighs its rows, and one for who
  // is whose neighbour. Takes some 20 bytes a row.
  std::expected<void, std::string> prepare() {
    std::vector<std::uint32_t> weights;
    if (inputs.empty()) {
      if (auto laid_out = lay_out_grid(); !laid_out) return laid_out;
      weights.resize(rows);
      for (std::uint64_t row = 0; row < rows; ++row) {
        for_each_of_grid_row(row, [&](std::uint64_t, double) { ++weights[row]; });
      }
    } else {
      if (laplacian != kGrid) return std::unexpected("a matrix and --laplacian: give one of them");
      auto opened = MatrixMarketFile::open(inputs.front());
      if (!opened) return std::unexpected(opened.error());
      matrix = std::move(*opened);
      if (auto checked = check_matrix(weights); !checked) return checked;
    }
    if (auto opened = open_rhs(); !opened) return opened;
    if (block_count > rows) {
      return std::unexpected(
          fmt::format("--blocks {}: the matrix has {} rows; give at most that", block_count, rows));
    }
    cuts = cut_rows(weights, block_count);
    for (std::uint32_t block = 0; block < block_count; ++block) {
      if (cuts[block + 1] - cuts[block] > kBlockRowsMax) {
        return std::unexpected(
            fmt::format("--blocks {}: one has {} rows, and {} are the most; give more blocks",
                        block_count, cuts[block + 1] - cuts[block], kBlockRowsMax));
      }
    }
    return find_neighbours();
  }

  void save(Writer& writer) const {
    for (const std::uint64_t cut : cuts) writer.put(cut);
    for (const auto& list : others) {
      writer.put(static_cast<std::uint32_t>(list.size()));
      for (const std::uint32_t other : list) writer.put(other);
    }
    if (matrix) matrix->encode(writer);
    if (rhs_file) rhs_file->encode(writer);
  }
  std::expected<void, std::string> load(Reader& reader) {
    held.clear();
    cuts.assign(block_count + std::size_t{1}, 0);
    for (std::uint64_t& cut : cuts) cut = reader.get<std::uint64_t>();
    rows = cuts.back();
    others.assign(block_count, {});
    for (auto& list : others) {
      list.resize(reader.get_count(sizeof(std::uint32_t)));
      for (std::uint32_t& other : list) other = reader.get<std::uint32_t>();
    }
    if (reader.failed() || cuts.front() != 0 || !std::ranges::is_sorted(cuts)) {
      return std::unexpected("the cut of the matrix is damaged");
    }
    for (auto* file : {&matrix, &rhs_file}) {
      file->reset();
      if (file == &matrix ? inputs.empty() : is_word(rhs)) continue;
      auto decoded = MatrixMarketFile::decode(reader);
      if (!decoded) return std::unexpected(decoded.error());
      *file = std::move(*decoded);
    }
    return inputs.empty() ? lay_out_grid() : std::expected<void, std::string>();
  }

  std::uint32_t cells() const { return static_cast<std::uint32_t>(others.size()); }
  std::vector<std::uint32_t> neighbours(std::uint32_t block) const { return others[block]; }

  Cell begin(const CellContext& context) const {
    const CgRows& own = rows_of(context.cell());
    const std::size_t n = own.block.rows();
    const Vector none(own.block.ghosts());
    Cell cell{.x = Vector(n),
              .r = own.b,
              .p = Vector(n),
              .s = Vector(n),
              .w = Vector(n),
              .ghost_inverse = none,
              .ghost_r = none,
              .ghost_s = none};
    cell.own.sums = sums_of_residual(cell.r);
    return cell;
  }

  void show(const Cell& cell, const CellContext& context, std::uint32_t to,
            HaloRoom<double> room) const {
    const CgRows& own = rows_for(cell, context);
    const auto& neighbours = own.block.neighbours();
    const auto neighbour =
        std::ranges::lower_bound(neighbours, to, {}, &RowBlock::Neighbour::block);
    if (neighbour == neighbours.end() || neighbour->block != to) {
      throw std::logic_error("a block that is no neighbour");
    }
    const auto add = [&](const Vector& vector) {
      std::ranges::transform(neighbour->shown, room.take(neighbour->shown.size()).begin(),
                             [&](std::uint32_t row) { return vector[row]; });
    };
    switch (cell.own.scalars.phase) {
      case Phase::kResidual:
        add(cell.r);
        add(own.inverse);
        break;
      case Phase::kIterating:
        add(cell.w);
        break;
      case Phase::kSolution:
        add(cell.x);
        break;
    }
  }

  bool wants_totals(std::uint64_t) const { return true; }
  Total add(const Cell& cell, const CellContext&) const { return cell.own; }
  static void merge(Total& into, Total&& next) {
    into.sums.of_r.r_r.merge(next.sums.of_r.r_r);
    into.sums.of_r.r_u.merge(next.sums.of_r.r_u);
    into.sums.w_u.merge(next.sums.w_u);
  }

  bool at_end(std::uint64_t, const Total* total) const {
    const Verdict verdict = judge(*total);
    return verdict != Verdict::kGoOn && verdict != Verdict::kLook;
  }

  void step(Cell& cell, const CellContext& context, std::span<const Halo> halos,
            const Total* total) const {
    const CgRows& own = rows_for(cell, context);
    CgScalars& scalars = cell.own.scalars;
    switch (scalars.phase) {
      case Phase::kResidual: {
        const double norm2 = total->sums.of_r.r_r.value();
        if (scalars.looked_norm2 == 0) scalars.b_norm2 = norm2;
        scalars.looked_norm2 = norm2;
        scalars.gamma_before = 0;
        scalars.alpha_before = 0;
        scalars.phase = Phase::kIterating;
        take_ghosts(own.block, halos, {&cell.ghost_r, &cell.ghost_inverse});
        set_u_of_ghosts(own, cell);
        for (Vector* vector : {&cell.p, &cell.s, &cell.ghost_s}) std::ranges::fill(*vector, 0.0);
        for (std::size_t i = 0; i < cell.r.size(); ++i) u_[i] = cell.r[i] * own.inverse[i];
        kernels::add_dot(cell.own.sums.of_r.r_u, cell.r, std::span(u_).first(cell.r.size()));
        multiply_by_u(own, context, cell);
        break;
      }
      case Phase::kIterating:
        if (judge(*total) == Verdict::kLook) {
          scalars.phase = Phase::kSolution;
        } else {
          iterate(own, context, cell, halos, *total);
        }
        break;
      case Phase::kSolution: {
        Vector x = cell.x;
        Vector ghosts(own.block.ghosts());
        take_ghosts(own.block, halos, {&ghosts});
        x.insert(x.end(), ghosts.begin(), ghosts.end());
        if (auto product = product_on_device(own, context, x)) {
          cell.r = std::move(*product);
        } else {
          kernels::multiply(own.block.matrix(), 0, own.block.rows(), x, cell.r);
        }
        for (std::size_t i = 0; i < cell.r.size(); ++i) cell.r[i] = own.b[i] - cell.r[i];
        cell.own.sums = sums_of_residual(cell.r);
        scalars.phase = Phase::kResidual;
        break;
      }
    }
  }

  Result result(const Cell& cell, const CellContext& context) const {
    const CgRows& own = rows_for(cell, context);
    return {.total = cell.own,
            .first_row = own.block.first_row(),
            .entries = own.block.entries(),
            .x = cell.x};
  }

  void report(std::span<const Result> results, Report& report) const {
    // Blocks that were given up have no rows, and know nothing of the others.
    std::optional<Total> known;
    std::uint64_t entries = 0;
    for (const Result& result : results) {
      if (result.x.empty()) continue;
      known ? merge(*known, Total(result.total)) : void(known = result.total);
      entries += result.entries;
    }
    if (!known) throw std::runtime_error("all blocks of the solution were given up");
    const Total& total = *known;
    const Verdict verdict = judge(total);
    if (verdict == Verdict::kBroken) throw std::runtime_error(what_broke(total));
    const bool is_first = total.scalars.looked_norm2 == 0;
    const double b_norm2 = is_first ? total.sums.of_r.r_r.value() : total.scalars.b_norm2;
    report.value("rows", rows);
    report.value("nonzeros", entries);
    report.value("iterations", total.scalars.iterations);
    report.value("ended", std::string(verdict == Verdict::kConverged   ? "converged"
                                      : verdict == Verdict::kStagnated ? "stagnated"
                                                                       : "at --iterations"));
    report.value("residual", b_norm2 == 0 ? 0 : std::sqrt(total.sums.of_r.r_r.value() / b_norm2));
    if (rhs == kRowSums) report.value("error_max", error_max(results));
    report.columns({{"row", ColumnType::kUint64}, {"x", ColumnType::kFloat64}});
    for (const Result& result : results) {
      for (std::size_t i = 0; i < result.x.size(); ++i) {
        report.row({result.first_row + i + 1, result.x[i]});
      }
    }
  }

  std::vector<std::string> inputs;
  static constexpr const char* kGrid = "256x256";
  std::string laplacian = kGrid;
  std::string rhs = std::string(kOnes);
  double tolerance = 1e-8;
  std::uint64_t iterations_max = 10'000;
  std::uint32_t block_count = 16;

  std::optional<MatrixMarketFile> matrix;    // else a grid
  std::optional<MatrixMarketFile> rhs_file;  // else a word
  std::uint64_t rows = 0;
  std::vector<std::uint64_t> cuts;
  std::vector<std::vector<std::uint32_t>> others;  // by block: its neighbours
  GridBlocks::Extents extents{};                   // 1 along what is not there
  double grid_diagonal = 0;
  // By block: what this rank has read. One cell at a time runs on a rank.
  mutable std::map<std::uint32_t, CgRows> held;
  mutable LineRangeReader lines;

 private:
  // Of the right-hand side's numbers the largest, unless all are 0.
  static constexpr double kRhsLargestMin = 1e-140;
  static constexpr double kRhsLargestMax = 1e140;
  // Of a block: a result has 512 MiB at most.
  static constexpr std::uint64_t kBlockRowsMax = std::uint64_t{1} << 25;
  static constexpr std::string_view kOnes = "ones";
  static constexpr std::string_view kRowSums = "row-sums";
  // Where a look finds the residual not smaller by this factor than the look before, rounding
  // allows no better.
  static constexpr double kLookGain = 4;

  // Where the recurrence's residual is this small over b, that of x is not.
  static constexpr double kRecurrenceMin = 0x1p-56;

  // Of the cell that is taken on: r over the diagonal, its own elements and then its ghosts'.
  mutable Vector u_;

  enum class Verdict { kGoOn, kLook, kConverged, kIterationsOut, kStagnated, kBroken };

  static bool is_word(const std::string& rhs) { return rhs == kOnes || rhs == kRowSums; }

  // What totals at a step mean for the next.
  Verdict judge(const Total& total) const {
    const CgScalars& scalars = total.scalars;
    if (scalars.phase == Phase::kSolution) return Verdict::kGoOn;
    const double norm2 = total.sums.of_r.r_r.value();
    if (!std::isfinite(norm2)) return Verdict::kBroken;
    const bool is_first = scalars.looked_norm2 == 0;
    const bool iterates = scalars.phase == Phase::kIterating;
    const double wanted = iterates ? std::max(tolerance, kRecurrenceMin) : tolerance;
    const bool is_small =
        std::sqrt(norm2) <= wanted * std::sqrt(is_first ? norm2 : scalars.b_norm2);
    const bool is_out = scalars.iterations >= iterations_max;
    if (iterates) {
      if (is_small || is_out) return Verdict::kLook;
      const double curvature = direction_curvature(total);
      const bool is_definite =
          curvature > 0 && total.sums.of_r.r_u.value() > 0 && std::isfinite(curvature);
      return is_definite ? Verdict::kGoOn : Verdict::kBroken;
    }
    if (is_small) return Verdict::kConverged;
    if (is_out) return Verdict::kIterationsOut;
    const bool is_stuck =
        !is_first && std::sqrt(norm2) * kLookGain > std::sqrt(scalars.looked_norm2);
    return is_stuck ? Verdict::kStagnated : Verdict::kGoOn;
  }

  // p.Ap of the direction that comes next.
  static double direction_curvature(const Total& total) {
    const CgScalars& scalars = total.scalars;
    if (scalars.gamma_before == 0) return total.sums.w_u.value();
    const double gamma = total.sums.of_r.r_u.value();
    const double beta = gamma / scalars.gamma_before;
    return total.sums.w_u.value() - beta * gamma / scalars.alpha_before;
  }

  static std::string what_broke(const Total& total) {
    if (!std::isfinite(total.sums.of_r.r_r.value())) {
      return fmt::format(
          "the residual left the range of doubles after {} iterations; scale the system",
          total.scalars.iterations);
    }
    return fmt::format(
        "p.Ap is {:.6g} in iteration {}: the matrix is not positive definite, and "
        "conjugate gradients cannot solve it",
        direction_curvature(total), total.scalars.iterations + 1);
  }

  static CgSums sums_of_residual(const Vector& r) {
    CgSums sums;
    kernels::add_dot(sums.of_r.r_r, r, r);
    return sums;
  }

  // Makes room for the cell's own elements before them.
  void set_u_of_ghosts(const CgRows& own, const Cell& cell) const {
    const std::size_t n = own.block.rows();
    u_.resize(n + own.block.ghosts());
    for (std::size_t i = 0; i < own.block.ghosts(); ++i) {
      u_[n + i] = cell.ghost_r[i] * cell.ghost_inverse[i];
    }
  }

  // w = A u.
  void multiply_by_u(const CgRows& own, const CellContext& context, Cell& cell) const {
    kernels::ExactSum& w_u = cell.own.sums.w_u;
    w_u = {};
    if (auto product = product_on_device(own, context, u_)) {
      cell.w = std::move(*product);
      kernels::add_dot(w_u, cell.w, std::span(u_).first(cell.w.size()));
      return;
    }
    kernels::multiply_and_dot(own.block.matrix(), u_, cell.w, w_u, context.threads());
  }

  // Nothing: the CPU has to.
  static std::optional<Vector> product_on_device(const CgRows& own, const CellContext& context,
                                                 const Vector& x) {
    using kernels::cuda::DeviceSparseMatrix;
    DeviceGuard* const guard = working_device(context);
    if (guard == nullptr) return std::nullopt;
    if (!own.on_device) {
      own.on_device =
          guard->run([device = *context.device(),
                      block = own.block]() -> std::expected<DeviceSparseMatrix, std::string> {
            return DeviceSparseMatrix(device, block.matrix());
          });
      if (!own.on_device) return std::nullopt;
    }
    // The matrix goes with the call, which gives it back to the device where it fails.
    using Answer = std::pair<Vector, DeviceSparseMatrix>;
    auto answer = guard->run([matrix = *std::exchange(own.on_device, {}), rows = own.block.rows(),
                              x]() mutable -> std::expected<Answer, std::string> {
      Vector y(rows);
      matrix.multiply(x, y);
      return Answer(std::move(y), std::move(matrix));
    });
    if (!answer) return std::nullopt;
    own.on_device = std::move(answer->second);
    return std::move(answer->first);
  }

  void iterate(const CgRows& own, const CellContext& context, Cell& cell,
               std::span<const Halo> halos, const Total& total) const {
    CgScalars& scalars = cell.own.scalars;
    const double gamma = total.sums.of_r.r_u.value();
    const double beta = scalars.gamma_before == 0 ? 0 : gamma / scalars.gamma_before;
    const double alpha = gamma / direction_curvature(total);
    advance_ghosts(own, cell, halos, alpha, beta);
    cell.own.sums.of_r = {};
    kernels::advance({.x = cell.x,
                      .r = cell.r,
                      .p = cell.p,
                      .s = cell.s,
                      .u = std::span(u_).first(own.block.rows()),
                      .w = cell.w,
                      .inverse = own.inverse},
                     alpha, beta, cell.own.sums.of_r, context.threads());
    multiply_by_u(own, context, cell);
    scalars.gamma_before = gamma;
    scalars.alpha_before = alpha;
    ++scalars.iterations;
  }

  // What the ghosts' owners do with them, to the same bits. Their w is what was shown. In one pass:
  // blocks that are cut thin have a third as many ghosts as rows.
  void advance_ghosts(const CgRows& own, Cell& cell, std::span<const Halo> halos, double alpha,
                      double beta) const {
    const std::size_t n = own.block.rows();
    u_.resize(n + own.block.ghosts());
    for (std::size_t k = 0; k < halos.size(); ++k) {
      const std::size_t begin = ghosts_of(own.block, k, halos[k], 1);
      const double* __restrict const w = halos[k].data();
      const double* __restrict const inverse = cell.ghost_inverse.data() + begin;
      double* __restrict const s = cell.ghost_s.data() + begin;
      double* __restrict const r = cell.ghost_r.data() + begin;
      double* __restrict const u = u_.data() + n + begin;
      for (std::size_t i = 0; i < halos[k].size(); ++i) {
        s[i] = w[i] + beta * s[i];
        r[i] -= alpha * s[i];
        u[i] = r[i] * inverse[i];
      }
    }
  }

  // Where the ghosts begin that a halo is of, which has to have `vectors` elements of each.
  static std::size_t ghosts_of(const RowBlock& block, std::size_t neighbour, const Halo& halo,
                               std::size_t vectors) {
    const RowBlock::Neighbour& from = block.neighbours()[neighbour];
    if (halo.size() != (from.ghosts_end - from.ghosts_begin) * vectors) {
      throw std::runtime_error("ranks read other matrices: give every node the same file");
    }
    return from.ghosts_begin;
  }

  // From each halo the ghosts' elements of each vector, one behind the other.
  static void take_ghosts(const RowBlock& block, std::span<const Halo> halos,
                          std::initializer_list<Vector*> into) {
    for (std::size_t i = 0; i < halos.size(); ++i) {
      const std::size_t begin = ghosts_of(block, i, halos[i], into.size());
      const std::size_t count = halos[i].size() / into.size();
      auto next = halos[i].begin();
      for (Vector* vector : into) {
        std::copy_n(next, count, vector->begin() + static_cast<std::ptrdiff_t>(begin));
        next += static_cast<std::ptrdiff_t>(count);
      }
    }
  }

  static double error_max(std::span<const Result> results) {
    double error = 0;
    for (const Result& result : results) {
      for (const double x : result.x) error = std::max(error, std::abs(x - 1));
    }
    return error;
  }

  std::expected<void, std::string> lay_out_grid() {
    const auto dimensions = 1 + std::ranges::count(laplacian, 'x');
    const auto parsed = GridBlocks::parse(dimensions == 1 ? laplacian + "x1" : laplacian);
    if (!parsed) return std::unexpected("--laplacian: " + parsed.error());
    extents = *parsed;
    extents[2] = std::max<std::uint64_t>(extents[2], 1);
    grid_diagonal = 2.0 * static_cast<double>(dimensions);
    const __int128 points = static_cast<__int128>(extents[0]) * extents[1] * extents[2];
    if (points > __int128{MatrixMarketFile::kRowsMax}) {
      return std::unexpected("--laplacian: more than 2^31 points; give fewer");
    }
    rows = static_cast<std::uint64_t>(points);
    return {};
  }

  // Ascending.
  template <class F>
  void for_each_of_grid_row(std::uint64_t row, F f) const {
    const std::uint64_t plane = extents[0] * extents[1];
    const std::uint64_t x = row % extents[0];
    const std::uint64_t y = row / extents[0] % extents[1];
    const std::uint64_t z = row / plane;
    if (z > 0) f(row - plane, -1.0);
    if (y > 0) f(row - extents[0], -1.0);
    if (x > 0) f(row - 1, -1.0);
    f(row, grid_diagonal);
    if (x + 1 < extents[0]) f(row + 1, -1.0);
    if (y + 1 < extents[1]) f(row + extents[0], -1.0);
    if (z + 1 < extents[2]) f(row + plane, -1.0);
  }

  // Reads the file once: its entries are right, and it is square, symmetric and has a positive
  // diagonal. Symmetry is told from sums of fingerprints: those of a row's entries, and those of
  // its column's as if they were mirrored.
  std::expected<void, std::string> check_matrix(std::vector<std::uint32_t>& weights) {
    const MatrixHeader& header = matrix->header();
    const std::string& path = matrix->path();
    if (header.form == MatrixHeader::Form::kArray) {
      return std::unexpected(path + ": is an array; give the matrix in coordinate form");
    }
    if (header.rows != header.columns) {
      return std::unexpected(fmt::format("{}: has {} rows and {} columns; give a square matrix",
                                         path, header.rows, header.columns));
    }
    if (header.symmetry == MatrixHeader::Symmetry::kSkewSymmetric) {
      return std::unexpected(path +
                             ": is skew-symmetric, so its diagonal is 0; conjugate gradients "
                             "need a symmetric positive definite matrix");
    }
    rows = header.rows;
    // Each row has an entry on the diagonal, and an entry is a line of 4 bytes and more: else what
    // is allocated here would follow from a number in the file alone.
    if (header.entries < rows || rows > matrix->bytes()) {
      return std::unexpected(
          fmt::format("{}: has {} rows and {} entries; give a matrix with a whole diagonal", path,
                      rows, header.entries));
    }
    const bool mirrored = header.symmetry == MatrixHeader::Symmetry::kSymmetric;
    weights.assign(rows, 0);
    Vector diagonal(rows);
    std::vector<std::uint64_t> unmatched(mirrored ? 0 : rows);
    const auto read = matrix->read([&](std::span<const MatrixEntry> entries) {
      for (const MatrixEntry& entry : entries) {
        if (entry.value == 0) continue;
        ++weights[entry.row];
        if (entry.row == entry.column) {
          diagonal[entry.row] += entry.value;
        } else if (mirrored) {
          ++weights[entry.column];
        } else {
          unmatched[entry.row] += fingerprint(entry.row, entry.column, entry.value);
          unmatched[entry.column] -= fingerprint(entry.column, entry.row, entry.value);
        }
      }
    });
    if (!read) return read;
    const auto other = std::ranges::find_if(unmatched, [](auto sum) { return sum != 0; });
    if (other != unmatched.end()) {
      return std::unexpected(
          fmt::format("{}: row {} and column {} have not the same entries; give a symmetric matrix",
                      path, other - unmatched.begin() + 1, other - unmatched.begin() + 1));
    }
    const auto bad = std::ranges::find_if(
        diagonal, [](double value) { return !(value > 0) || !std::isfinite(1 / value); });
    if (bad != diagonal.end()) {
      return std::unexpected(
          fmt::format("{}: the diagonal of row {} is {}; give a matrix that is positive definite",
                      path, bad - diagonal.begin() + 1, *bad));
    }
    return {};
  }

  std::expected<void, std::string> open_rhs() {
    rhs_file.reset();
    if (is_word(rhs)) return {};
    auto opened = MatrixMarketFile::open(rhs);
    if (!opened) return std::unexpected("--rhs: " + opened.error());
    rhs_file = std::move(*opened);
    const MatrixHeader& header = rhs_file->header();
    if (header.rows != rows || header.columns != 1) {
      return std::unexpected(fmt::format("--rhs: {}: is {} x {}; give one of {} x 1", rhs,
                                         header.rows, header.columns, rows));
    }
    double largest = 0;
    auto read = rhs_file->read([&](std::span<const MatrixEntry> entries) {
      for (const MatrixEntry& entry : entries) largest = std::max(largest, std::abs(entry.value));
    });
    if (!read) return std::unexpected("--rhs: " + read.error());
    if (largest != 0 && !(largest >= kRhsLargestMin && largest <= kRhsLargestMax)) {
      return std::unexpected(fmt::format(
          "--rhs: {}: its largest number is {:.3g}, and squares of it leave the range of doubles; "
          "scale it to between {:g} and {:g}",
          rhs, largest, kRhsLargestMin, kRhsLargestMax));
    }
    return {};
  }

  std::expected<void, std::string> find_neighbours() {
    std::vector<std::set<std::uint32_t>> found(block_count);
    std::uint32_t block = 0;
    const auto couple = [&](std::uint64_t row, std::uint64_t column) {
      if (row < cuts[block] || row >= cuts[block + 1]) block = block_of(cuts, row);
      if (column >= cuts[block] && column < cuts[block + 1]) return;
      const std::uint32_t other = block_of(cuts, column);
      found[block].insert(other);
      found[other].insert(block);
    };
    if (!matrix) {
      for (std::uint64_t row = 0; row < rows; ++row) {
        for_each_of_grid_row(row, [&](std::uint64_t column, double) { couple(row, column); });
      }
    } else if (block_count > 1) {
      const auto read = matrix->read([&](std::span<const MatrixEntry> entries) {
        for (const MatrixEntry& entry : entries) {
          if (entry.value != 0) couple(entry.row, entry.column);
        }
      });
      if (!read) return read;
    }
    others.clear();
    for (const auto& set : found) others.emplace_back(set.begin(), set.end());
    return {};
  }

  // Those of the cell's block; throws where what was saved as the cell is of another one.
  const CgRows& rows_for(const Cell& cell, const CellContext& context) const {
    const CgRows& own = rows_of(context.cell());
    const std::size_t ghosts = cell.ghost_inverse.size();
    if (cell.x.size() != own.block.rows() || (ghosts != 0 && ghosts != own.block.ghosts()))
      throw std::runtime_error("a saved block of rows has not the rows of its place");
    return own;
  }

  const CgRows& rows_of(std::uint32_t block) const {
    const auto found = held.find(block);
    if (found != held.end()) return found->second;
    const std::uint64_t begin = cuts[block];
    const std::uint64_t end = cuts[block + 1];
    std::vector<MatrixEntry> entries;
    if (matrix) {
      read_or_throw(*matrix, begin, end, [&](std::span<const MatrixEntry> more) {
        entries.insert(entries.end(), more.begin(), more.end());
      });
    } else {
      for (std::uint64_t row = begin; row < end; ++row) {
        for_each_of_grid_row(row, [&](std::uint64_t column, double value) {
          entries.push_back(
              {static_cast<std::uint32_t>(row), static_cast<std::uint32_t>(column), value});
        });
      }
    }
    CgRows own{RowBlock(cuts, block, std::move(entries)), {}, {}};
    for (const double diagonal : own.block.diagonal()) own.inverse.push_back(1 / diagonal);
    own.b = right_hand_side(own.block);
    return held.emplace(block, std::move(own)).first->second;
  }

  Vector right_hand_side(const RowBlock& block) const {
    Vector b(block.rows(), 1.0);
    if (rhs == kRowSums) {
      const Vector ones(block.rows() + block.ghosts(), 1.0);
      kernels::multiply(block.matrix(), 0, block.rows(), ones, b);
    } else if (rhs_file) {
      std::ranges::fill(b, 0.0);
      read_or_throw(*rhs_file, block.first_row(), block.first_row() + block.rows(),
                    [&](std::span<const MatrixEntry> entries) {
                      for (const MatrixEntry& entry : entries) {
                        b[entry.row - block.first_row()] += entry.value;
                      }
                    });
    }
    return b;
  }

  void read_or_throw(const MatrixMarketFile& file, std::uint64_t begin, std::uint64_t end,
                     const MatrixMarketFile::Visit& visit) const {
    if (auto read = file.read_rows(begin, end, lines, visit); !read) {
      throw std::runtime_error(read.error());
    }
  }
};

}  // namespace

void add_cg(JobRegistry& registry) {
  registry.add<Cg>();
}

}  // namespace regroup
