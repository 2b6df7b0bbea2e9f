// The content hash of everything Regroup keeps on disk: XXH3 with 128 bits (Y. Collet, xxHash 0.8)
// over the raw bytes in order, fed in pieces of any size, written as 32 lower-case hexadecimal
// digits, as `xxh128sum` prints it. It finds damage, not forgery. One hasher belongs to one thread
// at a time.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace regroup {

class ContentHasher {
 public:
  ContentHasher();

  void update(std::span<const std::byte> bytes);
  // The hash of all bytes so far; more may follow.
  std::string hex() const;

 private:
  struct FreeState {
    void operator()(void* state) const;
  };
  std::unique_ptr<void, FreeState> state_;
};

// Of bytes that are all there.
std::string content_hash(std::span<const std::byte> bytes);
std::string content_hash(std::string_view text);

}  // namespace regroup
