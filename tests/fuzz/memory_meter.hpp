// Counts the bytes that are allocated and not freed, so that a fuzz target can hold what one
// message makes a rank allocate against the size of that message. It replaces the global operator
// new and delete of the program whose one file includes it; under AddressSanitizer, which owns
// those, it listens to them instead. For one thread.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define REGROUP_UNDER_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define REGROUP_UNDER_ASAN 1
#endif

namespace regroup::fuzzing {

inline std::size_t live_bytes = 0;
inline std::size_t peak_bytes = 0;

inline void count_allocated(std::size_t size) {
  live_bytes += size;
  if (live_bytes > peak_bytes) peak_bytes = live_bytes;
}

}  // namespace regroup::fuzzing

#if defined(REGROUP_UNDER_ASAN)

// As <sanitizer/allocator_interface.h> declares them; not every compiler brings that header.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void*,
                                                                           std::size_t),
                                                         void (*on_free)(const volatile void*));
extern "C" std::size_t __sanitizer_get_allocated_size(const volatile void* memory);

namespace regroup::fuzzing {

inline const int hooks_installed = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, std::size_t size) { count_allocated(size); },
    [](const volatile void* memory) {
      const std::size_t size = __sanitizer_get_allocated_size(memory);
      live_bytes -= size < live_bytes ? size : live_bytes;  // some were allocated before
    });

}  // namespace regroup::fuzzing

#else

#include <malloc.h>

namespace regroup::fuzzing {

inline void* allocate(std::size_t size) {
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) std::abort();
  count_allocated(malloc_usable_size(memory));
  return memory;
}

inline void release(void* memory) {
  if (memory == nullptr) return;
  live_bytes -= malloc_usable_size(memory);
  std::free(memory);
}

}  // namespace regroup::fuzzing

void* operator new(std::size_t size) {
  return regroup::fuzzing::allocate(size);
}
void* operator new[](std::size_t size) {
  return regroup::fuzzing::allocate(size);
}
void operator delete(void* memory) noexcept {
  regroup::fuzzing::release(memory);
}
void operator delete[](void* memory) noexcept {
  regroup::fuzzing::release(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  regroup::fuzzing::release(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
  regroup::fuzzing::release(memory);
}

#endif
