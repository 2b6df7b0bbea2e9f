// Memory for arrays that are read and written from one end to the other, many times over: the
// processor's own prefetching ends at a page, and so does what it remembers of where pages lie. Of
// 2 MiB and more, an array begins at a huge page, and the kernel is asked for such (Linux's
// transparent huge pages; where they are switched off, nothing changes). Smaller ones are as those
// of any vector, so that no small array takes a whole page. Throws std::bad_alloc as others do.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <limits>
#include <new>
#include <vector>

#include <sys/mman.h>

namespace regroup {

inline constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

template <class T>
struct HugePageAllocator {
  using value_type = T;

  HugePageAllocator() = default;
  template <class U>
  HugePageAllocator(const HugePageAllocator<U>&) {}

  T* allocate(std::size_t count) {
    const std::size_t bytes = count * sizeof(T);
    if (count > (std::numeric_limits<std::size_t>::max() - kHugePageBytes) / sizeof(T)) {
      throw std::bad_array_new_length();
    }
    const bool is_large = bytes >= kHugePageBytes;
    const std::size_t pages_bytes = (bytes + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
    void* const memory =
        is_large ? std::aligned_alloc(kHugePageBytes, pages_bytes) : std::malloc(bytes);
    if (memory == nullptr) throw std::bad_alloc();
    if (is_large) static_cast<void>(madvise(memory, pages_bytes, MADV_HUGEPAGE));
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, std::size_t) { std::free(memory); }

  friend bool operator==(const HugePageAllocator&, const HugePageAllocator&) { return true; }
};

template <class T>
using HugePageVector = std::vector<T, HugePageAllocator<T>>;

}  // namespace regroup
