// Memory for arrays that are read and written from one end to the other, many times over: the
// processor's own prefetching ends at a page, and so does what it remembers of where pages lie. The
// kernel is asked for huge pages (Linux's transparent ones; where they are switched off, nothing
// changes). An array of 2 MiB and more begins at one. Smaller ones, of 64 KiB and more, lie side by
// side in slabs, each of which is given back when its last array is; still smaller ones are as
// those of any vector. Thread-safe. Throws std::bad_alloc as other allocators do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <new>
#include <vector>

#include <sys/mman.h>

namespace regroup {

inline constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;
// Arrays of less are left to malloc().
inline constexpr std::size_t kHugePageArrayMin = std::size_t{64} << 10;

namespace huge_pages_detail {

inline void* pages(std::size_t alignment, std::size_t bytes) {
  void* const memory = std::aligned_alloc(alignment, bytes);
  if (memory == nullptr) throw std::bad_alloc();
  static_cast<void>(madvise(memory, bytes, MADV_HUGEPAGE));  // without them it is slower, no more
  return memory;
}

// Memory that arrays below a huge page share. Its address is a multiple of its size, so that those
// of its arrays tell it.
class Slab {
 public:
  static void* take(std::size_t bytes) {
    const std::size_t whole_lines = (bytes + kLineBytes - 1) / kLineBytes * kLineBytes;
    const std::lock_guard lock(mutex_);
    // One that has no room has arrays: it is empty from its begin otherwise.
    if (open_ == nullptr || open_->used_ + whole_lines > kBytes) {
      open_ = new (pages(kBytes, kBytes)) Slab;
    }
    ++open_->arrays_;
    void* const array = reinterpret_cast<std::byte*>(open_) + open_->used_;
    open_->used_ += whole_lines;
    return array;
  }
  static void give_back(void* array) {
    const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(array);
    const std::lock_guard lock(mutex_);
    auto* const slab = reinterpret_cast<Slab*>(address / kBytes * kBytes);
    if (--slab->arrays_ != 0) return;
    if (slab == open_) {
      slab->used_ = kLineBytes;
    } else {
      std::free(slab);
    }
  }

 private:
  static constexpr std::size_t kBytes = 8 * kHugePageBytes;
  static constexpr std::size_t kLineBytes = 64;

  inline static std::mutex mutex_;
  inline static Slab* open_ = nullptr;  // kept when it is empty

  std::size_t used_ = kLineBytes;
  std::size_t arrays_ = 0;
};

}  // namespace huge_pages_detail

template <class T>
struct HugePageAllocator {
  using value_type = T;

  HugePageAllocator() = default;
  template <class U>
  HugePageAllocator(const HugePageAllocator<U>&) {}

  T* allocate(std::size_t count) {
    if (count > (std::numeric_limits<std::size_t>::max() - kHugePageBytes) / sizeof(T)) {
      throw std::bad_array_new_length();
    }
    const std::size_t bytes = count * sizeof(T);
    void* memory = nullptr;
    if (bytes < kHugePageArrayMin) {
      memory = ::operator new(bytes);
    } else if (bytes < kHugePageBytes) {
      memory = huge_pages_detail::Slab::take(bytes);
    } else {
      const std::size_t whole = (bytes + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
      memory = huge_pages_detail::pages(kHugePageBytes, whole);
    }
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, std::size_t count) {
    const std::size_t bytes = count * sizeof(T);
    if (bytes < kHugePageArrayMin) {
      ::operator delete(memory);
    } else if (bytes < kHugePageBytes) {
      huge_pages_detail::Slab::give_back(memory);
    } else {
      std::free(memory);
    }
  }

  friend bool operator==(const HugePageAllocator&, const HugePageAllocator&) { return true; }
};

template <class T>
using HugePageVector = std::vector<T, HugePageAllocator<T>>;

}  // namespace regroup
