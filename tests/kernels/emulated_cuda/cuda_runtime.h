// As much of the CUDA runtime as the kernels use, on the CPU: so that machines without a GPU can
// run the kernels' own sources, compiled as plain C++, and hold their results against the
// reference. Each thread of a block is a fiber; __syncthreads() and shuffles let all the others
// come as far. It shows what a kernel computes, where it reads and writes, and what becomes of
// errors; it shows nothing of races within a warp, of speed, or of the device's own arithmetic. One
// thread at a time.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include <ucontext.h>

#define __global__
#define __device__
#define __host__
#define __shared__ static

struct dim3 {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
  constexpr dim3(unsigned of_x = 1, unsigned of_y = 1, unsigned of_z = 1)
      : x(of_x), y(of_y), z(of_z) {}
};

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulated_cuda {

// The threads of one block, as fibers that go on in turn from one meeting to the next.
class Block {
 public:
  static constexpr std::size_t kStackBytes = std::size_t{64} << 10;
  static constexpr unsigned kWarpThreads = 32;

  template <class Run>
  static void run(dim3 threads, Run body) {
    Block& block = instance();
    block.threads_ = threads;
    const std::size_t count = std::size_t{threads.x} * threads.y * threads.z;
    block.slots_.assign(count, {});
    while (block.fibers_.size() < count) block.fibers_.push_back(std::make_unique<Fiber>());
    block.body_ = [](void* of) { (*static_cast<Run*>(of))(); };
    block.of_body_ = &body;
    for (std::size_t i = 0; i < count; ++i) block.begin(i);
    bool goes_on = true;
    while (goes_on) {
      goes_on = false;
      block.meeting_ = Meeting::kNone;
      for (std::size_t i = 0; i < count; ++i) {
        if (!block.fibers_[i]->ended) block.resume(i);
        goes_on = goes_on || !block.fibers_[i]->ended;
      }
      for (std::size_t i = 0; goes_on && i < count; ++i) {
        require(!block.fibers_[i]->ended, "threads ended where others meet");
      }
    }
  }

  enum class Meeting { kNone, kBarrier, kShuffle };

  // Lets all other threads come to this.
  static void meet(Meeting what) {
    Block& block = instance();
    require(block.meeting_ == Meeting::kNone || block.meeting_ == what,
            "threads meet in different places");
    block.meeting_ = what;
    Fiber& own = *block.fibers_[block.current_];
    swapcontext(&own.context, &block.main_);
  }

  template <class T>
  static T shuffle_xor(T value, unsigned distance) {
    static_assert(sizeof(T) <= sizeof(std::uint64_t));
    Block& block = instance();
    const std::size_t self = block.current_;
    std::memcpy(&block.slots_[self], &value, sizeof value);
    meet(Meeting::kShuffle);
    const std::size_t other = self / kWarpThreads * kWarpThreads + (self % kWarpThreads ^ distance);
    require(other < block.slots_.size(), "a shuffle with a thread that is none");
    std::memcpy(&value, &block.slots_[other], sizeof value);
    meet(Meeting::kShuffle);
    return value;
  }

 private:
  struct Fiber {
    ucontext_t context{};
    std::unique_ptr<char[]> stack = std::make_unique<char[]>(kStackBytes);
    bool ended = false;
  };

  static Block& instance() {
    static Block block;
    return block;
  }
  static void require(bool holds, const char* text) {
    if (holds) return;
    std::fprintf(stderr, "emulated CUDA: %s\n", text);
    std::abort();
  }

  static void enter() {
    Block& block = instance();
    block.body_(block.of_body_);
    block.fibers_[block.current_]->ended = true;
  }
  void begin(std::size_t i) {
    Fiber& fiber = *fibers_[i];
    fiber.ended = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = &main_;
    makecontext(&fiber.context, &Block::enter, 0);
  }
  void resume(std::size_t i) {
    current_ = i;
    const auto number = static_cast<unsigned>(i);
    threadIdx = dim3(number % threads_.x, number / threads_.x % threads_.y,
                     number / threads_.x / threads_.y);
    swapcontext(&main_, &fibers_[i]->context);
  }

  dim3 threads_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<std::uint64_t> slots_;
  ucontext_t main_{};
  std::size_t current_ = 0;
  Meeting meeting_ = Meeting::kNone;
  void (*body_)(void*) = nullptr;
  void* of_body_ = nullptr;
};

// So many calls of the runtime succeed, and all further ones fail; -1: none fails.
inline int calls_to_failure = -1;
// Allocations that were not given back.
inline int allocations = 0;
inline unsigned long long launches = 0;

inline bool fails() {
  if (calls_to_failure < 0) return false;
  if (calls_to_failure == 0) return true;
  --calls_to_failure;
  return false;
}

}  // namespace emulated_cuda

// ---- what kernels call ----

inline void __syncthreads() {
  emulated_cuda::Block::meet(emulated_cuda::Block::Meeting::kBarrier);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int distance) {
  return emulated_cuda::Block::shuffle_xor(value, static_cast<unsigned>(distance));
}
template <class T>
T atomicAdd(T* to, T value) {
  return std::exchange(*to, *to + value);
}
template <class T>
T atomicMax(T* to, T value) {
  return std::exchange(*to, std::max(*to, value));
}

// ---- what the host calls ----

enum cudaError_t { cudaSuccess = 0, cudaErrorEmulated = 1 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
using cudaStream_t = void*;
using cudaEvent_t = int;

inline cudaError_t emulated_status() {
  return emulated_cuda::fails() ? cudaErrorEmulated : cudaSuccess;
}
inline const char* cudaGetErrorString(cudaError_t) {
  return "as the test wants it";
}
inline const char* cudaGetErrorName(cudaError_t) {
  return "cudaErrorEmulated";
}
inline cudaError_t cudaGetLastError() {
  return cudaSuccess;
}
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) {
  return device == 0 ? emulated_status() : cudaErrorEmulated;
}
inline cudaError_t cudaDeviceSynchronize() {
  return emulated_status();
}
inline cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  if (emulated_cuda::fails()) return cudaErrorEmulated;
  *memory = std::malloc(bytes);
  std::memset(*memory, 0xff, bytes);  // numbers that are none
  ++emulated_cuda::allocations;
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* memory) {
  if (memory != nullptr) --emulated_cuda::allocations;
  std::free(memory);
  return cudaSuccess;
}
inline cudaError_t cudaMemset(void* to, int value, std::size_t bytes) {
  if (emulated_cuda::fails()) return cudaErrorEmulated;
  std::memset(to, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  if (emulated_cuda::fails()) return cudaErrorEmulated;
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes,
                                   cudaMemcpyKind kind, cudaStream_t) {
  return cudaMemcpy(to, from, bytes, kind);
}
inline cudaError_t cudaEventCreate(cudaEvent_t*) {
  return emulated_status();
}
inline cudaError_t cudaEventDestroy(cudaEvent_t) {
  return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) {
  return emulated_status();
}
inline cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 1;
  return emulated_status();
}

template <class... Parameters, std::size_t... kIndex>
void emulated_call(void (*kernel)(Parameters...), void** arguments,
                   std::index_sequence<kIndex...>) {
  kernel(*static_cast<Parameters*>(arguments[kIndex])...);
}
template <class... Parameters>
cudaError_t cudaLaunchKernel(void (*kernel)(Parameters...), dim3 blocks, dim3 threads,
                             void** arguments, std::size_t, cudaStream_t) {
  if (emulated_cuda::fails()) return cudaErrorEmulated;
  ++emulated_cuda::launches;
  gridDim = blocks;
  blockDim = threads;
  for (unsigned z = 0; z < blocks.z; ++z) {
    for (unsigned y = 0; y < blocks.y; ++y) {
      for (unsigned x = 0; x < blocks.x; ++x) {
        blockIdx = dim3(x, y, z);
        emulated_cuda::Block::run(threads, [&] {
          emulated_call(kernel, arguments, std::index_sequence_for<Parameters...>());
        });
      }
    }
  }
  return cudaSuccess;
}
