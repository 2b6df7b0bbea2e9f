// The escape time as it is defined, one point at a time: the oracle of the vectorised one. Speed is
// no concern here; being obviously right is.
#include "kernels/mandelbrot/mandelbrot.hpp"

namespace regroup::kernels::reference {
namespace {

bool in_cardioid_or_disc(double re, double im) {
  const double x = re - 0.25;
  const double q = x * x + im * im;
  const bool cardioid = q * (q + x) <= 0.25 * (im * im);
  const bool disc = (re + 1.0) * (re + 1.0) + im * im <= 0.0625;
  return cardioid || disc;
}

std::uint32_t escape_count(double re, double im, std::uint32_t iterations) {
  double x = re;
  double y = im;
  std::uint32_t count = 0;
  while (count < iterations && x * x + y * y <= 4.0) {
    const double next_x = (x * x - y * y) + re;
    y = (x + x) * y + im;
    x = next_x;
    ++count;
  }
  return count;
}

}  // namespace

void escape_counts(const PlaneRow& row, std::uint64_t first, std::uint32_t iterations,
                   std::span<std::uint32_t> counts, KnownInside known) {
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double re = row.left + static_cast<double>(first + i) * row.spacing;
    const bool inside = known == KnownInside::kTested && in_cardioid_or_disc(re, row.imaginary);
    counts[i] = inside ? iterations : escape_count(re, row.imaginary, iterations);
  }
}

}  // namespace regroup::kernels::reference
