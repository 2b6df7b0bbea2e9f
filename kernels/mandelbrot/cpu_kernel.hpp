// The vectorised escape time, written once for any width of vector register and compiled by each of
// the cpu_*.cpp for its own instruction set. Points go on together until all of them have escaped
// or had their iterations; one that has escaped no longer counts. Everything is inlined or carries
// the width in its name: nothing here may be emitted under a name that the linker could share with
// code for another instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/elementary/elementary.hpp"

namespace regroup::kernels {

// The columns to compute, and where their counts go.
struct EscapeColumns {
  double left;
  double imaginary;
  double spacing;
  std::uint64_t first;
  std::uint32_t iterations;
  std::uint32_t* counts;
  std::size_t columns;
};

// The escape time compiled for one instruction set.
struct MandelbrotKernels {
  void (*escape_counts)(const EscapeColumns& columns);
};

extern const MandelbrotKernels kMandelbrotBaseline;
extern const MandelbrotKernels kMandelbrotAvx2;
extern const MandelbrotKernels kMandelbrotAvx512;

// On registers of kWidth doubles, several at a time: an iteration waits for the one before it.
template <int kWidth>
struct VectorMandelbrot {
  using Real = typename VectorOf<kWidth>::Real;
  using Word = typename VectorOf<kWidth>::Word;

  static constexpr int kRegisters = 4;
  static constexpr int kPoints = kRegisters * kWidth;
  static constexpr std::uint32_t kIterationsBetweenLooks = 8;

  // Some points under way.
  struct Points {
    Real re[kRegisters];
    Real x[kRegisters];
    Real y[kRegisters];
    Word going[kRegisters];  // all ones in those that have not escaped
    Word count[kRegisters];
  };

  REGROUP_KERNEL static Word in_cardioid_or_disc(Real re, Real im) {
    const Real x = re - 0.25;
    const Real q = x * x + im * im;
    const Word cardioid = (Word)(q * (q + x) <= 0.25 * (im * im));
    const Word disc = (Word)((re + 1.0) * (re + 1.0) + im * im <= all<Real>(0.0625));
    return cardioid | disc;
  }

  REGROUP_KERNEL static void begin(Points& points, const EscapeColumns& columns,
                                   std::uint64_t column) {
    const Real im = all<Real>(columns.imaginary);
#pragma GCC unroll 4
    for (int part = 0; part < kRegisters; ++part) {
      Real number{};
      for (int i = 0; i < kWidth; ++i)
        number[i] = static_cast<double>(column + static_cast<std::uint64_t>(part * kWidth + i));
      points.re[part] = columns.left + number * columns.spacing;
      points.x[part] = points.re[part];
      points.y[part] = im;
      const Word inside = in_cardioid_or_disc(points.re[part], im);
      points.going[part] = ~inside;
      points.count[part] = inside & std::uint64_t{columns.iterations};
    }
  }

  // What has escaped grows to infinities and what is no number, which are not below 4 either.
  REGROUP_KERNEL static void iterate(Points& points, Real im) {
#pragma GCC unroll 4
    for (int part = 0; part < kRegisters; ++part) {
      const Real x = points.x[part];
      const Real y = points.y[part];
      const Real x2 = x * x;
      const Real y2 = y * y;
      points.going[part] &= (Word)(x2 + y2 <= all<Real>(4.0));
      points.count[part] -= points.going[part];  // all ones are -1
      points.x[part] = (x2 - y2) + points.re[part];
      points.y[part] = (x + x) * y + im;
    }
  }

  REGROUP_KERNEL static bool any_going(const Points& points) {
    Word going{};
    for (int part = 0; part < kRegisters; ++part) going |= points.going[part];
    std::uint64_t any = 0;
    for (int i = 0; i < kWidth; ++i) any |= going[i];
    return any != 0;
  }

  static void escape_counts(const EscapeColumns& columns) {
    const Real im = all<Real>(columns.imaginary);
    for (std::size_t at = 0; at < columns.columns; at += kPoints) {
      Points points;
      begin(points, columns, columns.first + at);
      std::uint32_t left = columns.iterations;
      while (left != 0 && any_going(points)) {
        const std::uint32_t now = left < kIterationsBetweenLooks ? left : kIterationsBetweenLooks;
        for (std::uint32_t i = 0; i < now; ++i) iterate(points, im);
        left -= now;
      }
      for (int i = 0; i < kPoints && at + static_cast<std::size_t>(i) < columns.columns; ++i)
        columns.counts[at + static_cast<std::size_t>(i)] =
            static_cast<std::uint32_t>(points.count[i / kWidth][i % kWidth]);
    }
  }

  static constexpr MandelbrotKernels kernels() {
    return {escape_counts};
  }
};

}  // namespace regroup::kernels
