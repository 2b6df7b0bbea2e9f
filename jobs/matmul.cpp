// The job `matmul`: the product of two dense matrices by SUMMA (van de Geijn and Watts, "SUMMA:
// scalable universal matrix multiplication algorithm", 1997). Blocks of the product are cells on a
// grid of rows and columns; at each step those that have a panel of A show it to the blocks beside
// them, those that have one of B to the blocks above and below, and every block adds a product of
// panels, always in the same order. The product is checked by Freivalds' method (1977): A (B x) and
// (A B) x for a random x.
//
// Products have the bits of the library that took them, so which one does is the user's choice, and
// by default the same one everywhere. Where --product-by gpu finds no device that works, the CPU
// goes on within the bounds of rounding, and the result says how many products each has taken.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "jobs/grid_blocks.hpp"
#include "jobs/iterative.hpp"
#include "jobs/on_device.hpp"
#include "jobs/registry.hpp"
#include "jobs/sample_jobs.hpp"
#include "kernels/matrix/cuda.hpp"
#include "kernels/matrix/product.hpp"
#include "kernels/random/philox.hpp"

namespace regroup {
namespace {

using kernels::ConstMatrix;

// A block of the product, and the blocks of the factors that are at the same place. These can be
// made again, so they are made when they are needed, and not saved.
struct ProductBlock {
  std::vector<double> product;
  std::vector<double> check;  // of the block's rows: the difference, and the size of what it is of
  double residual = 0;
  std::uint64_t products_by_gpu = 0;  // of panels
  mutable std::vector<double> left;
  mutable std::vector<double> right;

  // `f64` residual, `u64` products that a device took, `u64` numbers of the check and these; the
  // product's.
  void encode(Writer& writer) const {
    writer.put(residual);
    writer.put(products_by_gpu);
    writer.put_bytes(std::as_bytes(std::span(check)));
    writer.put_bytes(std::as_bytes(std::span(product)));
  }
  static ProductBlock decode(Reader& reader) {
    ProductBlock block;
    block.residual = reader.get<double>();
    block.products_by_gpu = reader.get<std::uint64_t>();
    for (auto* const numbers : {&block.check, &block.product}) {
      const auto bytes = reader.get_bytes();
      if (reader.failed() || bytes.size() % sizeof(double) != 0)
        throw std::runtime_error("a saved block of the product is cut short");
      numbers->resize(bytes.size() / sizeof(double));
      if (!bytes.empty()) std::memcpy(numbers->data(), bytes.data(), bytes.size());
    }
    return block;
  }
};

struct ProductResult {
  double sum_of_squares = 0;
  double residual = 0;
  std::uint64_t products_by_gpu = 0;
  std::vector<double> product;  // if it is to be in the result

  void encode(Writer& writer) const {
    writer.put(sum_of_squares);
    writer.put(residual);
    writer.put(products_by_gpu);
    writer.put_bytes(std::as_bytes(std::span(product)));
  }
  static ProductResult decode(Reader& reader) {
    ProductResult result;
    result.sum_of_squares = reader.get<double>();
    result.residual = reader.get<double>();
    result.products_by_gpu = reader.get<std::uint64_t>();
    const auto bytes = reader.get_bytes();
    if (reader.failed() || bytes.size() % sizeof(double) != 0)
      throw std::runtime_error("the result of a block is cut short");
    result.product.resize(bytes.size() / sizeof(double));
    if (!bytes.empty()) std::memcpy(result.product.data(), bytes.data(), bytes.size());
    return result;
  }
};

struct Matmul {
  using Cell = ProductBlock;
  using Halo = std::span<const double>;  // a panel, row by row, or nothing
  using Total =
      std::vector<double>;  // of the check: a vector, and the sizes of what its sums are of
  using Result = ProductResult;
  static constexpr std::string_view kName = "matmul";
  static constexpr std::string_view kSummary = "the product of two dense matrices, checked";
  static constexpr std::string_view kDescription =
      "C = A B for matrices of random numbers in [-1, 1), A with --rows rows and --inner columns, "
      "B "
      "with --inner rows and --columns columns. The product is taken by the machine's CBLAS and "
      "checked by Freivalds' method; one that fails its check ends the run with an error. Results "
      "have "
      "the same bits on processors of one kind. With --product-by gpu devices take it, and where "
      "one is missing or fails the CBLAS, to within rounding: the result then says how many "
      "products each has taken, and has the same bits where one took them all. Large --panel and "
      "few --blocks keep devices busy.";

  void options(OptionSet& set) {
    set.add("rows", rows, "rows of A and of the product").at_least(1).at_most(kSideMax);
    set.add("columns", columns, "columns of B and of the product").at_least(1).at_most(kSideMax);
    set.add("inner", inner, "columns of A and rows of B").at_least(1).at_most(kSideMax);
    set.add("blocks", block_count, "blocks that the product is cut into, to be shared by ranks")
        .at_least(1)
        .at_most(GridBlocks::kBlocksMax);
    set.add("product-by", product_by, "what takes the products: the CBLAS, or the ranks' GPUs")
        .one_of({"cblas", "gpu"});
    set.add("panel", panel_width, "columns of A and rows of B that a step takes, at most")
        .at_least(1)
        .at_most(kSideMax);
  }

  std::expected<void, std::string> prepare() { return lay_out(); }
  std::expected<void, std::string> load(Reader&) { return lay_out(); }

  std::expected<void, std::string> lay_out() {
    auto cut = GridBlocks::cut({columns, rows, 0}, block_count);
    if (!cut) return std::unexpected("--blocks: " + cut.error());
    blocks = *cut;
    panels.clear();
    for (std::uint64_t begin = 0; begin < inner;) {
      const std::uint32_t left = part_of(begin, grid_columns());
      const std::uint32_t right = part_of(begin, grid_rows());
      const std::uint64_t end = std::min({begin + panel_width, part_begin(left + 1, grid_columns()),
                                          part_begin(right + 1, grid_rows())});
      panels.push_back({begin, end, left, right});
      begin = end;
    }
    return {};
  }

  std::uint32_t cells() const { return blocks->count(); }
  std::vector<std::uint32_t> neighbours(std::uint32_t block) const {
    std::vector<std::uint32_t> found;
    for (std::uint32_t other = 0; other < cells(); ++other) {
      if (other != block &&
          (row_of(other) == row_of(block) || column_of(other) == column_of(block)))
        found.push_back(other);
    }
    return found;
  }

  Cell begin(const CellContext& cell) const {
    const auto shape = blocks->shape(cell.cell());
    return {.product = std::vector<double>(shape.nx * shape.ny)};
  }

  void show(const Cell& block, const CellContext& cell, std::uint32_t to,
            HaloRoom<double> room) const {
    if (cell.step() >= panels.size()) return;
    const Panel& panel = panels[cell.step()];
    const std::uint32_t self = cell.cell();
    if (row_of(to) == row_of(self) && column_of(self) == panel.left)
      return show(left_panel(block, cell, panel), room);
    if (column_of(to) == column_of(self) && row_of(self) == panel.right)
      return show(right_panel(block, cell, panel), room);
  }

  // First the panels, then two steps of the check.
  bool wants_totals(std::uint64_t step) const { return step >= panels.size(); }
  bool at_end(std::uint64_t step, const Total*) const { return step >= steps_max(); }
  std::uint64_t steps_max() const { return panels.size() + 2; }

  Total add(const Cell& block, const CellContext& cell) const {
    const std::uint32_t self = cell.cell();
    if (cell.step() == panels.size()) {
      // B x, and |B| |x|.
      fill_factors(block, cell);
      Total total(2 * inner);
      const auto shape = blocks->shape(self);
      const std::uint64_t first = part_begin(row_of(self), grid_rows());
      const std::uint64_t count = part_begin(row_of(self) + 1, grid_rows()) - first;
      const auto right = ConstMatrix::whole(block.right, count, shape.nx);
      const std::vector<double> x = random_vector(cell);
      kernels::add_product(right, x, std::span(total).subspan(first, count));
      add_sizes(right, x, std::span(total).subspan(inner + first, count));
      return total;
    }
    Total total(2 * rows);
    const std::uint64_t first = blocks->start(self)[1];
    const std::size_t count = block.check.size() / 2;
    for (std::size_t i = 0; i < count; ++i) {
      total[first + i] = block.check[i];
      total[rows + first + i] = block.check[count + i];
    }
    return total;
  }
  static void merge(Total& into, Total&& next) {
    for (std::size_t i = 0; i < into.size(); ++i) into[i] += next[i];
  }

  void step(Cell& block, const CellContext& cell, std::span<const Halo> halos,
            const Total* total) const {
    if (cell.step() < panels.size()) {
      add_panels(block, cell, halos);
    } else if (cell.step() == panels.size()) {
      check_block(block, cell, *total);
    } else {
      for (std::uint64_t i = 0; i < rows; ++i) {
        const double size = (*total)[rows + i];
        const double off = std::abs((*total)[i]);
        block.residual = std::max(block.residual, off == 0 ? 0 : off / size);
      }
    }
  }

  Result result(const Cell& block, const CellContext&) const {
    Result result{.residual = block.residual, .products_by_gpu = block.products_by_gpu};
    for (const double element : block.product) result.sum_of_squares += element * element;
    if (in_result()) result.product = block.product;
    return result;
  }

  void report(std::span<const Result> results, Report& report) const {
    double sum_of_squares = 0, residual = 0;
    std::uint64_t products_by_gpu = 0;
    for (const Result& block : results) {
      products_by_gpu += block.products_by_gpu;
      sum_of_squares += block.sum_of_squares;
      residual = std::max(residual, block.residual);
    }
    // Rounding of sums of so many terms, twice (Higham, section 3.1).
    const double bound =
        static_cast<double>(inner + columns + 2) * 2 * std::numeric_limits<double>::epsilon() / 2;
    if (!(residual <= bound)) {
      throw std::runtime_error(fmt::format(
          "the product fails its check: its residual is {:.3g}, where rounding explains {:.3g}",
          residual, bound));
    }
    report.value("m", rows);
    report.value("n", columns);
    report.value("k", inner);
    report.value("frobenius_norm", std::sqrt(sum_of_squares));
    report.value("residual", residual);
    report.value("residual_bound", bound);
    if (product_by == "gpu") {
      report.value("products_by_gpu", products_by_gpu);
      report.value("products_by_cblas", std::uint64_t{cells()} * panels.size() - products_by_gpu);
    }
    if (in_result()) report.array("product", {rows, columns}, whole_product(results));
  }

  std::uint64_t rows = 2048;
  std::uint64_t columns = 2048;
  std::uint64_t inner = 2048;
  std::uint32_t block_count = 4;
  std::uint64_t panel_width = 512;
  std::string product_by = "cblas";

  // Columns [begin, end) of A, which the blocks in the column `left` have, and rows of B, which
  // those in the row `right` have.
  struct Panel {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::uint32_t left = 0;
    std::uint32_t right = 0;

    std::size_t width() const { return end - begin; }
  };
  std::optional<GridBlocks> blocks;
  std::vector<Panel> panels;

 private:
  static constexpr std::uint64_t kSideMax = std::uint64_t{1} << 24;
  static constexpr std::uint64_t kInResultMax = std::uint64_t{1} << 22;  // elements
  static constexpr std::uint64_t kVectorStream = std::uint64_t{1} << 63;

  bool in_result() const { return rows * columns <= kInResultMax; }
  std::uint32_t grid_columns() const { return blocks->along()[0]; }
  std::uint32_t grid_rows() const { return blocks->along()[1]; }
  std::uint32_t row_of(std::uint32_t block) const { return block / grid_columns(); }
  std::uint32_t column_of(std::uint32_t block) const { return block % grid_columns(); }

  // Of the inner extent, cut into so many parts.
  std::uint64_t part_begin(std::uint32_t part, std::uint32_t parts) const {
    return inner / parts * part + std::min<std::uint64_t>(part, inner % parts);
  }
  std::uint32_t part_of(std::uint64_t k, std::uint32_t parts) const {
    std::uint32_t part = 0;
    while (part_begin(part + 1, parts) <= k) ++part;
    return part;
  }

  // Columns [begin, end) of a row of random numbers. A number takes half a block of the stream.
  static void fill_row(std::uint64_t seed, std::uint64_t stream, std::uint64_t begin,
                       std::span<double> to) {
    kernels::Philox random(seed, stream);
    random.seek(begin / 2);
    if (begin % 2 == 1) random.uniform();
    for (double& number : to) number = 2 * random.uniform() - 1;
  }
  std::vector<double> random_vector(const CellContext& cell) const {
    std::vector<double> vector(blocks->shape(cell.cell()).nx);
    fill_row(cell.seed(), kVectorStream, blocks->start(cell.cell())[0], vector);
    return vector;
  }
  void fill_factors(const Cell& block, const CellContext& cell) const {
    const auto shape = blocks->shape(cell.cell());
    const auto start = blocks->start(cell.cell());
    const auto fill = [&](std::vector<double>& to, std::uint64_t matrix, std::uint64_t row,
                          std::size_t count, std::uint64_t column, std::size_t width) {
      if (to.size() == count * width) return;
      to.resize(count * width);
      for (std::size_t i = 0; i < count; ++i) {
        fill_row(cell.seed(), 2 * (row + i) + matrix, column,
                 std::span(to).subspan(i * width, width));
      }
    };
    const std::uint64_t left = part_begin(column_of(cell.cell()), grid_columns());
    fill(block.left, 0, start[1], shape.ny, left,
         part_begin(column_of(cell.cell()) + 1, grid_columns()) - left);
    const std::uint64_t right = part_begin(row_of(cell.cell()), grid_rows());
    fill(block.right, 1, right, part_begin(row_of(cell.cell()) + 1, grid_rows()) - right, start[0],
         shape.nx);
  }

  ConstMatrix left_panel(const Cell& block, const CellContext& cell, const Panel& panel) const {
    fill_factors(block, cell);
    const std::uint64_t first = part_begin(panel.left, grid_columns());
    const std::size_t stride = part_begin(panel.left + 1, grid_columns()) - first;
    return {std::span(std::as_const(block.left)).subspan(panel.begin - first),
            blocks->shape(cell.cell()).ny, panel.width(), stride};
  }
  ConstMatrix right_panel(const Cell& block, const CellContext& cell, const Panel& panel) const {
    fill_factors(block, cell);
    const std::size_t columns_here = blocks->shape(cell.cell()).nx;
    const std::uint64_t first = part_begin(panel.right, grid_rows());
    return ConstMatrix::whole(
        std::span(std::as_const(block.right)).subspan((panel.begin - first) * columns_here),
        panel.width(), columns_here);
  }
  static void pack(const ConstMatrix& panel, std::span<double> numbers) {
    for (std::size_t i = 0; i < panel.rows; ++i) {
      std::ranges::copy(panel.numbers.subspan(i * panel.stride, panel.columns),
                        numbers.begin() + static_cast<std::ptrdiff_t>(i * panel.columns));
    }
  }

  static void show(const ConstMatrix& panel, HaloRoom<double> room) {
    pack(panel, room.take(panel.rows * panel.columns));
  }
  static std::vector<double> packed(const ConstMatrix& panel) {
    std::vector<double> numbers(panel.rows * panel.columns);
    pack(panel, numbers);
    return numbers;
  }

  void add_panels(Cell& block, const CellContext& cell, std::span<const Halo> halos) const {
    const std::uint32_t self = cell.cell();
    const auto shape = blocks->shape(self);
    if (block.product.size() != shape.nx * shape.ny)
      throw std::runtime_error("a saved block of the product has not the size of its place");
    const Panel& panel = panels[cell.step()];
    const auto others = neighbours(self);
    const auto from = [&](std::uint32_t row, std::uint32_t column) -> const Halo& {
      const auto at = std::ranges::lower_bound(others, row * grid_columns() + column);
      return halos[static_cast<std::size_t>(at - others.begin())];
    };
    const ConstMatrix left =
        column_of(self) == panel.left
            ? left_panel(block, cell, panel)
            : ConstMatrix::whole(from(row_of(self), panel.left), shape.ny, panel.width());
    const ConstMatrix right =
        row_of(self) == panel.right
            ? right_panel(block, cell, panel)
            : ConstMatrix::whole(from(panel.right, column_of(self)), panel.width(), shape.nx);
    if (product_by == "gpu" && add_on_device(block, cell, left, right)) return;
    kernels::add_product(left, right, kernels::Matrix::whole(block.product, shape.ny, shape.nx),
                         cell.threads());
  }

  // Whether the rank's device added the product of the panels.
  static bool add_on_device(Cell& block, const CellContext& cell, const ConstMatrix& left,
                            const ConstMatrix& right) {
    DeviceGuard* const guard = working_device(cell);
    if (guard == nullptr) return false;
    auto sum = guard->run(
        [device = *cell.device(), a = packed(left), b = packed(right), c = block.product,
         rows = left.rows, columns = right.columns,
         inner = left.columns]() mutable -> std::expected<std::vector<double>, std::string> {
          kernels::cuda::add_product(device, ConstMatrix::whole(a, rows, inner),
                                     ConstMatrix::whole(b, inner, columns),
                                     kernels::Matrix::whole(c, rows, columns));
          return std::move(c);
        });
    if (!sum) return false;
    block.product = std::move(*sum);
    ++block.products_by_gpu;
    return true;
  }

  // sizes += |a| |x|
  static void add_sizes(const ConstMatrix& a, std::span<const double> x, std::span<double> sizes) {
    for (std::size_t i = 0; i < a.rows; ++i) {
      for (std::size_t j = 0; j < a.columns; ++j) {
        sizes[i] += std::abs(a.numbers[i * a.stride + j]) * std::abs(x[j]);
      }
    }
  }

  // The block's part of A (B x) - C x, and of |A| (|B| |x|).
  void check_block(Cell& block, const CellContext& cell, const Total& total) const {
    const std::uint32_t self = cell.cell();
    const auto shape = blocks->shape(self);
    fill_factors(block, cell);
    const std::uint64_t first = part_begin(column_of(self), grid_columns());
    const std::size_t count = part_begin(column_of(self) + 1, grid_columns()) - first;
    std::vector<double> other(shape.ny);
    block.check.assign(2 * shape.ny, 0);
    const auto difference = std::span(block.check).first(shape.ny);
    const auto sizes = std::span(block.check).subspan(shape.ny);
    const auto left = ConstMatrix::whole(block.left, shape.ny, count);
    kernels::add_product(left, std::span(total).subspan(first, count), difference);
    add_sizes(left, std::span(total).subspan(inner + first, count), sizes);
    kernels::add_product(ConstMatrix::whole(block.product, shape.ny, shape.nx), random_vector(cell),
                         other);
    for (std::size_t i = 0; i < other.size(); ++i) difference[i] -= other[i];
  }

  std::vector<double> whole_product(std::span<const Result> results) const {
    std::vector<double> whole(rows * columns, std::numeric_limits<double>::quiet_NaN());
    for (std::uint32_t block = 0; block < cells(); ++block) {
      const auto shape = blocks->shape(block);
      const auto start = blocks->start(block);
      const auto& product = results[block].product;
      if (product.size() != shape.nx * shape.ny) continue;  // it was given up
      for (std::size_t i = 0; i < shape.ny; ++i) {
        std::ranges::copy(
            std::span(product).subspan(i * shape.nx, shape.nx),
            whole.begin() + static_cast<std::ptrdiff_t>((start[1] + i) * columns + start[0]));
      }
    }
    return whole;
  }
};

}  // namespace

void add_matmul(JobRegistry& registry) {
  registry.add<Matmul>();
}

}  // namespace regroup
