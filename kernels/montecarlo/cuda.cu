// The samplers for CUDA: a thread computes the payoffs of the samples of a block of the random
// stream, or of a path; then one thread for each lane adds them up in the order of the samples.
#include <algorithm>

#include "kernels/device/cuda_call.cuh"
#include "kernels/elementary/elementary.hpp"
#include "kernels/montecarlo/cuda.hpp"
#include "kernels/montecarlo/price_model.hpp"
#include "kernels/random/philox.hpp"

namespace regroup::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;
// Blocks of threads that count hits: enough for any device, and each adds to the total once.
constexpr std::uint64_t kCountingBlocks = 4096;
// Payoffs that are kept until they are added up: 8 MiB. A multiple of the lanes.
constexpr std::uint64_t kChunkSamples = std::uint64_t{1} << 20;
static_assert(kChunkSamples % kEuropeanLanes == 0 && kChunkSamples % kAsianLanes == 0);

struct NormalPair {
  double first;
  double second;
};

// Philox::uniform() of two words.
__device__ double uniform(std::uint32_t low, std::uint32_t high) {
  return static_cast<double>((std::uint64_t{high} << 32 | low) >> 11) * 0x1p-53;
}

__device__ NormalPair normal_pair(const PhiloxCounter& block) {
  const double radius = square_root(-2.0 * logarithm(1.0 - uniform(block[0], block[1])));
  const SineCosine<double> angle = sine_cosine_of_turns(uniform(block[2], block[3]));
  return {radius * angle.cosine, radius * angle.sine};
}

__device__ double payoff(const PriceModel& model, double price) {
  const double gain = model.sign * (price - model.strike);
  return gain > 0 ? model.discount * gain : 0.0;
}

__device__ bool in_circle(std::uint32_t a, std::uint32_t b) {
  const double x = a + 0.5;
  const double y = b + 0.5;
  return x * x + y * y < 0x1p64;
}

__device__ std::uint64_t thread_number() {
  return std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x;
}

__device__ std::uint64_t thread_count() {
  return std::uint64_t{gridDim.x} * blockDim.x;
}

__global__ void count_hits(std::uint64_t seed, std::uint64_t stream, std::uint64_t samples,
                           unsigned long long* hits) {
  __shared__ unsigned long long of_block;
  if (threadIdx.x == 0) of_block = 0;
  __syncthreads();
  unsigned long long own = 0;
  for (std::uint64_t pair = thread_number(); pair < (samples + 1) / 2; pair += thread_count()) {
    const PhiloxCounter block = philox_block(seed, stream, pair);
    own += in_circle(block[0], block[1]);
    own += 2 * pair + 1 < samples && in_circle(block[2], block[3]);
  }
  atomicAdd(&of_block, own);
  __syncthreads();
  if (threadIdx.x == 0) atomicAdd(hits, of_block);
}

// Payoffs of the samples [first, first + count), first even.
__global__ void european_payoffs(std::uint64_t seed, std::uint64_t stream, PriceModel model,
                                 std::uint64_t first, std::uint64_t count, double* payoffs) {
  for (std::uint64_t pair = thread_number(); pair < (count + 1) / 2; pair += thread_count()) {
    const NormalPair normal = normal_pair(philox_block(seed, stream, first / 2 + pair));
    const auto pay = [&](double variate) {
      return payoff(model, model.spot * exponential(model.drift + model.spread * variate));
    };
    payoffs[2 * pair] = pay(normal.first);
    if (2 * pair + 1 < count) payoffs[2 * pair + 1] = pay(normal.second);
  }
}

__global__ void asian_payoffs(std::uint64_t seed, std::uint64_t stream, PriceModel model,
                              std::uint32_t steps, std::uint64_t first, std::uint64_t count,
                              double* payoffs) {
  const std::uint64_t blocks_each = (std::uint64_t{steps} + 1) / 2;
  for (std::uint64_t sample = thread_number(); sample < count; sample += thread_count()) {
    std::uint64_t index = (first + sample) * blocks_each;
    double log_growth = 0;
    double sum_of_growth = 0;
    for (std::uint32_t step = 0; step < steps; step += 2) {
      const NormalPair normal = normal_pair(philox_block(seed, stream, index++));
      log_growth += model.drift + model.spread * normal.first;
      sum_of_growth += exponential(log_growth);
      if (step + 1 == steps) break;
      log_growth += model.drift + model.spread * normal.second;
      sum_of_growth += exponential(log_growth);
    }
    payoffs[sample] = payoff(model, model.spot * (sum_of_growth / steps));
  }
}

// A thread is a lane: it adds its payoffs in the order of the samples.
__global__ void add_to_lanes(const double* payoffs, std::uint64_t count, LaneSums* lanes) {
  const unsigned lane = threadIdx.x;
  double sum = lanes->sum[lane];
  double sum_of_squares = lanes->sum_of_squares[lane];
#pragma unroll 8
  for (std::uint64_t sample = lane; sample < count; sample += blockDim.x) {
    const double value = payoffs[sample];
    sum += value;
    sum_of_squares += value * value;
  }
  lanes->sum[lane] = sum;
  lanes->sum_of_squares[lane] = sum_of_squares;
}

// `compute(first, count, payoffs)` has the payoffs of these samples computed.
template <class Compute>
PayoffSums sum_payoffs(std::uint32_t device, std::uint64_t samples, int lane_count,
                       Compute compute) {
  use_device(device);
  DeviceArray<double> payoffs(std::min(samples, kChunkSamples));
  DeviceArray<LaneSums> lanes(1);
  lanes.set_zero();
  for (std::uint64_t first = 0; first < samples; first += kChunkSamples) {
    const std::uint64_t count = std::min(samples - first, kChunkSamples);
    compute(first, count, payoffs.data());
    launch(add_to_lanes, dim3(1), dim3(static_cast<unsigned>(lane_count)), payoffs.data(), count,
           lanes.data());
  }
  LaneSums sums;
  lanes.copy_to(std::span(&sums, 1));
  return total(sums, samples);
}

}  // namespace

PiSums sample_pi(std::uint32_t device, std::uint64_t seed, std::uint64_t stream,
                 std::uint64_t samples) {
  use_device(device);
  DeviceArray<unsigned long long> hits(1);
  hits.set_zero();
  launch(count_hits, dim3(blocks_for(samples, std::uint64_t{2} * kThreads, kCountingBlocks)),
         dim3(kThreads), seed, stream, samples, hits.data());
  unsigned long long found = 0;
  hits.copy_to(std::span(&found, 1));
  return {found, samples};
}

PayoffSums sample_european(std::uint32_t device, std::uint64_t seed, std::uint64_t stream,
                           std::uint64_t samples, const OptionParameters& option) {
  const PriceModel model = price_model(option, 1);
  return sum_payoffs(device, samples, kEuropeanLanes,
                     [&](std::uint64_t first, std::uint64_t count, double* payoffs) {
                       launch(european_payoffs,
                              dim3(blocks_for(count, std::uint64_t{2} * kThreads)), dim3(kThreads),
                              seed, stream, model, first, count, payoffs);
                     });
}

PayoffSums sample_asian(std::uint32_t device, std::uint64_t seed, std::uint64_t stream,
                        std::uint64_t samples, const OptionParameters& option,
                        std::uint32_t steps) {
  const PriceModel model = price_model(option, steps);
  return sum_payoffs(device, samples, kAsianLanes,
                     [&](std::uint64_t first, std::uint64_t count, double* payoffs) {
                       launch(asian_payoffs, dim3(blocks_for(count, kThreads)), dim3(kThreads),
                              seed, stream, model, steps, first, count, payoffs);
                     });
}

}  // namespace regroup::kernels::cuda
