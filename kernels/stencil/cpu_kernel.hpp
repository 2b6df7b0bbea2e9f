// The vectorised step, written once for any width of vector register and compiled by each of the
// cpu_*.cpp for its own instruction set. A cell's value does not depend on which register computes
// it, so rows may be cut anywhere. Everything is inlined or carries the width in its name: nothing
// here may be emitted under a name that the linker could share with code for another instruction
// set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/elementary/elementary.hpp"

namespace regroup::kernels {

// The cells to compute: the first one, counts of at least 1, and the distances in memory.
struct StencilRows {
  const double* in;
  double* out;
  std::size_t count_x;
  std::size_t count_y;
  std::size_t count_z;
  std::size_t row;
  std::size_t plane;
  double number_x;
  double number_y;
  double number_z;
};

// The step compiled for one instruction set.
struct StencilKernels {
  void (*diffuse_2d)(const StencilRows& rows);
  void (*diffuse_3d)(const StencilRows& rows);
};

extern const StencilKernels kStencilBaseline;
extern const StencilKernels kStencilAvx2;

// The step on registers of kWidth doubles.
template <int kWidth>
struct VectorStencil {
  using Real = typename VectorOf<kWidth>::Real;

  // How far ahead of its use the foremost row is fetched: a page, which is where the processor's
  // own prefetching ends.
  static constexpr std::size_t kPrefetchBytes = 4096;

  REGROUP_KERNEL static void prefetch(const double* at) {
    // As a number, since it may lie past the block, where no pointer may point.
    const std::uintptr_t ahead = reinterpret_cast<std::uintptr_t>(at) + kPrefetchBytes;
    __builtin_prefetch(reinterpret_cast<const void*>(ahead));
  }

  // From any address, aligned or not.
  template <class V>
  REGROUP_KERNEL static V load(const double* from) {
    V value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
  }

  REGROUP_KERNEL static void store(double* to, Real value) {
    __builtin_memcpy(to, &value, sizeof value);
  }

  // Cells from an address to the first one that is aligned for a register.
  REGROUP_KERNEL static std::size_t cells_before_aligned(const double* at) {
    return -(reinterpret_cast<std::uintptr_t>(at) / sizeof(double)) % kWidth;
  }

  template <class V>
  REGROUP_KERNEL static V second_difference(const double* centre, std::size_t stride, V twice) {
    return (load<V>(centre - stride) + load<V>(centre + stride)) - twice;
  }

  // The new values of the cells from `centre` on, as many as V has elements.
  template <int kDimensions, class V>
  REGROUP_KERNEL static V next(const StencilRows& rows, const double* centre) {
    const V u = load<V>(centre);
    const V twice = u + u;
    V change = rows.number_x * second_difference<V>(centre, 1, twice) +
               rows.number_y * second_difference<V>(centre, rows.row, twice);
    if constexpr (kDimensions == 3) {
      change += rows.number_z * second_difference<V>(centre, rows.plane, twice);
    }
    return u + change;
  }

  // One register from the start of the row, then aligned ones, then one that ends with the row:
  // some cells are computed twice, to the same value.
  template <int kDimensions>
  REGROUP_KERNEL static void diffuse_row(const StencilRows& rows, const double* in, double* out) {
    const std::size_t count = rows.count_x;
    if (count < kWidth) {
      for (std::size_t x = 0; x < count; ++x) out[x] = next<kDimensions, double>(rows, in + x);
      return;
    }
    store(out, next<kDimensions, Real>(rows, in));
    std::size_t x = cells_before_aligned(out);
    for (; x + kWidth <= count; x += kWidth) {
      prefetch(in + x + (kDimensions == 3 ? rows.plane : rows.row));
      store(out + x, next<kDimensions, Real>(rows, in + x));
    }
    const std::size_t last = count - kWidth;
    if (x < count) store(out + last, next<kDimensions, Real>(rows, in + last));
  }

  template <int kDimensions>
  static void diffuse(const StencilRows& given) {
    const StencilRows rows = given;  // no store can change a copy, so it stays in registers
    for (std::size_t z = 0; z < rows.count_z; ++z) {
      for (std::size_t y = 0; y < rows.count_y; ++y) {
        const std::size_t first = z * rows.plane + y * rows.row;
        diffuse_row<kDimensions>(rows, rows.in + first, rows.out + first);
      }
    }
  }

  static constexpr StencilKernels kernels() { return {diffuse<2>, diffuse<3>}; }
};

}  // namespace regroup::kernels
