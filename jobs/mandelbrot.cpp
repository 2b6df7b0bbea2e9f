// The job `mandelbrot`: a view of the Mandelbrot set by escape times (kernels/mandelbrot), a
// picture of it, and its area. Shards are rows of pixels, some of which take a thousand times as
// long as others: a bag as irregular as they come.
#include "kernels/mandelbrot/mandelbrot.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "jobs/colour_map.hpp"
#include "jobs/on_device.hpp"
#include "jobs/registry.hpp"
#include "jobs/sample_jobs.hpp"
#include "kernels/mandelbrot/cuda.hpp"

namespace regroup {
namespace {

// Two numbers with a separator between and nothing else.
template <class Number>
std::optional<std::array<Number, 2>> pair_of(const std::string& text, char separator) {
  std::array<Number, 2> pair{};
  const char* const end = text.data() + text.size();
  const auto [middle, first_error] = std::from_chars(text.data(), end, pair[0]);
  if (first_error != std::errc() || middle == end || *middle != separator) return std::nullopt;
  const auto [rest, second_error] = std::from_chars(middle + 1, end, pair[1]);
  if (second_error != std::errc() || rest != end) return std::nullopt;
  return pair;
}

struct Mandelbrot {
  using Result = std::vector<std::uint32_t>;  // of each row its number, then its counts
  static constexpr std::string_view kName = "mandelbrot";
  static constexpr std::string_view kSummary = "a picture of the Mandelbrot set, and its area";
  static constexpr std::string_view kDescription =
      "Each pixel is the number of steps z -> z^2 + c that the point c at its centre takes to "
      "leave "
      "the disc of radius 2, in colours of which each covers as many pixels; points that stay for "
      "--iterations steps are black and count as inside. Where the view holds the whole set, as "
      "the default does, its area is held against the known one.";

  void options(OptionSet& set) {
    set.add("size", size, "pixels of the picture").value_name("WxH");
    set.add("centre", centre, "the point in its middle").value_name("X,Y");
    set.add("width", width, "from its left to its right edge")
        .at_least(1e-300)
        .at_most(kCoordinateMax);
    set.add("iterations", iterations, "steps after which a point is taken for inside")
        .at_least(1)
        .at_most(1e9);
    set.add("shard-rows", shard_rows, "rows of pixels in one shard").at_least(1);
    set.add("counts", counts, "keep the steps of each pixel in the result");
  }

  std::expected<void, std::string> prepare() { return lay_out(); }
  std::expected<void, std::string> load(Reader&) { return lay_out(); }

  std::expected<void, std::string> lay_out() {
    const auto pixels = pair_of<std::uint32_t>(size, 'x');
    if (!pixels || (*pixels)[0] == 0 || (*pixels)[1] == 0) {
      return std::unexpected(
          fmt::format("--size: '{}' is no size: give two numbers from 1 on, e.g. 1920x1080", size));
    }
    columns = (*pixels)[0];
    rows = (*pixels)[1];
    if (std::max(columns, rows) > kSideMax) {
      return std::unexpected(
          fmt::format("--size: a picture has sides of at most {}: give a smaller one", kSideMax));
    }
    if (columns > kPixelsMax / rows) {
      return std::unexpected(
          fmt::format("--size: {} has more than {} pixels: give a smaller one", size, kPixelsMax));
    }
    const auto point = pair_of<double>(centre, ',');
    const auto fits = [](double coordinate) { return std::abs(coordinate) <= kCoordinateMax; };
    if (!point || !fits((*point)[0]) || !fits((*point)[1])) {
      return std::unexpected(
          fmt::format("--centre: '{}' is no point: give two numbers of at most {}, e.g. -0.75,0",
                      centre, kCoordinateMax));
    }
    middle = *point;
    spacing = width / columns;
    const double farthest = std::max(std::abs(middle[0]), std::abs(middle[1])) + width;
    if (spacing < kSpacingMin * farthest) {
      return std::unexpected(
          fmt::format("--width {} is too small: neighbouring pixels would be the same number; give "
                      "at least {:.2g}",
                      width, kSpacingMin * farthest * columns));
    }
    return {};
  }

  std::uint64_t shards() const { return (std::uint64_t{rows} + shard_rows - 1) / shard_rows; }

  Result run(const ShardContext& shard) const {
    const std::uint64_t first = shard.shard() * shard_rows;
    std::vector<kernels::PlaneRow> lines;
    for (std::uint64_t y = first; y < std::min<std::uint64_t>(first + shard_rows, rows); ++y) {
      lines.push_back(line(y));
    }
    const std::vector<std::uint32_t> of_lines = on_device_or_cpu(
        shard,
        [lines, across = columns, most = iterations](std::uint32_t device) {
          return kernels::cuda::escape_counts(device, lines, across, most);
        },
        [&] {
          std::vector<std::uint32_t> found(lines.size() * columns);
          for (std::size_t i = 0; i < lines.size(); ++i) {
            kernels::escape_counts(lines[i], 0, iterations,
                                   std::span(found).subspan(i * columns, columns));
          }
          return found;
        });
    Result result;
    result.reserve(lines.size() * row_words());
    for (std::size_t i = 0; i < lines.size(); ++i) {
      const auto of_line = std::span(of_lines).subspan(i * columns, columns);
      result.push_back(static_cast<std::uint32_t>(first + i));
      result.insert(result.end(), of_line.begin(), of_line.end());
    }
    return result;
  }

  void report(const Result& total, Report& report) const {
    std::uint64_t inside = 0;
    std::uint64_t steps = 0;
    std::map<std::uint32_t, std::uint64_t> outside;  // pixels by count
    for_each_row(total, [&](std::uint32_t, std::span<const std::uint32_t> row) {
      for (const std::uint32_t count : row) {
        steps += count;
        if (count == iterations) {
          ++inside;
        } else {
          ++outside[count];
        }
      }
    });
    const std::uint64_t pixels = total.size() / row_words() * columns;
    const double area = static_cast<double>(inside) * spacing * spacing;
    report.value("pixels", pixels);
    report.value("inside", inside);
    report.value("mean_iterations", static_cast<double>(steps) /
                                        static_cast<double>(std::max<std::uint64_t>(1, pixels)));
    report.value("area", area);
    if (holds_all() && pixels == std::uint64_t{rows} * columns) {
      report.value("area_known", kKnownArea);
      report.value("area_error", area - kKnownArea);
    }
    report.picture(picture(total, outside));
    if (counts) report.array("iterations", {rows, columns}, counts_of(total));
  }

  static constexpr std::uint32_t kSideMax = 1'000'000;  // that a PNG may have
  static constexpr std::uint32_t kPixelsMax = 1 << 24;  // 48 MiB of picture
  static constexpr double kCoordinateMax = 1e6;
  static constexpr double kSpacingMin = 4 * 0x1p-52;  // of the largest coordinate
  // Foerstemann, "Numerical estimation of the area of the Mandelbrot set" (2012), to 8e-8.
  static constexpr double kKnownArea = 1.50659177;
  static constexpr Colour kInside = {0, 0, 0};
  static constexpr std::uint8_t kMissing = 128;  // grey: rows of shards that were given up

  std::string size = "1920x1080";
  std::string centre = "-0.75,0";
  double width = 4.4;
  std::uint32_t iterations = 1000;
  std::uint32_t shard_rows = 4;
  bool counts = false;

  std::uint32_t columns = 0;
  std::uint32_t rows = 0;
  std::array<double, 2> middle{};
  double spacing = 0;  // of pixels

 private:
  std::size_t row_words() const { return std::size_t{columns} + 1; }

  // The centres of the pixels of a row.
  kernels::PlaneRow line(std::uint64_t row) const {
    return {.left = middle[0] - 0.5 * static_cast<double>(columns - 1) * spacing,
            .imaginary = middle[1] +
                         (0.5 * static_cast<double>(rows - 1) - static_cast<double>(row)) * spacing,
            .spacing = spacing};
  }

  // The set lies in [-2, 0.4712] x [-1.1226, 1.1226].
  bool holds_all() const {
    const double half_width = 0.5 * width;
    const double half_height = 0.5 * spacing * rows;
    return middle[0] - half_width <= -2 && middle[0] + half_width >= 0.4713 &&
           middle[1] - half_height <= -1.1227 && middle[1] + half_height >= 1.1227;
  }

  template <class Visit>
  void for_each_row(const Result& total, Visit visit) const {
    for (std::size_t at = 0; at + row_words() <= total.size(); at += row_words()) {
      const auto counts_of_row = std::span(total).subspan(at + 1, columns);
      if (total[at] >= rows || std::ranges::max(counts_of_row) > iterations)
        throw std::runtime_error("a saved row of pixels is none");
      visit(total[at], counts_of_row);
    }
  }

  std::vector<std::uint64_t> counts_of(const Result& total) const {
    std::vector<std::uint64_t> all(std::size_t{rows} * columns);
    for_each_row(total, [&](std::uint32_t y, std::span<const std::uint32_t> row) {
      std::ranges::copy(row, all.begin() + std::ptrdiff_t{y} * columns);
    });
    return all;
  }

  // A count has the colour of the share of outside pixels with a lower one: so there is as much of
  // each colour, however deep the view is.
  Picture picture(const Result& total,
                  const std::map<std::uint32_t, std::uint64_t>& outside) const {
    std::uint64_t all = 0;
    for (const auto& [count, pixels] : outside) all += pixels;
    std::map<std::uint32_t, Colour> colours = {{iterations, kInside}};
    std::uint64_t before = 0;
    for (const auto& [count, pixels] : outside) {
      colours[count] = viridis(static_cast<double>(before) / static_cast<double>(all));
      before += pixels;
    }
    Picture picture{.name = "mandelbrot", .width = columns, .height = rows};
    picture.pixels.assign(rows * picture.row_bytes(), kMissing);
    for_each_row(total, [&](std::uint32_t y, std::span<const std::uint32_t> row) {
      auto pixel = picture.pixels.begin() + static_cast<std::ptrdiff_t>(y * picture.row_bytes());
      for (const std::uint32_t count : row) pixel = std::ranges::copy(colours[count], pixel).out;
    });
    return picture;
  }
};

}  // namespace

void add_mandelbrot(JobRegistry& registry) {
  registry.add<Mandelbrot>();
}

}  // namespace regroup
