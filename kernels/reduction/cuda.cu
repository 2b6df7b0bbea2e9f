// The sums for CUDA: a block of threads adds up a tile of terms in levels (cpu_kernel.hpp says
// how), which begin where the tile's largest term wants it.
#include <cmath>
#include <vector>

#include "kernels/device/cuda_call.cuh"
#include "kernels/reduction/contract.hpp"
#include "kernels/reduction/cpu_kernel.hpp"
#include "kernels/reduction/cuda.hpp"

namespace regroup::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kTermsEach = 16;  // that a thread adds up
constexpr std::size_t kTileTerms = std::size_t{kThreads} * kTermsEach;
static_assert(kTermsEach <= 1u << kReductionLaneBits);

// The same numbers as on the CPU: of the first level's begin above the largest term, and of the
// exponents that it may have.
constexpr int kHeadroomBits = kReductionLaneBits + 5;
constexpr int kFirstLevelMax = 1023;
constexpr int kFirstLevelMin = -1022 + (kReductionLevels - 1) * kReductionLevelBits;
constexpr int kUnitBits = 52;
constexpr int kExponentBias = 1023;
constexpr int kFractionBits = 52;

struct TileSum {
  long long units[kReductionLevels];
  int level;  // the exponent that the first level begins with
  int exact;  // else there is no sum
};

// 1.5 * 2^level, for the exponents of normal numbers.
__device__ double level_begin(int level) {
  return real_of<double>(static_cast<std::uint64_t>(level + kExponentBias) << kFractionBits |
                         std::uint64_t{1} << (kFractionBits - 1));
}

// The magnitude's exponent, as std::ilogb() has it of normal numbers; smaller ones need no other
// level than the least of those.
__device__ int exponent_of(std::uint64_t magnitude) {
  return static_cast<int>(magnitude >> kFractionBits) - kExponentBias;
}

// Of the 32 threads of a warp, all of which take part: what `both` makes of their values.
template <class Both>
__device__ unsigned long long of_warp(unsigned long long value, Both both) {
  for (int distance = 16; distance != 0; distance /= 2) {
    value = both(value, __shfl_xor_sync(0xffff'ffff, value, distance));
  }
  return value;
}

// Terms a[i], or a[i] * b[i] where there is a `b`. Block t of threads adds up tile t.
__global__ void sum_tiles(const double* a, const double* b, std::size_t count, TileSum* tiles) {
  __shared__ unsigned long long largest;
  __shared__ unsigned long long units[kReductionLevels];
  __shared__ unsigned long long inexact;
  const bool first_of_warp = threadIdx.x % 32 == 0;
  const auto larger = [](unsigned long long x, unsigned long long y) { return x < y ? y : x; };
  const auto sum_of = [](unsigned long long x, unsigned long long y) { return x + y; };
  const std::size_t tile_count = count / kTileTerms + (count % kTileTerms != 0);
  for (std::size_t tile = blockIdx.x; tile < tile_count; tile += gridDim.x) {
    if (threadIdx.x == 0) {
      largest = 0;
      inexact = 0;
      for (auto& of_level : units) of_level = 0;
    }
    __syncthreads();
    double terms[kTermsEach];
    std::uint64_t own_largest = 0;
#pragma unroll
    for (unsigned j = 0; j < kTermsEach; ++j) {
      const std::size_t i = tile * kTileTerms + j * kThreads + threadIdx.x;
      terms[j] = i < count ? (b == nullptr ? a[i] : a[i] * b[i]) : 0.0;
      const std::uint64_t magnitude = bits_of(terms[j]) & ~(std::uint64_t{1} << 63);
      own_largest = own_largest < magnitude ? magnitude : own_largest;
    }
    const unsigned long long of_all = of_warp(own_largest, larger);
    if (first_of_warp) atomicMax(&largest, of_all);
    __syncthreads();
    const int wanted = exponent_of(largest) + kHeadroomBits;
    const int level = wanted < kFirstLevelMin ? kFirstLevelMin : wanted;
    const bool fits = level <= kFirstLevelMax;
    if (fits) {
      double begins[kReductionLevels];
      double levels[kReductionLevels];
      for (int k = 0; k < kReductionLevels; ++k) {
        levels[k] = begins[k] = level_begin(level - k * kReductionLevelBits);
      }
      std::uint64_t moved = 0;
      std::uint64_t left = 0;
#pragma unroll
      for (unsigned j = 0; j < kTermsEach; ++j) {
        double rest = terms[j];
        for (int k = 0; k < kReductionLevels; ++k) {
          const double before = levels[k];
          levels[k] = before + rest;
          rest -= levels[k] - before;
        }
        moved |= bits_of(levels[0]) ^ bits_of(begins[0]);
        left |= bits_of(rest);
      }
      for (int k = 0; k < kReductionLevels; ++k) {
        const unsigned long long sum = of_warp(bits_of(levels[k]) - bits_of(begins[k]), sum_of);
        if (first_of_warp) atomicAdd(&units[k], sum);
      }
      // A rest of -0 is none.
      if ((moved >> kFractionBits | left << 1) != 0) atomicMax(&inexact, 1ULL);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      TileSum sum;
      for (int k = 0; k < kReductionLevels; ++k) sum.units[k] = static_cast<long long>(units[k]);
      sum.level = level;
      sum.exact = fits && inexact == 0;
      tiles[tile] = sum;
    }
    __syncthreads();
  }
}

std::size_t tiles_of(std::size_t count) {
  return (count + kTileTerms - 1) / kTileTerms;
}

// `add_terms(begin, count)` adds the terms of a tile that has no sum.
template <class AddTerms>
void add_tiles(ExactSum& into, const double* a, const double* b, std::size_t count,
               AddTerms add_terms) {
  DeviceArray<TileSum> device_tiles(tiles_of(count));
  launch(sum_tiles, dim3(blocks_for(device_tiles.size(), 1)), dim3(kThreads), a, b, count,
         device_tiles.data());
  std::vector<TileSum> tiles(device_tiles.size());
  device_tiles.copy_to(tiles);
  ExactSum sum;  // nothing is added where something fails
  for (std::size_t tile = 0; tile < tiles.size(); ++tile) {
    if (tiles[tile].exact) {
      for (int k = 0; k < kReductionLevels; ++k) {
        sum.add_scaled(tiles[tile].units[k],
                       tiles[tile].level - k * kReductionLevelBits - kUnitBits);
      }
    } else {
      const std::size_t begin = tile * kTileTerms;
      add_terms(sum, begin, count - begin < kTileTerms ? count - begin : kTileTerms);
    }
  }
  into.merge(sum);
}

}  // namespace

struct DeviceVector::Memory {
  Memory(std::uint32_t number, std::span<const double> from) : device(number), elements(from) {}

  std::vector<double> part(std::size_t begin, std::size_t count) const {
    std::vector<double> numbers(count);
    elements.copy_to(begin, numbers);
    return numbers;
  }

  std::uint32_t device;
  DeviceArray<double> elements;
};

DeviceVector::DeviceVector(std::uint32_t device, std::span<const double> elements) {
  use_device(device);
  memory_ = std::make_shared<Memory>(device, elements);
}

void DeviceVector::add_sum(ExactSum& into) const {
  const Memory& own = *memory_;
  use_device(own.device);
  add_tiles(into, own.elements.data(), nullptr, own.elements.size(),
            [&](ExactSum& sum, std::size_t begin, std::size_t count) {
              reference::add_sum(sum, own.part(begin, count));
            });
}

void DeviceVector::add_dot(ExactSum& into, const DeviceVector& other) const {
  const Memory& own = *memory_;
  const Memory& others = *other.memory_;
  require_equal_sizes(own.elements.size(), others.elements.size());
  use_device(own.device);
  add_tiles(into, own.elements.data(), others.elements.data(), own.elements.size(),
            [&](ExactSum& sum, std::size_t begin, std::size_t count) {
              reference::add_dot(sum, own.part(begin, count), others.part(begin, count));
            });
}

}  // namespace regroup::kernels::cuda
